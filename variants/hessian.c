#include "variants/hessian.h"

#include <math.h>
#include <stdlib.h>

#include "runtime/pack_format.h"
#include "variants/blas.h"

static const double DAMPING = 0.01; /* of the mean of the diagonal, as in GPTQ */

static double gram_at(const struct var_hessian_config *c, uint32_t row, uint32_t col)
{
    int64_t i = c->cols ? c->cols[row] : row < c->width ? (int64_t)row : -1;
    int64_t j = c->cols ? c->cols[col] : col < c->width ? (int64_t)col : -1;
    return i < 0 || j < 0 ? 0 : (double)c->gram[(size_t)i * c->width + (size_t)j];
}

/* What is added to the diagonal; 1 where all inputs are 0 and nothing matters. */
static double damping(const struct var_hessian_config *c)
{
    double sum = 0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        double x = gram_at(c, i, i);
        sum += x;
        n += x > 0;
    }
    return n > 0 ? DAMPING * sum / n : 1;
}

/* Columns in order; an outlier group after all others, because what they lost is met there in finer
 * steps. */
static void set_order(const struct var_hessian_config *c, const struct var_slice *s)
{
    uint32_t first = c->outlier && s->from == 0 ? PACK_GROUP : 0;
    for (uint32_t i = 0; i < s->n; i++)
        s->order[i] = (i + first) % s->n;
}

/* The slice's part of H into s->gram and, in double, into a. False if it holds no numbers. */
static bool gather(const struct var_hessian_config *c, const struct var_slice *s, double damp,
                   double *a)
{
    bool finite = true;
    for (uint32_t i = 0; i < s->n; i++)
        for (uint32_t j = 0; j < s->n; j++) {
            size_t at = (size_t)i * s->n + j;
            double x = gram_at(c, s->from + i, s->from + j) + (i == j ? damp : 0);
            s->gram[at] = (float)x;
            finite &= isfinite(x) != 0;
        }
    set_order(c, s);
    for (uint32_t i = 0; i < s->n; i++)
        for (uint32_t j = 0; j < s->n; j++)
            a[(size_t)i * s->n + j] = (double)s->gram[(size_t)s->order[i] * s->n + s->order[j]];
    return finite;
}

/* From H in a: its Cholesky factor, the inverse from that, the inverse's factor. Rows of a
 * symmetric matrix are its columns: lower by columns is upper by rows. */
static int factorize(const struct var_slice *s, double *a)
{
    lapack_int n = (lapack_int)s->n;
    if (var_blas()->LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', n, a, n) ||
        var_blas()->LAPACKE_dpotri_work(LAPACK_COL_MAJOR, 'L', n, a, n) ||
        var_blas()->LAPACKE_dpotrf_work(LAPACK_COL_MAJOR, 'L', n, a, n))
        return -1;
    for (uint32_t i = 0; i < s->n; i++)
        for (uint32_t j = 0; j < s->n; j++) {
            size_t at = (size_t)i * s->n + j;
            s->feed[at] = j > i ? 0 : (float)a[j * (size_t)s->n + i];
        }
    return 0;
}

static int fill_slice(const struct var_hessian_config *c, const struct var_slice *s, double damp,
                      struct ert_error *err)
{
    double *a = malloc((size_t)s->n * s->n * sizeof *a);
    if (!a)
        return ert_fail(err, ERT_E_NOMEM, "no memory for the moments of %u columns", s->n);
    int rc = gather(c, s, damp, a) ? factorize(s, a) : -1;
    free(a);
    if (rc)
        return ert_fail(
            err, ERT_E_CHECK,
            "the moments of %u columns have no Cholesky factor: the source's activations "
            "are no finite numbers; the model is broken or not supported",
            s->n);
    return 0;
}

/* The slices between the ends. Returns how many floats their matrices take. */
static size_t list_slices(struct var_hessian *h, const struct var_hessian_config *c)
{
    uint32_t from = 0;
    size_t room = 0;
    for (uint32_t i = 0; i <= c->n_ends; i++) {
        uint32_t end = i < c->n_ends ? c->ends[i] : c->n;
        if (end <= from || end > c->n)
            continue;
        h->slices[h->n_slices++] = (struct var_slice){.from = from, .n = end - from};
        room += 2 * (size_t)(end - from) * (end - from);
        from = end;
    }
    return room;
}

static void place_slices(struct var_hessian *h)
{
    float *at = h->memory;
    for (uint32_t i = 0; i < h->n_slices; i++) {
        struct var_slice *s = &h->slices[i];
        s->gram = at;
        s->feed = at + (size_t)s->n * s->n;
        s->order = h->orders + s->from;
        at += 2 * (size_t)s->n * s->n;
    }
}

/* With its slices and room for their matrices; NULL if there is no memory. */
static struct var_hessian *allocate(const struct var_hessian_config *c)
{
    struct var_hessian *h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->n = c->n;
    h->slices = calloc((size_t)c->n_ends + 1, sizeof *h->slices);
    h->orders = calloc(h->n, sizeof *h->orders);
    if (h->slices && h->orders)
        h->memory = calloc(list_slices(h, c), sizeof *h->memory);
    if (h->memory) {
        place_slices(h);
        return h;
    }
    var_hessian_free(h);
    return NULL;
}

int var_hessian_make(struct var_hessian **h, const struct var_hessian_config *config,
                     struct ert_error *err)
{
    *h = allocate(config);
    if (!*h)
        return ert_fail(err, ERT_E_NOMEM, "no memory for the moments of %u columns", config->n);
    double damp = damping(config);
    int rc = var_blas_open(err);
    for (uint32_t i = 0; !rc && i < (*h)->n_slices; i++)
        rc = fill_slice(config, &(*h)->slices[i], damp, err);
    if (rc) {
        var_hessian_free(*h);
        *h = NULL;
    }
    return rc;
}

void var_hessian_free(struct var_hessian *h)
{
    if (!h)
        return;
    free(h->slices);
    free(h->orders);
    free(h->memory);
    free(h);
}
