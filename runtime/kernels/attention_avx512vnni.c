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
    LINE = 64,
    AHEAD = 8 * 1024, /* bytes to prefetch ahead: the hardware prefetcher stops at pages */
};

#define INLINE static inline __attribute__((always_inline))

/* Sixteen elements from index i on. */
typedef __m512 load_fn(const void *p, size_t i);

INLINE __m512 load_f16(const void *p, size_t i)
{
    const uint16_t *from = (const uint16_t *)p + i;
    _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0);
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)from));
}

INLINE __m512 load_f32(const void *p, size_t i)
{
    const float *from = (const float *)p + i;
    _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0);
    return _mm512_loadu_ps(from);
}

/* ---- scores -------------------------------------------------------------------------------- */

/* n_tiles tiles of keys from `tile` on and n_q queries, both constant. */
INLINE void score_strip(load_fn *load, const struct rt_cached *keys, size_t tile, unsigned n_tiles,
                        const float *q, unsigned n_q, float *scores)
{
    __m512 sum[QUERIES][TILES], key[TILES];
#pragma GCC unroll 6
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (unsigned t = 0; t < n_tiles; t++)
            sum[i][t] = _mm512_setzero_ps();
    for (uint32_t d = 0; d < keys->dims; d++) {
#pragma GCC unroll 4
        for (unsigned t = 0; t < n_tiles; t++)
            key[t] = load(keys->data, ((tile + t) * keys->width + d) * LANES);
#pragma GCC unroll 6
        for (unsigned i = 0; i < n_q; i++) {
            __m512 x = _mm512_set1_ps(q[(size_t)i * keys->width + d]);
#pragma GCC unroll 4
            for (unsigned t = 0; t < n_tiles; t++)
                sum[i][t] = _mm512_fmadd_ps(x, key[t], sum[i][t]);
        }
    }
#pragma GCC unroll 6
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (unsigned t = 0; t < n_tiles; t++)
            _mm512_storeu_ps(scores + (size_t)i * RT_CACHE_BLOCK + (tile + t) * LANES, sum[i][t]);
}

INLINE void score_queries(load_fn *load, const struct rt_cached *keys, const float *q, unsigned n_q,
                          float *scores)
{
    size_t n = (keys->n + LANES - 1) / LANES, tile = 0;
    for (; tile + TILES <= n; tile += TILES)
        score_strip(load, keys, tile, TILES, q, n_q, scores);
    for (; tile < n; tile++)
        score_strip(load, keys, tile, 1, q, n_q, scores);
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
        case 3:
            score_queries(load, keys, q, 3, scores);
            break;
        case 4:
            score_queries(load, keys, q, 4, scores);
            break;
        case 5:
            score_queries(load, keys, q, 5, scores);
            break;
        default:
            score_queries(load, keys, q, QUERIES, scores);
        }
        q += (size_t)n * keys->width;
        scores += (size_t)n * RT_CACHE_BLOCK;
    }
}

void rt_score_f16_avx512vnni(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                             float *scores)
{
    score(load_f16, keys, q, n_queries, scores);
}

void rt_score_f32_avx512vnni(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                             float *scores)
{
    score(load_f32, keys, q, n_queries, scores);
}

/* ---- weighted values ------------------------------------------------------------------------ */

/* n_vectors vectors of dimensions from d on and n_q queries, both constant. */
INLINE void mix_strip(load_fn *load, const struct rt_cached *values, size_t d, unsigned n_vectors,
                      const float *weights, unsigned n_q, float *out, uint32_t stride)
{
    __m512 sum[QUERIES][VECTORS], value[VECTORS];
#pragma GCC unroll 6
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 4
        for (unsigned v = 0; v < n_vectors; v++)
            sum[i][v] = _mm512_setzero_ps();
    for (size_t p = 0; p < values->n; p++) {
#pragma GCC unroll 4
        for (unsigned v = 0; v < n_vectors; v++)
            value[v] = load(values->data, p * values->width + d + (size_t)v * LANES);
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

INLINE void mix_queries(load_fn *load, const struct rt_cached *values, const float *weights,
                        unsigned n_q, float *out, uint32_t stride)
{
    uint32_t d = 0;
    for (; d + VECTORS * LANES <= values->dims; d += VECTORS * LANES)
        mix_strip(load, values, d, VECTORS, weights, n_q, out, stride);
    if (d < values->dims)
        mix_strip(load, values, d, VECTORS / 2, weights, n_q, out, stride);
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
        case 3:
            mix_queries(load, values, weights, 3, out, stride);
            break;
        case 4:
            mix_queries(load, values, weights, 4, out, stride);
            break;
        case 5:
            mix_queries(load, values, weights, 5, out, stride);
            break;
        default:
            mix_queries(load, values, weights, QUERIES, out, stride);
        }
        weights += (size_t)n * RT_CACHE_BLOCK;
        out += (size_t)n * stride;
    }
}

void rt_mix_f16_avx512vnni(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                           float *out, uint32_t stride)
{
    mix(load_f16, values, weights, n_queries, out, stride);
}

void rt_mix_f32_avx512vnni(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                           float *out, uint32_t stride)
{
    mix(load_f32, values, weights, n_queries, out, stride);
}
