#include "variants/level.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = 64 }; /* that one worker sums at a time */

int var_level_init(struct var_level *l, const struct rt_model *model, size_t tokens)
{
    *l = (struct var_level){.n_ff = model->n_ff, .n_embd = model->n_embd};
    l->sums = calloc(2 * (size_t)l->n_ff + l->n_embd, sizeof *l->sums);
    l->weights = calloc(tokens, sizeof *l->weights);
    l->rows = calloc(tokens * l->n_embd, sizeof *l->rows);
    if (l->sums && l->weights && l->rows)
        return 0;
    var_level_release(l);
    return -ERT_E_NOMEM;
}

void var_level_release(struct var_level *l)
{
    free(l->sums);
    free(l->weights);
    free(l->rows);
    *l = (struct var_level){0};
}

void var_level_begin(struct var_level *l)
{
    memset(l->sums, 0, (2 * (size_t)l->n_ff + l->n_embd) * sizeof *l->sums);
    l->weight = 0;
}

static const float *row_of(const struct var_view *v, size_t row)
{
    return v->data + row * v->stride;
}

struct adding {
    struct var_level *level;
    const struct var_view *gated, *mlp;
    bool cross;
};

/* Sums of columns [first, end) of v, and of their squares, where wanted. */
static void sum_columns(const struct adding *a, const struct var_view *v, uint32_t first,
                        uint32_t end, double *sums, double *squares)
{
    for (uint32_t t = 0; t < v->rows; t++) {
        const float *row = row_of(v, t);
        double w = (double)a->level->weights[t];
        for (uint32_t c = first; c < end; c++) {
            sums[c] += w * (double)row[c];
            if (squares)
                squares[c] += w * (double)row[c] * (double)row[c];
        }
    }
}

static void add_sums(void *ctx, unsigned worker, unsigned n)
{
    const struct adding *a = ctx;
    struct var_level *l = a->level;
    for (uint32_t first = worker * COLUMNS; first < l->n_ff; first += n * COLUMNS)
        sum_columns(a, a->gated, first, first + COLUMNS < l->n_ff ? first + COLUMNS : l->n_ff,
                    l->sums, l->sums + l->n_ff);
    for (uint32_t first = worker * COLUMNS; a->cross && first < l->n_embd; first += n * COLUMNS)
        sum_columns(a, a->mlp, first, first + COLUMNS < l->n_embd ? first + COLUMNS : l->n_embd,
                    l->sums + 2 * (size_t)l->n_ff, NULL);
    for (uint32_t t = worker; a->cross && t < a->mlp->rows; t += n)
        for (uint32_t i = 0; i < l->n_embd; i++)
            l->rows[(size_t)t * l->n_embd + i] = l->weights[t] * row_of(a->mlp, t)[i];
}

static void weigh(struct var_level *l, const struct var_view *x)
{
    for (uint32_t t = 0; t < x->rows; t++) {
        double squares = 0;
        for (uint32_t i = 0; i < l->n_embd; i++)
            squares += (double)row_of(x, t)[i] * (double)row_of(x, t)[i];
        l->weights[t] = (float)(l->n_embd / fmax(squares, 1e-30));
        l->weight += (double)l->weights[t];
    }
}

void var_level_add(struct var_level *l, struct rt_team *team, struct var_moments *m,
                   const struct var_view *x, const struct var_view *gated,
                   const struct var_view *mlp)
{
    struct adding job = {l, gated, mlp, m->cross != NULL};
    const struct var_view rows = {l->rows, mlp->rows, l->n_embd, l->n_embd};
    weigh(l, x);
    rt_team_run(team, rt_team_size(team), add_sums, &job);
    if (!m->cross)
        return;
    const struct var_view cross = {m->cross, l->n_ff, l->n_embd, l->n_embd};
    const struct var_view gram = {m->level_gram, l->n_embd, l->n_embd, l->n_embd};
    var_blas_correlate(team, gated, &rows, &cross);
    var_blas_correlate(team, mlp, &rows, &gram);
}

static void take_means(float *to, const double *sums, size_t n, double weight)
{
    for (size_t i = 0; to && i < n; i++)
        to[i] = (float)(sums[i] / weight);
}

static void average(float *x, size_t n, double weight)
{
    for (size_t i = 0; x && i < n; i++)
        x[i] = (float)((double)x[i] / weight);
}

void var_level_end(const struct var_level *l, struct var_moments *m)
{
    size_t e = l->n_embd, f = l->n_ff;
    double weight = l->weight > 0 ? l->weight : 1;
    take_means(m->level_mean, l->sums, f, weight);
    take_means(m->level_square, l->sums + f, f, weight);
    take_means(m->level_mlp, l->sums + 2 * f, e, weight);
    average(m->level_gram, e * e, weight);
    average(m->cross, f * e, weight);
}
