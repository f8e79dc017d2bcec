/* What the matrix products for NEON share. Inner header of this folder.
 *
 * A 32-bit lane is one row, so a tile is four registers, and a block is 16 times 8: too many to
 * keep. Half a tile is expanded at a time and meets all columns. Weights are unsigned bytes here,
 * and the layout of a plane (docs/pack-format.md) is that of the dot instructions: four columns of
 * four rows. */
#ifndef RT_PRODUCTS_NEON_H
#define RT_PRODUCTS_NEON_H

#include "runtime/kernels/versions.h"

#include <arm_neon.h>
#include <string.h>

enum {
    GROUP = PACK_GROUP,
    TILE = PACK_TILE,
    LANES = 4,        /* rows in a register */
    QUADS = 4,        /* 32-bit words of a row in a plane, 8 weights each */
    WORDS = 8,        /* registers of expanded weights, four columns each */
    PARTS = 2,        /* registers of rows in half a tile */
    AHEAD = 8 * 1024, /* bytes to prefetch ahead: the hardware prefetcher stops at pages */
    LINE = 64,
};

/* Inlined into callers with constant arguments, so that everything expanded stays in registers. */
#define INLINE static inline __attribute__((always_inline))

/* ---- weights ------------------------------------------------------------------------------- */

/* Expands four rows: w[i] holds columns 4 i to 4 i + 3 of each. */
typedef void expand_fn(const uint8_t *h, const uint8_t *l, uint8x16_t *w);

INLINE void expand_w4(const uint8_t *h, const uint8_t *l, uint8x16_t *w)
{
    (void)l;
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++) {
        uint8x16_t wh = vld1q_u8(h + p * LINE);
        w[p] = vandq_u8(wh, vdupq_n_u8(0x0f));
        w[p + QUADS] = vshrq_n_u8(wh, 4);
    }
}

/* 16 h + l: a shift that leaves the other nibble as it is. */
INLINE void expand_w8(const uint8_t *h, const uint8_t *l, uint8x16_t *w)
{
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++) {
        uint8x16_t wh = vld1q_u8(h + p * LINE), wl = vld1q_u8(l + p * LINE);
        w[p] = vsliq_n_u8(wl, wh, 4);
        w[p + QUADS] = vsriq_n_u8(wh, wl, 4);
    }
}

/* ---- activations --------------------------------------------------------------------------- */

INLINE void load_a8(const struct rt_acts *x, size_t group, uint8x16_t *q)
{
    const uint8_t *from = (const uint8_t *)x->q + group * GROUP;
    q[0] = vld1q_u8(from);
    q[1] = vld1q_u8(from + GROUP / 2);
}

/* a16 as bytes in the order of the columns: q = 256 high + low, high signed and low unsigned. */
INLINE void load_a16(const struct rt_acts *x, size_t group, uint8x16_t *high, uint8x16_t *low)
{
    static const uint8_t stored[16] = {0,  4,  2,  6,  8,  12, 10, 14,
                                       16, 20, 18, 22, 24, 28, 26, 30}; /* struct rt_acts */
    const uint8x16_t at = vld1q_u8(stored);
    const uint8_t *q = (const uint8_t *)x->q + group * GROUP * 2;
#pragma GCC unroll 2
    for (unsigned i = 0; i < 2; i++, q += GROUP) {
        const uint8x16x2_t pairs = {{vld1q_u8(q), vld1q_u8(q + GROUP / 2)}};
        low[i] = vqtbl2q_u8(pairs, at);
        high[i] = vqtbl2q_u8(pairs, vaddq_u8(at, vdupq_n_u8(1)));
    }
}

/* ---- products ------------------------------------------------------------------------------ */

/* dot[n][PARTS] of half a tile, of weights of 8 bits or 4, and n columns, the first at `group`. */
typedef void dot_half_fn(bool w8, uint8x16_t w[PARTS][WORDS], const struct rt_acts *x, size_t group,
                         int32x4_t dot[][PARTS]);

/* What a kind of weights and activations needs. */
struct kind {
    expand_fn *expand;
    dot_half_fn *dot;
    unsigned n; /* columns that meet weights together */
    bool w8;
};

