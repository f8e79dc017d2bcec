/* compiled: policies out of short texts, for tests. */
#ifndef TESTS_POLICIES_COMPILED_H
#define TESTS_POLICIES_COMPILED_H

#include "tests/test.h"

#include <string.h>

#include "policies/policies.h"

#define LADDER                                                                                     \
    "ladders: {l: [w8a8, w4a16, {point: w4a16, threads: 1, tokens-per-second: 6}, pause]}\n"
#define POLICY(rest) "edgert: 1\n" LADDER "policies:\n  p:\n    ladder: l\n" rest

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

/* file: as pol_show has it. */
static inline void assert_round_trip(const struct pol_policy *policy, const struct pol_file *file)
{
    char *text;
    struct ert_error err = {0};
    assert_int_equal(pol_show(policy, file, &text, &err), 0);
    assert_true(!strstr(text, "  # ") == !file);
    struct pol_policy back = compiled(text, policy->name);
    if (memcmp(&back, policy, sizeof back) != 0)
        fail_msg("%s", text);
    free(text);
}

/* A policy that is given readings by hand; its sensors have none yet. */
struct bench {
    struct pol_policy policy;
    struct pol_state state;
    struct dev_reading raw[POL_MAX_SENSORS];
    struct pol_decision decision;
    uint64_t now_ns;
};

static inline void start(struct bench *b, const char *text)
{
    memset(b, 0, sizeof *b);
    b->policy = compiled(text, "p");
    pol_state_init(&b->state, &b->policy);
    for (size_t i = 0; i < POL_MAX_SENSORS; i++)
        b->raw[i].why = DEV_NO_SOURCE;
    b->now_ns = 3600000000000;
}

#endif
