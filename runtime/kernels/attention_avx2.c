/* Attention over a cache for AVX2: what its registers do in attention_loops.inc. */
#include "runtime/kernels/versions.h"

#include <immintrin.h>

typedef __m256 vector;
enum {
    LANES = 8,
    QUERIES = 3,
    STRIP = 4,
    LOADED = 1,
    AHEAD = 8 * 1024, /* bytes to prefetch ahead: the hardware prefetcher stops at pages */
};

#define INLINE static inline __attribute__((always_inline))

INLINE __m256 zero(void)
{
    return _mm256_setzero_ps();
}

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

/* Values i .. i + 7. */
INLINE __m256 load(enum rt_cache_type type, const uint8_t *at, size_t i, __m256 scale)
{
    const void *from = at + i * rt_cache_element(type);
    _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0);
    if (type == RT_CACHE_F32)
        return _mm256_loadu_ps(from);
    if (type == RT_CACHE_F16)
        return _mm256_cvtph_ps(_mm_loadu_si128(from));
    __m256i codes = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from));
    return _mm256_mul_ps(scale, _mm256_cvtepi32_ps(codes));
}

INLINE __m256 add_product(__m256 sum, const float *x, __m256 v)
{
    return _mm256_fmadd_ps(_mm256_broadcast_ss(x), v, sum);
}

INLINE void store(float *to, __m256 v)
{
    _mm256_storeu_ps(to, v);
}

#include "runtime/kernels/attention_loops.inc"

ATTENTION(avx2)
