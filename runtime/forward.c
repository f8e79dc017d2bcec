/* forward: one step of a model, from token ids to logits, top to bottom as docs/pack-format.md
 * ("Arithmetic") writes it. A step is a row of stages; in each the workers share the units of work
 * out among themselves (team.h) and meet at a barrier, five times a layer. What lies between two
 * stages, the residual stream and its norm, is so little for a few columns that every worker
 * computes it for itself; the columns of a long chunk have one owner each, and two barriers more.
 * Nothing depends on who did what, so neither does any bit of the result. */
#include "runtime/forward.h"

#include <math.h>
#include <string.h>

#include "runtime/attention.h"

/* A worker's place in a step. */
struct place {
    unsigned worker;
    struct rt_stream *stream;   /* its own, or the one that all share */
    uint32_t first_col, stride; /* of the columns it brings forward there */
    uint32_t n_cols;            /* of the step, of which a hurry may have left but the first */
};

/* ---- stages -------------------------------------------------------------------------------- */

/* Units first .. end - 1 of the work on one layer (of the head: on the columns from `index` on). */
typedef void unit_fn(struct rt_forward *f, uint32_t index, uint32_t first, uint32_t end,
                     struct place at);

static void stage(struct rt_forward *f, unit_fn *work, uint32_t index, uint32_t n_units,
                  struct place at)
{
    uint32_t per = (n_units + RT_MAX_UNITS - 1) / RT_MAX_UNITS, first, end;
    if (n_units > 0)
        rt_team_stage(f->team, at.worker, (n_units + per - 1) / per);
    while (n_units > 0 && rt_team_take(f->team, at.worker, &first, &end))
        work(f, index, first * per, end * per < n_units ? end * per : n_units, at);
    rt_team_barrier(f->team);
}

/* Where a stream is shared, the others' columns are needed next. */
static void meet(struct rt_forward *f, struct place at)
{
    if (at.stream == &f->shared)
        rt_team_barrier(f->team);
}

/* ---- activations --------------------------------------------------------------------------- */

/* x: n groups' floats. */
static void quantize_floats(const struct rt_forward *f, struct rt_signal *s, uint32_t col,
                            uint32_t first, uint32_t n, const float *x)
{
    size_t group = (size_t)col * s->acts.groups + first;
    if (f->step.variant->act_bits == 16)
        f->kernels->quantize_a16(x, n, &s->acts, group);
    if (f->step.variant->act_bits != 8)
        return;
    f->kernels->quantize_a8(x, n, &s->acts, group);
    if (first == 0 && n > 0) /* whoever makes group 0, and nobody else */
        f->kernels->quantize_a16(x, 1, &s->outlier, col);
}

void rt_quantize_groups(const struct rt_forward *f, struct rt_signal *s, uint32_t col,
                        uint32_t first, uint32_t n)
{
    quantize_floats(f, s, col, first, n, s->f32 + (size_t)col * s->width + first * PACK_GROUP);
}

/* One group of every column, x[n_cols][32], into a signal. */
static void keep_group(const struct rt_forward *f, struct rt_signal *s, uint32_t group,
                       uint32_t n_cols, const float *x)
{
    for (uint32_t col = 0; col < n_cols; col++, x += PACK_GROUP) {
        if (f->step.variant->act_bits == 0)
            memcpy(s->f32 + (size_t)col * s->width + group * PACK_GROUP, x, PACK_GROUP * sizeof *x);
        quantize_floats(f, s, col, group, 1, x);
    }
}

/* normed = rmsnorm(x, norm) of one column. */
static void normalize(const struct rt_forward *f, struct rt_stream *s, const float *norm,
                      uint32_t col)
{
    const struct rt_model *m = &f->pack->model;
    uint32_t width = m->n_embd_pad;
    f->kernels->rmsnorm(s->x + (size_t)col * width, norm, width, m->n_embd, m->rms_eps,
                        s->normed.f32 + (size_t)col * width);
    rt_quantize_groups(f, &s->normed, col, 0, width / PACK_GROUP);
}

/* Rows of a product. */
struct rows {
    uint32_t first, n;
};

/* y[n_cols][y_stride] = these rows and the first cols columns of m times columns [col, col +
 * n_cols) of s. */
