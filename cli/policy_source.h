/* policy_source: a compiled policy for commands that have no pack. */
#ifndef ERT_POLICY_SOURCE_H
#define ERT_POLICY_SOURCE_H

#include "policies/policies.h"

/* Compiles a policy by name. "ladder: auto" is w8a8, w4a16 here: what every nested pack has. */
int policy_source_compile(const struct pol_file *file, const char *name, struct pol_policy *policy,
                          struct ert_error *err);

#endif
