/* hessian: what errors in the weights of a row cost together. For a product y = w x the mean
 * squared error of y is e^T H e, with H = E[x x^T] and e the error of w (GPTQ, arXiv 2210.17323,
 * section 3). One is made per matrix from the moments of what the matrix reads; all rows share it.
 */
#ifndef VAR_HESSIAN_H
#define VAR_HESSIAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/base.h"

struct var_hessian_config {
    const float *gram; /* E[x x^T], [width][width], symmetric, in the source's order */
    uint32_t width;    /* channels of the source */
    const int32_t
        *cols;  /* [n]: source channel of each stored column, -1 padding; NULL = as it is */
    uint32_t n; /* stored columns, a multiple of 32 */
    const uint32_t
        *ends; /* rising: columns before which a narrower tier ends (0 and n do no harm) */
    uint32_t n_ends;
    bool outlier; /* columns 0 .. 31 are the outlier group: finer than the rest, they come last */
};

/* Columns between two tiers' ends. An error is made good by columns of its own slice only: a tier
 * that keeps the slice then has the columns that make good, whatever else it drops. */
struct var_slice {
    uint32_t from, n; /* columns, multiples of 32 */
    float *gram;      /* H, damped, [n][n], symmetric */
    uint32_t *order;  /* [n]: columns of the slice in the order in which they are rounded */
    float *feed; /* [n][n], lower triangular: L with H^-1 = L L^T, rows and columns in that order */
};

struct var_hessian {
    uint32_t n, n_slices;
    struct var_slice *slices; /* [n_slices], side by side from column 0 to n */
    float *memory;
    uint32_t *orders;
};

/* Makes *h, the caller's to free; config's arrays are not needed after. The diagonal is damped by a
 * hundredth of its mean, so that directions the calibration text never took cost something. Padding
 * columns and channels that were always 0 interact with nothing. Fails with ERT_E_NOMEM, or
 * ERT_E_CHECK where the gram holds what is no number. */
int var_hessian_make(struct var_hessian **h, const struct var_hessian_config *config,
                     struct ert_error *err);
void var_hessian_free(struct var_hessian *h); /* NULL is fine */

#endif
