/* Attention over a cache for AVX2: fused multiply-add, one lane per result, in order. A lane is a
 * position where queries meet keys, a dimension where weights meet values; what is cached is
 * converted once for as many queries as the registers hold sums for. */
#include "runtime/kernels/versions.h"

#include <immintrin.h>

enum {
    LANES = 8,
    QUERIES = 3, /* that share what was loaded */
    VECTORS = 4, /* of keys or values */
    TILE = RT_CACHE_TILE,
    TILE_VECTORS = TILE / LANES,
    AHEAD = 8 * 1024, /* bytes to prefetch ahead: the hardware prefetcher stops at pages */
};

#define INLINE static inline __attribute__((always_inline))

/* Eight elements from index i on. */
typedef __m256 load_fn(const void *p, size_t i);

INLINE __m256 load_f16(const void *p, size_t i)
{
    const uint16_t *from = (const uint16_t *)p + i;
    _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0);
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)from));
}

INLINE __m256 load_f32(const void *p, size_t i)
{
    const float *from = (const float *)p + i;
    _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0);
    return _mm256_loadu_ps(from);
}

/* ---- scores -------------------------------------------------------------------------------- */

/* n_vectors vectors of keys from the beginning of a tile on and n_q queries, both constant. */
INLINE void score_strip(load_fn *load, const struct rt_cached *keys, size_t tile,
                        unsigned n_vectors, const float *q, unsigned n_q, float *scores)
{
    __m256 sum[QUERIES][VECTORS];
#pragma GCC unroll 3
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (unsigned v = 0; v < n_vectors; v++)
            sum[i][v] = _mm256_setzero_ps();
    for (uint32_t d = 0; d < keys->dims; d++) {
#pragma GCC unroll 4
        for (unsigned v = 0; v < n_vectors; v++) {
            size_t row = (tile + v / TILE_VECTORS) * keys->width + d;
            __m256 key = load(keys->data, row * TILE + v % TILE_VECTORS * (size_t)LANES);
#pragma GCC unroll 3
            for (unsigned i = 0; i < n_q; i++)
                sum[i][v] = _mm256_fmadd_ps(_mm256_broadcast_ss(q + (size_t)i * keys->width + d),
                                            key, sum[i][v]);
        }
    }
#pragma GCC unroll 3
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (unsigned v = 0; v < n_vectors; v++)
            _mm256_storeu_ps(scores + (size_t)i * RT_CACHE_BLOCK + tile * TILE + (size_t)v * LANES,
                             sum[i][v]);
}

INLINE void score_queries(load_fn *load, const struct rt_cached *keys, const float *q, unsigned n_q,
                          float *scores)
{
    size_t n = (keys->n + TILE - 1) / TILE, tile = 0;
    for (; tile + VECTORS / TILE_VECTORS <= n; tile += VECTORS / TILE_VECTORS)
        score_strip(load, keys, tile, VECTORS, q, n_q, scores);
    for (; tile < n; tile++)
        score_strip(load, keys, tile, TILE_VECTORS, q, n_q, scores);
}

/* Each number of queries has its own code, with the sums in registers. */
INLINE void score(load_fn *load, const struct rt_cached *keys, const float *q, uint32_t n_queries,
                  float *scores)
{
    for (uint32_t left = n_queries, n; left > 0; left -= n) {
        n = left < QUERIES ? left : QUERIES;
        switch (n) {
        case 1:
            score_queries(load, keys, q, 1, scores);
            break;
        case 2:
            score_queries(load, keys, q, 2, scores);
            break;
        default:
            score_queries(load, keys, q, QUERIES, scores);
        }
        q += (size_t)n * keys->width;
        scores += (size_t)n * RT_CACHE_BLOCK;
    }
}

void rt_score_f16_avx2(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                       float *scores)
{
    score(load_f16, keys, q, n_queries, scores);
}

void rt_score_f32_avx2(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                       float *scores)
{
    score(load_f32, keys, q, n_queries, scores);
}

/* ---- weighted values ------------------------------------------------------------------------ */

/* VECTORS vectors of dimensions from d on and n_q queries, a constant. */
INLINE void mix_strip(load_fn *load, const struct rt_cached *values, size_t d, const float *weights,
                      unsigned n_q, float *out, uint32_t stride)
{
    __m256 sum[QUERIES][VECTORS];
#pragma GCC unroll 3
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (unsigned v = 0; v < VECTORS; v++)
            sum[i][v] = _mm256_setzero_ps();
    for (size_t p = 0; p < values->n; p++) {
#pragma GCC unroll 4
        for (unsigned v = 0; v < VECTORS; v++) {
            __m256 value = load(values->data, p * values->width + d + (size_t)v * LANES);
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

INLINE void mix_queries(load_fn *load, const struct rt_cached *values, const float *weights,
                        unsigned n_q, float *out, uint32_t stride)
{
    for (uint32_t d = 0; d < values->dims; d += VECTORS * LANES)
        mix_strip(load, values, d, weights, n_q, out, stride);
}

INLINE void mix(load_fn *load, const struct rt_cached *values, const float *weights,
                uint32_t n_queries, float *out, uint32_t stride)
{
    for (uint32_t left = n_queries, n; left > 0; left -= n) {
        n = left < QUERIES ? left : QUERIES;
        switch (n) {
        case 1:
            mix_queries(load, values, weights, 1, out, stride);
            break;
        case 2:
            mix_queries(load, values, weights, 2, out, stride);
            break;
        default:
            mix_queries(load, values, weights, QUERIES, out, stride);
        }
        weights += (size_t)n * RT_CACHE_BLOCK;
        out += (size_t)n * stride;
    }
}

void rt_mix_f16_avx2(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                     float *out, uint32_t stride)
{
    mix(load_f16, values, weights, n_queries, out, stride);
}

void rt_mix_f32_avx2(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                     float *out, uint32_t stride)
{
    mix(load_f32, values, weights, n_queries, out, stride);
}
