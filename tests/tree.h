/* A machine's files made up under a temporary folder: /sys and /proc as a test wants them. */
#ifndef ERT_TEST_TREE_H
#define ERT_TEST_TREE_H

#include <string.h>
#include <sys/stat.h>

#include "tests/test.h"

/* Makes the folders that lead to a file; path is as before after it. */
static inline void tree_make_folders(char *path)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(path, 0777);
        *slash = '/';
    }
}

/* Writes root/path in place, as the kernel changes a file that somebody holds open. */
__attribute__((format(printf, 3, 4))) static inline void
tree_put(const char *root, const char *path, const char *fmt, ...)
{
    char full[4600];
    va_list ap;
    snprintf(full, sizeof full, "%s/%s", root, path);
    tree_make_folders(full);
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    va_start(ap, fmt);
    vfprintf(file, fmt, ap);
    va_end(ap);
    assert_int_equal(fclose(file), 0);
}

#endif
