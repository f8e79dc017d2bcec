/* tiers: how many weights a tier keeps, and in which layers. */
#ifndef VAR_TIERS_H
#define VAR_TIERS_H

#include "variants/sensitivity.h"

/* How many channels more than in the tier above a layer may lose at a tier, so that some can lose
 * much more than their share: what var_sensitivity_measure is to measure. */
uint32_t var_depth_of_tier(const struct var_arrangement *a, const struct rt_model *m,
                           uint32_t tier);

/* Fills a->dims[tier], tier > 0: it keeps at most a->rank_percent[tier] of the weights of all
 * layers, its extras counted: biases, and compensators (comp_rank as in var_build_options).
 * Channels are taken from the tier above, which s was measured at, where the divergence rises least
 * for each, on the lower convex hull of what was measured (Shoham and Gersho 1988). Heads stay
 * whole. */
void var_allocate_widths(struct var_arrangement *a, const struct rt_model *m, uint32_t tier,
                         const struct var_sensitivity *s, uint32_t comp_rank);

#endif
