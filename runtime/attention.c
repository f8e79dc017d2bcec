#include "runtime/attention.h"

#include <math.h>
#include <string.h>

/* ---- the cache ----------------------------------------------------------------------------- */

/* Row of the cache where a head's positions begin. */
static size_t first_row(const struct rt_forward *f, uint32_t sequence, uint32_t layer,
                        uint32_t group)
{
    const struct rt_model *m = &f->pack->model;
    size_t head = ((size_t)sequence * m->n_layers + layer) * m->n_kv_heads + group;
    return head * f->cache.positions;
}

/* Which of the sequences a column belongs to. */
static uint32_t sequence_of(const struct rt_forward *f, uint32_t col)
{
    return f->step.side_by_side ? col : 0;
}

/* Half of the cache, keys or values: positions lie so many to a tile, what they hold at places of
 * its groups. */
struct half {
    uint8_t *data;
    enum rt_cache_type type;
    uint32_t lanes;
    size_t (*place)(enum rt_cache_type type, size_t lane, size_t dim);
};

static struct half keys_of(const struct rt_forward *f)
{
    return (struct half){f->cache.keys, f->cache.keys_type, RT_CACHE_TILE, rt_key_place};
}

static struct half values_of(const struct rt_forward *f)
{
    enum rt_cache_type type = f->cache.values_type;
    return (struct half){f->cache.values, type, rt_value_lanes(type), rt_value_place};
}

/* Keys or values from a position on, which begins a tile. */
static uint8_t *cached(const struct rt_forward *f, const struct half *half, uint32_t sequence,
                       uint32_t layer, uint32_t group, uint32_t position)
{
    size_t row = first_row(f, sequence, layer, group) + position;
    return half->data + row * (f->pack->model.head_pad / PACK_GROUP) * rt_cache_group(half->type);
}

/* 32 values as the cache keeps them: {scale; value[32]}. */
static void convert(const struct rt_kernels *k, enum rt_cache_type type, const float *values,
                    void *to)
{
    if (type == RT_CACHE_F32)
        memcpy(to, values, PACK_GROUP * sizeof *values);
    else if (type == RT_CACHE_F16)
        k->to_f16(values, PACK_GROUP, to);
    else if (type == RT_CACHE_Q8)
        k->to_q8(values, PACK_GROUP, to);
    else
        k->to_q4(values, PACK_GROUP, to);
}

/* Rows [first, first + n) of one column: each position is one lane of its tile. Bytes that hold
 * two values have both of one position, so that nobody else writes them. */
static void cache_rows(const struct rt_forward *f, struct half half, uint32_t layer, uint32_t col,
                       const float *rows, uint32_t first, uint32_t n)
{
    uint32_t width = f->pack->model.head_pad, position = rt_position_of(&f->step, col);
    uint32_t lane = position % half.lanes;
    size_t scale = rt_cache_scale(half.type), bits = rt_cache_bits(half.type);
    size_t element = bits < 8 ? 1 : bits / 8, n_elements = PACK_GROUP * bits / 8 / element;
    for (uint32_t i = first; i < first + n; i += PACK_GROUP) {
        _Alignas(float) uint8_t converted[PACK_GROUP * sizeof(float)];
        uint8_t *tile = cached(f, &half, sequence_of(f, col), layer, i / width, position - lane);
        uint8_t *group = tile + i % width / PACK_GROUP * half.lanes * rt_cache_group(half.type);
        uint8_t *to = group + half.lanes * scale;
        convert(f->kernels, half.type, rows + i, converted);
        memcpy(group + lane * scale, converted, scale);
        for (size_t d = 0; d < n_elements; d++)
            memcpy(to + half.place(half.type, lane, d) * bits / 8, converted + scale + d * element,
                   element);
    }
}

void rt_cache_keys(const struct rt_forward *f, uint32_t layer, uint32_t col, const float *keys,
                   uint32_t first, uint32_t n)
{
    cache_rows(f, keys_of(f), layer, col, keys, first, n);
}

