/* grid: the levels of a group of 32 weights, for the 16 rows of a tile side by side. A row is a
 * lane: arrays are [column][lane], so that the compiler works on all rows at once. */
#ifndef VAR_GRID_H
#define VAR_GRID_H

#include <stdbool.h>

#include "runtime/pack_format.h"

enum { VAR_LANES = PACK_TILE };

/* One float of each row. */
struct var_lanes {
    float v[VAR_LANES];
};

/* Scale d and offset m of one group, per row. Narrow: w = d h - m, h = 0 .. 15. Wide (both planes):
 * w = (d / 16) c - (m + d / 2), c = 0 .. 255. */
struct var_grid {
    struct var_lanes d, m;
    bool wide;
};

/* step and offset: the grid's levels are step * code - offset. */
void var_grid_levels(const struct var_grid *g, struct var_lanes *step, struct var_lanes *offset);

/* The grid of least error sum weight[c] (w - level)^2, m >= 0 (wide: m of any sign, the whole range
 * is covered). weight[32] is shared by the rows. */
void var_grid_fit(struct var_grid *g, const struct var_lanes *w, const float *weight);

/* The row pairs D and M of a tile (bf16 exactly), and a grid in codes under them: d = D u_d,
 * m = M u_m. */
struct var_pairs {
    struct var_lanes d, m;
};
struct var_grid_codes {
    uint8_t d[VAR_LANES], m[VAR_LANES];
};

/* Rounds g to codes that suit the weights, and sets g to what the codes say. u_d >= 1 where D > 0.
 */
void var_grid_encode(struct var_grid *g, struct var_grid_codes *codes,
                     const struct var_pairs *pairs, const struct var_lanes *w, const float *weight);

#endif
