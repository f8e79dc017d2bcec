/* ladder: a policy's rungs and a pack's points. */
#ifndef ERT_LADDER_H
#define ERT_LADDER_H

#include "policies/policies.h"
#include "runtime/runtime.h"

/* "ladder: auto", from the pack's catalog: the points that no other beats in both KL and bytes per
 * token, best first; but those that cost quality (a tier whose KL is more than 0.05 nats above the
 * best point's) only after one thread and a pace of 8 and 5 tokens per second, at 3; pause last. At
 * most POL_MAX_STATES rungs; returns their number, 0 without a catalog. */
size_t ladder_from_catalog(const struct rt_pack *pack, struct pol_point *rungs);

/* The table of points of a ladder; n_threads is the team's size. ERT_E_MISSING names the rung that
 * the pack cannot run and lists what it has. */
int ladder_resolve(const struct rt_pack *pack, const struct pol_point *rungs, size_t n,
                   unsigned n_threads, struct rt_point_table **table, struct ert_error *err);

#endif
