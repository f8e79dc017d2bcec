/* plan: every tensor of a pack to be written: where its numbers come from and where they go. */
#ifndef VAR_PLAN_H
#define VAR_PLAN_H

#include "variants/arrange.h"

/* One tensor. Its numbers come from a source tensor through the maps (NULL = as they are; -1 =
 * zero), or from `values` ([record.rows][record.cols], the plan's own), or from `table`. */
struct var_planned {
    struct pack_tensor record;
    const struct var_tensor *tensor;
    const int32_t *rows, *cols;
    float *values;
    const uint16_t *table;
};

struct var_plan {
    uint32_t n, room;
    struct var_planned *tensors;
    uint64_t h_size, l_size;
    uint64_t weights; /* stored, for progress */
};

/* Lists all tensors and gives them their places. The arrangement and the source must outlive it. */
int var_plan_make(struct var_plan *plan, const struct var_source *src,
                  const struct var_arrangement *a, const struct var_build_options *options,
                  const struct var_stats *stats, struct ert_error *err);
void var_plan_release(struct var_plan *plan);

/* Stored row `row` of a planned tensor as record.cols floats; scratch holds tensor->cols floats. */
void var_planned_row(const struct var_planned *p, uint32_t row, float *scratch, float *out);

#endif
