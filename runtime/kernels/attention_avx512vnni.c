/* Attention over a cache for AVX-512: fused multiply-add, one lane per result, in order. A lane is
 * a position where queries meet keys, a dimension where weights meet values; what is cached is
 * converted once for as many queries as the registers hold sums for. */
#include "runtime/kernels/versions.h"

#include <immintrin.h>

enum {
    LANES = 16,
    QUERIES = 6, /* that share what was loaded */
    TILES = 4,   /* of keys, each one register a dimension */
    VECTORS = 4, /* of values */
    GROUP = PACK_GROUP,
    GROUP_VECTORS = GROUP / LANES,
    AHEAD = 8 * 1024, /* bytes to prefetch ahead: the hardware prefetcher stops at pages */
};

#define INLINE static inline __attribute__((always_inline))

/* Scales of a tile's positions, if they have any. */
INLINE __m512 load_scales(enum rt_cache_type type, const uint8_t *scales)
{
    if (type != RT_CACHE_Q8)
        return _mm512_setzero_ps();
    __m256i bf16 = _mm256_loadu_si256((const __m256i *)(const void *)scales);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16));
}

/* One position's scale, if it has one. */
INLINE __m512 load_scale(enum rt_cache_type type, const uint8_t *scale)
{
    if (type != RT_CACHE_Q8)
        return _mm512_setzero_ps();
    int bf16 = scale[0] << 16 | scale[1] << 24;
    return _mm512_castsi512_ps(_mm512_set1_epi32(bf16));
}

/* Sixteen values. */
INLINE __m512 load(enum rt_cache_type type, const uint8_t *from, __m512 scale)
{
    _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0);
    if (type == RT_CACHE_F32)
        return _mm512_loadu_ps(from);
    if (type == RT_CACHE_F16)
        return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)from));
    __m512i codes = _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)from));
    return _mm512_mul_ps(scale, _mm512_cvtepi32_ps(codes));
}

/* What the group of dimension dim of a position (of a tile) begins with. */
INLINE const uint8_t *group_at(enum rt_cache_type type, const struct rt_cached *c, size_t lanes,
                               size_t row, size_t dim)
{
    size_t group = row * (c->width / GROUP) + dim / GROUP;
    return (const uint8_t *)c->data + group * lanes * rt_cache_group(type);
}

/* ---- scores -------------------------------------------------------------------------------- */

/* n_tiles tiles of keys from `tile` on and n_q queries, both constant. */
INLINE void score_strip(enum rt_cache_type type, const struct rt_cached *keys, size_t tile,
                        unsigned n_tiles, const float *q, unsigned n_q, float *scores)
{
    __m512 sum[QUERIES][TILES], key[TILES];
#pragma GCC unroll 6
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (unsigned t = 0; t < n_tiles; t++)
            sum[i][t] = _mm512_setzero_ps();
    for (uint32_t g = 0; g < keys->dims; g += GROUP) {
        const uint8_t *values[TILES];
        __m512 scale[TILES];
#pragma GCC unroll 4
        for (unsigned t = 0; t < n_tiles; t++) {
            const uint8_t *group = group_at(type, keys, LANES, tile + t, g);
            scale[t] = load_scales(type, group);
            values[t] = group + LANES * rt_cache_scale(type);
        }
        for (uint32_t d = 0; d < GROUP; d++) {
#pragma GCC unroll 4
            for (unsigned t = 0; t < n_tiles; t++)
                key[t] = load(type, values[t] + d * LANES * rt_cache_element(type), scale[t]);
#pragma GCC unroll 6
            for (unsigned i = 0; i < n_q; i++) {
                __m512 x = _mm512_set1_ps(q[(size_t)i * keys->width + g + d]);
#pragma GCC unroll 4
                for (unsigned t = 0; t < n_tiles; t++)
                    sum[i][t] = _mm512_fmadd_ps(x, key[t], sum[i][t]);
            }
        }
    }
#pragma GCC unroll 6
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (unsigned t = 0; t < n_tiles; t++)
            _mm512_storeu_ps(scores + (size_t)i * RT_CACHE_BLOCK + (tile + t) * LANES, sum[i][t]);
}

INLINE void score_queries(enum rt_cache_type type, const struct rt_cached *keys, const float *q,
                          unsigned n_q, float *scores)
{
    size_t n = (keys->n + LANES - 1) / LANES, tile = 0;
    for (; tile + TILES <= n; tile += TILES)
        score_strip(type, keys, tile, TILES, q, n_q, scores);
    for (; tile < n; tile++)
        score_strip(type, keys, tile, 1, q, n_q, scores);
}

