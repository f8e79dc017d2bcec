/* Matrix products for NEON with the 2 x 2 matrix instructions of 8-bit integers: two rows and two
 * columns of activations meet over eight columns of weights, unsigned by signed where need be. A
 * single column gains nothing and is left to the dot instructions. The integer dot is exact, and
 * the float steps are those of scalar.c in the same order. */
#include "runtime/kernels/products_neon.h"

/* From four columns of four rows in a register to eight columns of two: w[2 i] holds columns 8 i to
 * 8 i + 7 of the upper two rows, w[2 i + 1] of the lower two. */
INLINE void pair_rows(uint8x16_t *w)
{
#pragma GCC unroll 4
    for (unsigned i = 0; i < WORDS; i += 2) {
        uint32x4_t left = vreinterpretq_u32_u8(w[i]), right = vreinterpretq_u32_u8(w[i + 1]);
        w[i] = vreinterpretq_u8_u32(vzip1q_u32(left, right));
        w[i + 1] = vreinterpretq_u8_u32(vzip2q_u32(left, right));
    }
}

INLINE void expand_w4_pairs(const uint8_t *h, const uint8_t *l, uint8x16_t *w)
{
    expand_w4(h, l, w);
    pair_rows(w);
}

INLINE void expand_w8_pairs(const uint8_t *h, const uint8_t *l, uint8x16_t *w)
{
    expand_w8(h, l, w);
    pair_rows(w);
}

/* Eight bytes of column a and the same eight of b a register. */
INLINE void pair_columns(const uint8x16_t *a, const uint8x16_t *b, uint8x16_t *out)
{
#pragma GCC unroll 2
    for (unsigned i = 0; i < 2; i++) {
        uint64x2_t of_a = vreinterpretq_u64_u8(a[i]), of_b = vreinterpretq_u64_u8(b[i]);
        out[2 * i] = vreinterpretq_u8_u64(vzip1q_u64(of_a, of_b));
        out[2 * i + 1] = vreinterpretq_u8_u64(vzip2q_u64(of_a, of_b));
    }
}

/* Sums of four rows and two columns: from rows by columns in each half to a register a column. */
INLINE void part_columns(int32x4_t upper, int32x4_t lower, int32x4_t *a, int32x4_t *b)
{
    *a = vuzp1q_s32(upper, lower);
    *b = vuzp2q_s32(upper, lower);
}

/* What the sums of both columns start from: W8 counts each weight 8 too high. */
INLINE int32x4_t start(bool w8, const struct rt_acts *x, size_t group)
{
    int32_t a = w8 ? x->group[group].minus_8_sum : 0;
    int32_t b = w8 ? x->group[group + x->groups].minus_8_sum : 0;
    const int32_t rows[LANES] = {a, b, a, b};
    return vld1q_s32(rows);
}

INLINE void dot_a8(bool w8, uint8x16_t w[PARTS][WORDS], const struct rt_acts *x, size_t group,
                   int32x4_t dot[][PARTS])
{
    uint8x16_t a[2], b[2], q[4];
    load_a8(x, group, a);
    load_a8(x, group + x->groups, b);
    pair_columns(a, b, q);
#pragma GCC unroll 2
    for (unsigned part = 0; part < PARTS; part++) {
        int32x4_t upper = start(w8, x, group), lower = upper;
#pragma GCC unroll 4
        for (unsigned i = 0; i < 4; i++) {
            upper = vusmmlaq_s32(upper, w[part][2 * i], vreinterpretq_s8_u8(q[i]));
            lower = vusmmlaq_s32(lower, w[part][2 * i + 1], vreinterpretq_s8_u8(q[i]));
        }
        part_columns(upper, lower, &dot[0][part], &dot[1][part]);
    }
}

/* 256 times the sum over high bytes, and that over low bytes. */
INLINE int32x4_t whole(int32x4_t of_high, uint32x4_t of_low)
{
    return vaddq_s32(vshlq_n_s32(of_high, 8), vreinterpretq_s32_u32(of_low));
}

INLINE void dot_a16(bool w8, uint8x16_t w[PARTS][WORDS], const struct rt_acts *x, size_t group,
                    int32x4_t dot[][PARTS])
{
    uint8x16_t high_a[2], high_b[2], high[4], low_a[2], low_b[2], low[4];
    load_a16(x, group, high_a, low_a);
    load_a16(x, group + x->groups, high_b, low_b);
    pair_columns(high_a, high_b, high);
    pair_columns(low_a, low_b, low);
#pragma GCC unroll 2
    for (unsigned part = 0; part < PARTS; part++) {
        int32x4_t upper_high = vdupq_n_s32(0), lower_high = upper_high;
        uint32x4_t upper_low = vreinterpretq_u32_s32(start(w8, x, group)), lower_low = upper_low;
#pragma GCC unroll 4
        for (unsigned i = 0; i < 4; i++) {
            int8x16_t signed_high = vreinterpretq_s8_u8(high[i]);
            upper_high = vusmmlaq_s32(upper_high, w[part][2 * i], signed_high);
            upper_low = vmmlaq_u32(upper_low, w[part][2 * i], low[i]);
            lower_high = vusmmlaq_s32(lower_high, w[part][2 * i + 1], signed_high);
            lower_low = vmmlaq_u32(lower_low, w[part][2 * i + 1], low[i]);
        }
        part_columns(whole(upper_high, upper_low), whole(lower_high, lower_low), &dot[0][part],
                     &dot[1][part]);
    }
}

/* Pairs of columns, then the one that is left. */
INLINE void dot_pairs(struct kind kind, rt_dot_fn *single, const struct rt_tiles *w,
                      const struct rt_acts *x, uint32_t col, uint32_t n_cols, uint32_t group,
                      float *acc)
{
    uint32_t paired = n_cols - n_cols % 2;
    if (paired)
        dot_tiles(kind, w, x, (size_t)col * x->groups + group, paired, acc);
    if (paired < n_cols)
        single(w, x, col + paired, 1, group, acc + (size_t)paired * w->acc_stride);
}

void rt_dot_w4a16_neoni8mm(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                           uint32_t n_cols, uint32_t group, float *acc)
{
    const struct kind w4a16 = {expand_w4_pairs, dot_a16, 2, false};
    dot_pairs(w4a16, rt_dot_w4a16_neondot, w, x, col, n_cols, group, acc);
}

void rt_dot_w8a16_neoni8mm(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                           uint32_t n_cols, uint32_t group, float *acc)
{
    const struct kind w8a16 = {expand_w8_pairs, dot_a16, 2, true};
    dot_pairs(w8a16, rt_dot_w8a16_neondot, w, x, col, n_cols, group, acc);
}

void rt_dot_w4a8_neoni8mm(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                          uint32_t n_cols, uint32_t group, float *acc)
{
    const struct kind w4a8 = {expand_w4_pairs, dot_a8, 2, false};
    dot_pairs(w4a8, rt_dot_w4a8_neondot, w, x, col, n_cols, group, acc);
}

void rt_dot_w8a8_neoni8mm(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                          uint32_t n_cols, uint32_t group, float *acc)
{
    const struct kind w8a8 = {expand_w8_pairs, dot_a8, 2, true};
    dot_pairs(w8a8, rt_dot_w8a8_neondot, w, x, col, n_cols, group, acc);
}
