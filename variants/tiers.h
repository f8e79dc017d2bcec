/* tiers: how many weights a tier keeps, and in which layers. */
#ifndef VAR_TIERS_H
#define VAR_TIERS_H

#include "variants/sensitivity.h"

/* Fills a->dims of all tiers but the widest: each keeps at most a->rank_percent of the weights of
 * all layers, its extras counted: biases, and compensators of rank comp_rank (0 = none). Channels
 * are taken where the divergence rises least for each, on the lower convex hull of what was
 * measured, so that a tier is the one above it and a few more steps (Shoham and Gersho 1988). Heads
 * stay whole. */
void var_allocate_widths(struct var_arrangement *a, const struct rt_model *m,
                         const struct var_sensitivity *s, uint32_t comp_rank);

#endif
