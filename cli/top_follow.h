/* top_follow: the lines of a file that grows, is put aside or begins anew under its name. */
#ifndef ERT_TOP_FOLLOW_H
#define ERT_TOP_FOLLOW_H

#include <sys/types.h>

#include "base/base.h"

/* Set up by top_follow_open. */
struct top_follow {
    const char *path;
    int fd;
    off_t offset;
    char *pending; /* bytes of a line that has not ended yet */
    size_t used, room;
    uint64_t grown_ns; /* when bytes came last */
};

/* path must outlive f, which top_follow_close closes. */
int top_follow_open(struct top_follow *f, const char *path, struct ert_error *err);
void top_follow_close(struct top_follow *f);
/* Calls take for each whole line that is there now, without its newline, until it fails. */
int top_follow_read(struct top_follow *f,
                    int (*take)(void *ctx, const char *line, size_t n, struct ert_error *err),
                    void *ctx, struct ert_error *err);

#endif
