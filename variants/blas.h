/* blas: products of large float matrices, shared out among a team; OpenBLAS computes each share on
 * the worker's own thread. How a result is cut into shares does not depend on the team, so neither
 * does any bit of it. */
#ifndef VAR_BLAS_H
#define VAR_BLAS_H

#include "runtime/team.h"

/* Rows of a matrix somewhere in memory: element (r, c) is data[r * stride + c]. */
struct var_view {
    float *data;
    uint32_t rows, cols;
    size_t stride; /* floats from row to row, at least cols */
};

/* Makes OpenBLAS and LAPACK compute on the thread that calls them and no other, in the whole
 * process: how many threads share a product would show in its bits. To be called before the team
 * starts to work; calling it again does no harm. */
void var_blas_use_callers_thread(void);

/* How many of the team may call OpenBLAS at the same time: one where it has no locks or threads of
 * its own that it would start in each. */
unsigned var_blas_callers(const struct rt_team *team);

/* y = x w^T, or y += x w^T: x [n][k], w [rows][k], y [n][rows]. */
void var_blas_product(struct rt_team *team, const struct var_view *x, const struct var_view *w,
                      const struct var_view *y, bool add);

/* c += a^T b: a [n][i], b [n][j], c [i][j]. */
void var_blas_correlate(struct rt_team *team, const struct var_view *a, const struct var_view *b,
                        const struct var_view *c);

/* The lower triangle of c += a^T a, at least: what lies above the diagonal is not defined. */
void var_blas_gram(struct rt_team *team, const struct var_view *a, const struct var_view *c);

#endif
