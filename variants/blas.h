/* blas: OpenBLAS and LAPACKE, and products of large float matrices with them, shared out among a
 * team; OpenBLAS computes each share on the worker's own thread. How a result is cut into shares
 * does not depend on the team, so neither does any bit of it. */
#ifndef VAR_BLAS_H
#define VAR_BLAS_H

#include <cblas.h>
#include <lapacke.h>

#include "base/base.h"
#include "runtime/team.h"

/* The libraries' functions, under their own names. */
struct var_blas {
#define VAR_BLAS(library, name) __typeof__(name) *name;
#include "variants/blas_functions.def"
#undef VAR_BLAS
};

/* Rows of a matrix somewhere in memory: element (r, c) is data[r * stride + c]. */
struct var_view {
    float *data;
    uint32_t rows, cols;
    size_t stride; /* floats from row to row, at least cols */
};

/* Loads the libraries: a process that makes no pack has neither in memory. OpenBLAS knows the CPUs
 * of its own day by name and takes any later one for one of 2004, five times slower; so it is told
 * which of its kernels the CPU can run, unless OPENBLAS_CORETYPE says so already. It and LAPACK
 * then compute on the thread that calls them and no other: how many threads share a product would
 * show in its bits. To be called before the team starts to work; calling it again does no harm.
 * ERT_E_IO where a library is not there. */
int var_blas_open(struct ert_error *err);

/* After var_blas_open. */
const struct var_blas *var_blas(void);

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
