/* forward_memory: one block of memory for everything a step needs, cut into aligned pieces. */
#include "runtime/forward.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGN = 64 };

/* Cuts pieces off a block; with no block it only counts, so that one list of pieces serves both. */
struct arena {
    uint8_t *block;
    size_t used;
    bool overflow;
};

static void *cut(struct arena *a, size_t rows, size_t columns, size_t unit)
{
    size_t at = a->used, size = 0;
    if (__builtin_mul_overflow(rows, columns, &size) || __builtin_mul_overflow(size, unit, &size) ||
        __builtin_add_overflow(size, ALIGN - 1, &size) ||
        __builtin_add_overflow(a->used, size / ALIGN * ALIGN, &a->used))
        a->overflow = true;
    return a->block && !a->overflow ? a->block + at : NULL;
}

static void cut_signal(struct arena *a, struct rt_signal *s, uint32_t chunk, uint32_t width,
                       bool floats)
{
    s->width = width;
    s->f32 = floats ? cut(a, chunk, width, sizeof(float)) : NULL;
    s->acts.groups = width / PACK_GROUP | 1; /* else columns meet in a few sets of the caches */
    s->acts.q = cut(a, chunk, (size_t)s->acts.groups * PACK_GROUP, sizeof(int16_t));
    s->acts.group = cut(a, chunk, s->acts.groups, sizeof *s->acts.group);
    s->outlier.groups = 1;
    s->outlier.q = cut(a, chunk, PACK_GROUP, sizeof(int16_t));
    s->outlier.group = cut(a, chunk, 1, sizeof *s->outlier.group);
}

static void cut_stream(struct arena *a, struct rt_stream *s, uint32_t chunk,
                       const struct rt_model *m)
{
    s->turn = cut(a, chunk, m->head_dim, sizeof(float));
    s->x = cut(a, chunk, m->n_embd_pad, sizeof(float));
    cut_signal(a, &s->normed, chunk, m->n_embd_pad, true);
}

static uint32_t widest_mlp(const struct rt_pack *pack)
{
    uint32_t widest = 0;
    for (uint32_t i = 0; i < pack->model.n_layers; i++)
        widest = pack->tiers[0].dims[i].mlp > widest ? pack->tiers[0].dims[i].mlp : widest;
    return widest;
}

static uint32_t largest_rank(const struct rt_pack *pack)
{
    uint32_t largest = 0;
    for (uint32_t i = 0; i < pack->model.n_layers; i++) {
        uint32_t rank = pack->layers[i].comp_v.rows;
        largest = rank > largest ? rank : largest;
    }
    return largest;
}

static void cut_parts(struct arena *a, struct rt_forward *f, size_t workers)
{
    const struct rt_model *m = &f->pack->model;
    size_t slots = workers > m->n_kv_heads ? workers : m->n_kv_heads;
    size_t queries = slots * RT_FEW_COLS * (m->n_heads / m->n_kv_heads);
    f->parts.max = cut(a, queries, f->parts.blocks, sizeof(float));
    f->parts.sum = cut(a, queries, f->parts.blocks, sizeof(float));
    f->parts.out = cut(a, queries * m->head_pad, f->parts.blocks, sizeof(float));
    f->parts.done = cut(a, RT_FEW_COLS, m->n_kv_heads, sizeof *f->parts.done);
}

