/* Quantization and element-wise vectors for AVX2. */
#include "runtime/kernels/versions.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

enum { GROUP = PACK_GROUP, LANES = 8, GROUP_VECTORS = GROUP / LANES };

/* ---- quantization: the same bits as scalar.c ------------------------------------------------ */

static __m256 magnitude(__m256 v)
{
    return _mm256_andnot_ps(_mm256_set1_ps(-0.0F), v);
}

static float max_of_lanes(__m256 v)
{
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

static int32_t sum_of_lanes(__m256i v)
{
    __m128i four = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
    return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}

/* One group in v[4]; returns its largest magnitude. */
static inline float load_group(const float *x, __m256 *v)
{
    __m256 largest = _mm256_setzero_ps();
#pragma GCC unroll 4
    for (unsigned i = 0; i < GROUP_VECTORS; i++) {
        __m256 raw = _mm256_loadu_ps(x + (size_t)i * LANES);
        v[i] = _mm256_and_ps(raw, _mm256_cmp_ps(raw, raw, _CMP_ORD_Q)); /* a NaN counts as 0 */
        largest = _mm256_max_ps(largest, magnitude(v[i]));
    }
    return max_of_lanes(largest);
}

/* As integers in q[4]; an inverse of 0 makes all of them 0. */
static inline void round_group(const __m256 *v, float inverse, int limit, __m256i *q)
{
    __m256i most = _mm256_set1_epi32(limit), least = _mm256_set1_epi32(-limit);
#pragma GCC unroll 4
    for (unsigned i = 0; i < GROUP_VECTORS; i++) {
        q[i] = inverse == 0 ? _mm256_setzero_si256()
                            : _mm256_cvtps_epi32(_mm256_mul_ps(v[i], _mm256_set1_ps(inverse)));
        q[i] = _mm256_max_epi32(least, _mm256_min_epi32(most, q[i]));
    }
}

/* One group as integers in q[4]; returns the scale. */
static float quantize_group(const float *x, int limit, __m256i *q, int32_t *sum)
{
    __m256 v[GROUP_VECTORS];
    __m256i total = _mm256_setzero_si256();
    float amax = load_group(x, v);
    bool zero = amax < RT_AMAX_MIN || isinf(amax);
    round_group(v, zero ? 0 : (float)limit / amax, limit, q);
#pragma GCC unroll 4
    for (unsigned i = 0; i < GROUP_VECTORS; i++)
        total = _mm256_add_epi32(total, q[i]);
    *sum = sum_of_lanes(total);
    return zero ? 0 : amax / (float)limit;
}

static void quantize_into(const float *x, int limit, const struct rt_acts *out, size_t group,
                          __m256i *q)
{
    int32_t sum;
    float scale = quantize_group(x, limit, q, &sum);
    out->group[group] = (struct rt_group){scale, scale * (float)sum, sum, -8 * sum};
}

/* Packing works within 128-bit lanes; the permutation puts the columns back in order. */
void rt_quantize_a16_avx2(const float *x, uint32_t n_groups, const struct rt_acts *out,
                          size_t group)
{
    int16_t *to = (int16_t *)out->q + group * GROUP;
    for (uint32_t g = 0; g < n_groups; g++, x += GROUP, to += GROUP) {
        __m256i v[GROUP_VECTORS];
        quantize_into(x, RT_Q16, out, group + g, v);
        for (unsigned i = 0; i < GROUP_VECTORS; i++)
            v[i] = _mm256_shuffle_epi32(v[i], _MM_SHUFFLE(3, 1, 2, 0));
        for (unsigned i = 0; i < 2; i++) {
            __m256i packed = _mm256_packs_epi32(v[2 * i], v[2 * i + 1]);
            packed = _mm256_permute4x64_epi64(packed, _MM_SHUFFLE(3, 1, 2, 0));
            _mm256_storeu_si256((__m256i *)(to + (size_t)i * GROUP / 2), packed);
        }
    }
}

/* 32 integers of 8 bits in order. */
static __m256i pack_bytes(const __m256i *v)
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i packed =
        _mm256_packs_epi16(_mm256_packs_epi32(v[0], v[1]), _mm256_packs_epi32(v[2], v[3]));
    return _mm256_permutevar8x32_epi32(packed, order);
}

void rt_quantize_a8_avx2(const float *x, uint32_t n_groups, const struct rt_acts *out, size_t group)
{
    int8_t *to = (int8_t *)out->q + group * GROUP;
    for (uint32_t g = 0; g < n_groups; g++, x += GROUP, to += GROUP) {
        __m256i v[GROUP_VECTORS];
        quantize_into(x, RT_Q8, out, group + g, v);
        _mm256_storeu_si256((__m256i *)to, pack_bytes(v));
    }
}