static void product(const struct rt_forward *f, const struct rt_matrix *m,
                    const struct rt_signal *s, uint32_t col, uint32_t n_cols, struct rows rows,
                    uint32_t cols, float *y, uint32_t y_stride)
{
    size_t group = (size_t)col * s->acts.groups;
    size_t unit = f->step.variant->act_bits / 8;
    const struct rt_acts acts = {
        .q = (uint8_t *)s->acts.q + group * PACK_GROUP * unit,
        .group = s->acts.group + group,
        .groups = s->acts.groups,
    };
    const struct rt_acts outlier = {
        .q = (int16_t *)s->outlier.q + (size_t)col * PACK_GROUP,
        .group = s->outlier.group + col,
        .groups = 1,
    };
    const struct rt_input input = {
        .weight_bits = f->step.variant->weight_bits,
        .act_bits = f->step.variant->act_bits,
        .acts = &acts,
        .outlier = f->step.variant->act_bits == 8 ? &outlier : &acts,
        .f32 = f->step.variant->act_bits ? NULL : s->f32 + (size_t)col * s->width,
        .stride = s->width,
        .n_cols = n_cols,
    };
    rt_matmul(f->kernels, m, &input, rows.first, rows.n, cols, y, y_stride);
}

/* ---- embedding ----------------------------------------------------------------------------- */

/* x = the token's row, zero in the padding (whose stored weights may be anything); turn = cosine
 * and sine of its position times every frequency. In double, so that position 100,000 is as exact
 * as position 1. */
static void embed(const struct rt_forward *f, struct rt_stream *s, uint32_t col)
{
    const struct rt_model *m = &f->pack->model;
    uint32_t half = m->head_dim / 2;
    float *x = s->x + (size_t)col * m->n_embd_pad;
    rt_matrix_row(&f->pack->embed, f->step.variant->weight_bits, (uint32_t)f->step.ids[col], x);
    memset(x + m->n_embd, 0, (m->n_embd_pad - m->n_embd) * sizeof *x);
    float *turn = s->turn + (size_t)col * half * 2;
    for (uint32_t i = 0; i < half; i++) {
        double angle = rt_position_of(&f->step, col) * f->frequency[i];
        turn[2 * i] = (float)cos(angle);
        turn[2 * i + 1] = (float)sin(angle);
    }
}

/* ---- attention ----------------------------------------------------------------------------- */

static const float *turn_of(const struct rt_forward *f, struct place at, uint32_t col)
{
    return at.stream->turn + (size_t)col * f->pack->model.head_dim;
}

/* One part of a stage's units: which of [first, end) lie in [from, from + n), counted from there.
 */
static struct rows part_of(uint32_t first, uint32_t end, uint32_t from, uint32_t n)
{
    uint32_t a = first > from ? first - from : 0, b = end > from ? end - from : 0;
    a = a < n ? a : n;
    b = b < n ? b : n;
    return (struct rows){a, b - a};
}

static struct rows in_rows(struct rows units, uint32_t rows_per_unit)
{
    return (struct rows){units.first * rows_per_unit, units.n * rows_per_unit};
}

/* Rows of K or V that are cached together: a whole head where its norm needs all of it. */
static uint32_t cache_unit(const struct rt_forward *f, const struct rt_layer *l)
{
    return l->k_norm ? f->pack->model.head_pad : PACK_GROUP;
}

/* Rows of K, finished (bias, norm, rotation) and cached. Keys and values are always cached at full
 * rank: whatever tier a later token has, it finds what it needs. */
static void make_keys(struct rt_forward *f, uint32_t layer, struct rows r, struct place at)
{
    const struct rt_model *m = &f->pack->model;
    const struct rt_layer *l = &f->pack->layers[layer];
    uint32_t kv = m->n_kv_heads * m->head_pad, unit = cache_unit(f, l), n = at.n_cols;
    product(f, &l->k, &at.stream->normed, 0, n, r, m->n_embd_pad, f->k + r.first, kv);
    for (uint32_t col = 0; col < n; col++) {
        float *keys = f->k + (size_t)col * kv;
        for (uint32_t i = r.first; i < r.first + r.n; i += unit) {
            if (l->k_bias)
                rt_add_bias(keys + i, l->k_bias + i, unit);
            if (l->k_norm) /* over the head's own dimensions (Qwen3; arXiv 2302.05442) */
                f->kernels->rmsnorm(keys + i, l->k_norm + i, m->head_pad, m->head_dim, m->rms_eps,
                                    keys + i);
            f->kernels->rotate(turn_of(f, at, col), keys + i, unit, l->pairs + i / 2);
        }
        rt_cache_keys(f, layer, col, keys, r.first, r.n);
    }
}