static void cut_all(struct rt_forward *f, struct arena *a)
{
    const struct rt_model *m = &f->pack->model;
    size_t c = f->chunk, workers = rt_team_size(f->team);
    uint32_t few = f->chunk < RT_FEW_COLS ? f->chunk : RT_FEW_COLS;
    uint32_t q_width = m->n_heads * m->head_pad, kv_width = m->n_kv_heads * m->head_pad;
    uint32_t mlp = widest_mlp(f->pack);
    size_t cached = (size_t)m->n_layers * (kv_width / PACK_GROUP); /* below 2^26 by META's limits */
    size_t positions = (size_t)f->cache.n_sequences * f->cache.positions; /* below 2^32 as well */
    size_t queries = workers * RT_FEW_COLS * (m->n_heads / m->n_kv_heads);

    f->cache.keys = cut(a, cached, positions, rt_cache_group(f->cache.keys_type));
    f->cache.values = cut(a, cached, positions, rt_cache_group(f->cache.values_type));
    f->frequency = cut(a, 1, m->head_dim / 2, sizeof(double));
    cut_stream(a, &f->shared, f->chunk, m);
    f->own = cut(a, workers, 1, sizeof *f->own);
    for (size_t w = 0; w < workers; w++) {
        struct rt_stream counted;
        cut_stream(a, f->own ? &f->own[w] : &counted, few, m);
    }
    f->q = cut(a, c, q_width, sizeof(float));
    f->k = cut(a, c, kv_width, sizeof(float));
    f->v = cut(a, c, kv_width, sizeof(float));
    f->gate = cut(a, workers * 2, c * PACK_GROUP, sizeof(float));
    f->out = cut(a, c, m->n_embd_pad, sizeof(float));
    f->correction = cut(a, c, m->n_embd_pad, sizeof(float));
    cut_signal(a, &f->mixed, f->chunk, q_width, true);
    cut_signal(a, &f->gated, f->chunk, mlp, f->pack->kind == RT_PACK_F32);
    cut_signal(a, &f->comp, f->chunk, largest_rank(f->pack), f->pack->kind == RT_PACK_F32);
    f->queries = cut(a, queries, m->head_pad, sizeof(float));
    f->scores = cut(a, queries, RT_CACHE_BLOCK, sizeof(float));
    cut_parts(a, f, workers);
    f->logits = cut(a, RT_HEAD_COLS, m->n_vocab_pad, sizeof(float));
}

static uint32_t round_up(uint32_t n, uint32_t to)
{
    return (n + to - 1) / to * to;
}

int rt_cache_choose(struct rt_kv_cache *cache, uint32_t bits, enum rt_pack_kind kind,
                    struct ert_error *err)
{
    static const struct {
        uint32_t bits;
        enum rt_cache_type keys, values;
    } choices[] = {
        {0, RT_CACHE_F16, RT_CACHE_F16},
        {16, RT_CACHE_F16, RT_CACHE_F16},
        {8, RT_CACHE_Q8, RT_CACHE_Q8},
        {6, RT_CACHE_Q8, RT_CACHE_Q4},
    };
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++)
        if (choices[i].bits == bits) {
            bool floats = kind == RT_PACK_F32;
            cache->keys_type = floats ? RT_CACHE_F32 : choices[i].keys;
            cache->values_type = floats ? RT_CACHE_F32 : choices[i].values;
            return 0;
        }
    return ert_fail(err, ERT_E_RANGE,
                    "a cache of %u bits: it is 16, 8 or 6 (keys in 8, values in 4)", bits);
}

bool rt_forward_count(struct rt_forward *f)
{
    f->cache.positions = round_up(f->cache.n_ctx, RT_CACHE_TILE);
    f->parts.blocks = round_up(f->cache.n_ctx, RT_CACHE_BLOCK) / RT_CACHE_BLOCK;
    struct arena arena = {0};
    cut_all(f, &arena);
    f->bytes = arena.used;
    return !arena.overflow;
}

int rt_forward_init(struct rt_forward *f, struct ert_error *err)
{
    const struct rt_pack *pack = f->pack;
    const struct rt_model *m = &pack->model;
    bool counted = rt_forward_count(f);
    f->memory = counted ? aligned_alloc(ALIGN, f->bytes) : NULL;
    if (!f->memory)
        return ert_fail(err, ERT_E_NOMEM,
                        "%s: no memory for a conversation of %u tokens (%zu bytes): ask for a "
                        "shorter context",
                        pack->path, f->cache.n_ctx, counted ? f->bytes : SIZE_MAX);
    struct arena arena = {.block = f->memory};
    cut_all(f, &arena);
    for (uint32_t i = 0; i < m->head_dim / 2; i++)
        f->frequency[i] = rt_rope_frequency(m, pack->rope_factors, i);
    for (uint32_t i = 0; i < RT_FEW_COLS * m->n_kv_heads; i++)
        atomic_init(&f->parts.done[i], 0);
    memset(f->logits, 0, m->n_vocab_pad * sizeof(float));
    return 0;
}

void rt_forward_release(struct rt_forward *f)
{
    free(f->memory);
    f->memory = NULL;
}
