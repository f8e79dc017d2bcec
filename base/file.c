#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail_errno(struct ert_error *err, const char *path, const char *what)
{
    enum ert_code code = errno == ENOENT   ? ERT_E_MISSING
                         : errno == ENOMEM ? ERT_E_NOMEM
                         : errno == ENOSPC ? ERT_E_FULL
                                           : ERT_E_IO;
    return ert_fail(err, code, "%s: cannot %s: %s", path, what, strerror(errno));
}

/* Opens a regular file and tells its size; a folder, FIFO or device is refused by name. */
static int open_regular(const char *path, int *fd, size_t *size, struct ert_error *err)
{
    struct stat st;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return fail_errno(err, path, "open");
    if (fstat(*fd, &st) == 0 && S_ISREG(st.st_mode)) {
        *size = (size_t)st.st_size;
        return 0;
    }
    close(*fd);
    *fd = -1;
    return ert_fail(err, ERT_E_IO, "%s: not a regular file", path);
}

int ert_map_open(struct ert_map *map, const char *path, struct ert_error *err)
{
    *map = (struct ert_map){.fd = -1};
    size_t size = 0;
    int rc = open_regular(path, &map->fd, &size, err);
    if (rc)
        return rc;
    if (size > 0) {
        void *p = mmap(NULL, size, PROT_READ, MAP_SHARED, map->fd, 0);
        if (p == MAP_FAILED) {
            rc = fail_errno(err, path, "map");
            ert_map_close(map);
            return rc;
        }
        map->data = p;
        map->size = size;
    }
    return 0;
}

void ert_map_close(struct ert_map *map)
{
    if (map->data)
        munmap((void *)(uintptr_t)map->data, map->size);
    if (map->fd >= 0)
        close(map->fd);
    *map = (struct ert_map){.fd = -1};
}

static int grow(char **buffer, size_t *room, const char *path, struct ert_error *err)
{
    char *bigger = realloc(*buffer, *room * 2);
    if (!bigger)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for %zu bytes", path, *room * 2);
    *buffer = bigger;
    *room *= 2;
    return 0;
}

int ert_read_text(const char *path, size_t max_bytes, char **text, size_t *size,
                  struct ert_error *err)
{
    /* Not mapped: /proc and /sys files have no size, and a text file may change under us. */
    size_t n = 0, room = 4096;
    char *buffer = malloc(room);
    FILE *f = fopen(path, "re");
    int rc = 0;
    *text = NULL;
    if (!f)
        rc = fail_errno(err, path, "open");
    else if (!buffer)
        rc = ert_fail(err, ERT_E_NOMEM, "%s: no memory to read it", path);
    while (!rc && !feof(f)) {
        n += fread(buffer + n, 1, room - 1 - n, f);
        if (ferror(f))
            rc = fail_errno(err, path, "read");
        else if (n > max_bytes)
            rc = ert_fail(err, ERT_E_RANGE, "%s: larger than %zu bytes, too large for its kind",
                          path, max_bytes);
        else if (n + 1 == room)
            rc = grow(&buffer, &room, path, err);
    }
    if (f)
        fclose(f);
    if (rc || !buffer) {
        free(buffer);
        return rc;
    }
    buffer[n] = '\0';
    *text = buffer;
    if (size)
        *size = n;
    return 0;
}

enum { TEMP_ROOM = 32 }; /* what a temporary name adds to the path, or takes in /proc */

/* A rename would replace whatever bears the name, be it /dev/null. */
static int check_replaceable(const char *path, struct ert_error *err)
{
    struct stat st;
    if (stat(path, &st) || S_ISREG(st.st_mode))
        return 0;
    return ert_fail(err, ERT_E_USAGE,
                    "%s: not a regular file, it cannot be written anew; name a "
                    "file",
                    path);
}

/* A file without a name in path's folder, which a process that dies takes with it. NULL where the
 * file system knows no such thing, or no /proc shows a way to name it later. */
static FILE *open_nameless(struct ert_output *out, size_t room)
{
    const char *slash = strrchr(out->path, '/');
    int folder = slash ? (int)(slash + 1 - out->path) : 0;
    snprintf(out->temp_path, room, "%.*s.", folder, out->path);
    int fd = open(out->temp_path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
    if (fd < 0)
        return NULL;
    snprintf(out->temp_path, room, "/proc/self/fd/%d", fd);
    FILE *file = access(out->temp_path, R_OK) ? NULL : fdopen(fd, "w+b");
    if (!file)
        close(fd);
    return file;
}

static void name_temporary(const struct ert_output *out, char *name, size_t room)
{
    snprintf(name, room, "%s.%ld.part", out->path, (long)getpid());
}

int ert_output_open(struct ert_output *out, const char *path, struct ert_error *err)
{
    *out = (struct ert_output){0};
    int rc = check_replaceable(path, err);
    if (rc)
        return rc;
    size_t room = strlen(path) + TEMP_ROOM;
    out->path = strdup(path);
    out->temp_path = malloc(room);
    if (!out->path || !out->temp_path) {
        ert_output_abort(out);
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory", path);
    }
    out->file = open_nameless(out, room);
    if (out->file) {
        out->nameless = true;
        return 0;
    }
    name_temporary(out, out->temp_path, room);
    out->file = fopen(out->temp_path, "w+be");
    if (!out->file) {
        rc = fail_errno(err, out->temp_path, "create");
        ert_output_abort(out);
        return rc;
    }
    return 0;
}

/* Gives a nameless file its temporary name; one of the same process number is a dead process's. */
static int link_temporary(struct ert_output *out)
{
    char self[32];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fileno(out->file));
    name_temporary(out, out->temp_path, strlen(out->path) + TEMP_ROOM);
    out->nameless = false;
    unlink(out->temp_path);
    return linkat(AT_FDCWD, self, AT_FDCWD, out->temp_path, AT_SYMLINK_FOLLOW);
}

int ert_output_commit(struct ert_output *out, struct ert_error *err)
{
    int rc = 0;
    if (fflush(out->file) || fsync(fileno(out->file)))
        rc = fail_errno(err, out->path, "write");
    else if (out->nameless && link_temporary(out))
        rc = fail_errno(err, out->path, "put in place");
    if (fclose(out->file) && !rc)
        rc = fail_errno(err, out->path, "write");
    out->file = NULL;
    if (!rc && rename(out->temp_path, out->path))
        rc = fail_errno(err, out->path, "put in place");
    if (!rc) {
        free(out->temp_path);
        out->temp_path = NULL;
    }
    ert_output_abort(out);
    return rc;
}

void ert_output_abort(struct ert_output *out)
{
    if (out->file)
        fclose(out->file);
    if (out->temp_path && !out->nameless)
        unlink(out->temp_path);
    free(out->temp_path);
    free(out->path);
    *out = (struct ert_output){0};
}