static void make_values(struct rt_forward *f, uint32_t layer, struct rows r, struct place at)
{
    const struct rt_model *m = &f->pack->model;
    const struct rt_layer *l = &f->pack->layers[layer];
    uint32_t kv = m->n_kv_heads * m->head_pad, n = at.n_cols;
    product(f, &l->v, &at.stream->normed, 0, n, r, m->n_embd_pad, f->v + r.first, kv);
    for (uint32_t col = 0; col < n; col++) {
        float *values = f->v + (size_t)col * kv;
        if (l->v_bias)
            rt_add_bias(values + r.first, l->v_bias + r.first, r.n);
        rt_cache_values(f, layer, col, values, r.first, r.n);
    }
}

/* Units: K, then V, in rows that are cached together, then Q by 32 rows. */
static void project(struct rt_forward *f, uint32_t layer, uint32_t first, uint32_t end,
                    struct place at)
{
    const struct rt_model *m = &f->pack->model;
    const struct rt_layer *l = &f->pack->layers[layer];
    uint32_t unit = cache_unit(f, l), kv = m->n_kv_heads * m->head_pad / unit;
    uint32_t width = m->n_heads * f->step.tier->dims[layer].qk;
    struct rows k = part_of(first, end, 0, kv), v = part_of(first, end, kv, kv);
    struct rows q = part_of(first, end, 2 * kv, width / PACK_GROUP);
    if (k.n)
        make_keys(f, layer, in_rows(k, unit), at);
    if (v.n)
        make_values(f, layer, in_rows(v, unit), at);
    q = in_rows(q, PACK_GROUP);
    if (q.n)
        product(f, &l->q, &at.stream->normed, 0, at.n_cols, q, m->n_embd_pad, f->q + q.first,
                m->n_heads * m->head_pad);
}

/* Units: as attention.h cuts them. */
static void attend(struct rt_forward *f, uint32_t layer, uint32_t first, uint32_t end,
                   struct place at)
{
    rt_attend(f, layer, at.n_cols, first, end, at.worker, at.stream->turn);
}

/* out = O mixed; units: tiles of rows. */
static void project_out(struct rt_forward *f, uint32_t layer, uint32_t first, uint32_t end,
                        struct place at)
{
    const struct rt_model *m = &f->pack->model;
    struct rows rows = in_rows((struct rows){first, end - first}, PACK_TILE);
    product(f, &f->pack->layers[layer].o, &f->mixed, 0, at.n_cols, rows,
            m->n_heads * f->step.tier->dims[layer].vo, f->out + rows.first, m->n_embd_pad);
}

/* out = O attend(rotate(norm(Q a + bias)), rotate(norm(K a + bias)), V a + bias) */
static void attention(struct rt_forward *f, uint32_t i, struct place at)
{
    const struct rt_model *m = &f->pack->model;
    uint32_t kv = m->n_kv_heads * m->head_pad / cache_unit(f, &f->pack->layers[i]);
    uint32_t q = m->n_heads * f->step.tier->dims[i].qk / PACK_GROUP;
    stage(f, project, i, 2 * kv + q, at);
    stage(f, attend, i, rt_attention_units(f, at.n_cols), at);
    stage(f, project_out, i, m->n_embd_pad / PACK_TILE, at);
}

/* ---- MLP ----------------------------------------------------------------------------------- */

/* Group `group` of g = silu(GATE b) * (UP b), and of COMP_V b; nothing but what is quantized of it
 * leaves the worker's own memory. */
