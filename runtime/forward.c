/* forward: one step of a model, from token ids to logits, top to bottom as
 * docs/pack-format.md
 * ("Arithmetic") writes it. All workers run the same code; a column (token) has one owner for the
 * work that is not split, and barriers stand where a stage reads what others wrote. Nothing depends
 * on how many workers or columns there are, so neither does any bit of the result. */
#include "runtime/forward.h"

#include <math.h>
#include <string.h>

/* The worker's place: who of how many. */
struct place {
    unsigned worker, n;
};

/* ---- activations --------------------------------------------------------------------------- */

/* Quantizes groups [first, first + n) of one column as the variant asks; f32 reads floats as they
 * are. */
static void quantize(const struct rt_forward *f, struct rt_signal *s, uint32_t col, uint32_t first,
                     uint32_t n)
{
    const float *x = s->f32 + (size_t)col * s->width + first * PACK_GROUP;
    size_t group = (size_t)col * s->acts.groups + first;
    if (f->step.variant->act_bits == 16)
        f->kernels->quantize_a16(x, n, (int16_t *)s->acts.q + group * PACK_GROUP,
                                 s->acts.scale + group, s->acts.sum + group);
    else if (f->step.variant->act_bits == 8)
        f->kernels->quantize_a8(x, n, (int8_t *)s->acts.q + group * PACK_GROUP,
                                s->acts.scale + group, s->acts.sum + group);
}

/* normed = rmsnorm(x, norm) of one column. */
static void normalize(struct rt_forward *f, const float *norm, uint32_t col)
{
    const struct rt_model *m = &f->pack->model;
    uint32_t width = m->n_embd_pad;
    f->kernels->rmsnorm(f->x + (size_t)col * width, norm, width, m->n_embd, m->rms_eps,
                        f->normed.f32 + (size_t)col * width);
    quantize(f, &f->normed, col, 0, width / PACK_GROUP);
}

/* y = the first rows x cols of m times columns [col, col + n_cols) of s. */
static void product(const struct rt_forward *f, const struct rt_matrix *m,
                    const struct rt_signal *s, uint32_t col, uint32_t n_cols, uint32_t rows,
                    uint32_t cols, float *y, uint32_t y_stride, struct place at)
{
    size_t group = (size_t)col * s->acts.groups;
    size_t unit = f->step.variant->act_bits / 8;
    const struct rt_acts acts = {
        .q = (uint8_t *)s->acts.q + group * PACK_GROUP * unit,
        .scale = s->acts.scale + group,
        .sum = s->acts.sum + group,
        .groups = s->acts.groups,
    };
    const struct rt_input input = {
        .weight_bits = f->step.variant->weight_bits,
        .act_bits = f->step.variant->act_bits,
        .acts = &acts,
        .f32 = s->f32 + (size_t)col * s->width,
        .stride = s->width,
        .n_cols = n_cols,
    };
    rt_matmul(f->kernels, m, &input, rows, cols, y, y_stride, at.worker, at.n);
}

/* ---- embedding ----------------------------------------------------------------------------- */

/* Which of the sequences a column belongs to, and its token's position there. */
static uint32_t sequence_of(const struct rt_forward *f, uint32_t col)
{
    return f->step.side_by_side ? col : 0;
}

static uint32_t position_of(const struct rt_forward *f, uint32_t col)
{
    return f->step.position + (f->step.side_by_side ? 0 : col);
}

/* x = the token's row, zero in the padding (whose stored weights may be anything); turn = cosine
 * and sine of its position times every frequency. In double, so that position 100,000 is as exact
 * as position 1. */
static void embed(struct rt_forward *f, uint32_t col)
{
    const struct rt_model *m = &f->pack->model;
    uint32_t half = m->head_dim / 2;
    float *x = f->x + (size_t)col * m->n_embd_pad;
    rt_matrix_row(&f->pack->embed, f->step.variant->weight_bits, (uint32_t)f->step.ids[col], x);
    memset(x + m->n_embd, 0, (m->n_embd_pad - m->n_embd) * sizeof *x);
    float *turn = f->turn + (size_t)col * half * 2;
    for (uint32_t i = 0; i < half; i++) {
        double angle = position_of(f, col) * f->frequency[i];
        turn[2 * i] = (float)cos(angle);
        turn[2 * i + 1] = (float)sin(angle);
    }
}

