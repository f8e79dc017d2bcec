/* rungs: a policy's ladder as the engine runs it. A policy that is read again brings a new one; the
 * switch's word then carries which of them a state belongs to. */
#ifndef ERT_RUNGS_H
#define ERT_RUNGS_H

#include "engine/cpus.h"
#include "policies/policies.h"
#include "runtime/runtime.h"

/* Immutable once its first code is published. */
struct rungs {
    struct pol_policy *policy; /* NULL at a fixed point */
    struct rt_point_table *table;
    uint32_t runs_as[POL_MAX_STATES]; /* itself, or what fits the memory in its place */
    uint32_t use[POL_MAX_STATES];     /* where the engine counts what is done at each */
    bool placed[POL_MAX_STATES];      /* on the cores of where[], else on any */
    cpu_set_t where[POL_MAX_STATES];
};

/* How many ladders an engine may have in its life. A code, 16 bits, is what the switch carries: the
 * ladder, the state to generate at, and how the state to read prompts at differs from that (the
 * exclusive or: 0 = it does not). */
enum { RUNGS_LADDERS = 64, RUNGS_STATE_BITS = 5 };

static inline uint32_t rungs_code(uint32_t ladder, uint32_t state, uint32_t prefill_state)
{
    return ladder << 2 * RUNGS_STATE_BITS | (state ^ prefill_state) << RUNGS_STATE_BITS | state;
}

static inline uint32_t rungs_ladder(uint32_t code)
{
    return code >> 2 * RUNGS_STATE_BITS;
}

static inline uint32_t rungs_state(uint32_t code)
{
    return code & ((1u << RUNGS_STATE_BITS) - 1);
}

/* True if prompts are read at another state. */
static inline bool rungs_differ(uint32_t code)
{
    return code >> RUNGS_STATE_BITS & ((1u << RUNGS_STATE_BITS) - 1);
}

/* The code of the one state that counts while prompts are read, or while tokens are generated. */
static inline uint32_t rungs_at_work(uint32_t code, bool prefill)
{
    uint32_t state = rungs_state(prefill ? code >> RUNGS_STATE_BITS ^ code : code);
    return rungs_code(rungs_ladder(code), state, state);
}

/* Resolves the policy's ladder against the pack and the machine's cores; takes policy over, whether
 * it fails or not. */
int rungs_of_policy(struct rungs **rungs, struct pol_policy *policy, const struct rt_pack *pack,
                    const struct cpus *cpus, unsigned n_threads, struct ert_error *err);
/* One fixed point. */
int rungs_of_point(struct rungs **rungs, const char *point, const struct rt_pack *pack,
                   unsigned n_threads, struct ert_error *err);
void rungs_free(struct rungs *rungs); /* NULL is fine */

#endif