static void gate_group(struct rt_forward *f, uint32_t layer, uint32_t group, struct place at)
{
    const struct rt_layer *l = &f->pack->layers[layer];
    uint32_t n = at.n_cols, embd = f->pack->model.n_embd_pad;
    size_t size = (size_t)f->chunk * PACK_GROUP;
    float *g = f->gate + at.worker * 2 * size, *up = g + size;
    struct rows rows = {group * PACK_GROUP, PACK_GROUP};
    product(f, &l->gate, &at.stream->normed, 0, n, rows, embd, g, PACK_GROUP);
    product(f, &l->up, &at.stream->normed, 0, n, rows, embd, up, PACK_GROUP);
    f->kernels->swiglu(g, up, n * PACK_GROUP);
    keep_group(f, &f->gated, group, n, g);
}

static void compensate_group(struct rt_forward *f, uint32_t layer, uint32_t group, struct place at)
{
    float *c = f->gate + at.worker * 2 * (size_t)f->chunk * PACK_GROUP;
    product(f, &f->pack->layers[layer].comp_v, &at.stream->normed, 0, at.n_cols,
            (struct rows){group * PACK_GROUP, PACK_GROUP}, f->pack->model.n_embd_pad, c,
            PACK_GROUP);
    keep_group(f, &f->comp, group, at.n_cols, c);
}

/* Units: groups of 32 channels of the MLP, then of the compensator, where the tier has one. */
static void gate(struct rt_forward *f, uint32_t layer, uint32_t first, uint32_t end,
                 struct place at)
{
    uint32_t groups = f->step.tier->dims[layer].mlp / PACK_GROUP;
    for (uint32_t i = first; i < end; i++)
        if (i < groups)
            gate_group(f, layer, i, at);
        else
            compensate_group(f, layer, i - groups, at);
}

/* out = DOWN g, correction = COMP_U (COMP_V b) where the tier has one; units: tiles of rows. */
static void project_down(struct rt_forward *f, uint32_t layer, uint32_t first, uint32_t end,
                         struct place at)
{
    const struct rt_layer *l = &f->pack->layers[layer];
    const struct rt_dims *d = &f->step.tier->dims[layer];
    uint32_t n = at.n_cols, embd = f->pack->model.n_embd_pad;
    struct rows rows = in_rows((struct rows){first, end - first}, PACK_TILE);
    product(f, &l->down, &f->gated, 0, n, rows, d->mlp, f->out + rows.first, embd);
    if (d->comp)
        product(f, &l->comp_u, &f->comp, 0, n, rows, d->comp, f->correction + rows.first, embd);
}

/* Drops all columns but the first, from the next layer on, where the caller is in a hurry. Workers
 * read f->n_cols after a layer's last barrier and before the next one's first; this is after that
 * one and before the last. */
static void lighten(struct rt_forward *f, struct place at)
{
    const struct rt_step *s = &f->step;
    if (at.worker == 0 && s->in_hurry && at.n_cols > 1 && s->in_hurry(s->ctx))
        f->n_cols = 1;
}

static void mlp(struct rt_forward *f, uint32_t i, struct place at)
{
    uint32_t channels = f->step.tier->dims[i].mlp + f->step.tier->dims[i].comp;
    lighten(f, at);
    stage(f, gate, i, channels / PACK_GROUP, at);
    stage(f, project_down, i, f->pack->model.n_embd_pad / PACK_TILE, at);
}

/* sum = sum + x, a group; NULL adds nothing. The count is constant for the compiler's vectors. */
static void add_group(float *restrict sum, const float *restrict x)
{
    for (uint32_t i = 0; x && i < PACK_GROUP; i++)
        sum[i] += x[i];
}

/* x = x + ((out + bias) + correction); what is NULL is left out of the sum. */
static void add_residual(const struct rt_forward *f, struct rt_stream *s, uint32_t col,
                         const float *bias, const float *correction)
{
    uint32_t width = f->pack->model.n_embd_pad;
    float *x = s->x + (size_t)col * width;
    const float *out = f->out + (size_t)col * width;
    const float *c = correction ? correction + (size_t)col * width : NULL;
    for (uint32_t i = 0; i < width; i += PACK_GROUP) {
        float sum[PACK_GROUP];
        memcpy(sum, out + i, sizeof sum);
        add_group(sum, bias ? bias + i : NULL);
        add_group(sum, c ? c + i : NULL);
        add_group(x + i, sum);
    }
}

