/* What every C test includes: cmocka, and where the test data lies. */
#ifndef ERT_TEST_H
#define ERT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

/* Path of a file of the test data (../shared/data or $EDGERT_TEST_DATA) in a static buffer.
 * Absent, the test is skipped and says what it needed; tests/run fails a skip where CI=true. */
static inline const char *test_data(const char *name)
{
    static char path[4096];
    const char *root = getenv("EDGERT_TEST_DATA");
    snprintf(path, sizeof path, "%s/%s", root ? root : "../shared/data", name);
    if (access(path, R_OK) != 0) {
        print_message("# needs test data %s\n", name);
        skip();
    }
    return path;
}

/* Path of a file under the build folder, such as a pack that the tests made. Static buffer. */
static inline const char *test_build(const char *name)
{
    static char path[4096];
    const char *root = getenv("BUILD");
    snprintf(path, sizeof path, "%s/%s", root ? root : "build", name);
    return path;
}

#endif
