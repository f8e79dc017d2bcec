/* push: what errors of some columns mean for others, the innermost loop of quantizing. */
#ifndef VAR_PUSH_H
#define VAR_PUSH_H

#include <stddef.h>

#include "variants/grid.h"

/* Errors of the 32 columns of a block, those that are not 0 for all rows. */
struct var_errors {
    uint32_t n, column[PACK_GROUP];
    struct var_lanes error[PACK_GROUP];
};

/* Element (i, k) of a matrix is at[i * across + k * down]. Where it is symmetric, what is asked of
 * it should lie along i: memory is then read in its order. */
struct var_factor {
    const float *at;
    size_t across, down;
};

/* y[i] += sum of f(i, column) error over the errors in their order, for n columns, a multiple of
 * 8. */
typedef void var_push_fn(struct var_lanes *y, struct var_factor f, uint32_t n,
                         const struct var_errors *e);

/* What this CPU can run, the fastest last; NULL behind it. Version 0 is for any CPU; the others
 * fuse multiplication and addition, and give the same bits. */
var_push_fn *var_push_version(unsigned i);
var_push_fn *var_push_best(void);

#endif
