/* rungs: a policy's ladder as the engine runs it. A policy that is read again brings a new one; the
 * switch's word then carries which of them a state belongs to. */
#ifndef ERT_RUNGS_H
#define ERT_RUNGS_H

#include "policies/policies.h"
#include "runtime/runtime.h"

/* Immutable once its first code is published. */
struct rungs {
    struct pol_policy *policy; /* NULL at a fixed point */
    struct rt_point_table *table;
    uint32_t use[POL_MAX_STATES]; /* where the engine counts what is done at each */
};

/* How many ladders an engine may have in its life, and codes: ladder << 8 | state. */
enum { RUNGS_LADDERS = 256, RUNGS_STATE_BITS = 8 };

static inline uint32_t rungs_code(uint32_t ladder, uint32_t state)
{
    return ladder << RUNGS_STATE_BITS | state;
}

static inline uint32_t rungs_state(uint32_t code)
{
    return code & ((1u << RUNGS_STATE_BITS) - 1);
}

/* Resolves the policy's ladder against the pack; takes policy over, whether it fails or not. */
int rungs_of_policy(struct rungs **rungs, struct pol_policy *policy, const struct rt_pack *pack,
                    unsigned n_threads, struct ert_error *err);
/* One fixed point. */
int rungs_of_point(struct rungs **rungs, const char *point, const struct rt_pack *pack,
                   unsigned n_threads, struct ert_error *err);
void rungs_free(struct rungs *rungs); /* NULL is fine */

#endif
