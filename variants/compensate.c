#include "variants/compensate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/pack_format.h"

enum { ITERATIONS = 8 };
#define RIDGE 0.01 /* of the mean diagonal */

/* What one layer loses at one tier: y = W_down[:,S] a_S, S = stored channels first .. end - 1. */
struct removed {
    const struct rt_model *model;
    const struct var_tensor *down;
    const struct var_moments *moments;
    const int32_t *channels; /* stored to source */
    uint32_t first, end;
};

/* sum_j W_down[row][j] v[j] over the removed channels j. */
static double lost_sum(const struct removed *r, const float *w, const float *v)
{
    double sum = 0;
    for (uint32_t c = r->first; c < r->end; c++)
        if (r->channels[c] >= 0)
            sum += (double)w[r->channels[c]] * (double)v[r->channels[c]];
    return sum;
}

/* bias[row] = E[y[row]], rows in the source's order. */
static int mean_of_lost(const struct removed *r, double *bias)
{
    float *w = malloc(r->model->n_ff * sizeof *w);
    if (!w)
        return -1;
    for (uint32_t row = 0; row < r->model->n_embd; row++) {
        var_tensor_row(r->down, row, w);
        bias[row] = lost_sum(r, w, r->moments->mean[VAR_IN_GATED]);
    }
    free(w);
    return 0;
}

/* c[row][i] = E[y[row] b[i]]. */
static int cross_of_lost(const struct removed *r, double *c)
{
    uint32_t e = r->model->n_embd;
    float *w = malloc(r->model->n_ff * sizeof *w);
    if (!w)
        return -1;
    for (uint32_t row = 0; row < e; row++) {
        var_tensor_row(r->down, row, w);
        for (uint32_t s = r->first; s < r->end; s++) {
            int32_t j = r->channels[s];
            for (uint32_t i = 0; i < e && j >= 0; i++)
                c[(size_t)row * e + i] +=
                    (double)w[j] * (double)r->moments->cross[(size_t)j * e + i];
        }
    }
    free(w);
    return 0;
}

/* ---- linear algebra, n x n row-major ------------------------------------------------------- */

/* a = L L^T in place, lower triangle. */
static void cholesky(double *a, uint32_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = a[i * n + j];
            for (size_t k = 0; k < j; k++)
                sum -= a[i * n + k] * a[j * n + k];
            a[i * n + j] = i == j ? sqrt(fmax(sum, 1e-30)) : sum / a[j * n + j];
        }
}

/* Solves L x = b (or L^T x = b) in place. */
static void solve_lower(const double *l, uint32_t n, double *x)
{
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < i; k++)
            x[i] -= l[i * n + k] * x[k];
        x[i] /= l[i * n + i];
    }
}

static void solve_upper(const double *l, uint32_t n, double *x)
{
    for (size_t i = n; i-- > 0;) {
        for (size_t k = i + 1; k < n; k++)
            x[i] -= l[k * n + i] * x[k];
        x[i] /= l[i * n + i];
    }
}

/* out = m x (transposed: m^T x). */
static void apply(const double *m, uint32_t n, bool transposed, const double *x, double *out)
{
    memset(out, 0, n * sizeof *out);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            out[transposed ? j : i] += m[i * n + j] * x[transposed ? i : j];
}

/* Makes the rows of q[rank][n] orthonormal (modified Gram-Schmidt); a row that vanishes stays zero.
 */
static void orthonormalize(double *q, uint32_t rank, uint32_t n)
{
    for (size_t r = 0; r < rank; r++) {
        double *row = q + r * n, norm = 0;
        for (size_t p = 0; p < r; p++) {
            double dot = 0;
            for (size_t i = 0; i < n; i++)
                dot += row[i] * q[p * n + i];
            for (size_t i = 0; i < n; i++)
                row[i] -= dot * q[p * n + i];
        }
        for (size_t i = 0; i < n; i++)
            norm += row[i] * row[i];
        norm = norm > 1e-24 ? 1 / sqrt(norm) : 0;
        for (size_t i = 0; i < n; i++)
            row[i] *= norm;
    }
}

/* u[rank][n] = the leading left singular vectors of m[n][n], by subspace iteration. */
static void leading_directions(const double *m, uint32_t n, double *u, uint32_t rank,
                               double *scratch)
{
    for (size_t i = 0; i < (size_t)rank * n; i++) /* any start that is not special */
        u[i] = sin((double)(i + 1) * 12.9898);
    for (int k = 0; k < ITERATIONS; k++) {
        orthonormalize(u, rank, n);
        for (size_t r = 0; r < rank; r++) {
            apply(m, n, true, u + r * n, scratch);
            apply(m, n, false, scratch, u + r * n);
        }
    }
    orthonormalize(u, rank, n);
}

