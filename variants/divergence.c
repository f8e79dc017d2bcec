#include "variants/divergence.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/kernels/kernels.h"
#include "variants/blas.h"

/* A worker takes some states at a time through all of the head, a block of its rows after the
 * other. */
enum { STATES = 512, BLOCK = 512 };

/* log(sum of exp) that grows part by part (online softmax, arXiv 1805.02867). */
struct log_sum {
    double max, sum;
};

static void add_part(struct log_sum *s, double max, double sum)
{
    double top = max > s->max ? max : s->max;
    s->sum = s->sum * exp(s->max - top) + sum * exp(max - top);
    s->max = top;
}

static double value_of(const struct log_sum *s)
{
    return s->max + log(s->sum);
}

/* ---- blocks of the head -------------------------------------------------------------------- */

/* A worker's scratch. */
struct bench {
    float *rows;   /* [BLOCK][n_embd] of the head */
    float *logits; /* [STATES][BLOCK] */
};

static size_t bench_floats(const struct rt_model *m)
{
    return (size_t)BLOCK * m->n_embd + (size_t)STATES * BLOCK;
}

static struct bench bench_of(const struct var_divergence *d, unsigned worker)
{
    float *at = d->scratch + worker * bench_floats(&d->src->model);
    return (struct bench){at, at + (size_t)BLOCK * d->src->model.n_embd};
}

static uint32_t block_rows(const struct rt_model *m, uint32_t first)
{
    return m->n_vocab - first < BLOCK ? m->n_vocab - first : BLOCK;
}

/* logits = x W^T for the rows of one block, which come first into the bench; x: [n][E]. */
static void multiply_block(const struct var_divergence *d, const struct bench *b, uint32_t first,
                           const float *x, uint32_t n)
{
    const struct rt_model *m = &d->src->model;
    uint32_t rows = block_rows(m, first);
    for (uint32_t r = 0; r < rows; r++)
        var_tensor_row(&d->src->head, first + r, b->rows + (size_t)r * m->n_embd);
    var_blas()->cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (blasint)n, (blasint)rows,
                            (blasint)m->n_embd, 1, x, (blasint)m->n_embd_pad, b->rows,
                            (blasint)m->n_embd, 0, b->logits, BLOCK);
}

/* lse[n] = log(sum of exp) of the logits of n states. */
static void sum_states(const struct var_divergence *d, const struct rt_kernels *kernels,
                       const struct bench *b, const float *x, uint32_t n, double *lse)
{
    const struct rt_model *m = &d->src->model;
    struct log_sum sums[STATES];
    for (uint32_t i = 0; i < n; i++)
        sums[i] = (struct log_sum){-INFINITY, 0};
    for (uint32_t first = 0; first < m->n_vocab; first += BLOCK) {
        multiply_block(d, b, first, x, n);
        for (uint32_t i = 0; i < n; i++) {
            float max;
            float sum =
                kernels->softmax_part(b->logits + (size_t)i * BLOCK, block_rows(m, first), &max);
            add_part(&sums[i], (double)max, (double)sum);
        }
    }
    for (uint32_t i = 0; i < n; i++)
        lse[i] = value_of(&sums[i]);
}

static double dot(const float *a, const float *b, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* ---- the reference ------------------------------------------------------------------------- */

/* Pieces of STATES states, taken as workers come free. */
struct job {
    const struct var_divergence *d;
    const struct rt_kernels *kernels;
    const float *const *sets;
    uint32_t n_sets;
    double *kld; /* [n_sets][n] */
    _Atomic(uint32_t) next;
};

/* expected = softmax(W x) W of n states whose lse is known. */
static void expect_rows(const struct var_divergence *d, const struct bench *b, const float *x,
                        uint32_t n, const double *lse, float *expected)
{
    const struct rt_model *m = &d->src->model;
    for (uint32_t first = 0; first < m->n_vocab; first += BLOCK) {
        uint32_t rows = block_rows(m, first);
        multiply_block(d, b, first, x, n);
        for (uint32_t i = 0; i < n; i++)
            for (uint32_t r = 0; r < rows; r++) {
                float *p = b->logits + (size_t)i * BLOCK + r;
                *p = expf(*p - (float)lse[i]);
            }
        var_blas()->cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)n,
                                (blasint)m->n_embd, (blasint)rows, 1, b->logits, BLOCK, b->rows,
                                (blasint)m->n_embd, 1, expected, (blasint)m->n_embd_pad);
    }
}

