/* Attention over a cache for AVX2: fused multiply-add, one lane per result, in order. A lane is a
 * position where queries meet keys, a dimension where weights meet values; what is cached is
 * converted once for as many queries as the registers hold sums for. */
#include "runtime/kernels/versions.h"

#include <immintrin.h>

enum {
    LANES = 8,
    QUERIES = 3, /* that share what was loaded */
    GROUP = PACK_GROUP,
    VECTORS = GROUP / LANES, /* of keys or values */
    TILE = RT_CACHE_TILE,
    TILE_VECTORS = TILE / LANES,
    AHEAD = 8 * 1024, /* bytes to prefetch ahead: the hardware prefetcher stops at pages */
};

#define INLINE static inline __attribute__((always_inline))

/* Scales of eight positions, if they have any. */
INLINE __m256 load_scales(enum rt_cache_type type, const uint8_t *scales)
{
    if (type != RT_CACHE_Q8)
        return _mm256_setzero_ps();
    __m128i bf16 = _mm_loadu_si128((const __m128i *)(const void *)scales);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bf16), 16));
}

/* One position's scale, if it has one. */
INLINE __m256 load_scale(enum rt_cache_type type, const uint8_t *scale)
{
    if (type != RT_CACHE_Q8)
        return _mm256_setzero_ps();
    int bf16 = scale[0] << 16 | scale[1] << 24;
    return _mm256_castsi256_ps(_mm256_set1_epi32(bf16));
}

/* Eight values. */
INLINE __m256 load(enum rt_cache_type type, const uint8_t *from, __m256 scale)
{
    _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0);
    if (type == RT_CACHE_F32)
        return _mm256_loadu_ps((const float *)(const void *)from);
    if (type == RT_CACHE_F16)
        return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from));
    __m256i codes = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)from));
    return _mm256_mul_ps(scale, _mm256_cvtepi32_ps(codes));
}

/* What the group of dimension dim of a position (of a tile) begins with. */
INLINE const uint8_t *group_at(enum rt_cache_type type, const struct rt_cached *c, size_t lanes,
                               size_t row, size_t dim)
{
    size_t group = row * (c->width / GROUP) + dim / GROUP;
    return (const uint8_t *)c->data + group * lanes * rt_cache_group(type);
}

/* ---- scores -------------------------------------------------------------------------------- */

/* n_vectors vectors of keys from the beginning of a tile on and n_q queries, both constant. */
INLINE void score_strip(enum rt_cache_type type, const struct rt_cached *keys, size_t tile,
                        unsigned n_vectors, const float *q, unsigned n_q, float *scores)
{
    __m256 sum[QUERIES][VECTORS];
#pragma GCC unroll 3
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (unsigned v = 0; v < n_vectors; v++)
            sum[i][v] = _mm256_setzero_ps();
    for (uint32_t g = 0; g < keys->dims; g += GROUP) {
        const uint8_t *values[VECTORS];
        __m256 scale[VECTORS];
#pragma GCC unroll 4
        for (unsigned v = 0; v < n_vectors; v++) {
            const uint8_t *group = group_at(type, keys, TILE, tile + v / TILE_VECTORS, g);
            size_t lane = v % TILE_VECTORS * (size_t)LANES;
            scale[v] = load_scales(type, group + lane * rt_cache_scale(type));
            values[v] = group + TILE * rt_cache_scale(type) + lane * rt_cache_element(type);
        }
        for (uint32_t d = 0; d < GROUP; d++) {
#pragma GCC unroll 4
            for (unsigned v = 0; v < n_vectors; v++) {
                __m256 key = load(type, values[v] + d * TILE * rt_cache_element(type), scale[v]);
#pragma GCC unroll 3
                for (unsigned i = 0; i < n_q; i++)
                    sum[i][v] = _mm256_fmadd_ps(
                        _mm256_broadcast_ss(q + (size_t)i * keys->width + g + d), key, sum[i][v]);
            }
        }
    }
#pragma GCC unroll 3
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (unsigned v = 0; v < n_vectors; v++)
            _mm256_storeu_ps(scores + (size_t)i * RT_CACHE_BLOCK + tile * TILE + (size_t)v * LANES,
                             sum[i][v]);
}