/* ---- the compensator ----------------------------------------------------------------------- */

/* Matrices of the closed form. */
struct closed_form {
    double *l;       /* [n][n] Cholesky factor of C_bb + ridge */
    double *m;       /* [n][n] C_yb L^-T: its norm is what the map can explain */
    double *u;       /* [rank][n] */
    double *scratch; /* [n] */
};

static void factor_gram(const struct removed *r, double *l)
{
    size_t n = r->model->n_embd;
    double trace = 0;
    for (size_t i = 0; i < n; i++)
        trace += (double)r->moments->gram[VAR_IN_MLP][i * n + i];
    for (size_t i = 0; i < n * n; i++)
        l[i] = (double)r->moments->gram[VAR_IN_MLP][i];
    for (size_t i = 0; i < n; i++)
        l[i * n + i] += RIDGE * trace / (double)n;
    cholesky(l, r->model->n_embd);
}

/* Reduced-rank ridge regression: with C_bb = L L^T and U the leading left singular vectors of
 * C_yb L^-T, the map of that rank is U (U^T C_yb C_bb^-1). The bias's share of y is taken out of
 * C_yb, so that the two do not correct the same thing twice. */
static int fit(const struct removed *r, struct closed_form *f, const double *bias, uint32_t rank)
{
    uint32_t n = r->model->n_embd;
    if (cross_of_lost(r, f->m))
        return -1;
    factor_gram(r, f->l);
    for (size_t row = 0; row < n; row++) {
        for (size_t i = 0; i < n; i++)
            f->m[row * n + i] -= bias[row] * (double)r->moments->mean[VAR_IN_MLP][i];
        solve_lower(f->l, n, f->m + row * n); /* row of C L^-T */
    }
    leading_directions(f->m, n, f->u, rank, f->scratch);
    return 0;
}

/* Stored order: rows and columns follow the residual's, the rank is padded with zeros. */
static void store_map(const struct closed_form *f, const struct removed *r, const int32_t *residual,
                      uint32_t rank, struct var_extras *x)
{
    uint32_t n = r->model->n_embd, wide = r->model->n_embd_pad;
    for (size_t k = 0; k < rank; k++) {
        const double *u = f->u + k * n;
        apply(f->m, n, true, u, f->scratch);
        solve_upper(f->l, n, f->scratch); /* U^T C L^-T L^-1 */
        for (size_t i = 0; i < wide; i++) {
            int32_t from = residual[i];
            x->comp_v[k * wide + i] = from < 0 ? 0 : (float)f->scratch[from];
            x->comp_u[i * x->rank + k] = from < 0 ? 0 : (float)u[from];
        }
    }
}

static int add_compensator(const struct removed *r, const int32_t *residual, const double *bias,
                           uint32_t rank, struct var_extras *x)
{
    size_t n = r->model->n_embd, wide = r->model->n_embd_pad;
    x->rank = var_compensator_rank(r->model, rank);
    rank = rank < n ? rank : (uint32_t)n;
    x->comp_v = calloc(x->rank * wide + 1, sizeof *x->comp_v);
    x->comp_u = calloc(x->rank * wide + 1, sizeof *x->comp_u);
    double *memory = calloc(2 * n * n + rank * n + n + 1, sizeof *memory);
    int rc = x->comp_v && x->comp_u && memory ? 0 : -1;
    if (!rc) {
        struct closed_form f = {memory, memory + n * n, memory + 2 * n * n,
                                memory + 2 * n * n + rank * n};
        rc = fit(r, &f, bias, rank);
        if (!rc)
            store_map(&f, r, residual, rank, x);
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

bool var_drops_channels(const struct var_arrangement *a, uint32_t tier, uint32_t layer)
{
    return a->dims[tier][layer].mlp < a->dims[0][layer].mlp;
}

uint32_t var_compensator_rank(const struct rt_model *m, uint32_t rank)
{
    return pack_pad(rank < m->n_embd ? rank : m->n_embd, PACK_GROUP);
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
    if (!var_drops_channels(a, tier, layer))
        return 0;
    double *bias = calloc(m->n_embd, sizeof *bias);
    x->mlp_bias = calloc(m->n_embd_pad, sizeof *x->mlp_bias);
    int rc = bias && x->mlp_bias ? mean_of_lost(&r, bias) : -1;
    for (uint32_t i = 0; i < m->n_embd_pad && !rc; i++)
        x->mlp_bias[i] = a->residual[i] < 0 ? 0 : (float)bias[a->residual[i]];
    if (!rc && rank > 0)
        rc = add_compensator(&r, a->residual, bias, rank, x);
    free(bias);
    if (rc) {
        free_extras(x);
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for the tiers' corrections", src->path);
    }
    return 0;
}