/* ---- the step ------------------------------------------------------------------------------ */

static void layer(struct rt_forward *f, uint32_t i, struct place at)
{
    const struct rt_layer *l = &f->pack->layers[i];
    const struct rt_extras *x = &f->step.tier->extras[i];
    const float *correction = f->step.tier->dims[i].comp ? f->correction : NULL;
    for (uint32_t col = at.first_col; col < at.n_cols; col += at.stride)
        normalize(f, at.stream, l->norm_attn, col);
    meet(f, at);
    attention(f, i, at);
    for (uint32_t col = at.first_col; col < at.n_cols; col += at.stride) {
        add_residual(f, at.stream, col, x->attn_bias, NULL);
        normalize(f, at.stream, l->norm_mlp, col);
    }
    meet(f, at);
    mlp(f, i, at);
    for (uint32_t col = at.first_col; col < at.n_cols; col += at.stride)
        add_residual(f, at.stream, col, x->mlp_bias, correction);
}

enum { HEAD_ROWS = 128 };

/* logits = HEAD normed of up to RT_HEAD_COLS columns from `from` on; units: HEAD_ROWS rows. */
static void project_head(struct rt_forward *f, uint32_t from, uint32_t first, uint32_t end,
                         struct place at)
{
    const struct rt_model *m = &f->pack->model;
    uint32_t left = at.n_cols - from, rows = m->n_vocab_pad - first * HEAD_ROWS;
    struct rows r = in_rows((struct rows){first, end - first}, HEAD_ROWS);
    r.n = r.n < rows ? r.n : rows;
    product(f, &f->pack->head, &at.stream->normed, from, left < RT_HEAD_COLS ? left : RT_HEAD_COLS,
            r, m->n_embd_pad, f->logits + r.first, m->n_vocab_pad);
}

/* Units: columns whose logits the caller wants, from `from` on. */
static void copy_logits(struct rt_forward *f, uint32_t from, uint32_t first, uint32_t end,
                        struct place at)
{
    const struct rt_model *m = &f->pack->model;
    uint32_t wanted = f->step.n_cols - f->step.n_logits;
    (void)at;
    for (uint32_t i = first; i < end; i++)
        memcpy(f->step.logits_out + (size_t)(from - wanted + i) * m->n_vocab,
               f->logits + (size_t)i * m->n_vocab_pad, m->n_vocab * sizeof(float));
}

/* logits = HEAD rmsnorm(x, NORM_FINAL) of the last n_logits columns, a few at a time */
static void head(struct rt_forward *f, struct place at)
{
    uint32_t n = at.n_cols, first = f->step.n_cols - f->step.n_logits;
    uint32_t units = (f->pack->model.n_vocab_pad + HEAD_ROWS - 1) / HEAD_ROWS;
    for (uint32_t col = at.first_col; col < n; col += at.stride)
        if (col >= first)
            normalize(f, at.stream, f->pack->norm_final, col);
    meet(f, at);
    for (uint32_t from = first; from < n; from += RT_HEAD_COLS) {
        stage(f, project_head, from, units, at);
        if (f->step.logits_out)
            stage(f, copy_logits, from, n - from < RT_HEAD_COLS ? n - from : RT_HEAD_COLS, at);
    }
}

static void step(void *ctx, unsigned worker, unsigned n)
{
    struct rt_forward *f = ctx;
    bool few = f->step.n_cols <= RT_FEW_COLS;
    struct place at = {worker, few ? &f->own[worker] : &f->shared, few ? 0 : worker, few ? 1 : n,
                       f->step.n_cols};
    for (uint32_t col = at.first_col; col < at.n_cols; col += at.stride)
        embed(f, at.stream, col);
    for (uint32_t i = 0; i < f->pack->model.n_layers; i++, at.n_cols = f->n_cols)
        layer(f, i, at);
    if (f->step.n_logits)
        head(f, at);
}

void rt_forward_run(struct rt_forward *f, unsigned workers)
{
    f->n_cols = f->step.n_cols;
    rt_team_run(f->team, workers, step, f);
}
