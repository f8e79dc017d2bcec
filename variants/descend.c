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
static float cost(float reach, float level, float best, float target, float step)
{
    float away = level - best, over = fabsf(target - level) - 0.5f * step;
    return away * away + (over > 0 ? reach * (over * over) : 0);
}

/* The code for one weight whose best level, but for rounding, is `best`. */
static uint8_t choose(const struct var_rows *rows, uint32_t col, int r, float best, float per_step)
{
    uint32_t group = col / PACK_GROUP;
    float step = rows->step[group].v[r], offset = rows->offset[group].v[r];
    float target = rows->target[col].v[r];
    int low = rows->low[col].v[r], high = low + rows->span[group];
    int code = nearest(best, per_step, offset, low, high);
    float reach = rows->reach[rows->span[group] > VAR_NARROW_SPAN];
    if (reach == 0)
        return (uint8_t)code;
    int home = nearest(target, per_step, offset, low, high), way = home > code ? 1 : -1;
    float least = cost(reach, step * (float)code - offset, best, target, step);
    while (code != home) {
        float c = cost(reach, step * (float)(code + way) - offset, best, target, step);
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

static void note_error(struct var_errors *b, uint32_t column, const struct var_lanes *error)
{
    bool any = false;
    for (int r = 0; r < VAR_LANES; r++)
        any |= error->v[r] != 0;
    b->column[b->n] = column;
    b->error[b->n] = *error;
    b->n += any;
}

/* y[i] += factor[i stride] x for n columns. */
static void add_multiples(struct var_lanes *restrict y, const float *restrict factor, size_t stride,
                          uint32_t n, const struct var_lanes *restrict x)
{
    for (uint32_t i = 0; i < n; i++)
        for (int r = 0; r < VAR_LANES; r++)
            y[i].v[r] += factor[i * stride] * x->v[r];
}

/* ---- GPTQ ---------------------------------------------------------------------------------- */

/* Rounds one column of work. */
static struct var_lanes round_column(struct var_rows *rows, uint32_t col, const struct var_lanes *w,
                                     const struct var_lanes *per_step)
{
    struct var_lanes error;
    for (int r = 0; r < VAR_LANES; r++) {
        rows->code[col].v[r] = choose(rows, col, r, w->v[r], per_step->v[r]);
        error.v[r] = w->v[r] - level_of(rows, col, r);
    }
    return error;
}

static void feed_slice(struct var_rows *rows, const struct var_slice *s, var_group_fn *begin_group,
                       void *ctx)
{
    struct var_lanes *work = rows->work + s->from;
    for (uint32_t i = 0; i < s->n; i++)
        work[i] = rows->target[s->from + s->order[i]];
    for (uint32_t i = 0; i < s->n; i += PACK_GROUP) {
        uint32_t group = (s->from + s->order[i]) / PACK_GROUP;
        const float *feed = s->feed + (size_t)i * s->n + i;
        struct var_errors errors = {0};
        if (begin_group)
            begin_group(ctx, rows, group, work + i);
        struct var_lanes per_step = per_step_of(rows, group);
        for (uint32_t k = 0; k < PACK_GROUP; k++) {
            struct var_lanes error =
                round_column(rows, s->from + s->order[i + k], &work[i + k], &per_step);
            for (int r = 0; r < VAR_LANES; r++)
                error.v[r] *= -1 / feed[k * s->n + k];
            add_multiples(work + i + k + 1, feed + (k + 1) * s->n + k, s->n, PACK_GROUP - k - 1,
                          &error);
            note_error(&errors, k, &error);
        }
        const struct var_factor below = {feed + PACK_GROUP * (size_t)s->n, s->n, 1};
        rows->push(work + i + PACK_GROUP, below, s->n - i - PACK_GROUP, &errors);
    }
}

static void round_all(struct var_rows *rows, var_group_fn *begin_group, void *ctx)
{
    struct var_lanes per_step;
    for (uint32_t col = 0; col < rows->cols; col++) {
        if (col % PACK_GROUP == 0) {
            if (begin_group)
                begin_group(ctx, rows, col / PACK_GROUP, rows->target + col);
            per_step = per_step_of(rows, col / PACK_GROUP);
        }
        round_column(rows, col, &rows->target[col], &per_step);
    }
}

void var_descend_feed(struct var_rows *rows, var_group_fn *begin_group, void *ctx)
{
    if (!rows->hessian)
        round_all(rows, begin_group, ctx);
    for (uint32_t i = 0; rows->hessian && i < rows->hessian->n_slices; i++)
        feed_slice(rows, &rows->hessian->slices[i], begin_group, ctx);
}

/* ---- coordinate descent -------------------------------------------------------------------- */

/* What errors of the columns of a block mean for the columns from i on: the Gram matrix is
 * symmetric. */
static struct var_factor gram_of(const struct var_slice *s, uint32_t block, uint32_t i)
{
    return (struct var_factor){s->gram + (size_t)block * s->n + i, 1, s->n};
}

void var_descend_gradient(struct var_rows *rows)
{
    const struct var_hessian *h = rows->hessian;
    memset(rows->work, 0, rows->cols * sizeof *rows->work);
    for (uint32_t i = 0; i < h->n_slices; i++) {
        const struct var_slice *s = &h->slices[i];
        for (uint32_t j = 0; j < s->n; j += PACK_GROUP) {
            struct var_errors errors = {0};
            for (uint32_t k = 0; k < PACK_GROUP; k++) {
                struct var_lanes error;
                uint32_t col = s->from + j + k;
                for (int r = 0; r < VAR_LANES; r++)
                    error.v[r] = rows->target[col].v[r] - level_of(rows, col, r);
                note_error(&errors, k, &error);
            }
            rows->push(rows->work + s->from, gram_of(s, j, 0), s->n, &errors);
        }
    }
}

/* The best code of one column, all others fixed; the change of its error. */
static void improve_column(struct var_rows *rows, uint32_t col, float curvature,
                           const struct var_lanes *per_step, struct var_lanes *delta)
{
    float per_curvature = 1 / curvature;
    for (int r = 0; r < VAR_LANES; r++) {
        float level = level_of(rows, col, r);
        float best = level + rows->work[col].v[r] * per_curvature;
        rows->code[col].v[r] = choose(rows, col, r, best, per_step->v[r]);
        delta->v[r] = level - level_of(rows, col, r);
    }
}

/* A group's columns see each other's changes at once, all others when the group is done. */
static void sweep_group(struct var_rows *rows, const struct var_slice *s, uint32_t first)
{
    struct var_lanes *work = rows->work + s->from, delta;
    struct var_lanes per_step = per_step_of(rows, (s->from + first) / PACK_GROUP);
    struct var_errors changes = {0};
    for (uint32_t k = 0; k < PACK_GROUP; k++) {
        const float *h = s->gram + (first + k) * (size_t)s->n + first;
        improve_column(rows, s->from + first + k, h[k], &per_step, &delta);
        add_multiples(work + first, h, 1, PACK_GROUP, &delta);
        note_error(&changes, k, &delta);
    }
    if (changes.n == 0)
        return;
    uint32_t end = first + PACK_GROUP;
    rows->push(work, gram_of(s, first, 0), first, &changes);
    rows->push(work + end, gram_of(s, first, end), s->n - end, &changes);
}

static void sweep_slice(struct var_rows *rows, const struct var_slice *s)
{
    for (uint32_t j = 0; j < s->n; j += PACK_GROUP)
        sweep_group(rows, s, j);
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
    struct var_errors changes = {0};
    for (uint32_t c = 0; c < PACK_GROUP; c++)
        note_error(&changes, c, &delta[c]);
    rows->push(rows->work + s->from, gram_of(s, first - s->from, 0), s->n, &changes);
}
