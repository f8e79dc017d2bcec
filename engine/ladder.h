/* ladder: a policy's rungs and a pack's points. */
#ifndef ERT_LADDER_H
#define ERT_LADDER_H

#include "policies/policies.h"
#include "runtime/runtime.h"

/* "ladder: auto": the points of the pack's catalog that no other point beats in both perplexity and
 * bytes per token, best first, at most POL_MAX_STATES. Returns their number; 0 without a catalog.
 */
size_t ladder_from_catalog(const struct rt_pack *pack, struct pol_point *rungs);

/* The table of points of a ladder; n_threads is the team's size. ERT_E_MISSING names the rung that
 * the pack cannot run and lists what it has. */
int ladder_resolve(const struct rt_pack *pack, const struct pol_point *rungs, size_t n,
                   unsigned n_threads, struct rt_point_table **table, struct ert_error *err);

#endif