/* ---- attention ----------------------------------------------------------------------------- */

/* Rotates pairs [0, dims / 2) of one head by the token's angles (RoPE, arXiv 2104.09864 eq. 34);
 * pairs names each one's frequency. */
static void rotate(const struct rt_forward *f, float *head, uint32_t dims, const uint16_t *pairs,
                   uint32_t col)
{
    const float *turn = f->turn + (size_t)col * f->pack->model.head_dim;
    for (uint32_t p = 0; p < dims / 2; p++) {
        float c = turn[2 * pairs[p]], s = turn[2 * pairs[p] + 1];
        float a = head[2 * p], b = head[2 * p + 1];
        head[2 * p] = a * c - b * s;
        head[2 * p + 1] = a * s + b * c;
    }
}

static size_t cache_index(const struct rt_forward *f, uint32_t sequence, uint32_t layer,
                          uint32_t group, uint32_t position)
{
    const struct rt_model *m = &f->pack->model;
    size_t head = ((size_t)sequence * m->n_layers + layer) * m->n_kv_heads + group;
    size_t row = head * f->cache.n_ctx + position;
    return row * m->head_pad * f->cache.element;
}

static void store(const struct rt_forward *f, const float *head, uint8_t *to)
{
    uint32_t width = f->pack->model.head_pad;
    if (f->cache.element == sizeof(float))
        memcpy(to, head, width * sizeof(float));
    else
        f->kernels->to_f16(head, width, (uint16_t *)(void *)to);
}

static void add(float *x, const float *bias, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] += bias[i];
}

/* RMS norm of one head over its own dimensions, where the model has one (Qwen3; arXiv 2302.05442).
 * norm holds each KV head's weights in its stored order. */
static void normalize_head(const struct rt_forward *f, const float *norm, uint32_t group,
                           float *head)
{
    const struct rt_model *m = &f->pack->model;
    if (norm)
        f->kernels->rmsnorm(head, norm + (size_t)group * m->head_pad, m->head_pad, m->head_dim,
                            m->rms_eps, head);
}

/* Finishes keys and values (bias, norm, rotation) and caches those of all columns, always at full
 * rank: whatever tier a later token has, it finds what it needs. */
static void fill_cache(struct rt_forward *f, uint32_t layer, struct place at)
{
    const struct rt_model *m = &f->pack->model;
    for (uint32_t task = at.worker; task < m->n_kv_heads * f->step.n_cols; task += at.n) {
        uint32_t col = task / m->n_kv_heads, group = task % m->n_kv_heads;
        size_t head = ((size_t)col * m->n_kv_heads + group) * m->head_pad;
        size_t to = cache_index(f, sequence_of(f, col), layer, group, position_of(f, col));
        const struct rt_layer *l = &f->pack->layers[layer];
        if (l->k_bias)
            add(f->k + head, l->k_bias + (size_t)group * m->head_pad, m->head_pad);
        if (l->v_bias)
            add(f->v + head, l->v_bias + (size_t)group * m->head_pad, m->head_pad);
        normalize_head(f, l->k_norm, group, f->k + head);
        rotate(f, f->k + head, m->head_pad, l->pairs + group * m->head_pad / 2, col);
        store(f, f->k + head, f->cache.keys + to);
        store(f, f->v + head, f->cache.values + to);
    }
}

/* Where a block of 32 dims of one head lies in "by block across heads". */
static size_t block_at(uint32_t n_heads, uint32_t head, uint32_t block)
{
    return ((size_t)block * n_heads + head) * PACK_GROUP;
}

/* One head's query, finished (bias, norm, rotation), into own[qk]. */
static void take_query(const struct rt_forward *f, const struct rt_layer *l, uint32_t qk,
                       uint32_t head, uint32_t col, float *own)
{
    const struct rt_model *m = &f->pack->model;
    uint32_t group = head / (m->n_heads / m->n_kv_heads);
    const float *q = f->q + (size_t)col * m->n_heads * m->head_pad;
    for (uint32_t b = 0; b < qk / PACK_GROUP; b++) {
        size_t at = block_at(m->n_heads, head, b);
        memcpy(own + b * PACK_GROUP, q + at, PACK_GROUP * sizeof *own);
        if (l->q_bias)
            add(own + b * PACK_GROUP, l->q_bias + at, PACK_GROUP);
    }
    normalize_head(f, l->q_norm, group, own);
    rotate(f, own, qk, l->pairs + group * m->head_pad / 2, col);
}

