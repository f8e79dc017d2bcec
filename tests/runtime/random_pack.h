/* A pack of random weights for C tests, made by tools/packtool. */
#ifndef ERT_TEST_RANDOM_PACK_H
#define ERT_TEST_RANDOM_PACK_H

#include "runtime/runtime.h"
#include "tests/test.h"

/* Makes and opens a pack of a kind ("nested", "h-only", "f32"); skips where Python lacks numpy. */
static inline struct rt_pack *random_pack(const char *kind)
{
    char path[4200], command[4400];
    snprintf(path, sizeof path, "%s-%s-%ld.edgert", test_build("random"), kind, (long)getpid());
    snprintf(command, sizeof command, "python3 tools/packtool random '%s' 7 %s", path, kind);
    if (system("python3 -c 'import numpy, xxhash' 2>/dev/null") != 0) {
        print_message("# needs numpy and xxhash of Python\n");
        skip();
    }
    assert_int_equal(system(command), 0);
    struct rt_pack *pack = NULL;
    struct ert_error err = {0};
    if (rt_pack_open(&pack, path, &err))
        fail_msg("%s", err.text);
    unlink(path); /* the mapping keeps it */
    return pack;
}

#endif
