#include "variants/compensate.h"

#include <cblas.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/pack_format.h"

#define RIDGE 0.01 /* of the mean diagonal */

/* What one layer loses at one tier: y = W_down[:,S] a_S, S = stored channels first .. end - 1.
 * Averages are over levelled tokens (variants/level.h). Matrices are row-major, n = n_embd. */
struct removed {
    const struct rt_model *model;
    const struct var_tensor *down;
    const struct var_moments *moments;
    const int32_t *channels; /* stored to source */
    uint32_t first, end;
};

/* bias[row] = E[y[row]], rows in the source's order. */
static int mean_of_lost(const struct removed *r, double *bias)
{
    float *w = malloc(r->model->n_ff * sizeof *w);
    if (!w)
        return -1;
    for (uint32_t row = 0; row < r->model->n_embd; row++) {
        var_tensor_row(r->down, row, w);
        for (uint32_t s = r->first; s < r->end; s++) {
            int32_t c = r->channels[s];
            bias[row] += c < 0 ? 0 : (double)w[c] * (double)r->moments->level_mean[c];
        }
    }
    free(w);
    return 0;
}

/* ---- the compensator ----------------------------------------------------------------------- */

/* Matrices of the closed form. */
struct closed_form {
    double *l;       /* [n][n] Cholesky factor of C_bb + ridge */
    double *m;       /* [n][n] C_yb L^-T: its norm is what the map can explain */
    double *squares; /* [n][n] M M^T */
    double *u, *v;   /* [n][rank], [rank][n] */
    double *values;  /* [n] eigenvalues */
};

/* c[row][i] = E[y[row] b[i]] - bias[row] E[b[i]]. */
static int covariance_of_lost(const struct removed *r, const double *bias, double *c)
{
    size_t e = r->model->n_embd, lost = r->end - r->first;
    double *w = calloc(e * lost + lost * e + 1, sizeof *w), *cross = w + e * lost;
    float *row = malloc(r->model->n_ff * sizeof *row);
    int rc = w && row ? 0 : -1;
    for (size_t i = 0; i < e && !rc; i++) {
        var_tensor_row(r->down, (uint32_t)i, row);
        for (size_t s = 0; s < lost; s++) {
            int32_t j = r->channels[r->first + s];
            w[i * lost + s] = j < 0 ? 0 : (double)row[j];
            cross[s * e + i] = j < 0 ? 0 : (double)r->moments->cross[(size_t)j * e + i];
        }
        for (size_t k = 0; k < e; k++)
            c[i * e + k] = bias[i] * (double)r->moments->level_mlp[k];
    }
    if (!rc)
        cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)e, (blasint)e,
                    (blasint)lost, 1, w, (blasint)lost, cross, (blasint)e, -1, c, (blasint)e);
    free(w);
    free(row);
    return rc;
}

/* l = the Cholesky factor of the covariance of b and a ridge. */
static int factor_covariance(const struct removed *r, double *l)
{
    size_t n = r->model->n_embd;
    const float *mean = r->moments->level_mlp, *gram = r->moments->level_gram;
    double trace = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < n; k++)
            l[i * n + k] = (double)gram[i * n + k] - (double)mean[i] * (double)mean[k];
    for (size_t i = 0; i < n; i++)
        trace += l[i * n + i];
    for (size_t i = 0; i < n; i++)
        l[i * n + i] += RIDGE * trace / (double)n + 1e-30;
    return (int)LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', (lapack_int)n, l, (lapack_int)n);
}

/* u = the `rank` leading left singular vectors of m: eigenvectors of M M^T, largest last. */
static int leading_directions(struct closed_form *f, uint32_t n, uint32_t rank)
{
    lapack_int found, *support = calloc(2 * (size_t)rank, sizeof *support);
    if (!support)
        return -1;
    cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, (blasint)n, (blasint)n, 1, f->m,
                (blasint)n, 0, f->squares, (blasint)n);
    lapack_int info = LAPACKE_dsyevr(LAPACK_ROW_MAJOR, 'V', 'I', 'L', (lapack_int)n, f->squares,
                                     (lapack_int)n, 0, 0, (lapack_int)(n - rank + 1), (lapack_int)n,
                                     0, &found, f->values, f->u, (lapack_int)rank, support);
    free(support);
    return info == 0 && found == (lapack_int)rank ? 0 : -1;
}

/* Reduced-rank ridge regression (Izenman 1975): with C_bb = L L^T and U the leading left singular
 * vectors of C_yb L^-T, the map of that rank is U V, V = U^T C_yb C_bb^-1. */
static int fit(const struct removed *r, struct closed_form *f, const double *bias, uint32_t rank)
{
    blasint n = (blasint)r->model->n_embd, k = (blasint)rank;
    if (covariance_of_lost(r, bias, f->m) || factor_covariance(r, f->l))
        return -1;
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, n, n, 1, f->l, n,
                f->m, n);
    if (leading_directions(f, r->model->n_embd, rank))
        return -1;
    cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, k, n, n, 1, f->u, k, f->m, n, 0, f->v, n);
    cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, k, n, 1, f->l, n,
                f->v, n);
    return 0;
}

