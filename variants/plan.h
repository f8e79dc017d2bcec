/* plan: every tensor of a pack to be written: where its numbers come from and where they go. */
#ifndef VAR_PLAN_H
#define VAR_PLAN_H

#include "variants/arrange.h"

/* One tensor. Its numbers come from a source tensor through the maps (NULL = as they are; -1 =
 * zero), or from `values` ([record.rows][record.cols], the plan's own), or from `table`. The values
 * of a tier's extras are only there while the layer is written (var_plan_fill_extras). */
struct var_planned {
    struct pack_tensor record;
    const struct var_tensor *tensor;
    const int32_t *rows, *cols;
    float *values;
    const uint16_t *table;
    enum var_input reads; /* what a matrix's columns multiply; VAR_N_INPUTS: nothing watched */
};

struct var_plan {
    uint32_t n, room;
    struct var_planned *tensors;
    uint64_t h_size, l_size;
    uint64_t weights; /* stored, for progress */
};

/* Lists all tensors, chooses which keep both planes in every variant (moments may be NULL) and
 * gives them their places. The arrangement and the source must outlive it. ERT_E_RANGE where
 * options->bits_per_weight is less than the 4-bit planes take. */
int var_plan_make(struct var_plan *plan, const struct var_source *src,
                  const struct var_arrangement *a, const struct var_build_options *options,
                  const struct var_moments_store *moments, struct ert_error *err);
void var_plan_release(struct var_plan *plan);

/* Computes the values of all tiers' extras in one layer from its moments; drop frees them. */
int var_plan_fill_extras(struct var_plan *plan, const struct var_source *src,
                         const struct var_arrangement *a, uint32_t layer,
                         const struct var_moments *moments, struct ert_error *err);
void var_plan_drop_extras(struct var_plan *plan, uint32_t layer);

/* Stored row `row` of a planned tensor as record.cols floats; scratch holds tensor->cols floats. */
void var_planned_row(const struct var_planned *p, uint32_t row, float *scratch, float *out);

#endif