void rt_cache_values(const struct rt_forward *f, uint32_t layer, uint32_t col, const float *values,
                     uint32_t first, uint32_t n)
{
    cache_rows(f, values_of(f), layer, col, values, first, n);
}

/* ---- queries ------------------------------------------------------------------------------- */

/* Columns whose queries of one KV head meet its blocks together: neighbours in one sequence. */
struct bundle {
    uint32_t group;       /* the KV head */
    uint32_t col, n_cols; /* at most RT_FEW_COLS */
    uint32_t index;       /* of all bundles and groups */
};

/* How the step's attention is cut into units: bundle by bundle, KV head by KV head. Few columns
 * also share out the blocks; many give each unit all of them. */
struct cut {
    uint32_t n_cols;                /* of the step */
    uint32_t n_bundles, cols;       /* columns of a bundle, but for the last */
    uint32_t units, blocks_of_unit; /* of a bundle and KV head */
};

static uint32_t heads_of_group(const struct rt_forward *f)
{
    return f->pack->model.n_heads / f->pack->model.n_kv_heads;
}

static struct cut cut_step(const struct rt_forward *f, uint32_t n)
{
    uint32_t last = rt_position_of(&f->step, n - 1);
    uint32_t blocks = last / RT_CACHE_BLOCK + 1, cols = f->step.side_by_side ? 1 : RT_FEW_COLS;
    bool few = n <= RT_FEW_COLS;
    return (struct cut){n, (n + cols - 1) / cols, cols, few ? blocks : 1, few ? 1 : blocks};
}

uint32_t rt_attention_units(const struct rt_forward *f, uint32_t n_cols)
{
    struct cut cut = cut_step(f, n_cols);
    return cut.n_bundles * f->pack->model.n_kv_heads * cut.units;
}

static struct bundle bundle_at(const struct rt_forward *f, const struct cut *cut, uint32_t index)
{
    uint32_t groups = f->pack->model.n_kv_heads, col = index / groups * cut->cols;
    uint32_t left = cut->n_cols - col;
    return (struct bundle){index % groups, col, left < cut->cols ? left : cut->cols, index};
}

/* Where a block of 32 dims of one head lies in "by block across heads". */
static size_t block_at(uint32_t n_heads, uint32_t head, uint32_t block)
{
    return ((size_t)block * n_heads + head) * PACK_GROUP;
}

/* One head's query, finished (bias, norm, rotation, 1 / sqrt(head_dim)), into own[qk]. */
static void take_query(const struct rt_forward *f, uint32_t layer, uint32_t head, uint32_t col,
                       const float *turn, float *own)
{
    const struct rt_model *m = &f->pack->model;
    const struct rt_layer *l = &f->pack->layers[layer];
    const float *q = f->q + (size_t)col * m->n_heads * m->head_pad;
    uint32_t group = head / heads_of_group(f), qk = f->step.tier->dims[layer].qk;
    for (uint32_t b = 0; b < qk / PACK_GROUP; b++) {
        size_t at = block_at(m->n_heads, head, b);
        memcpy(own + b * PACK_GROUP, q + at, PACK_GROUP * sizeof *own);
        if (l->q_bias)
            rt_add_bias(own + b * PACK_GROUP, l->q_bias + at, PACK_GROUP);
    }
    if (l->q_norm)
        f->kernels->rmsnorm(own, l->q_norm + (size_t)group * m->head_pad, m->head_pad, m->head_dim,
                            m->rms_eps, own);
    f->kernels->rotate(turn + (size_t)col * m->head_dim, own, qk,
                       l->pairs + group * m->head_pad / 2);
    float scale = 1 / sqrtf((float)m->head_dim);
    for (uint32_t d = 0; d < qk; d++)
        own[d] *= scale;
}

/* ---- blocks -------------------------------------------------------------------------------- */

/* A worker's work on one bundle: its queries [n_cols][H / G][P] and where their parts begin. */
struct work {
    struct bundle bundle;
    uint32_t layer;
    float *queries, *scores;
    size_t first_part; /* of f->parts, in queries */
};