INLINE float32x4_t bytes_to_float(const uint8_t *u)
{
    uint32_t four;
    memcpy(&four, u, sizeof four);
    uint16x8_t wide = vmovl_u8(vcreate_u8(four));
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(wide)));
}

/* D, of 8-bit weights a sixteenth of it, and M of the rows of a tile. */
struct rows {
    float d[TILE], m[TILE];
};

/* Four bf16 as floats. */
INLINE float32x4_t brains_to_float(const uint8_t *bf16)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(bf16)), 16));
}

INLINE void load_rows(struct rows *rows, const uint8_t *pairs, bool w8)
{
    for (unsigned first = 0; first < TILE; first += LANES) {
        float32x4_t d = brains_to_float(pairs + 2 * first);
        vst1q_f32(rows->d + first, w8 ? vmulq_n_f32(d, 0.0625F) : d);
        vst1q_f32(rows->m + first, brains_to_float(pairs + 2 * TILE + 2 * first));
    }
}

/* One column of half a tile, whose d and m follow one another in w. */
INLINE void accumulate(const float32x4_t w[2][PARTS], const int32x4_t *dot,
                       const struct rt_group *x, float *acc)
{
#pragma GCC unroll 2
    for (unsigned part = 0; part < PARTS; part++, acc += LANES) {
        float32x4_t scaled = vmulq_n_f32(w[0][part], x->scale);
        float32x4_t sum = vfmaq_f32(vld1q_f32(acc), vcvtq_f32_s32(dot[part]), scaled);
        vst1q_f32(acc, vfmsq_f32(sum, w[1][part], vdupq_n_f32(x->t)));
    }
}

/* Rows from `row` on of a block against n_cols columns, a multiple of kind.n; l is read where w8.
 */
INLINE void dot_half(struct kind kind, const uint8_t *h, const uint8_t *l, const struct rows *rows,
                     unsigned row, const struct rt_acts *x, size_t group, uint32_t n_cols,
                     float *acc, size_t acc_stride)
{
    uint8x16_t w[PARTS][WORDS];
    float32x4_t scale[2][PARTS];
#pragma GCC unroll 2
    for (unsigned part = 0; part < PARTS; part++) {
        unsigned first = row + part * LANES;
        kind.expand(h + 2 * TILE + 4 * first, kind.w8 ? l + 4 * first : NULL, w[part]);
        scale[0][part] = vmulq_f32(vld1q_f32(rows->d + first), bytes_to_float(h + first));
        scale[1][part] = vmulq_f32(vld1q_f32(rows->m + first), bytes_to_float(h + TILE + first));
    }
    for (uint32_t c = 0; c < n_cols; c += kind.n) {
        int32x4_t dot[2][PARTS];
        kind.dot(kind.w8, w, x, group, dot);
#pragma GCC unroll 2
        for (unsigned i = 0; i < kind.n; i++, group += x->groups, acc += acc_stride)
            accumulate(scale, dot[i], &x->group[group], acc + row);
    }
}

INLINE void prefetch(const uint8_t *block, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i += LINE)
        __builtin_prefetch(block + AHEAD + i);
}

INLINE void dot_tiles(struct kind kind, const struct rt_tiles *w, const struct rt_acts *x,
                      size_t group, uint32_t n_cols, float *acc)
{
    for (size_t tile = 0; tile < w->n_tiles; tile++, acc += TILE) {
        struct rows rows;
        load_rows(&rows, w->pairs + tile * PACK_PAIRS, kind.w8);
        for (size_t g = 0; g < w->n_groups; g++) {
            size_t block = tile * w->stride + g;
            const uint8_t *h = w->h + block * PACK_H_BLOCK, *l = NULL;
            prefetch(h, PACK_H_BLOCK);
            if (kind.w8) {
                l = w->l + block * PACK_L_BLOCK;
                prefetch(l, PACK_L_BLOCK);
            }
            for (unsigned row = 0; row < TILE; row += PARTS * LANES)
                dot_half(kind, h, l, &rows, row, x, group + g, n_cols, acc, w->acc_stride);
        }
    }
}

#endif