static uint32_t pieces_of(uint32_t n)
{
    return (n + STATES - 1) / STATES;
}

static uint32_t piece_size(uint32_t n, uint32_t first)
{
    return n - first < STATES ? n - first : STATES;
}

static void expect_pieces(void *ctx, unsigned worker, unsigned n_workers)
{
    struct job *job = ctx;
    const struct var_divergence *d = job->d;
    const struct bench b = bench_of(d, worker);
    uint32_t e = d->src->model.n_embd_pad;
    (void)n_workers;
    for (uint32_t i; (i = atomic_fetch_add(&job->next, 1)) < pieces_of(d->n);) {
        uint32_t first = i * STATES, n = piece_size(d->n, first);
        const float *x = job->sets[0] + (size_t)first * e;
        float *expected = d->expected + (size_t)first * e;
        double *level = d->level + first;
        sum_states(d, job->kernels, &b, x, n, level);
        expect_rows(d, &b, x, n, level, expected);
        for (uint32_t k = 0; k < n; k++)
            level[k] = dot(expected + (size_t)k * e, x + (size_t)k * e, e) - level[k];
    }
}

int var_divergence_open(struct var_divergence *d, const struct var_source *src,
                        struct rt_team *team, const float *reference, uint32_t n,
                        struct ert_error *err)
{
    size_t e = src->model.n_embd_pad;
    *d = (struct var_divergence){.src = src, .team = team, .n = n};
    int rc = var_blas_open(err);
    if (rc)
        return rc;
    d->expected = calloc(n * e + 1, sizeof *d->expected);
    d->level = calloc((size_t)n + 1, sizeof *d->level);
    d->scratch = malloc(rt_team_size(team) * bench_floats(&src->model) * sizeof *d->scratch);
    if (!d->expected || !d->level || !d->scratch) {
        var_divergence_release(d);
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory to compare %u states", src->path, n);
    }
    struct job job = {.d = d, .kernels = rt_kernels_best(), .sets = &reference, .n_sets = 1};
    rt_team_run(team, var_blas_callers(team), expect_pieces, &job);
    return 0;
}

void var_divergence_release(struct var_divergence *d)
{
    free(d->expected);
    free(d->level);
    free(d->scratch);
    *d = (struct var_divergence){0};
}

/* ---- states -------------------------------------------------------------------------------- */

static void measure_pieces(void *ctx, unsigned worker, unsigned n_workers)
{
    struct job *job = ctx;
    const struct var_divergence *d = job->d;
    const struct bench b = bench_of(d, worker);
    uint32_t e = d->src->model.n_embd_pad, pieces = pieces_of(d->n);
    (void)n_workers;
    for (uint32_t i; (i = atomic_fetch_add(&job->next, 1)) < pieces * job->n_sets;) {
        uint32_t first = i % pieces * STATES, n = piece_size(d->n, first);
        const float *x = job->sets[i / pieces] + (size_t)first * e;
        double *kld = job->kld + (size_t)(i / pieces) * d->n + first;
        sum_states(d, job->kernels, &b, x, n, kld); /* becomes the divergence as level is made */
        for (uint32_t k = 0; k < n; k++) {
            size_t row = (size_t)(first + k) * e;
            kld[k] = d->level[first + k] - (dot(d->expected + row, x + (size_t)k * e, e) - kld[k]);
        }
    }
}

int var_divergence_measure(const struct var_divergence *d, const float *const *sets,
                           uint32_t n_sets, double *kld, struct ert_error *err)
{
    double *all = calloc((size_t)n_sets * d->n + 1, sizeof *all);
    if (!all)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory to compare states", d->src->path);
    struct job job = {d, rt_kernels_best(), sets, n_sets, all, 0};
    rt_team_run(d->team, var_blas_callers(d->team), measure_pieces, &job);
    for (uint32_t i = 0; i < n_sets; i++) {
        kld[i] = 0;
        for (uint32_t k = 0; k < d->n; k++)
            kld[i] += all[(size_t)i * d->n + k] / d->n;
    }
    free(all);
    return 0;
}
