#include "variants/work.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Begins every file. */
struct header {
    char magic[8];
    uint64_t size, checksum; /* of what follows */
    uint64_t zero;
};

#define MAGIC "EDGWORK1"
#define KEY   "key"

static int fail_folder(const struct var_work *w, const char *doing, struct ert_error *err)
{
    return ert_fail(err, errno == ENOSPC ? ERT_E_FULL : ERT_E_IO,
                    "%s: cannot %s the build's work folder: %s; make room, or choose another place "
                    "for the pack",
                    w->folder, doing, strerror(errno));
}

int var_work_fail_write(const struct var_work *w, struct ert_error *err)
{
    bool full = errno == ENOSPC || errno == EFBIG || errno == EDQUOT;
    enum ert_code code = full ? ERT_E_FULL : ERT_E_IO;
    ert_fail(err, code,
             "%s: cannot write: %s; make room, and the same command goes on where it stopped",
             w->folder, strerror(errno));
    return -(int)code;
}

char *var_work_path(const struct var_work *w, const char *name)
{
    char *path;
    return asprintf(&path, "%s/%s", w->folder, name) < 0 ? NULL : path;
}

/* ---- files --------------------------------------------------------------------------------- */

int var_work_begin(struct var_work_file *f, const struct var_work *w, const char *name,
                   struct ert_error *err)
{
    const struct header empty = {0};
    *f = (struct var_work_file){.work = w, .path = var_work_path(w, name)};
    if (!f->path || asprintf(&f->part, "%s.part", f->path) < 0) {
        f->part = NULL;
        var_work_abort(f);
        ert_fail(err, ERT_E_NOMEM, "%s: no memory", w->folder);
        return -ERT_E_NOMEM;
    }
    f->file = fopen(f->part, "w+be");
    if (f->file && fwrite(&empty, sizeof empty, 1, f->file) == 1)
        return 0;
    int rc = var_work_fail_write(w, err);
    var_work_abort(f);
    return rc;
}

/* The header, from what the file holds. */
static int seal(const struct var_work_file *f, struct ert_error *err)
{
    struct ert_map map;
    struct header h = {.magic = MAGIC};
    if (fflush(f->file))
        return var_work_fail_write(f->work, err);
    int rc = ert_map_open(&map, f->part, err);
    if (rc)
        return rc;
    h.size = map.size - sizeof h;
    h.checksum = ert_hash64(map.data + sizeof h, h.size);
    ert_map_close(&map);
    if (fseeko(f->file, 0, SEEK_SET) || fwrite(&h, sizeof h, 1, f->file) != 1)
        rc = var_work_fail_write(f->work, err);
    return rc;
}

int var_work_commit(struct var_work_file *f, struct ert_error *err)
{
    const struct var_work *w = f->work;
    int rc = ferror(f->file) ? var_work_fail_write(w, err) : seal(f, err);
    if (fclose(f->file) && !rc)
        rc = var_work_fail_write(w, err);
    f->file = NULL;
    if (!rc && rename(f->part, f->path))
        rc = var_work_fail_write(w, err);
    var_work_abort(f);
    return rc;
}

void var_work_abort(struct var_work_file *f)
{
    if (f->file)
        fclose(f->file);
    if (f->part)
        unlink(f->part); /* gone already where it was renamed */
    free(f->path);
    free(f->part);
    *f = (struct var_work_file){0};
}

int var_work_save(const struct var_work *w, const char *name, const void *data, size_t n,
                  struct ert_error *err)
{
    struct var_work_file f;
    int rc = var_work_begin(&f, w, name, err);
    if (rc)
        return rc;
    if (n == 0 || fwrite(data, n, 1, f.file) == 1)
        return var_work_commit(&f, err);
    rc = var_work_fail_write(w, err);
    var_work_abort(&f);
    return rc;
}

void var_work_drop(const struct var_work *w, const char *name)
{
    char *path = var_work_path(w, name);
    if (path)
        unlink(path);
    free(path);
}

static bool is_whole(const struct ert_map *map)
{
    struct header h;
    if (map->size < sizeof h)
        return false;
    memcpy(&h, map->data, sizeof h);
    return memcmp(h.magic, MAGIC, sizeof h.magic) == 0 && h.size == map->size - sizeof h &&
           h.checksum == ert_hash64(map->data + sizeof h, h.size);
}