static struct work begin_work(const struct rt_forward *f, uint32_t layer, struct bundle b,
                              unsigned worker)
{
    uint32_t heads = heads_of_group(f);
    size_t queries = (size_t)worker * RT_FEW_COLS * heads;
    bool few = f->step.n_cols <= RT_FEW_COLS;
    size_t slot = few ? (size_t)b.group * RT_FEW_COLS + b.col : (size_t)worker * RT_FEW_COLS;
    return (struct work){b, layer, f->queries + queries * f->pack->model.head_pad,
                         f->scores + queries * RT_CACHE_BLOCK, slot * heads};
}

static void take_queries(const struct rt_forward *f, const struct work *w, const float *turn)
{
    uint32_t heads = heads_of_group(f);
    float *query = w->queries;
    for (uint32_t c = 0; c < w->bundle.n_cols; c++)
        for (uint32_t h = 0; h < heads; h++, query += f->pack->model.head_pad)
            take_query(f, w->layer, w->bundle.group * heads + h, w->bundle.col + c, turn, query);
}

/* The kernels that read keys, never of 4 bits, and values of a type. */
static rt_score_fn *score_of(const struct rt_kernels *k, enum rt_cache_type type)
{
    return type == RT_CACHE_F32 ? k->score_f32 : type == RT_CACHE_F16 ? k->score_f16 : k->score_q8;
}

static rt_mix_fn *mix_of(const struct rt_kernels *k, enum rt_cache_type type)
{
    rt_mix_fn *const mixes[] = {[RT_CACHE_F32] = k->mix_f32,
                                [RT_CACHE_F16] = k->mix_f16,
                                [RT_CACHE_Q8] = k->mix_q8,
                                [RT_CACHE_Q4] = k->mix_q4};
    return mixes[type];
}

/* The first n positions of a block and the queries of columns [first, first + n_cols) of the
 * bundle. */
static void meet_block(struct rt_forward *f, const struct work *w, uint32_t block, uint32_t n,
                       uint32_t first, uint32_t n_cols)
{
    const struct rt_model *m = &f->pack->model;
    const struct rt_dims *d = &f->step.tier->dims[w->layer];
    const struct half key = keys_of(f), value = values_of(f);
    uint32_t sequence = sequence_of(f, w->bundle.col), position = block * RT_CACHE_BLOCK;
    uint32_t heads = heads_of_group(f), n_queries = n_cols * heads;
    size_t query = (size_t)first * heads, part = (w->first_part + query) * f->parts.blocks + block;
    const struct rt_cached keys = {cached(f, &key, sequence, w->layer, w->bundle.group, position),
                                   m->head_pad, d->qk, n};
    const struct rt_cached values = {
        cached(f, &value, sequence, w->layer, w->bundle.group, position), m->head_pad, d->vo, n};
    score_of(f->kernels, key.type)(&keys, w->queries + query * m->head_pad, n_queries, w->scores);
    for (size_t i = 0; i < n_queries; i++) {
        size_t at = part + i * f->parts.blocks;
        f->parts.sum[at] =
            f->kernels->softmax_part(w->scores + i * RT_CACHE_BLOCK, n, &f->parts.max[at]);
    }
    mix_of(f->kernels, value.type)(&values, w->scores, n_queries, f->parts.out + part * m->head_pad,
                                   f->parts.blocks * m->head_pad);
}

/* Positions of a block that a column sees. */
static uint32_t seen(const struct rt_forward *f, uint32_t col, uint32_t block)
{
    uint32_t n = rt_position_of(&f->step, col) + 1, before = block * RT_CACHE_BLOCK;
    n = n > before ? n - before : 0;
    return n < RT_CACHE_BLOCK ? n : RT_CACHE_BLOCK;
}

