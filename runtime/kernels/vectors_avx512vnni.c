/* Element-wise vectors for AVX-512. Those that gain nothing from wider registers are left to AVX2.
 */
#include "runtime/kernels/versions.h"

#include <immintrin.h>
#include <math.h>

enum { GROUP = PACK_GROUP, LANES = 16 };

/* ---- quantization: the same bits as scalar.c ------------------------------------------------ */

/* A NaN counts as 0. */
static __m512 load_numbers(const float *x)
{
    __m512 raw = _mm512_loadu_ps(x);
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(raw, raw, _CMP_ORD_Q), raw);
}

/* Round to nearest even, then into -limit .. limit. */
static __m512i to_integers(__m512 v, __m512 inverse, int limit)
{
    __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(v, inverse));
    q = _mm512_min_epi32(_mm512_set1_epi32(limit), q);
    return _mm512_max_epi32(_mm512_set1_epi32(-limit), q);
}

/* One group as integers in q[2]; what belongs to it goes to *to. */
static inline __attribute__((always_inline)) void quantize_group(const float *x, int limit,
                                                                 struct rt_group *to, __m512i *q)
{
    __m512 low = load_numbers(x), high = load_numbers(x + LANES);
    float amax = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
    if (amax < RT_AMAX_MIN || isinf(amax)) {
        q[0] = q[1] = _mm512_setzero_si512();
        *to = (struct rt_group){0};
        return;
    }
    __m512 inverse = _mm512_set1_ps((float)limit / amax);
    q[0] = to_integers(low, inverse, limit);
    q[1] = to_integers(high, inverse, limit);
    float scale = amax / (float)limit;
    int32_t sum = _mm512_reduce_add_epi32(_mm512_add_epi32(q[0], q[1]));
    *to = (struct rt_group){scale, scale * (float)sum, sum, -8 * sum};
}

void rt_quantize_a16_avx512vnni(const float *x, uint32_t n_groups, const struct rt_acts *out,
                                size_t group)
{
    int16_t *to = (int16_t *)out->q + group * GROUP;
    for (uint32_t g = 0; g < n_groups; g++, x += GROUP, to += GROUP) {
        __m512i q[2];
        quantize_group(x, RT_Q16, &out->group[group + g], q);
        for (unsigned i = 0; i < 2; i++) {
            enum { ORDER = _MM_SHUFFLE(3, 1, 2, 0) };
            __m256i v = _mm512_cvtsepi32_epi16(q[i]);
            v = _mm256_shufflehi_epi16(_mm256_shufflelo_epi16(v, ORDER), ORDER);
            _mm256_storeu_si256((__m256i *)(to + (size_t)i * LANES), v);
        }
    }
}

void rt_quantize_a8_avx512vnni(const float *x, uint32_t n_groups, const struct rt_acts *out,
                               size_t group)
{
    int8_t *to = (int8_t *)out->q + group * GROUP;
    for (uint32_t g = 0; g < n_groups; g++, x += GROUP, to += GROUP) {
        __m512i q[2];
        quantize_group(x, RT_Q8, &out->group[group + g], q);
        for (unsigned i = 0; i < 2; i++)
            _mm_storeu_si128((__m128i *)(to + (size_t)i * LANES), _mm512_cvtsepi32_epi8(q[i]));
    }
}

/* ---- norms and activations ------------------------------------------------------------------ */

static __m512d low_half(__m512 v)
{
    return _mm512_cvtps_pd(_mm512_castps512_ps256(v));
}

static __m512d high_half(__m512 v)
{
    return _mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1)));
}

void rt_rmsnorm_avx512vnni(const float *x, const float *w, uint32_t n, uint32_t n_true, float eps,
                           float *out)
{
    __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
    for (uint32_t i = 0; i < n; i += LANES) {
        __m512 v = _mm512_loadu_ps(x + i);
        low = _mm512_fmadd_pd(low_half(v), low_half(v), low);
        high = _mm512_fmadd_pd(high_half(v), high_half(v), high);
    }
    double squares = _mm512_reduce_add_pd(_mm512_add_pd(low, high));
    __m512 scale = _mm512_set1_ps((float)(1 / sqrt(squares / n_true + (double)eps)));
    for (uint32_t i = 0; i < n; i += LANES) {
        __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(x + i), scale);
        _mm512_storeu_ps(out + i, _mm512_mul_ps(scaled, _mm512_loadu_ps(w + i)));
    }
}