INLINE void score_queries(enum rt_cache_type type, const struct rt_cached *keys, const float *q,
                          unsigned n_q, float *scores)
{
    size_t n = (keys->n + TILE - 1) / TILE, tile = 0;
    for (; tile + VECTORS / TILE_VECTORS <= n; tile += VECTORS / TILE_VECTORS)
        score_strip(type, keys, tile, VECTORS, q, n_q, scores);
    for (; tile < n; tile++)
        score_strip(type, keys, tile, TILE_VECTORS, q, n_q, scores);
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
        default:
            score_queries(type, keys, q, QUERIES, scores);
        }
        q += (size_t)n * keys->width;
        scores += (size_t)n * RT_CACHE_BLOCK;
    }
}

void rt_score_f16_avx2(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                       float *scores)
{
    score(RT_CACHE_F16, keys, q, n_queries, scores);
}

void rt_score_f32_avx2(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                       float *scores)
{
    score(RT_CACHE_F32, keys, q, n_queries, scores);
}

void rt_score_q8_avx2(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                      float *scores)
{
    score(RT_CACHE_Q8, keys, q, n_queries, scores);
}

/* ---- weighted values ------------------------------------------------------------------------ */

/* The VECTORS vectors of a group of dimensions from d on and n_q queries, a constant. */
INLINE void mix_strip(enum rt_cache_type type, const struct rt_cached *values, size_t d,
                      const float *weights, unsigned n_q, float *out, uint32_t stride)
{
    __m256 sum[QUERIES][VECTORS];
#pragma GCC unroll 3
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (unsigned v = 0; v < VECTORS; v++)
            sum[i][v] = _mm256_setzero_ps();
    for (size_t p = 0; p < values->n; p++) {
        const uint8_t *group = group_at(type, values, 1, p, d);
        __m256 scale = load_scale(type, group);
#pragma GCC unroll 4
        for (unsigned v = 0; v < VECTORS; v++) {
            __m256 value = load(
                type, group + rt_cache_scale(type) + v * LANES * rt_cache_element(type), scale);
#pragma GCC unroll 3
            for (unsigned i = 0; i < n_q; i++)
                sum[i][v] =
                    _mm256_fmadd_ps(_mm256_broadcast_ss(weights + (size_t)i * RT_CACHE_BLOCK + p),
                                    value, sum[i][v]);
        }
    }
#pragma GCC unroll 3
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (unsigned v = 0; v < VECTORS; v++)
            _mm256_storeu_ps(out + (size_t)i * stride + d + (size_t)v * LANES, sum[i][v]);
}

INLINE void mix_queries(enum rt_cache_type type, const struct rt_cached *values,
                        const float *weights, unsigned n_q, float *out, uint32_t stride)
{
    for (uint32_t d = 0; d < values->dims; d += VECTORS * LANES)
        mix_strip(type, values, d, weights, n_q, out, stride);
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
        default:
            mix_queries(type, values, weights, QUERIES, out, stride);
        }
        weights += (size_t)n * RT_CACHE_BLOCK;
        out += (size_t)n * stride;
    }
}

void rt_mix_f16_avx2(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                     float *out, uint32_t stride)
{
    mix(RT_CACHE_F16, values, weights, n_queries, out, stride);
}

void rt_mix_f32_avx2(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                     float *out, uint32_t stride)
{
    mix(RT_CACHE_F32, values, weights, n_queries, out, stride);
}

void rt_mix_q8_avx2(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                    float *out, uint32_t stride)
{
    mix(RT_CACHE_Q8, values, weights, n_queries, out, stride);
}