/* Columns that see as much of a block meet it together: most see all of it. */
static void attend_block(struct rt_forward *f, const struct work *w, uint32_t block)
{
    for (uint32_t c = 0, end; c < w->bundle.n_cols; c = end) {
        uint32_t n = seen(f, w->bundle.col + c, block);
        for (end = c + 1; end < w->bundle.n_cols && seen(f, w->bundle.col + end, block) == n;)
            end++;
        if (n > 0)
            meet_block(f, w, block, n, c, end - c);
    }
}

/* ---- merging ------------------------------------------------------------------------------- */

/* out = sum of the blocks' mixed values by their share of all weights. What belongs to the largest
 * scores is replaced by these shares. */
static void merge_parts(const struct rt_forward *f, size_t query, uint32_t n_blocks, uint32_t dims,
                        float *out)
{
    size_t part = query * f->parts.blocks;
    uint32_t width = f->pack->model.head_pad;
    float *share = f->parts.max + part, max;
    const float *sum = f->parts.sum + part;
    const struct rt_cached mixed = {f->parts.out + part * width, width, dims, n_blocks};
    double total = 0;
    f->kernels->softmax_part(share, n_blocks, &max);
    for (uint32_t b = 0; b < n_blocks; b++)
        total += (double)share[b] * (double)sum[b];
    float inverse = (float)(1 / total);
    for (uint32_t b = 0; b < n_blocks; b++)
        share[b] *= inverse;
    f->kernels->mix_f32(&mixed, share, 1, out, width);
}

/* The bundle's heads of one column into f->mixed. A head's blocks of dimensions are whole groups,
 * so they are quantized here as well. */
static void merge_column(struct rt_forward *f, const struct work *w, uint32_t c, float *head)
{
    uint32_t heads = heads_of_group(f), n_heads = f->pack->model.n_heads, col = w->bundle.col + c;
    uint32_t vo = f->step.tier->dims[w->layer].vo;
    uint32_t n_blocks = rt_position_of(&f->step, col) / RT_CACHE_BLOCK + 1;
    float *mixed = f->mixed.f32 + (size_t)col * f->mixed.width;
    for (uint32_t h = 0; h < heads; h++) {
        uint32_t of_all = w->bundle.group * heads + h;
        merge_parts(f, w->first_part + (size_t)c * heads + h, n_blocks, vo, head);
        for (uint32_t b = 0; b < vo / PACK_GROUP; b++) {
            memcpy(mixed + block_at(n_heads, of_all, b), head + b * PACK_GROUP,
                   PACK_GROUP * sizeof *head);
            rt_quantize_groups(f, &f->mixed, col, b * n_heads + of_all, 1);
        }
    }
}

/* Whether all units of a bundle are done, with n more done now. The count is left at zero for the
 * next layer; acquire and release hand the parts that others made to whoever comes last. */
static bool is_complete(struct rt_forward *f, uint32_t bundle, uint32_t n, uint32_t units)
{
    if (n == units)
        return true;
    if (atomic_fetch_add_explicit(&f->parts.done[bundle], n, memory_order_acq_rel) + n < units)
        return false;
    atomic_store_explicit(&f->parts.done[bundle], 0, memory_order_relaxed);
    return true;
}

void rt_attend(struct rt_forward *f, uint32_t layer, uint32_t n_cols, uint32_t first, uint32_t end,
               unsigned worker, const float *turn)
{
    struct cut cut = cut_step(f, n_cols);
    for (uint32_t n; first < end; first += n) {
        uint32_t from = first % cut.units;
        n = end - first < cut.units - from ? end - first : cut.units - from;
        struct work w = begin_work(f, layer, bundle_at(f, &cut, first / cut.units), worker);
        take_queries(f, &w, turn);
        for (uint32_t b = from * cut.blocks_of_unit; b < (from + n) * cut.blocks_of_unit; b++)
            attend_block(f, &w, b);
        if (is_complete(f, w.bundle.index, n, cut.units))
            for (uint32_t c = 0; c < w.bundle.n_cols; c++)
                merge_column(f, &w, c, w.queries);
    }
}
