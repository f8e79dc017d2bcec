/* compiled: policies out of short texts, for tests. */
#ifndef TESTS_POLICIES_COMPILED_H
#define TESTS_POLICIES_COMPILED_H

#include "tests/test.h"

#include <string.h>

#include "policies/policies.h"

#define LADDER                                                                                     \
    "ladders: {l: [w8a8, w4a16, {point: w4a16, threads: 1, tokens-per-second: 6}, pause]}\n"
#define POLICY(rest) "edgert: 1\n" LADDER "policies:\n  p:\n    ladder: l\n" rest
#define POWER(rest)  POLICY("    power: {sensor: temp.skin, target: 42C, " rest "}\n")
#define TRIP(rest)   POLICY("    trips:\n      - {name: hot, sensor: temp.cpu, " rest "}\n")

/* One policy of a text, which is right. */
static inline struct pol_policy compiled(const char *text, const char *name)
{
    struct pol_policy policy;
    struct pol_file *file;
    struct ert_error err = {0};
    if (pol_file_parse(&file, "t.yaml", text, strlen(text), &err) ||
        pol_compile(file, name, NULL, 0, &policy, &err))
        fail_msg("%s", err.text);
    pol_file_free(file);
    return policy;
}

#endif
