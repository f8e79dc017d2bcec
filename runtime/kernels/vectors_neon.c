/* Quantization and element-wise vectors for NEON. */
#include "runtime/kernels/versions.h"

#include <arm_neon.h>
#include <math.h>
#include <string.h>

enum { GROUP = PACK_GROUP, LANES = 4, GROUP_VECTORS = GROUP / LANES };

/* ---- quantization: the same bits as scalar.c ------------------------------------------------ */

/* One group in v[8]; returns its largest magnitude. */
static float load_group(const float *x, float32x4_t *v)
{
    float32x4_t largest = vdupq_n_f32(0);
    for (unsigned i = 0; i < GROUP_VECTORS; i++) {
        float32x4_t raw = vld1q_f32(x + (size_t)i * LANES);
        uint32x4_t is_number = vceqq_f32(raw, raw); /* a NaN counts as 0 */
        v[i] = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(raw), is_number));
        largest = vmaxq_f32(largest, vabsq_f32(v[i]));
    }
    return vmaxvq_f32(largest);
}

/* As integers in q[8]; an inverse of 0 makes all of them 0. */
static void round_group(const float32x4_t *v, float inverse, int limit, int32x4_t *q)
{
    for (unsigned i = 0; i < GROUP_VECTORS; i++) {
        q[i] = vcvtnq_s32_f32(vmulq_n_f32(v[i], inverse)); /* infinity times 0 converts to 0 */
        q[i] = vmaxq_s32(vdupq_n_s32(-limit), vminq_s32(vdupq_n_s32(limit), q[i]));
    }
}

/* One group as integers in q[8]; returns the scale. */
static float quantize_group(const float *x, int limit, int32x4_t *q, int32_t *sum)
{
    float32x4_t v[GROUP_VECTORS];
    int32x4_t total = vdupq_n_s32(0);
    float amax = load_group(x, v);
    bool zero = amax < RT_AMAX_MIN || isinf(amax);
    round_group(v, zero ? 0 : (float)limit / amax, limit, q);
    for (unsigned i = 0; i < GROUP_VECTORS; i++)
        total = vaddq_s32(total, q[i]);
    *sum = vaddvq_s32(total);
    return zero ? 0 : amax / (float)limit;
}

static void quantize_into(const float *x, int limit, const struct rt_acts *out, size_t group,
                          int32x4_t *q)
{
    int32_t sum;
    float scale = quantize_group(x, limit, q, &sum);
    out->group[group] = (struct rt_group){scale, scale * (float)sum, sum, -8 * sum};
}

/* 0 2 1 3 of each four: the even and the odd ones of two vectors, interleaved by two. */
void rt_quantize_a16_neon(const float *x, uint32_t n_groups, const struct rt_acts *out,
                          size_t group)
{
    int16_t *to = (int16_t *)out->q + group * GROUP;
    for (uint32_t g = 0; g < n_groups; g++, x += GROUP, to += GROUP) {
        int32x4_t v[GROUP_VECTORS];
        quantize_into(x, RT_Q16, out, group + g, v);
        for (unsigned i = 0; i < GROUP_VECTORS; i += 2) {
            int64x2_t even = vreinterpretq_s64_s32(vuzp1q_s32(v[i], v[i + 1]));
            int64x2_t odd = vreinterpretq_s64_s32(vuzp2q_s32(v[i], v[i + 1]));
            int16x4_t first = vmovn_s32(vreinterpretq_s32_s64(vzip1q_s64(even, odd)));
            int16x4_t second = vmovn_s32(vreinterpretq_s32_s64(vzip2q_s64(even, odd)));
            vst1q_s16(to + (size_t)i * LANES, vcombine_s16(first, second));
        }
    }
}

static void store_bytes(int8_t *to, const int32x4_t *v)
{
    for (unsigned i = 0; i < GROUP_VECTORS; i += 2)
        vst1_s8(to + (size_t)i * LANES,
                vmovn_s16(vcombine_s16(vmovn_s32(v[i]), vmovn_s32(v[i + 1]))));
}

void rt_quantize_a8_neon(const float *x, uint32_t n_groups, const struct rt_acts *out, size_t group)
{
    int8_t *to = (int8_t *)out->q + group * GROUP;
    for (uint32_t g = 0; g < n_groups; g++, x += GROUP, to += GROUP) {
        int32x4_t v[GROUP_VECTORS];
        quantize_into(x, RT_Q8, out, group + g, v);
        store_bytes(to, v);
    }
}

