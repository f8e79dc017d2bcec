/* Attention over a cache for AVX2: what its registers do in attention_loops.inc. */
#include "runtime/kernels/versions.h"

#include <immintrin.h>
#include <string.h>

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

/* Values i .. i + 7. */
INLINE __m256 load(enum rt_cache_type type, const uint8_t *at, size_t i)
{
    const void *from = at + i * rt_cache_bits(type) / 8;
    _mm_prefetch((const char *)from + AHEAD, _MM_HINT_T0);
    if (type == RT_CACHE_F32)
        return _mm256_loadu_ps(from);
    return _mm256_cvtph_ps(_mm_loadu_si128(from));
}

INLINE __m256 add_product(__m256 sum, const float *x, __m256 v)
{
    return _mm256_fmadd_ps(_mm256_broadcast_ss(x), v, sum);
}

INLINE void store(float *to, __m256 v)
{
    _mm256_storeu_ps(to, v);
}

/* ---- codes ----------------------------------------------------------------------------------- */

typedef __m256i ints, pairs;

INLINE __m256 load_floats(const float *x)
{
    return _mm256_loadu_ps(x);
}

INLINE __m256 load_scales(const uint8_t *bf16)
{
    __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)bf16));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

INLINE __m256 multiply(__m256 a, __m256 b)
{
    return _mm256_mul_ps(a, b);
}

INLINE __m256 spread(float x)
{
    return _mm256_set1_ps(x);
}

INLINE __m256 larger(__m256 most, __m256 x)
{
    return _mm256_max_ps(most, _mm256_andnot_ps(_mm256_set1_ps(-0.0F), x));
}

INLINE float largest(__m256 most)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(most), _mm256_extractf128_ps(most, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

/* Packing works within 128-bit lanes; the permutation puts the numbers back in order. */
INLINE void store_rounded(int16_t *to, __m256 a, __m256 b)
{
    __m256i both = _mm256_packs_epi32(_mm256_cvtps_epi32(a), _mm256_cvtps_epi32(b));
    _mm256_storeu_si256((__m256i *)to, _mm256_permute4x64_epi64(both, _MM_SHUFFLE(3, 1, 2, 0)));
}

INLINE __m256i load_pairs(const uint8_t *codes)
{
    _mm_prefetch((const char *)codes + AHEAD, _MM_HINT_T0);
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)codes));
}

INLINE __m256i load_halves(const uint8_t *codes, bool high)
{
    if (!high)
        _mm_prefetch((const char *)codes + AHEAD, _MM_HINT_T0);
    __m256i both = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)codes));
    return high ? _mm256_srai_epi16(both, 4) : _mm256_srai_epi16(_mm256_slli_epi16(both, 12), 12);
}

INLINE __m256i add_pairs(__m256i dot, __m256i codes, const int16_t *x)
{
    int32_t both;
    memcpy(&both, x, sizeof both);
    return _mm256_add_epi32(dot, _mm256_madd_epi16(codes, _mm256_set1_epi32(both)));
}

INLINE __m256 add_scaled(__m256 sum, __m256i dot, __m256 scale)
{
    return _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scale, sum);
}

#include "runtime/kernels/attention_loops.inc"

ATTENTION(avx2)
