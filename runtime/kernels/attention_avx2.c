/* Attention over a cache for AVX2: fused multiply-add, one fixed order per result. */
#include "runtime/kernels/versions.h"

#include <immintrin.h>

enum { LANES = 8, STEP = 32, VECTORS = STEP / LANES };

#define INLINE static inline __attribute__((always_inline))

typedef __m256 load_fn(const void *p, size_t i);

INLINE __m256 load_f16(const void *p, size_t i)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)((const uint16_t *)p + i)));
}

INLINE __m256 load_f32(const void *p, size_t i)
{
    return _mm256_loadu_ps((const float *)p + i);
}

INLINE float sum_of_lanes(__m256 v)
{
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

INLINE void score(load_fn *load, const float *q, const void *keys, uint32_t stride, uint32_t n,
                  uint32_t dims, float scale, float *scores)
{
    for (size_t i = 0, key = 0; i < n; i++, key += stride) {
        __m256 sum[VECTORS] = {0};
        for (uint32_t d = 0; d < dims; d += STEP) {
#pragma GCC unroll 4
            for (unsigned v = 0; v < VECTORS; v++)
                sum[v] = _mm256_fmadd_ps(_mm256_loadu_ps(q + d + (size_t)v * LANES),
                                         load(keys, key + d + (size_t)v * LANES), sum[v]);
        }
        scores[i] = scale * sum_of_lanes(_mm256_add_ps(_mm256_add_ps(sum[0], sum[1]),
                                                       _mm256_add_ps(sum[2], sum[3])));
    }
}

void rt_score_f16_avx2(const float *q, const void *keys, uint32_t stride, uint32_t n, uint32_t dims,
                       float scale, float *scores)
{
    score(load_f16, q, keys, stride, n, dims, scale, scores);
}

void rt_score_f32_avx2(const float *q, const void *keys, uint32_t stride, uint32_t n, uint32_t dims,
                       float scale, float *scores)
{
    score(load_f32, q, keys, stride, n, dims, scale, scores);
}

INLINE void mix(load_fn *load, const float *weights, const void *values, uint32_t stride,
                uint32_t n, uint32_t dims, float *out)
{
    for (uint32_t d = 0; d < dims; d += STEP) {
        __m256 sum[VECTORS] = {0};
        for (size_t i = 0, value = d; i < n; i++, value += stride) {
#pragma GCC unroll 4
            for (unsigned v = 0; v < VECTORS; v++)
                sum[v] = _mm256_fmadd_ps(_mm256_broadcast_ss(weights + i),
                                         load(values, value + (size_t)v * LANES), sum[v]);
        }
#pragma GCC unroll 4
        for (unsigned v = 0; v < VECTORS; v++)
            _mm256_storeu_ps(out + d + (size_t)v * LANES, sum[v]);
    }
}

void rt_mix_f16_avx2(const float *weights, const void *values, uint32_t stride, uint32_t n,
                     uint32_t dims, float *out)
{
    mix(load_f16, weights, values, stride, n, dims, out);
}

void rt_mix_f32_avx2(const float *weights, const void *values, uint32_t stride, uint32_t n,
                     uint32_t dims, float *out)
{
    mix(load_f32, weights, values, stride, n, dims, out);
}
