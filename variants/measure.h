/* measure: how well points predict a text, several points side by side against one reference. */
#ifndef VAR_MEASURE_H
#define VAR_MEASURE_H

#include "variants/variants.h"

/* A point, or a schedule of points, to be measured. */
struct var_measured {
    const struct rt_pack *pack;
    const struct var_schedule_entry *schedule;
    size_t n_schedule;
    struct var_eval_result result; /* filled */
};

/* What it is measured on: windows of tokens, each fed from an empty cache and scored at positions
 * length / 2 .. length - 2. */
struct var_windows {
    const int32_t *ids; /* [n][length] */
    uint32_t n, length;
    const struct rt_pack *reference; /* for KL and agreement, or NULL */
};

/* The reference runs once for all points. */
int var_measure(struct var_measured *points, size_t n_points, const struct var_windows *windows,
                struct rt_team *team, const struct ert_progress *progress, struct ert_error *err);

#endif