void rt_to_f16_avx2(const float *x, uint32_t n, uint16_t *out)
{
    for (uint32_t i = 0; i < n; i += LANES)
        _mm_storeu_si128((__m128i *)(out + i),
                         _mm256_cvtps_ph(_mm256_loadu_ps(x + i), _MM_FROUND_TO_NEAREST_INT));
}

void rt_to_q8_avx2(const float *x, uint32_t n, uint8_t *out)
{
    for (uint32_t i = 0; i < n; i += GROUP, out += rt_cache_group(RT_CACHE_Q8)) {
        __m256 v[GROUP_VECTORS];
        __m256i q[GROUP_VECTORS];
        uint16_t scale = rt_q8_scale(load_group(x + i, v));
        round_group(v, rt_cache_inverse(scale), RT_Q8, q);
        memcpy(out, &scale, sizeof scale);
        _mm256_storeu_si256((__m256i *)(void *)(out + sizeof scale), pack_bytes(q));
    }
}

/* Whether a lane of the group is x. */
static bool has_value(const __m256 *v, float x)
{
    __m256 equal = _mm256_setzero_ps();
    for (unsigned i = 0; i < GROUP_VECTORS; i++)
        equal = _mm256_or_ps(equal, _mm256_cmp_ps(v[i], _mm256_set1_ps(x), _CMP_EQ_OQ));
    return _mm256_movemask_ps(equal) != 0;
}

void rt_to_q4_avx2(const float *x, uint32_t n, uint8_t *out)
{
    for (uint32_t i = 0; i < n; i += GROUP, out += rt_cache_group(RT_CACHE_Q4)) {
        __m256 v[GROUP_VECTORS];
        __m256i q[GROUP_VECTORS];
        float amax = load_group(x + i, v);
        uint16_t scale = rt_q4_scale(has_value(v, -amax) ? -amax : amax);
        round_group(v, rt_cache_inverse(scale), 8, q);
        __m256i codes = _mm256_min_epi8(pack_bytes(q), _mm256_set1_epi8(7));
        __m256i low = _mm256_and_si256(codes, _mm256_set1_epi8(15));
        __m256i high = _mm256_slli_epi16(_mm256_andnot_si256(_mm256_set1_epi8(-16), codes), 4);
        __m128i both = _mm_or_si128(_mm256_castsi256_si128(low), _mm256_extracti128_si256(high, 1));
        memcpy(out, &scale, sizeof scale);
        _mm_storeu_si128((__m128i *)(void *)(out + sizeof scale), both);
    }
}

/* Cosines and sines of two pairs: gathers are slower, in microcode on many CPUs. */
static __m128 two_turns(const float *turn, const uint16_t *pairs)
{
    const __m64 *t = (const __m64 *)(const void *)turn;
    return _mm_loadh_pi(_mm_loadl_pi(_mm_setzero_ps(), t + pairs[0]), t + pairs[1]);
}

/* Four pairs at a time. */
void rt_rotate_avx2(const float *turn, float *head, uint32_t dims, const uint16_t *pairs)
{
    for (uint32_t d = 0; d < dims; d += LANES, pairs += LANES / 2) {
        __m256 t = _mm256_set_m128(two_turns(turn, pairs + 2), two_turns(turn, pairs));
        __m256 x = _mm256_loadu_ps(head + d);
        __m256 a = _mm256_mul_ps(x, _mm256_moveldup_ps(t));
        __m256 b =
            _mm256_mul_ps(_mm256_permute_ps(x, _MM_SHUFFLE(2, 3, 0, 1)), _mm256_movehdup_ps(t));
        _mm256_storeu_ps(head + d, _mm256_addsub_ps(a, b));
    }
}

/* ---- norms and activations ------------------------------------------------------------------ */

static double sum_of_doubles(__m256d v)
{
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(v), _mm256_extractf128_pd(v, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}

static __m256d low_half(__m256 v)
{
    return _mm256_cvtps_pd(_mm256_castps256_ps128(v));
}

static __m256d high_half(__m256 v)
{
    return _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));
}

void rt_rmsnorm_avx2(const float *x, const float *w, uint32_t n, uint32_t n_true, float eps,
                     float *out)
{
    __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
    for (uint32_t i = 0; i < n; i += LANES) {
        __m256 v = _mm256_loadu_ps(x + i);
        low = _mm256_fmadd_pd(low_half(v), low_half(v), low);
        high = _mm256_fmadd_pd(high_half(v), high_half(v), high);
    }
    double squares = sum_of_doubles(_mm256_add_pd(low, high));
    __m256 scale = _mm256_set1_ps((float)(1 / sqrt(squares / n_true + (double)eps)));
    for (uint32_t i = 0; i < n; i += LANES) {
        __m256 scaled = _mm256_mul_ps(_mm256_loadu_ps(x + i), scale);
        _mm256_storeu_ps(out + i, _mm256_mul_ps(scaled, _mm256_loadu_ps(w + i)));
    }
}

/* exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2) / 2, ln 2 in two parts so that n times the
 * first is exact (Cody and Waite, Software Manual for the Elementary Functions, 1980, chapter 6).
 * exp(r) is its Taylor polynomial of degree 7: remainder at most 0.3466^8 / 8! * sqrt 2 < 8e-9;
 * with the rounding of Horner's scheme the result is within 2 ulp for -87.3 <= x <= 88.3. Below, 0;
 * above, infinity; NaN stays. */
static __m256 exponential(__m256 x)
{
    static const float factorial[] = {1 / 5040.F, 1 / 720.F, 1 / 120.F, 1 / 24.F,
                                      1 / 6.F,    1 / 2.F,   1.F,       1.F};
    const __m256 least = _mm256_set1_ps(-87.3F), most = _mm256_set1_ps(88.3F);
    __m256 inside = _mm256_max_ps(least, _mm256_min_ps(most, x)); /* this order passes a NaN on */
    __m256 n = _mm256_round_ps(_mm256_mul_ps(inside, _mm256_set1_ps(0x1.715476p+0F)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.62e4p-1F), inside);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0x1.7f7d1cp-20F), r);
    __m256 value = _mm256_set1_ps(factorial[0]);
#pragma GCC unroll 8
    for (unsigned i = 1; i < sizeof factorial / sizeof factorial[0]; i++)
        value = _mm256_fmadd_ps(value, r, _mm256_set1_ps(factorial[i]));
    __m256i bits = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    value = _mm256_mul_ps(value, _mm256_castsi256_ps(_mm256_slli_epi32(bits, 23)));
    value = _mm256_blendv_ps(value, _mm256_set1_ps(INFINITY), _mm256_cmp_ps(x, most, _CMP_GT_OQ));
    return _mm256_andnot_ps(_mm256_cmp_ps(x, least, _CMP_LT_OQ), value);
}

void rt_swiglu_avx2(float *g, const float *u, uint32_t n)
{
    const __m256 one = _mm256_set1_ps(1);
    for (uint32_t i = 0; i < n; i += LANES) {
        __m256 v = _mm256_loadu_ps(g + i);
        __m256 negated = _mm256_xor_ps(v, _mm256_set1_ps(-0.0F));
        __m256 silu = _mm256_div_ps(v, _mm256_add_ps(one, exponential(negated)));
        _mm256_storeu_ps(g + i, _mm256_mul_ps(silu, _mm256_loadu_ps(u + i)));
    }
}

/* All ones in the lanes below n. */
static __m256i first_lanes(uint32_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Lanes at n and beyond read as -infinity, which exp takes to 0. */
static __m256 load_scores(const float *x, uint32_t n)
{
    if (n >= LANES)
        return _mm256_loadu_ps(x);
    __m256i mask = first_lanes(n);
    return _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), _mm256_maskload_ps(x, mask),
                            _mm256_castsi256_ps(mask));
}

static void store_scores(float *x, uint32_t n, __m256 v)
{
    if (n >= LANES)
        _mm256_storeu_ps(x, v);
    else
        _mm256_maskstore_ps(x, first_lanes(n), v);
}

/* In place: exp(x - max); returns their sum. */
static double exponentials(float *x, uint32_t n, float *max)
{
    __m256 largest = _mm256_set1_ps(-INFINITY);
    for (uint32_t i = 0; i < n; i += LANES)
        largest = _mm256_max_ps(largest, load_scores(x + i, n - i));
    *max = max_of_lanes(largest);
    __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
    for (uint32_t i = 0; i < n; i += LANES) {
        __m256 e = exponential(_mm256_sub_ps(load_scores(x + i, n - i), _mm256_set1_ps(*max)));
        low = _mm256_add_pd(low, low_half(e));
        high = _mm256_add_pd(high, high_half(e));
        store_scores(x + i, n - i, e);
    }
    return sum_of_doubles(_mm256_add_pd(low, high));
}

float rt_softmax_part_avx2(float *x, uint32_t n, float *max)
{
    return (float)exponentials(x, n, max);
}

void rt_softmax_avx2(float *x, uint32_t n)
{
    float max, inverse = (float)(1 / exponentials(x, n, &max));
    for (uint32_t i = 0; i < n; i += LANES)
        store_scores(x + i, n - i,
                     _mm256_mul_ps(load_scores(x + i, n - i), _mm256_set1_ps(inverse)));
}
