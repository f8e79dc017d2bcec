/* Attention over a cache for AVX-512: what its registers do in attention_loops.inc. */
#include "runtime/kernels/versions.h"

#include <immintrin.h>

typedef __m512 vector;
enum {
    LANES = 16,
    QUERIES = 6,
    STRIP = 4,
    LOADED = 4,
    AHEAD = 8 * 1024, /* bytes to prefetch ahead: the hardware prefetcher stops at pages */
};

#define INLINE static inline __attribute__((always_inline))

INLINE __m512 zero(void)
{
    return _mm512_setzero_ps();
}

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

/* Values i .. i + 15. */
INLINE __m512 load(enum rt_cache_type type, const uint8_t *at, size_t i, __m512 scale)
{
    const void *from = at + i * rt_cache_element(type);
    _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0);
    if (type == RT_CACHE_F32)
        return _mm512_loadu_ps(from);
    if (type == RT_CACHE_F16)
        return _mm512_cvtph_ps(_mm256_loadu_si256(from));
    __m512i codes = _mm512_cvtepi8_epi32(_mm_loadu_si128(from));
    return _mm512_mul_ps(scale, _mm512_cvtepi32_ps(codes));
}

INLINE __m512 add_product(__m512 sum, const float *x, __m512 v)
{
    return _mm512_fmadd_ps(_mm512_set1_ps(*x), v, sum);
}

INLINE void store(float *to, __m512 v)
{
    _mm512_storeu_ps(to, v);
}

#include "runtime/kernels/attention_loops.inc"

ATTENTION(avx512vnni)
