#include "variants/precision.h"

#include <math.h>
#include <stdlib.h>

#include "variants/blas.h"

enum { SAMPLED_ROWS = 32, LEVELS = 15 };

/* A matrix that may be chosen. */
struct candidate {
    uint32_t tensor;
    uint64_t bytes;
    double gain; /* error beside signal */
};

uint64_t var_count_weights(const struct var_plan *plan)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < plan->n; i++) {
        const struct var_planned *p = &plan->tensors[i];
        if (p->tensor && p->record.kind == PACK_NESTED)
            n += (uint64_t)p->tensor->rows * p->tensor->cols;
    }
    return n;
}

static uint64_t l_bytes(const struct pack_tensor *r)
{
    uint64_t groups = r->cols / PACK_GROUP - r->outlier_groups;
    uint64_t bytes = r->rows / PACK_TILE * groups * PACK_L_BLOCK;
    return (bytes + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
}

/* ---- what four bits lose -------------------------------------------------------------------- */

/* Source channel of a stored column, -1 for padding. */
static int64_t channel(const struct var_planned *p, uint32_t col)
{
    return p->cols ? p->cols[col] : col < p->tensor->cols ? (int64_t)col : -1;
}

/* Mean square of what the product reads in a stored column. */
static double power_of(const struct var_planned *p, const struct var_moments *m, uint32_t col)
{
    int64_t a = channel(p, col);
    return a < 0 ? 0 : (double)m->gram[p->reads][(size_t)a * (m->width[p->reads] + (size_t)1)];
}

/* The outlier group has no error to speak of. */
static double row_error(const struct var_planned *p, const struct var_moments *m, const float *w)
{
    double error = 0;
    for (uint32_t c = p->record.outlier_groups * PACK_GROUP; c < p->record.cols; c += PACK_GROUP) {
        float low = 0, high = 0;
        double power = 0;
        for (uint32_t i = c; i < c + PACK_GROUP; i++) {
            low = fminf(low, w[i]);
            high = fmaxf(high, w[i]);
            power += power_of(p, m, i);
        }
        double step = (double)(high - low) / LEVELS;
        error += power * step * step / 12;
    }
    return error;
}

/* Sum of w^T G w of n rows in the source's order; scratch has room for as many. */
static double sum_signals(const struct var_planned *p, const struct var_moments *m, const float *w,
                          uint32_t n, float *scratch)
{
    blasint width = (blasint)m->width[p->reads];
    double signal = 0;
    var_blas()->cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)n, width, width, 1,
                            w, width, m->gram[p->reads], width, 0, scratch, width);
    for (size_t i = 0; i < n * (size_t)width; i++)
        signal += (double)w[i] * (double)scratch[i];
    return signal;
}

/* Over rows that lie evenly in the matrix. */
static int measure(const struct var_planned *p, const struct var_moments *m, double *gain)
{
    uint32_t rows = p->tensor->rows, n = rows < SAMPLED_ROWS ? rows : SAMPLED_ROWS;
    size_t width = m->width[p->reads], stored = p->record.cols;
    float *w = calloc(2 * n * width + stored + p->tensor->cols, sizeof *w);
    float *row = w ? w + 2 * n * width : NULL;
    double error = 0;
    if (!w)
        return -1;
    for (uint32_t i = 0; i < n; i++) {
        var_planned_row(p, (uint32_t)((uint64_t)i * p->record.rows / n), row + stored, row);
        error += row_error(p, m, row);
        for (uint32_t c = 0; c < stored; c++)
            if (channel(p, c) >= 0)
                w[i * width + (size_t)channel(p, c)] = row[c];
    }
    double signal = sum_signals(p, m, w, n, w + n * width);
    free(w);
    *gain = signal > 0 ? error / signal : 0;
    return 0;
}

static bool may_be_chosen(const struct var_planned *p)
{
    return p->record.kind == PACK_NESTED && p->tensor && p->reads < VAR_N_INPUTS;
}

/* Adds the matrices of one layer (or the model's). */
static int add_layer(const struct var_plan *plan, const struct var_moments_store *moments,
                     uint32_t layer, struct candidate *c, uint32_t *n, struct ert_error *err)
{
    struct var_moments m;
    int rc = moments->load(moments->ctx, layer, &m, err);
    for (uint32_t i = 0; i < plan->n && !rc; i++) {
        const struct var_planned *p = &plan->tensors[i];
        if (p->record.layer != layer || !may_be_chosen(p))
            continue;
        c[*n] = (struct candidate){.tensor = i, .bytes = l_bytes(&p->record)};
        if (measure(p, &m, &c[(*n)++].gain))
            rc = ert_fail(err, ERT_E_NOMEM, "no memory for a row of tensor '%s'", p->tensor->name);
    }
    var_moments_release(&m);
    return rc;
}

/* ---- the choice ---------------------------------------------------------------------------- */

/* Falling gain per byte; the plan's order where equal. */
static int compare(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    double p = x->gain * (double)y->bytes, q = y->gain * (double)x->bytes;
    if (p != q)
        return p < q ? 1 : -1;
    return (x->tensor > y->tensor) - (x->tensor < y->tensor);
}

int var_choose_precision(struct var_plan *plan, const struct var_moments_store *moments,
                         uint64_t spare, struct ert_error *err)
{
    struct candidate *c = calloc(plan->n, sizeof *c);
    uint32_t n = 0, last = (uint32_t)PACK_NO_LAYER;
    int rc = 0;
    if (!c)
        return ert_fail(err, ERT_E_NOMEM, "no memory to choose precisions");
    for (uint32_t i = 0; i < plan->n && !rc; i++) {
        uint32_t layer = plan->tensors[i].record.layer;
        if (i == 0 || layer != last)
            rc = plan->tensors[i].tensor ? add_layer(plan, moments, layer, c, &n, err) : 0;
        last = layer;
    }
    if (!rc)
        qsort(c, n, sizeof *c, compare);
    /* The last one stays: without any L plane apart there would be no second variant. */
    for (uint32_t i = 0; i + 1 < n && !rc; i++)
        if (c[i].bytes <= spare) {
            plan->tensors[c[i].tensor].record.flags = PACK_FLAG_L_RESIDENT;
            spare -= c[i].bytes;
        }
    free(c);
    return rc;
}
