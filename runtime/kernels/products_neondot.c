/* Matrix products for NEON with the dot instructions of 8-bit integers, which want both operands
 * signed or both unsigned. The integer dot is exact, and the float steps are those of scalar.c in
 * the same order. */
#include "runtime/kernels/products_neon.h"

/* Four words of weights and of activations: which word is a constant of the instruction. */
INLINE int32x4_t add_dots(int32x4_t sum, const int8x16_t *w, uint8x16_t q)
{
    int8x16_t s = vreinterpretq_s8_u8(q);
    sum = vdotq_laneq_s32(sum, w[0], s, 0);
    sum = vdotq_laneq_s32(sum, w[1], s, 1);
    sum = vdotq_laneq_s32(sum, w[2], s, 2);
    return vdotq_laneq_s32(sum, w[3], s, 3);
}

INLINE uint32x4_t add_dots_unsigned(uint32x4_t sum, const uint8x16_t *w, uint8x16_t q)
{
    sum = vdotq_laneq_u32(sum, w[0], q, 0);
    sum = vdotq_laneq_u32(sum, w[1], q, 1);
    sum = vdotq_laneq_u32(sum, w[2], q, 2);
    return vdotq_laneq_u32(sum, w[3], q, 3);
}

/* 8-bit weights as signed ones, 128 less, which the sum of activations makes good. */
INLINE void signed_weights(bool w8, const uint8x16_t *w, int8x16_t *out)
{
#pragma GCC unroll 8
    for (unsigned i = 0; i < WORDS; i++)
        out[i] = vreinterpretq_s8_u8(w8 ? veorq_u8(w[i], vdupq_n_u8(0x80)) : w[i]);
}

INLINE void dot_a8(bool w8, uint8x16_t w[PARTS][WORDS], const struct rt_acts *x, size_t group,
                   int32x4_t dot[][PARTS])
{
    uint8x16_t q[2];
    load_a8(x, group, q);
    int32_t start = w8 ? x->group[group].minus_8_sum + 128 * x->group[group].sum : 0;
#pragma GCC unroll 2
    for (unsigned part = 0; part < PARTS; part++) {
        int8x16_t s[WORDS];
        signed_weights(w8, w[part], s);
        dot[0][part] = add_dots(vdupq_n_s32(start), s, q[0]);
        dot[0][part] = add_dots(dot[0][part], s + WORDS / 2, q[1]);
    }
}

INLINE int32_t sum_of_signed(uint8x16_t bytes)
{
    return vaddlvq_s8(vreinterpretq_s8_u8(bytes));
}

/* The sum of w q is 256 times that of w high, and that of w low. */
INLINE void dot_a16(bool w8, uint8x16_t w[PARTS][WORDS], const struct rt_acts *x, size_t group,
                    int32x4_t dot[][PARTS])
{
    uint8x16_t high[2], low[2];
    load_a16(x, group, high, low);
    int32_t sum_high = w8 ? sum_of_signed(high[0]) + sum_of_signed(high[1]) : 0;
    int32_t start = w8 ? x->group[group].minus_8_sum : 0;
#pragma GCC unroll 2
    for (unsigned part = 0; part < PARTS; part++) {
        int8x16_t s[WORDS];
        signed_weights(w8, w[part], s);
        int32x4_t of_high = add_dots(vdupq_n_s32(128 * sum_high), s, high[0]);
        of_high = add_dots(of_high, s + WORDS / 2, high[1]);
        uint32x4_t of_low = add_dots_unsigned(vdupq_n_u32((uint32_t)start), w[part], low[0]);
        of_low = add_dots_unsigned(of_low, w[part] + WORDS / 2, low[1]);
        dot[0][part] = vaddq_s32(vshlq_n_s32(of_high, 8), vreinterpretq_s32_u32(of_low));
    }
}

void rt_dot_w4a16_neondot(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                          uint32_t n_cols, uint32_t group, float *acc)
{
    const struct kind w4a16 = {expand_w4, dot_a16, 1, false};
    dot_tiles(w4a16, w, x, (size_t)col * x->groups + group, n_cols, acc);
}

void rt_dot_w8a16_neondot(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                          uint32_t n_cols, uint32_t group, float *acc)
{
    const struct kind w8a16 = {expand_w8, dot_a16, 1, true};
    dot_tiles(w8a16, w, x, (size_t)col * x->groups + group, n_cols, acc);
}

void rt_dot_w4a8_neondot(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                         uint32_t n_cols, uint32_t group, float *acc)
{
    const struct kind w4a8 = {expand_w4, dot_a8, 1, false};
    dot_tiles(w4a8, w, x, (size_t)col * x->groups + group, n_cols, acc);
}

void rt_dot_w8a8_neondot(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                         uint32_t n_cols, uint32_t group, float *acc)
{
    const struct kind w8a8 = {expand_w8, dot_a8, 1, true};
    dot_tiles(w8a8, w, x, (size_t)col * x->groups + group, n_cols, acc);
}

INLINE float32x4_t halves_to_float(const uint8_t *f16)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(f16)));
}

/* Rows from `row` on. */
INLINE void outlier_half(const uint8_t *block, unsigned row, const struct rt_acts *x, size_t group,
                         uint32_t n_cols, float *y, uint32_t y_stride)
{
    const uint8_t *h = block + 4 * TILE, *l = h + PACK_NIBBLES;
    uint8x16_t w[PARTS][WORDS];
    for (unsigned part = 0; part < PARTS; part++)
        expand_w8(h + 4 * (row + part * LANES), l + 4 * (row + part * LANES), w[part]);
    for (uint32_t c = 0; c < n_cols; c++, group += x->groups, y += y_stride) {
        int32x4_t dot[1][PARTS];
        dot_a16(true, w, x, group, dot);
        for (unsigned part = 0; part < PARTS; part++) {
            unsigned first = row + part * LANES;
            float32x4_t d = vmulq_n_f32(halves_to_float(block + 2 * first), 0.0625F);
            float32x4_t m = halves_to_float(block + 2 * TILE + 2 * first);
            float32x4_t scaled = vmulq_n_f32(d, x->group[group].scale);
            float32x4_t o = vsubq_f32(vmulq_f32(vcvtq_f32_s32(dot[0][part]), scaled),
                                      vmulq_n_f32(m, x->group[group].t));
            vst1q_f32(y + first, vaddq_f32(vld1q_f32(y + first), o));
        }
    }
}

void rt_outlier_neondot(const uint8_t *block, const struct rt_acts *x, uint32_t col,
                        uint32_t n_cols, float *y, uint32_t y_stride)
{
    for (unsigned row = 0; row < TILE; row += PARTS * LANES)
        outlier_half(block, row, x, (size_t)col * x->groups, n_cols, y, y_stride);
}