/* exp(x) as vectors_avx2.c has it, but for the power of two: what is too large overflows there. */
static __m512 exponential(__m512 x)
{
    static const float factorial[] = {1 / 5040.F, 1 / 720.F, 1 / 120.F, 1 / 24.F,
                                      1 / 6.F,    1 / 2.F,   1.F,       1.F};
    const __m512 least = _mm512_set1_ps(-87.3F), most = _mm512_set1_ps(89);
    __m512 inside = _mm512_min_ps(most, x); /* this order passes a NaN on */
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(inside, _mm512_set1_ps(0x1.715476p+0F)),
                                    _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.62e4p-1F), inside);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0x1.7f7d1cp-20F), r);
    __m512 value = _mm512_set1_ps(factorial[0]);
#pragma GCC unroll 8
    for (unsigned i = 1; i < sizeof factorial / sizeof factorial[0]; i++)
        value = _mm512_fmadd_ps(value, r, _mm512_set1_ps(factorial[i]));
    return _mm512_maskz_scalef_ps(_mm512_cmp_ps_mask(x, least, _CMP_NLT_UQ), value, n);
}

void rt_swiglu_avx512vnni(float *g, const float *u, uint32_t n)
{
    const __m512 one = _mm512_set1_ps(1);
    for (uint32_t i = 0; i < n; i += LANES) {
        __m512 v = _mm512_loadu_ps(g + i);
        __m512 negated = _mm512_sub_ps(_mm512_setzero_ps(), v);
        __m512 silu = _mm512_div_ps(v, _mm512_add_ps(one, exponential(negated)));
        _mm512_storeu_ps(g + i, _mm512_mul_ps(silu, _mm512_loadu_ps(u + i)));
    }
}

/* The lanes below n. */
static __mmask16 first_lanes(uint32_t n)
{
    return n < LANES ? (__mmask16)((1U << n) - 1) : 0xffff;
}

/* Lanes at n and beyond read as -infinity, which exp takes to 0. */
static __m512 load_scores(const float *x, uint32_t n)
{
    return _mm512_mask_loadu_ps(_mm512_set1_ps(-INFINITY), first_lanes(n), x);
}

/* In place: exp(x - max); returns their sum. Lanes are summed over a few vectors only, so that
 * little is lost to rounding. */
static double exponentials(float *x, uint32_t n, float *max)
{
    enum { STRETCH = 8 * LANES };
    __m512 largest = _mm512_set1_ps(-INFINITY);
    double total = 0;
    for (uint32_t i = 0; i < n; i += LANES)
        largest = _mm512_max_ps(largest, load_scores(x + i, n - i));
    *max = _mm512_reduce_max_ps(largest);
    for (uint32_t from = 0; from < n; from += STRETCH) {
        __m512 sum = _mm512_setzero_ps();
        for (uint32_t i = from; i < n && i < from + STRETCH; i += LANES) {
            __m512 e = exponential(_mm512_sub_ps(load_scores(x + i, n - i), _mm512_set1_ps(*max)));
            sum = _mm512_add_ps(sum, e);
            _mm512_mask_storeu_ps(x + i, first_lanes(n - i), e);
        }
        total += (double)_mm512_reduce_add_ps(sum);
    }
    return total;
}

float rt_softmax_part_avx512vnni(float *x, uint32_t n, float *max)
{
    return (float)exponentials(x, n, max);
}

void rt_softmax_avx512vnni(float *x, uint32_t n)
{
    float max, inverse = (float)(1 / exponentials(x, n, &max));
    for (uint32_t i = 0; i < n; i += LANES)
        _mm512_mask_storeu_ps(x + i, first_lanes(n - i),
                              _mm512_mul_ps(load_scores(x + i, n - i), _mm512_set1_ps(inverse)));
}