void rt_to_f16_neon(const float *x, uint32_t n, uint16_t *out)
{
    for (uint32_t i = 0; i < n; i += LANES)
        vst1_u16(out + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x + i))));
}

void rt_to_q8_neon(const float *x, uint32_t n, uint8_t *out)
{
    for (uint32_t i = 0; i < n; i += GROUP, out += rt_cache_group(RT_CACHE_Q8)) {
        float32x4_t v[GROUP_VECTORS];
        int32x4_t q[GROUP_VECTORS];
        uint16_t scale = rt_q8_scale(load_group(x + i, v));
        round_group(v, rt_cache_inverse(scale), RT_Q8, q);
        memcpy(out, &scale, sizeof scale);
        store_bytes((int8_t *)out + sizeof scale, q);
    }
}

/* Whether a lane of the group is x. */
static bool has_value(const float32x4_t *v, float x)
{
    uint32x4_t equal = vdupq_n_u32(0);
    for (unsigned i = 0; i < GROUP_VECTORS; i++)
        equal = vorrq_u32(equal, vceqq_f32(v[i], vdupq_n_f32(x)));
    return vmaxvq_u32(equal) != 0;
}

void rt_to_q4_neon(const float *x, uint32_t n, uint8_t *out)
{
    for (uint32_t i = 0; i < n; i += GROUP, out += rt_cache_group(RT_CACHE_Q4)) {
        float32x4_t v[GROUP_VECTORS];
        int32x4_t q[GROUP_VECTORS];
        int8_t codes[GROUP];
        float amax = load_group(x + i, v);
        uint16_t scale = rt_q4_scale(has_value(v, -amax) ? -amax : amax);
        round_group(v, rt_cache_inverse(scale), 8, q);
        store_bytes(codes, q);
        uint8x16_t low = vreinterpretq_u8_s8(vminq_s8(vld1q_s8(codes), vdupq_n_s8(7)));
        uint8x16_t high = vreinterpretq_u8_s8(vminq_s8(vld1q_s8(codes + GROUP / 2), vdupq_n_s8(7)));
        memcpy(out, &scale, sizeof scale);
        vst1q_u8(out + sizeof scale, vsliq_n_u8(low, high, 4));
    }
}

/* Cosines and sines of two pairs. */
static float32x4_t two_turns(const float *turn, const uint16_t *pairs)
{
    return vcombine_f32(vld1_f32(turn + 2 * (size_t)pairs[0]),
                        vld1_f32(turn + 2 * (size_t)pairs[1]));
}

/* Four pairs at a time. */
void rt_rotate_neon(const float *turn, float *head, uint32_t dims, const uint16_t *pairs)
{
    for (uint32_t d = 0; d < dims; d += 2 * LANES, pairs += LANES) {
        float32x4_t first = two_turns(turn, pairs), second = two_turns(turn, pairs + 2);
        float32x4_t c = vuzp1q_f32(first, second), s = vuzp2q_f32(first, second);
        float32x4x2_t x = vld2q_f32(head + d), y;
        y.val[0] = vsubq_f32(vmulq_f32(x.val[0], c), vmulq_f32(x.val[1], s));
        y.val[1] = vaddq_f32(vmulq_f32(x.val[0], s), vmulq_f32(x.val[1], c));
        vst2q_f32(head + d, y);
    }
}

/* ---- norms and activations ------------------------------------------------------------------ */

static float64x2_t low_half(float32x4_t v)
{
    return vcvt_f64_f32(vget_low_f32(v));
}

void rt_rmsnorm_neon(const float *x, const float *w, uint32_t n, uint32_t n_true, float eps,
                     float *out)
{
    float64x2_t low = vdupq_n_f64(0), high = low;
    for (uint32_t i = 0; i < n; i += LANES) {
        float32x4_t v = vld1q_f32(x + i);
        low = vfmaq_f64(low, low_half(v), low_half(v));
        high = vfmaq_f64(high, vcvt_high_f64_f32(v), vcvt_high_f64_f32(v));
    }
    double squares = vaddvq_f64(vaddq_f64(low, high));
    float scale = (float)(1 / sqrt(squares / n_true + (double)eps));
    for (uint32_t i = 0; i < n; i += LANES)
        vst1q_f32(out + i, vmulq_f32(vmulq_n_f32(vld1q_f32(x + i), scale), vld1q_f32(w + i)));
}