bool var_work_load(struct var_work_data *d, const struct var_work *w, const char *name)
{
    *d = (struct var_work_data){.map = {.fd = -1}};
    char *path = var_work_path(w, name);
    bool open = path && access(path, R_OK) == 0 && ert_map_open(&d->map, path, NULL) == 0;
    free(path);
    if (!open)
        return false;
    if (!is_whole(&d->map)) {
        var_work_release(d);
        return false;
    }
    d->data = d->map.data + sizeof(struct header);
    d->size = d->map.size - sizeof(struct header);
    return true;
}

void var_work_release(struct var_work_data *d)
{
    ert_map_close(&d->map);
    *d = (struct var_work_data){.map = {.fd = -1}};
}

/* ---- the folder ---------------------------------------------------------------------------- */

/* Removes every file; *n counts them. */
static int empty_folder(const struct var_work *w, unsigned *n, struct ert_error *err)
{
    DIR *folder = opendir(w->folder);
    if (!folder)
        return fail_folder(w, "read", err);
    int rc = 0;
    *n = 0;
    for (const struct dirent *e; !rc && (e = readdir(folder));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (unlinkat(dirfd(folder), e->d_name, 0))
            rc = fail_folder(w, "empty", err);
        *n += 1;
    }
    closedir(folder);
    return rc;
}

static bool is_empty(const char *path)
{
    DIR *folder = opendir(path);
    unsigned n = 0;
    while (folder && readdir(folder))
        n++;
    if (folder)
        closedir(folder);
    return n <= 2; /* itself and its parent */
}

/* A folder that some build made has a key in it, whole or not. */
static bool is_ours(const struct var_work *w)
{
    struct stat st;
    char *key = var_work_path(w, KEY), *part = var_work_path(w, KEY ".part");
    bool ours = (key && stat(key, &st) == 0) || (part && stat(part, &st) == 0);
    free(key);
    free(part);
    return ours || is_empty(w->folder);
}

static int lock_folder(struct var_work *w, struct ert_error *err)
{
    if (mkdir(w->folder, 0777) && errno != EEXIST)
        return fail_folder(w, "make", err);
    w->lock = open(w->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (w->lock < 0)
        return fail_folder(w, "open", err);
    if (flock(w->lock, LOCK_EX | LOCK_NB))
        return ert_fail(err, ERT_E_USAGE,
                        "%s: another build of this pack is running; wait for it, or give the pack "
                        "another name",
                        w->folder);
    if (!is_ours(w))
        return ert_fail(err, ERT_E_USAGE,
                        "%s: this folder is in the way, and it is no build's; move it, or give the "
                        "pack another name",
                        w->folder);
    return 0;
}

static bool has_key(const struct var_work *w, const char *key)
{
    struct var_work_data d;
    if (!var_work_load(&d, w, KEY))
        return false;
    bool same = d.size == strlen(key) && memcmp(d.data, key, d.size) == 0;
    var_work_release(&d);
    return same;
}

static int begin_anew(const struct var_work *w, const char *key, const struct var_notice *notice,
                      struct ert_error *err)
{
    unsigned n;
    int rc = empty_folder(w, &n, err);
    if (!rc && n > 0 && notice->say) {
        char *sentence;
        if (asprintf(&sentence,
                     "%s: left by a build of another source or with other options; beginning anew",
                     w->folder) >= 0) {
            notice->say(notice->ctx, sentence);
            free(sentence);
        }
    }
    return rc ? rc : var_work_save(w, KEY, key, strlen(key), err);
}

int var_work_open(struct var_work *w, const char *output, const char *key,
                  const struct var_notice *notice, struct ert_error *err)
{
    *w = (struct var_work){.lock = -1};
    if (asprintf(&w->folder, "%s.build", output) < 0) {
        w->folder = NULL;
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory", output);
    }
    int rc = lock_folder(w, err);
    if (!rc) {
        w->resumed = has_key(w, key);
        if (!w->resumed)
            rc = begin_anew(w, key, notice, err);
    }
    if (rc)
        var_work_close(w);
    return rc;
}

void var_work_close(struct var_work *w)
{
    if (w->lock >= 0)
        close(w->lock);
    free(w->folder);
    *w = (struct var_work){.lock = -1};
}

void var_work_remove(struct var_work *w)
{
    unsigned n;
    if (w->folder && empty_folder(w, &n, NULL) == 0)
        rmdir(w->folder);
    var_work_close(w);
}
