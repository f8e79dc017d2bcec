/* Attention over a cache for AVX-512: what its registers do in attention_loops.inc. */
#include "runtime/kernels/versions.h"

#include <immintrin.h>
#include <string.h>

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

/* Values i .. i + 15. */
INLINE __m512 load(enum rt_cache_type type, const uint8_t *at, size_t i)
{
    const void *from = at + i * rt_cache_bits(type) / 8;
    _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0);
    if (type == RT_CACHE_F32)
        return _mm512_loadu_ps(from);
    return _mm512_cvtph_ps(_mm256_loadu_si256(from));
}

INLINE __m512 add_product(__m512 sum, const float *x, __m512 v)
{
    return _mm512_fmadd_ps(_mm512_set1_ps(*x), v, sum);
}

INLINE void store(float *to, __m512 v)
{
    _mm512_storeu_ps(to, v);
}

/* ---- codes ----------------------------------------------------------------------------------- */

/* Integers as what they are, 16 of 32 bits: GCC copies registers where it sees __m512i change its
 * type on the way through an instruction. */
typedef int32_t ints __attribute__((vector_size(64)));
typedef __m512i pairs;

INLINE __m512 load_floats(const float *x)
{
    return _mm512_loadu_ps(x);
}

INLINE __m512 load_scales(const uint8_t *bf16)
{
    __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)bf16));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

INLINE __m512 multiply(__m512 a, __m512 b)
{
    return _mm512_mul_ps(a, b);
}

INLINE __m512 spread(float x)
{
    return _mm512_set1_ps(x);
}

INLINE __m512 larger(__m512 most, __m512 x)
{
    return _mm512_max_ps(most, _mm512_abs_ps(x));
}

INLINE float largest(__m512 most)
{
    return _mm512_reduce_max_ps(most);
}

/* Packing works within 128-bit lanes; the permutation puts the numbers back in order. */
INLINE void store_rounded(int16_t *to, __m512 a, __m512 b)
{
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    __m512i both = _mm512_packs_epi32(_mm512_cvtps_epi32(a), _mm512_cvtps_epi32(b));
    _mm512_storeu_si512(to, _mm512_permutexvar_epi64(order, both));
}

INLINE __m512i load_pairs(const uint8_t *codes)
{
    _mm_prefetch((const char *)codes + AHEAD, _MM_HINT_T0);
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)codes));
}

INLINE __m512i load_halves(const uint8_t *codes, bool high)
{
    if (!high)
        _mm_prefetch((const char *)codes + AHEAD, _MM_HINT_T0);
    __m512i both = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)codes));
    return high ? _mm512_srai_epi16(both, 4) : _mm512_srai_epi16(_mm512_slli_epi16(both, 12), 12);
}

INLINE ints add_pairs(ints dot, __m512i codes, const int16_t *x)
{
    int32_t both;
    memcpy(&both, x, sizeof both);
    return (ints)_mm512_dpwssd_epi32((__m512i)dot, codes, _mm512_set1_epi32(both));
}

INLINE __m512 add_scaled(__m512 sum, ints dot, __m512 scale)
{
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps((__m512i)dot), scale, sum);
}

#include "runtime/kernels/attention_loops.inc"

ATTENTION(avx512vnni)