/* bias = E[y] - U V E[b]: the map is of b as it is. */
static void shift_bias(const struct closed_form *f, const struct removed *r, uint32_t rank,
                       double *bias)
{
    size_t n = r->model->n_embd;
    for (size_t k = 0; k < rank; k++) {
        double mean = 0;
        for (size_t i = 0; i < n; i++)
            mean += f->v[k * n + i] * (double)r->moments->level_mlp[i];
        for (size_t i = 0; i < n; i++)
            bias[i] -= f->u[i * rank + k] * mean;
    }
}

/* Stored order: rows and columns follow the residual's, the rank is padded with zeros. */
static void store_map(const struct closed_form *f, const struct removed *r, const int32_t *residual,
                      uint32_t rank, struct var_extras *x)
{
    size_t n = r->model->n_embd, wide = r->model->n_embd_pad;
    for (size_t k = 0; k < rank; k++)
        for (size_t i = 0; i < wide; i++) {
            int32_t from = residual[i];
            x->comp_v[k * wide + i] = from < 0 ? 0 : (float)f->v[k * n + (size_t)from];
            x->comp_u[i * x->rank + k] = from < 0 ? 0 : (float)f->u[(size_t)from * rank + k];
        }
}

static int add_compensator(const struct removed *r, const int32_t *residual, double *bias,
                           uint32_t rank, struct var_extras *x)
{
    size_t n = r->model->n_embd, wide = r->model->n_embd_pad;
    rank = rank < n ? rank : (uint32_t)n;
    x->rank = pack_pad(rank, PACK_GROUP);
    x->comp_v = calloc(x->rank * wide + 1, sizeof *x->comp_v);
    x->comp_u = calloc(x->rank * wide + 1, sizeof *x->comp_u);
    double *memory = calloc(3 * n * n + 2 * rank * n + n, sizeof *memory);
    int rc = x->comp_v && x->comp_u && memory ? 0 : -1;
    if (!rc) {
        struct closed_form f = {.l = memory, .m = memory + n * n, .squares = memory + 2 * n * n};
        f.u = memory + 3 * n * n;
        f.v = f.u + rank * n;
        f.values = f.v + rank * n;
        rc = fit(r, &f, bias, rank);
        if (!rc) {
            store_map(&f, r, residual, rank, x);
            shift_bias(&f, r, rank, bias);
        }
    }
    free(memory);
    return rc;
}

static void free_extras(struct var_extras *x)
{
    free(x->mlp_bias);
    free(x->comp_v);
    free(x->comp_u);
    *x = (struct var_extras){0};
}

uint32_t var_lost_channels(const struct var_arrangement *a, const struct rt_model *m, uint32_t tier,
                           uint32_t layer)
{
    uint32_t width = a->dims[tier][layer].mlp;
    return width < m->n_ff ? m->n_ff - width : 0;
}

/* Its two matrices may weigh an eighth of what three matrices lose: a choice, not compared with
 * other shares. */
static bool pays(uint32_t rank, uint32_t lost)
{
    return 8 * 2 * rank <= 3 * lost;
}

uint32_t var_compensator_rank(const struct rt_model *m, uint32_t comp_rank, uint32_t lost)
{
    uint32_t rank = comp_rank ? comp_rank : VAR_STANDARD_RANK;
    if (lost == 0 || (comp_rank == 0 && !pays(rank, lost)))
        return 0;
    return rank < m->n_embd ? rank : m->n_embd;
}

int var_compensate(struct var_extras *x, const struct var_source *src,
                   const struct var_arrangement *a, const struct var_moments *moments,
                   uint32_t tier, uint32_t layer, uint32_t rank, struct ert_error *err)
{
    const struct rt_model *m = &src->model;
    const struct removed r = {.model = m,
                              .down = &src->layers[layer].part[VAR_DOWN],
                              .moments = moments,
                              .channels = a->layers[layer].mlp,
                              .first = a->dims[tier][layer].mlp,
                              .end = a->dims[0][layer].mlp};
    if (var_lost_channels(a, m, tier, layer) == 0)
        return 0;
    double *bias = calloc(m->n_embd, sizeof *bias);
    x->mlp_bias = calloc(m->n_embd_pad, sizeof *x->mlp_bias);
    int rc = bias && x->mlp_bias ? mean_of_lost(&r, bias) : -1;
    if (!rc && rank > 0)
        rc = add_compensator(&r, a->residual, bias, rank, x);
    for (uint32_t i = 0; i < m->n_embd_pad && !rc; i++)
        x->mlp_bias[i] = a->residual[i] < 0 ? 0 : (float)bias[a->residual[i]];
    free(bias);
    if (rc) {
        free_extras(x);
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for the tiers' corrections", src->path);
    }
    return 0;
}