/* One head of one column: mixed = softmax(q K^T / sqrt(head_dim)) V over positions 0 .. own. The
 * head's output blocks are whole groups, so they are quantized here as well. */
static void attend(struct rt_forward *f, uint32_t layer, uint32_t head, uint32_t col,
                   unsigned worker)
{
    const struct rt_model *m = &f->pack->model;
    const struct rt_dims *d = &f->step.tier->dims[layer];
    bool f16 = f->cache.element == sizeof(uint16_t);
    uint32_t group = head / (m->n_heads / m->n_kv_heads), n = position_of(f, col) + 1;
    size_t keys = cache_index(f, sequence_of(f, col), layer, group, 0);
    float *own = f->head + (size_t)worker * m->head_pad;
    float *scores = f->scores + (size_t)worker * f->cache.n_ctx;

    take_query(f, &f->pack->layers[layer], d->qk, head, col, own);
    (f16 ? f->kernels->score_f16 : f->kernels->score_f32)(
        own, f->cache.keys + keys, m->head_pad, n, d->qk, 1 / sqrtf((float)m->head_dim), scores);
    f->kernels->softmax(scores, n);
    (f16 ? f->kernels->mix_f16 : f->kernels->mix_f32)(scores, f->cache.values + keys, m->head_pad,
                                                      n, d->vo, own);
    float *mixed = f->mixed.f32 + (size_t)col * f->mixed.width;
    for (uint32_t b = 0; b < d->vo / PACK_GROUP; b++) {
        memcpy(mixed + block_at(m->n_heads, head, b), own + b * PACK_GROUP,
               PACK_GROUP * sizeof *own);
        quantize(f, &f->mixed, col, b * m->n_heads + head, 1);
    }
}

/* out = O attend(rotate(norm(Q a + bias)), rotate(norm(K a + bias)), V a + bias) */
static void attention(struct rt_forward *f, uint32_t i, struct place at)
{
    const struct rt_model *m = &f->pack->model;
    const struct rt_layer *l = &f->pack->layers[i];
    const struct rt_dims *d = &f->step.tier->dims[i];
    uint32_t n = f->step.n_cols, embd = m->n_embd_pad, heads = m->n_heads;
    uint32_t kv = m->n_kv_heads * m->head_pad;

    product(f, &l->q, &f->normed, 0, n, heads * d->qk, embd, f->q, heads * m->head_pad, at);
    product(f, &l->k, &f->normed, 0, n, kv, embd, f->k, kv, at);
    product(f, &l->v, &f->normed, 0, n, kv, embd, f->v, kv, at);
    rt_team_barrier(f->team);
    fill_cache(f, i, at);
    rt_team_barrier(f->team);
    for (uint32_t task = at.worker; task < heads * n; task += at.n)
        attend(f, i, task % heads, task / heads, at.worker);
    rt_team_barrier(f->team);
    product(f, &l->o, &f->mixed, 0, n, embd, heads * d->vo, f->out, embd, at);
    rt_team_barrier(f->team);
}

/* ---- MLP ----------------------------------------------------------------------------------- */

/* g = silu(GATE b) * (UP b), cut into as many shares of groups as there are workers. */
static void gate(struct rt_forward *f, const struct rt_dims *d, struct place at)
{
    uint32_t groups = d->mlp / PACK_GROUP;
    uint32_t first = (uint32_t)((uint64_t)groups * at.worker / at.n);
    uint32_t n = (uint32_t)((uint64_t)groups * (at.worker + 1) / at.n) - first;
    for (uint32_t col = 0; n && col < f->step.n_cols; col++) {
        size_t from = (size_t)col * f->gated.width + first * PACK_GROUP;
        f->kernels->swiglu(f->gated.f32 + from, f->up + from, n * PACK_GROUP);
        quantize(f, &f->gated, col, first, n);
    }
}

