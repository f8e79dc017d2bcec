#include "cli/top_follow.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { PIECE = 1 << 16, LONGEST_LINE = 1 << 20 };

/* Since it was written last, by the wall clock; 0 if that cannot be told. */
static uint64_t age_ns(int fd)
{
    struct stat file;
    time_t now = time(NULL);
    bool told = fstat(fd, &file) == 0 && now > file.st_mtime;
    uint64_t age = told ? (uint64_t)(now - file.st_mtime) * 1000000000U : 0;
    return age < ert_now_ns() ? age : 0;
}

static int open_file(struct top_follow *f, struct ert_error *err)
{
    f->fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    f->offset = 0;
    f->used = 0;
    if (f->fd < 0)
        return ert_fail(err, errno == ENOENT ? ERT_E_MISSING : ERT_E_IO,
                        "%s: cannot open: %s (`edgert run --journal FILE` writes one)", f->path,
                        strerror(errno));
    f->grown_ns = ert_now_ns() - age_ns(f->fd);
    return 0;
}

int top_follow_open(struct top_follow *f, const char *path, struct ert_error *err)
{
    *f = (struct top_follow){.path = path, .fd = -1, .room = PIECE};
    f->pending = malloc(f->room);
    return f->pending ? open_file(f, err) : ert_fail(err, ERT_E_NOMEM, "out of memory");
}

void top_follow_close(struct top_follow *f)
{
    if (f->fd >= 0)
        close(f->fd);
    free(f->pending);
    f->fd = -1;
    f->pending = NULL;
}

/* Room for another piece behind what is pending. */
static int make_room(struct top_follow *f, struct ert_error *err)
{
    if (f->used > LONGEST_LINE)
        return ert_fail(err, ERT_E_RANGE, "%s: a line longer than %d bytes, is this a journal?",
                        f->path, LONGEST_LINE);
    if (f->used + PIECE <= f->room)
        return 0;
    char *more = realloc(f->pending, 2 * f->room);
    if (!more)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for a line of %s", f->path);
    f->pending = more;
    f->room *= 2;
    return 0;
}

/* Bytes that came; 0 at the end for now. */
static int read_piece(struct top_follow *f, size_t *n, struct ert_error *err)
{
    *n = 0;
    int rc = make_room(f, err);
    if (rc)
        return rc;
    ssize_t got = read(f->fd, f->pending + f->used, PIECE);
    if (got < 0 && errno != EINTR && errno != EAGAIN)
        return ert_fail(err, ERT_E_IO, "%s: reading failed: %s", f->path, strerror(errno));
    if (got > 0) {
        *n = (size_t)got;
        f->used += *n;
        f->offset += got;
    }
    return 0;
}

static int take_lines(struct top_follow *f,
                      int (*take)(void *ctx, const char *line, size_t n, struct ert_error *err),
                      void *ctx, struct ert_error *err)
{
    size_t begin = 0;
    char *end;
    int rc = 0;
    while (!rc && (end = memchr(f->pending + begin, '\n', f->used - begin))) {
        size_t n = (size_t)(end - f->pending) - begin;
        rc = take(ctx, f->pending + begin, n, err);
        begin += n + 1;
    }
    memmove(f->pending, f->pending + begin, f->used - begin);
    f->used -= begin;
    return rc;
}

/* The file under the name is another one, or is shorter than what was read of it. */
static bool began_anew(const struct top_follow *f)
{
    struct stat named, held;
    if (stat(f->path, &named) != 0 || fstat(f->fd, &held) != 0)
        return false; /* between two names: the next look will tell */
    return named.st_ino != held.st_ino || named.st_dev != held.st_dev ||
           (S_ISREG(held.st_mode) && held.st_size < f->offset);
}

int top_follow_read(struct top_follow *f,
                    int (*take)(void *ctx, const char *line, size_t n, struct ert_error *err),
                    void *ctx, struct ert_error *err)
{
    size_t n;
    for (;;) {
        bool anew = began_anew(f); /* asked before the rest of the old one is read */
        int rc = 0;
        do {
            rc = read_piece(f, &n, err);
            if (!rc)
                rc = take_lines(f, take, ctx, err);
            f->grown_ns = n > 0 ? ert_now_ns() - age_ns(f->fd) : f->grown_ns;
        } while (!rc && n > 0);
        if (rc || !anew)
            return rc;
        close(f->fd);
        rc = open_file(f, err);
        if (rc)
            return rc;
    }
}