/* Each number of queries has its own code, with the sums in registers. */
INLINE void score(enum rt_cache_type type, const struct rt_cached *keys, const float *q,
                  uint32_t n_queries, float *scores)
{
    for (uint32_t left = n_queries, n; left > 0; left -= n) {
        n = left < QUERIES ? left : QUERIES;
        switch (n) {
        case 1:
            score_queries(type, keys, q, 1, scores);
            break;
        case 2:
            score_queries(type, keys, q, 2, scores);
            break;
        case 3:
            score_queries(type, keys, q, 3, scores);
            break;
        case 4:
            score_queries(type, keys, q, 4, scores);
            break;
        case 5:
            score_queries(type, keys, q, 5, scores);
            break;
        default:
            score_queries(type, keys, q, QUERIES, scores);
        }
        q += (size_t)n * keys->width;
        scores += (size_t)n * RT_CACHE_BLOCK;
    }
}

void rt_score_f16_avx512vnni(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                             float *scores)
{
    score(RT_CACHE_F16, keys, q, n_queries, scores);
}

void rt_score_f32_avx512vnni(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                             float *scores)
{
    score(RT_CACHE_F32, keys, q, n_queries, scores);
}

void rt_score_q8_avx512vnni(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                            float *scores)
{
    score(RT_CACHE_Q8, keys, q, n_queries, scores);
}

/* ---- weighted values ------------------------------------------------------------------------ */

/* n_vectors vectors of dimensions from d on and n_q queries, both constant. */
INLINE void mix_strip(enum rt_cache_type type, const struct rt_cached *values, size_t d,
                      unsigned n_vectors, const float *weights, unsigned n_q, float *out,
                      uint32_t stride)
{
    __m512 sum[QUERIES][VECTORS], value[VECTORS], scale[VECTORS / GROUP_VECTORS];
#pragma GCC unroll 6
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (unsigned v = 0; v < n_vectors; v++)
            sum[i][v] = _mm512_setzero_ps();
    for (size_t p = 0; p < values->n; p++) {
#pragma GCC unroll 2
        for (unsigned g = 0; g < n_vectors / GROUP_VECTORS; g++)
            scale[g] = load_scale(type, group_at(type, values, 1, p, d + (size_t)g * GROUP));
#pragma GCC unroll 4
        for (unsigned v = 0; v < n_vectors; v++) {
            const uint8_t *group = group_at(type, values, 1, p, d + (size_t)v * LANES);
            size_t at = v % GROUP_VECTORS * LANES * rt_cache_element(type);
            value[v] = load(type, group + rt_cache_scale(type) + at, scale[v / GROUP_VECTORS]);
        }
#pragma GCC unroll 6
        for (unsigned i = 0; i < n_q; i++) {
            __m512 w = _mm512_set1_ps(weights[(size_t)i * RT_CACHE_BLOCK + p]);
#pragma GCC unroll 4
            for (unsigned v = 0; v < n_vectors; v++)
                sum[i][v] = _mm512_fmadd_ps(w, value[v], sum[i][v]);
        }
    }
#pragma GCC unroll 6
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (unsigned v = 0; v < n_vectors; v++)
            _mm512_storeu_ps(out + (size_t)i * stride + d + (size_t)v * LANES, sum[i][v]);
}

INLINE void mix_queries(enum rt_cache_type type, const struct rt_cached *values,
                        const float *weights, unsigned n_q, float *out, uint32_t stride)
{
    uint32_t d = 0;
    for (; d + VECTORS * LANES <= values->dims; d += VECTORS * LANES)
        mix_strip(type, values, d, VECTORS, weights, n_q, out, stride);
    if (d < values->dims)
        mix_strip(type, values, d, GROUP_VECTORS, weights, n_q, out, stride);
}

INLINE void mix(enum rt_cache_type type, const struct rt_cached *values, const float *weights,
                uint32_t n_queries, float *out, uint32_t stride)
{
    for (uint32_t left = n_queries, n; left > 0; left -= n) {
        n = left < QUERIES ? left : QUERIES;
        switch (n) {
        case 1:
            mix_queries(type, values, weights, 1, out, stride);
            break;
        case 2:
            mix_queries(type, values, weights, 2, out, stride);
            break;
        case 3:
            mix_queries(type, values, weights, 3, out, stride);
            break;
        case 4:
            mix_queries(type, values, weights, 4, out, stride);
            break;
        case 5:
            mix_queries(type, values, weights, 5, out, stride);
            break;
        default:
            mix_queries(type, values, weights, QUERIES, out, stride);
        }
        weights += (size_t)n * RT_CACHE_BLOCK;
        out += (size_t)n * stride;
    }
}

void rt_mix_f16_avx512vnni(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                           float *out, uint32_t stride)
{
    mix(RT_CACHE_F16, values, weights, n_queries, out, stride);
}

void rt_mix_f32_avx512vnni(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                           float *out, uint32_t stride)
{
    mix(RT_CACHE_F32, values, weights, n_queries, out, stride);
}

void rt_mix_q8_avx512vnni(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                          float *out, uint32_t stride)
{
    mix(RT_CACHE_Q8, values, weights, n_queries, out, stride);
}
