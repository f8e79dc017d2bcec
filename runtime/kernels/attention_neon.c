/* Attention over a cache for NEON: fused multiply-add, one lane per result, in order. A lane is a
 * position where queries meet keys, a dimension where weights meet values; what is cached is
 * converted once for as many queries as the registers hold sums for. */
#include "runtime/kernels/versions.h"

#include <arm_neon.h>

enum {
    LANES = 4,
    QUERIES = 3, /* that share what was loaded */
    VECTORS = 8, /* of keys or values */
    TILE = RT_CACHE_TILE,
    TILE_VECTORS = TILE / LANES,
};

#define INLINE static inline __attribute__((always_inline))

/* Four elements from index i on. */
typedef float32x4_t load_fn(const void *p, size_t i);

INLINE float32x4_t load_f16(const void *p, size_t i)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16((const uint16_t *)p + i)));
}

INLINE float32x4_t load_f32(const void *p, size_t i)
{
    return vld1q_f32((const float *)p + i);
}

/* ---- scores -------------------------------------------------------------------------------- */

/* n_vectors vectors of keys from the beginning of a tile on and n_q queries, both constant. */
INLINE void score_strip(load_fn *load, const struct rt_cached *keys, size_t tile,
                        unsigned n_vectors, const float *q, unsigned n_q, float *scores)
{
    float32x4_t sum[QUERIES][VECTORS];
#pragma GCC unroll 3
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 8
        for (unsigned v = 0; v < n_vectors; v++)
            sum[i][v] = vdupq_n_f32(0);
    for (uint32_t d = 0; d < keys->dims; d++) {
#pragma GCC unroll 8
        for (unsigned v = 0; v < n_vectors; v++) {
            size_t row = (tile + v / TILE_VECTORS) * keys->width + d;
            float32x4_t key = load(keys->data, row * TILE + v % TILE_VECTORS * (size_t)LANES);
#pragma GCC unroll 3
            for (unsigned i = 0; i < n_q; i++)
                sum[i][v] = vfmaq_n_f32(sum[i][v], key, q[(size_t)i * keys->width + d]);
        }
    }
#pragma GCC unroll 3
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 8
        for (unsigned v = 0; v < n_vectors; v++)
            vst1q_f32(scores + (size_t)i * RT_CACHE_BLOCK + tile * TILE + (size_t)v * LANES,
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

void rt_score_f16_neon(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                       float *scores)
{
    score(load_f16, keys, q, n_queries, scores);
}

void rt_score_f32_neon(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                       float *scores)
{
    score(load_f32, keys, q, n_queries, scores);
}

/* ---- weighted values ------------------------------------------------------------------------ */

/* VECTORS vectors of dimensions from d on and n_q queries, a constant. */
INLINE void mix_strip(load_fn *load, const struct rt_cached *values, size_t d, const float *weights,
                      unsigned n_q, float *out, uint32_t stride)
{
    float32x4_t sum[QUERIES][VECTORS];
#pragma GCC unroll 3
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 8
        for (unsigned v = 0; v < VECTORS; v++)
            sum[i][v] = vdupq_n_f32(0);
    for (size_t p = 0; p < values->n; p++) {
#pragma GCC unroll 8
        for (unsigned v = 0; v < VECTORS; v++) {
            float32x4_t value = load(values->data, p * values->width + d + (size_t)v * LANES);
#pragma GCC unroll 3
            for (unsigned i = 0; i < n_q; i++)
                sum[i][v] = vfmaq_n_f32(sum[i][v], value, weights[(size_t)i * RT_CACHE_BLOCK + p]);
        }
    }
#pragma GCC unroll 3
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 8
        for (unsigned v = 0; v < VECTORS; v++)
            vst1q_f32(out + (size_t)i * stride + d + (size_t)v * LANES, sum[i][v]);
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

void rt_mix_f16_neon(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                     float *out, uint32_t stride)
{
    mix(load_f16, values, weights, n_queries, out, stride);
}

void rt_mix_f32_neon(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                     float *out, uint32_t stride)
{
    mix(load_f32, values, weights, n_queries, out, stride);
}
