#include "variants/descend.h"

#include <math.h>
#include <string.h>

/* The code nearest to the level x, within the bounds. */
static int nearest(float x, float per_step, float offset, int low, int high)
{
    float c = (x + offset) * per_step;
    c = c < (float)low ? (float)low : c > (float)high ? (float)high : c;
    return (int)(c + 0.5f);
}

/* What a code costs: the way to the best level, and what the residual will not reach. */
static float cost(const struct var_rows *rows, float level, float best, float target, float step)
{
    float away = level - best, over = fabsf(target - level) - 0.5f * step;
    return away * away + (over > 0 ? rows->reach * (over * over) : 0);
}

/* The code for one weight whose best level, but for rounding, is `best`. */
static uint8_t choose(const struct var_rows *rows, uint32_t col, int r, float best, float per_step)
{
    uint32_t group = col / PACK_GROUP;
    float step = rows->step[group].v[r], offset = rows->offset[group].v[r];
    float target = rows->target[col].v[r];
    int low = rows->low[col].v[r], high = low + rows->span[group];
    int code = nearest(best, per_step, offset, low, high);
    if (rows->reach == 0)
        return (uint8_t)code;
    int home = nearest(target, per_step, offset, low, high), way = home > code ? 1 : -1;
    float least = cost(rows, step * (float)code - offset, best, target, step);
    while (code != home) {
        float c = cost(rows, step * (float)(code + way) - offset, best, target, step);
        if (c >= least)
            break;
        least = c;
        code += way;
    }
    return (uint8_t)code;
}

static struct var_lanes per_step_of(const struct var_rows *rows, uint32_t group)
{
    struct var_lanes x;
    for (int r = 0; r < VAR_LANES; r++)
        x.v[r] = rows->step[group].v[r] > 0 ? 1 / rows->step[group].v[r] : 0;
    return x;
}

static float level_of(const struct var_rows *rows, uint32_t col, int r)
{
    uint32_t group = col / PACK_GROUP;
    return rows->step[group].v[r] * (float)rows->code[col].v[r] - rows->offset[group].v[r];
}

/* y[i] += factor[i] x for n columns. */
static void add_multiples(struct var_lanes *restrict y, const float *restrict factor, uint32_t n,
                          const struct var_lanes *restrict x)
{
    for (uint32_t i = 0; i < n; i++)
        for (int r = 0; r < VAR_LANES; r++)
            y[i].v[r] += factor[i] * x->v[r];
}

/* ---- GPTQ ---------------------------------------------------------------------------------- */

/* Rounds one column of work. */
static struct var_lanes round_column(struct var_rows *rows, uint32_t col,
                                     const struct var_lanes *per_step)
{
    struct var_lanes error;
    for (int r = 0; r < VAR_LANES; r++) {
        rows->code[col].v[r] = choose(rows, col, r, rows->work[col].v[r], per_step->v[r]);
        error.v[r] = rows->work[col].v[r] - level_of(rows, col, r);
    }
    return error;
}

static void feed_slice(struct var_rows *rows, const struct var_slice *s, var_group_fn *begin_group,
                       void *ctx)
{
    float weight[PACK_GROUP];
    struct var_lanes per_step;
    for (uint32_t j = 0; j < s->n; j++) {
        const float *u = s->feed + (size_t)j * s->n;
        if (j % PACK_GROUP == 0) {
            for (uint32_t i = 0; i < PACK_GROUP; i++) {
                float d = s->feed[(size_t)(j + i) * s->n + j + i];
                weight[i] = 1 / (d * d);
            }
            if (begin_group)
                begin_group(ctx, rows, (s->from + j) / PACK_GROUP, weight);
            per_step = per_step_of(rows, (s->from + j) / PACK_GROUP);
        }
        struct var_lanes error = round_column(rows, s->from + j, &per_step);
        for (int r = 0; r < VAR_LANES; r++)
            error.v[r] *= -1 / u[j];
        add_multiples(rows->work + s->from + j + 1, u + j + 1, s->n - j - 1, &error);
    }
}

static void round_all(struct var_rows *rows, var_group_fn *begin_group, void *ctx)
{
    float weight[PACK_GROUP];
    struct var_lanes per_step;
    for (uint32_t i = 0; i < PACK_GROUP; i++)
        weight[i] = 1;
    for (uint32_t col = 0; col < rows->cols; col++) {
        if (col % PACK_GROUP == 0) {
            if (begin_group)
                begin_group(ctx, rows, col / PACK_GROUP, weight);
            per_step = per_step_of(rows, col / PACK_GROUP);
        }
        round_column(rows, col, &per_step);
    }
}

void var_descend_feed(struct var_rows *rows, var_group_fn *begin_group, void *ctx)
{
    memcpy(rows->work, rows->target, rows->cols * sizeof *rows->work);
    if (!rows->hessian)
        round_all(rows, begin_group, ctx);
    for (uint32_t i = 0; rows->hessian && i < rows->hessian->n_slices; i++)
        feed_slice(rows, &rows->hessian->slices[i], begin_group, ctx);
}

/* ---- coordinate descent -------------------------------------------------------------------- */

void var_descend_gradient(struct var_rows *rows)
{
    const struct var_hessian *h = rows->hessian;
    memset(rows->work, 0, rows->cols * sizeof *rows->work);
    for (uint32_t i = 0; i < h->n_slices; i++) {
        const struct var_slice *s = &h->slices[i];
        for (uint32_t j = 0; j < s->n; j++) {
            struct var_lanes error;
            for (int r = 0; r < VAR_LANES; r++)
                error.v[r] = rows->target[s->from + j].v[r] - level_of(rows, s->from + j, r);
            add_multiples(rows->work + s->from, s->gram + (size_t)j * s->n, s->n, &error);
        }
    }
}

/* The best code of one column, all others fixed; the change of its error. True if any changed. */
static bool improve_column(struct var_rows *rows, uint32_t col, float curvature,
                           const struct var_lanes *per_step, struct var_lanes *delta)
{
    bool changed = false;
    float per_curvature = 1 / curvature;
    for (int r = 0; r < VAR_LANES; r++) {
        float level = level_of(rows, col, r);
        float best = level + rows->work[col].v[r] * per_curvature;
        uint8_t code = choose(rows, col, r, best, per_step->v[r]);
        changed |= code != rows->code[col].v[r];
        rows->code[col].v[r] = code;
        delta->v[r] = level - level_of(rows, col, r);
    }
    return changed;
}

static void sweep_slice(struct var_rows *rows, const struct var_slice *s)
{
    struct var_lanes per_step, delta;
    for (uint32_t j = 0; j < s->n; j++) {
        const float *h = s->gram + (size_t)j * s->n;
        if (j % PACK_GROUP == 0)
            per_step = per_step_of(rows, (s->from + j) / PACK_GROUP);
        if (improve_column(rows, s->from + j, h[j], &per_step, &delta))
            add_multiples(rows->work + s->from, h, s->n, &delta);
    }
}

void var_descend_sweep(struct var_rows *rows)
{
    for (uint32_t i = 0; i < rows->hessian->n_slices; i++)
        sweep_slice(rows, &rows->hessian->slices[i]);
}

void var_descend_move(struct var_rows *rows, uint32_t group, const struct var_lanes *delta)
{
    const struct var_slice *s = rows->hessian->slices;
    uint32_t first = group * PACK_GROUP;
    while (first >= s->from + s->n)
        s++;
    for (uint32_t c = 0; c < PACK_GROUP; c++)
        add_multiples(rows->work + s->from, s->gram + (size_t)(first - s->from + c) * s->n, s->n,
                      &delta[c]);
}
