#include "cli/policy_source.h"

int policy_source_compile(const struct pol_file *file, const char *name, struct pol_policy *policy,
                          struct ert_error *err)
{
    static const struct pol_point rungs[] = {{.name = "w8a8", .point = "w8a8"},
                                             {.name = "w4a16", .point = "w4a16"}};
    return pol_compile(file, name, rungs, sizeof rungs / sizeof *rungs, policy, err);
}