/* exp(x) as vectors_avx2.c has it. */
static float32x4_t exponential(float32x4_t x)
{
    static const float factorial[] = {1 / 5040.F, 1 / 720.F, 1 / 120.F, 1 / 24.F,
                                      1 / 6.F,    1 / 2.F,   1.F,       1.F};
    const float32x4_t least = vdupq_n_f32(-87.3F), most = vdupq_n_f32(88.3F);
    float32x4_t inside = vmaxq_f32(least, vminq_f32(most, x)); /* both pass a NaN on */
    float32x4_t n = vrndnq_f32(vmulq_n_f32(inside, 0x1.715476p+0F));
    float32x4_t r = vfmsq_f32(inside, n, vdupq_n_f32(0x1.62e4p-1F));
    r = vfmsq_f32(r, n, vdupq_n_f32(0x1.7f7d1cp-20F));
    float32x4_t value = vdupq_n_f32(factorial[0]);
    for (unsigned i = 1; i < sizeof factorial / sizeof factorial[0]; i++)
        value = vfmaq_f32(vdupq_n_f32(factorial[i]), value, r);
    int32x4_t bits = vaddq_s32(vcvtq_s32_f32(n), vdupq_n_s32(127));
    value = vmulq_f32(value, vreinterpretq_f32_s32(vshlq_n_s32(bits, 23)));
    value = vbslq_f32(vcgtq_f32(x, most), vdupq_n_f32(INFINITY), value);
    return vbslq_f32(vcltq_f32(x, least), vdupq_n_f32(0), value);
}

void rt_swiglu_neon(float *g, const float *u, uint32_t n)
{
    const float32x4_t one = vdupq_n_f32(1);
    for (uint32_t i = 0; i < n; i += LANES) {
        float32x4_t v = vld1q_f32(g + i);
        float32x4_t silu = vdivq_f32(v, vaddq_f32(one, exponential(vnegq_f32(v))));
        vst1q_f32(g + i, vmulq_f32(silu, vld1q_f32(u + i)));
    }
}

/* Lanes at n and beyond read as -infinity, which exp takes to 0. */
static float32x4_t load_scores(const float *x, uint32_t n)
{
    float lanes[LANES] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
    if (n >= LANES)
        return vld1q_f32(x);
    memcpy(lanes, x, n * sizeof *x);
    return vld1q_f32(lanes);
}

static void store_scores(float *x, uint32_t n, float32x4_t v)
{
    float lanes[LANES];
    if (n >= LANES) {
        vst1q_f32(x, v);
    } else {
        vst1q_f32(lanes, v);
        memcpy(x, lanes, n * sizeof *x);
    }
}

/* In place: exp(x - max); returns their sum. */
static double exponentials(float *x, uint32_t n, float *max)
{
    float32x4_t largest = vdupq_n_f32(-INFINITY);
    for (uint32_t i = 0; i < n; i += LANES)
        largest = vmaxq_f32(largest, load_scores(x + i, n - i));
    *max = vmaxvq_f32(largest);
    float64x2_t low = vdupq_n_f64(0), high = low;
    for (uint32_t i = 0; i < n; i += LANES) {
        float32x4_t e = exponential(vsubq_f32(load_scores(x + i, n - i), vdupq_n_f32(*max)));
        low = vaddq_f64(low, low_half(e));
        high = vaddq_f64(high, vcvt_high_f64_f32(e));
        store_scores(x + i, n - i, e);
    }
    return vaddvq_f64(vaddq_f64(low, high));
}

float rt_softmax_part_neon(float *x, uint32_t n, float *max)
{
    return (float)exponentials(x, n, max);
}

void rt_softmax_neon(float *x, uint32_t n)
{
    float max, inverse = (float)(1 / exponentials(x, n, &max));
    for (uint32_t i = 0; i < n; i += LANES)
        store_scores(x + i, n - i, vmulq_n_f32(load_scores(x + i, n - i), inverse));
}
