/* precision: which matrices keep both planes in every variant, so that the 4-bit variant loses
 * least within a budget of bytes. */
#ifndef VAR_PRECISION_H
#define VAR_PRECISION_H

#include "variants/plan.h"

/* Weights of the matrices as the source has them, padding not counted. */
uint64_t var_count_weights(const struct var_plan *plan);

/* Sets PACK_FLAG_L_RESIDENT in records of the plan, whose L planes then count as part of what every
 * variant reads, as long as that takes at most `spare` bytes more: those first that win most per
 * byte. What a matrix wins is the error of what it gives out beside what it gives out, both in
 * E[y^2] over calibration text: sum H_cc d^2 / 12 to w^T H w over a sample of its rows, d being the
 * step of the weight's group. */
int var_choose_precision(struct var_plan *plan, const struct var_moments_store *moments,
                         uint64_t spare, struct ert_error *err);

#endif