/* out = DOWN g, correction = COMP_U (COMP_V b) where the tier has one */
static void mlp(struct rt_forward *f, uint32_t i, struct place at)
{
    const struct rt_layer *l = &f->pack->layers[i];
    const struct rt_dims *d = &f->step.tier->dims[i];
    const struct rt_extras *x = &f->step.tier->extras[i];
    uint32_t n = f->step.n_cols, embd = f->pack->model.n_embd_pad, rank = x->comp_v.rows;

    product(f, &l->gate, &f->normed, 0, n, d->mlp, embd, f->gated.f32, f->gated.width, at);
    product(f, &l->up, &f->normed, 0, n, d->mlp, embd, f->up, f->gated.width, at);
    if (rank)
        product(f, &x->comp_v, &f->normed, 0, n, rank, embd, f->comp.f32, f->comp.width, at);
    rt_team_barrier(f->team);
    gate(f, d, at);
    for (uint32_t col = at.worker; rank && col < n; col += at.n)
        quantize(f, &f->comp, col, 0, rank / PACK_GROUP);
    rt_team_barrier(f->team);
    product(f, &l->down, &f->gated, 0, n, embd, d->mlp, f->out, embd, at);
    if (rank)
        product(f, &x->comp_u, &f->comp, 0, n, embd, rank, f->correction, embd, at);
    rt_team_barrier(f->team);
}

/* x = x + ((out + bias) + correction); what is NULL is left out of the sum. */
static void add_residual(struct rt_forward *f, uint32_t col, const float *bias,
                         const float *correction)
{
    uint32_t width = f->pack->model.n_embd_pad;
    float *x = f->x + (size_t)col * width;
    const float *out = f->out + (size_t)col * width;
    const float *c = correction ? correction + (size_t)col * width : NULL;
    for (uint32_t i = 0; i < width; i++) {
        float sum = out[i];
        if (bias)
            sum += bias[i];
        if (c)
            sum += c[i];
        x[i] += sum;
    }
}

/* ---- the step ------------------------------------------------------------------------------ */

static void layer(struct rt_forward *f, uint32_t i, struct place at)
{
    const struct rt_layer *l = &f->pack->layers[i];
    const struct rt_extras *x = &f->step.tier->extras[i];
    for (uint32_t col = at.worker; col < f->step.n_cols; col += at.n)
        normalize(f, l->norm_attn, col);
    rt_team_barrier(f->team);
    attention(f, i, at);
    for (uint32_t col = at.worker; col < f->step.n_cols; col += at.n) {
        add_residual(f, col, x->attn_bias, NULL);
        normalize(f, l->norm_mlp, col);
    }
    rt_team_barrier(f->team);
    mlp(f, i, at);
    for (uint32_t col = at.worker; col < f->step.n_cols; col += at.n)
        add_residual(f, col, x->mlp_bias, x->comp_u.data ? f->correction : NULL);
}

/* logits = HEAD rmsnorm(x, NORM_FINAL) of the last n_logits columns, a few at a time */
static void head(struct rt_forward *f, struct place at)
{
    const struct rt_model *m = &f->pack->model;
    uint32_t n = f->step.n_cols, first = n - f->step.n_logits;
    for (uint32_t col = at.worker; col < n; col += at.n)
        if (col >= first)
            normalize(f, f->pack->norm_final, col);
    for (uint32_t from = first; from < n; from += RT_HEAD_COLS) {
        uint32_t count = n - from < RT_HEAD_COLS ? n - from : RT_HEAD_COLS;
        rt_team_barrier(f->team);
        product(f, &f->pack->head, &f->normed, from, count, m->n_vocab_pad, m->n_embd_pad,
                f->logits, m->n_vocab_pad, at);
        if (!f->step.logits_out)
            continue;
        rt_team_barrier(f->team);
        for (uint32_t i = at.worker; i < count; i += at.n)
            memcpy(f->step.logits_out + (size_t)(from - first + i) * m->n_vocab,
                   f->logits + (size_t)i * m->n_vocab_pad, m->n_vocab * sizeof(float));
    }
}

static void step(void *ctx, unsigned worker, unsigned n)
{
    struct rt_forward *f = ctx;
    struct place at = {worker, n};
    for (uint32_t col = worker; col < f->step.n_cols; col += n)
        embed(f, col);
    for (uint32_t i = 0; i < f->pack->model.n_layers; i++)
        layer(f, i, at);
    if (f->step.n_logits)
        head(f, at);
}

void rt_forward_run(struct rt_forward *f, unsigned workers)
{
    rt_team_run(f->team, workers, step, f);
}
