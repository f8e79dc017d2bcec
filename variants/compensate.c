#include "variants/compensate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/pack_format.h"
#include "variants/blas.h"

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

/* Matrices of the closed form, for one tier after another: n = n_embd, R = the rank of the last. */
struct closed_form {
    double *l;       /* [n][n] Cholesky factor of C_bb + ridge */
    double *m;       /* [n][n] C_yb L^-T less what the tiers before explain: what the map can */
    double *squares; /* [n][n] M M^T */
    double *u, *v;   /* [n][R], [R][n] */
    double *step;    /* [n][R], [R][n]: directions that one tier adds */
    double *values;  /* [n] eigenvalues */
    uint32_t rank;   /* R */
    uint32_t known;  /* of the tiers before */
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
        var_blas()->cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)e, (blasint)e,
                                (blasint)lost, 1, w, (blasint)lost, cross, (blasint)e, -1, c,
                                (blasint)e);
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
    return (int)var_blas()->LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', (lapack_int)n, l, (lapack_int)n);
}

/* step = the k leading left singular vectors of m: eigenvectors of M M^T, largest last. */
static int leading_directions(struct closed_form *f, uint32_t n, uint32_t k)
{
    lapack_int found, *support = calloc(2 * (size_t)k, sizeof *support);
    if (!support)
        return -1;
    var_blas()->cblas_dsyrk(CblasRowMajor, CblasLower, CblasNoTrans, (blasint)n, (blasint)n, 1,
                            f->m, (blasint)n, 0, f->squares, (blasint)n);
    lapack_int info =
        var_blas()->LAPACKE_dsyevr(LAPACK_ROW_MAJOR, 'V', 'I', 'L', (lapack_int)n, f->squares,
                                   (lapack_int)n, 0, 0, (lapack_int)(n - k + 1), (lapack_int)n, 0,
                                   &found, f->values, f->step, (lapack_int)k, support);
    free(support);
    return info == 0 && found == (lapack_int)k ? 0 : -1;
}

/* m = m - U V L, with the directions known so far. */
static void take_known(struct closed_form *f, blasint n)
{
    blasint k = (blasint)f->known, rank = (blasint)f->rank;
    if (k == 0)
        return;
    memcpy(f->step, f->v, (size_t)k * (size_t)n * sizeof *f->step);
    var_blas()->cblas_dtrmm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit, k, n,
                            1, f->l, n, f->step, n);
    var_blas()->cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, n, k, -1, f->u, rank,
                            f->step, n, 1, f->m, n);
}

/* Reduced-rank ridge regression (Izenman 1975): with C_bb = L L^T and U the leading left singular
 * vectors of C_yb L^-T, the map of that rank is U V, V = U^T C_yb C_bb^-1. Directions of narrower
 * tiers are those of what the ones before leave, so that each tier's map is a prefix. */
static int extend(const struct removed *r, struct closed_form *f, const double *bias, uint32_t k)
{
    blasint n = (blasint)r->model->n_embd, rank = (blasint)f->rank;
    double *v = f->v + (size_t)f->known * (size_t)n;
    if (covariance_of_lost(r, bias, f->m))
        return -1;
    var_blas()->cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, n, n,
                            1, f->l, n, f->m, n);
    take_known(f, n);
    if (leading_directions(f, r->model->n_embd, k))
        return -1;
    for (blasint i = 0; i < n; i++)
        memcpy(f->u + i * rank + f->known, f->step + i * (blasint)k, k * sizeof *f->u);
    var_blas()->cblas_dgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)k, n, n, 1, f->step,
                            (blasint)k, f->m, n, 0, v, n);
    var_blas()->cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit,
                            (blasint)k, n, 1, f->l, n, v, n);
    f->known += k;
    return 0;
}

/* bias = E[y] - U V E[b]: the map is of b as it is. */
static void shift_bias(const struct closed_form *f, const struct removed *r, double *bias)
{
    size_t n = r->model->n_embd;
    for (size_t k = 0; k < f->known; k++) {
        double mean = 0;
        for (size_t i = 0; i < n; i++)
            mean += f->v[k * n + i] * (double)r->moments->level_mlp[i];
        for (size_t i = 0; i < n; i++)
            bias[i] -= f->u[i * f->rank + k] * mean;
    }
}

/* Stored order: rows and columns follow the residual's; a rank beyond n_embd is padding. */
static int store_map(const struct closed_form *f, const struct rt_model *m, const int32_t *residual,
                     struct var_extras *x)
{
    size_t n = m->n_embd, wide = m->n_embd_pad, stored = x->rank;
    x->comp_v = calloc(stored * wide + 1, sizeof *x->comp_v);
    x->comp_u = calloc(stored * wide + 1, sizeof *x->comp_u);
    if (!x->comp_v || !x->comp_u)
        return -1;
    for (size_t k = 0; k < f->known; k++)
        for (size_t i = 0; i < wide; i++) {
            int32_t from = residual[i];
            x->comp_v[k * wide + i] = from < 0 ? 0 : (float)f->v[k * n + (size_t)from];
            x->comp_u[i * stored + k] = from < 0 ? 0 : (float)f->u[(size_t)from * f->rank + k];
        }
    return 0;
}

/* ---- a layer ------------------------------------------------------------------------------- */

/* What tier `tier` needs beyond the tiers before it; bias is [n_embd] of zeros. */
static int add_tier(const struct var_arrangement *a, uint32_t tier, uint32_t layer,
                    struct removed *r, struct closed_form *f, double *bias, struct var_extras *x)
{
    const struct rt_model *m = r->model;
    uint32_t rank = a->dims[tier][layer].comp;
    r->first = a->dims[tier][layer].mlp;
    rank = rank < f->rank ? rank : f->rank;
    x->mlp_bias[tier] = calloc(m->n_embd_pad, sizeof *x->mlp_bias[tier]);
    int rc = x->mlp_bias[tier] ? mean_of_lost(r, bias) : -1;
    if (!rc && rank > f->known)
        rc = extend(r, f, bias, rank - f->known);
    if (rc)
        return rc;
    shift_bias(f, r, bias);
    for (uint32_t i = 0; i < m->n_embd_pad; i++)
        x->mlp_bias[tier][i] = a->residual[i] < 0 ? 0 : (float)bias[a->residual[i]];
    return 0;
}

static int add_tiers(const struct var_arrangement *a, uint32_t layer, struct removed *r,
                     struct closed_form *f, struct var_extras *x)
{
    size_t n = r->model->n_embd;
    double *bias = malloc(n * sizeof *bias);
    int rc = bias ? 0 : -1;
    if (!rc && f->rank > 0)
        rc = factor_covariance(r, f->l);
    for (uint32_t t = 1; t < a->n_tiers && !rc; t++) {
        if (var_lost_channels(a, r->model, t, layer) == 0)
            continue;
        memset(bias, 0, n * sizeof *bias);
        rc = add_tier(a, t, layer, r, f, bias, x);
    }
    free(bias);
    return rc;
}

static double *allocate(struct closed_form *f, size_t n)
{
    size_t square = f->rank ? n * n : 0, thin = f->rank * n;
    /* One entry more than is used: of none, calloc may return NULL, which is not "no memory". */
    double *memory = calloc(3 * square + 3 * thin + n + 1, sizeof *memory);
    f->l = memory;
    f->m = f->l + square;
    f->squares = f->m + square;
    f->u = f->squares + square;
    f->v = f->u + thin;
    f->step = f->v + thin;
    f->values = f->step + thin;
    return memory;
}

int var_compensate(struct var_extras *x, const struct var_source *src,
                   const struct var_arrangement *a, const struct var_moments *moments,
                   uint32_t layer, struct ert_error *err)
{
    const struct rt_model *m = &src->model;
    struct removed r = {.model = m,
                        .down = &src->layers[layer].part[VAR_DOWN],
                        .moments = moments,
                        .channels = a->layers[layer].mlp,
                        .end = a->dims[0][layer].mlp};
    *x = (struct var_extras){.rank = a->dims[a->n_tiers - 1][layer].comp};
    struct closed_form f = {.rank = x->rank < m->n_embd ? x->rank : m->n_embd};
    double *memory = allocate(&f, m->n_embd);
    int rc = memory ? add_tiers(a, layer, &r, &f, x) : -1;
    if (!rc && x->rank > 0)
        rc = store_map(&f, m, a->residual, x);
    free(memory);
    if (rc) {
        var_extras_release(x);
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for the tiers' corrections", src->path);
    }
    return 0;
}

void var_extras_release(struct var_extras *x)
{
    for (uint32_t t = 0; t < VAR_MAX_TIERS; t++)
        free(x->mlp_bias[t]);
    free(x->comp_v);
    free(x->comp_u);
    *x = (struct var_extras){0};
}

/* ---- ranks --------------------------------------------------------------------------------- */

uint32_t var_lost_channels(const struct var_arrangement *a, const struct rt_model *m, uint32_t tier,
                           uint32_t layer)
{
    uint32_t width = a->dims[tier][layer].mlp;
    return width < m->n_ff ? m->n_ff - width : 0;
}

/* Channels that a layer loses before its compensator grows by another 32: its two matrices then
 * weigh an eighth of what three lose. A choice, not compared with other shares. */
enum { CHANNELS_A_STEP = 171 };

/* Grows at each tier that has lost so many more since it grew last. */
static uint32_t standard_rank(const struct var_arrangement *a, const struct rt_model *m,
                              uint32_t tier, uint32_t layer)
{
    uint32_t rank = 0, served = 0;
    for (uint32_t t = 1; t <= tier; t++) {
        uint32_t lost = var_lost_channels(a, m, t, layer);
        if (lost < served + CHANNELS_A_STEP)
            continue;
        served = lost;
        rank += PACK_GROUP;
    }
    return rank;
}

/* The rank asked for, at every tier that loses more than the one before. */
static uint32_t rank_asked_for(const struct var_arrangement *a, const struct rt_model *m,
                               uint32_t tier, uint32_t layer, uint32_t comp_rank)
{
    uint32_t rank = 0;
    for (uint32_t t = 1; t <= tier; t++)
        if (var_lost_channels(a, m, t, layer) > var_lost_channels(a, m, t - 1, layer))
            rank += pack_pad(comp_rank, PACK_GROUP);
    return rank;
}

uint32_t var_compensator_rank(const struct var_arrangement *a, const struct rt_model *m,
                              uint32_t tier, uint32_t layer, uint32_t comp_rank)
{
    uint32_t rank =
        comp_rank ? rank_asked_for(a, m, tier, layer, comp_rank) : standard_rank(a, m, tier, layer);
    return rank < m->n_embd_pad ? rank : m->n_embd_pad;
}

void var_rank_compensators(struct var_arrangement *a, const struct rt_model *m, uint32_t comp_rank)
{
    for (uint32_t t = 1; t < a->n_tiers; t++)
        for (uint32_t l = 0; l < a->n_layers; l++)
            a->dims[t][l].comp = var_compensator_rank(a, m, t, l, comp_rank);
}
