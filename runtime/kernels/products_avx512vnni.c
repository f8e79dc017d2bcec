/* Matrix products for AVX-512 with VNNI. A 32-bit lane is one row, so a tile is one register. The
 * weights of a block are expanded into registers once and meet all columns there; the sums of a
 * column stay in memory (L1). The float steps are those of scalar.c in the same order. */
#include "runtime/kernels/versions.h"

#include <immintrin.h>
#include <string.h>

enum {
    GROUP = PACK_GROUP,
    TILE = PACK_TILE,
    QUADS = 4,    /* 32-bit words of a row in a plane, 8 weights each */
    WORDS_A8 = 8, /* 32-bit words of a group of activations */
    WORDS_A16 = 16,
    AHEAD = 8 * 1024, /* bytes to prefetch ahead: the hardware prefetcher stops at pages */
    LINE = 64,
    STEP = 8, /* columns under way together */
};

/* Inlined into callers with constant arguments, so that everything expanded stays in registers. */
#define INLINE static inline __attribute__((always_inline))

/* ---- weights ------------------------------------------------------------------------------- */

/* Expands a block: w[i] is what meets word i of a group of activations. */
typedef void expand_fn(const uint8_t *h, const uint8_t *l, __m512i *w);

/* Four unsigned bytes a word: 16 h + l. A shift moves bits between bytes as well; the selection by
 * the mask drops them. */
INLINE void expand_w8(const uint8_t *h, const uint8_t *l, __m512i *w)
{
    enum { SELECT = 0xca }; /* a ? b : c */
    const __m512i high = _mm512_set1_epi8((char)0xf0);
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++) {
        __m512i wh = _mm512_loadu_si512(h + p * LINE), wl = _mm512_loadu_si512(l + p * LINE);
        w[p] = _mm512_ternarylogic_epi32(high, _mm512_slli_epi32(wh, 4), wl, SELECT);
        w[p + QUADS] = _mm512_ternarylogic_epi32(high, wh, _mm512_srli_epi32(wl, 4), SELECT);
    }
}

/* Two 16-bit weights a word: columns 0 and 2, then 1 and 3 of each four (struct rt_acts). */
INLINE void expand_w4_to_16(const uint8_t *h, const uint8_t *l, __m512i *w)
{
    const __m512i low = _mm512_set1_epi32(0x000f000f);
    (void)l;
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++) {
        __m512i wh = _mm512_loadu_si512(h + p * LINE);
        w[2 * p] = _mm512_and_si512(wh, low);
        w[2 * p + 1] = _mm512_and_si512(_mm512_srli_epi32(wh, 8), low);
        w[2 * p + 8] = _mm512_and_si512(_mm512_srli_epi32(wh, 4), low);
        w[2 * p + 9] = _mm512_and_si512(_mm512_srli_epi32(wh, 12), low);
    }
}

INLINE void expand_w8_to_16(const uint8_t *h, const uint8_t *l, __m512i *w)
{
    const __m512i even = _mm512_set1_epi16(0x00ff);
    __m512i bytes[WORDS_A8];
    expand_w8(h, l, bytes);
#pragma GCC unroll 8
    for (unsigned i = 0; i < WORDS_A8; i++) {
        w[2 * i] = _mm512_and_si512(bytes[i], even);
        w[2 * i + 1] = _mm512_srli_epi16(bytes[i], 8);
    }
}

/* ---- integer dots -------------------------------------------------------------------------- */

/* 32 bits of activations to every row. */
INLINE __m512i broadcast(const uint8_t *q, unsigned word)
{
    int32_t bits;
    memcpy(&bits, q + 4 * word, sizeof bits);
    return _mm512_set1_epi32(bits);
}

/* dot + one expanded word of weights times one word of activations */
typedef __m512i multiply_fn(__m512i dot, __m512i w, __m512i q);

INLINE __m512i multiply_a8(__m512i dot, __m512i w, __m512i q)
{
    return _mm512_dpbusd_epi32(dot, w, q);
}

INLINE __m512i multiply_a16(__m512i dot, __m512i w, __m512i q)
{
    return _mm512_dpwssd_epi32(dot, w, q);
}

/* What a kind of weights and activations needs. */
struct kind {
    expand_fn *expand;
    multiply_fn *multiply;
    unsigned act_bytes;
    bool w8;
};

#define W4A16 ((struct kind){expand_w4_to_16, multiply_a16, 2, false})
#define W8A16 ((struct kind){expand_w8_to_16, multiply_a16, 2, true})
#define W8A8  ((struct kind){expand_w8, multiply_a8, 1, true})

/* Activations from one column's group on; the other columns follow `groups` apart. */
struct operand {
    const uint8_t *q;
    const float *scale, *t;
    const int32_t *minus_8_sum;
    size_t groups;
};

INLINE struct operand operand_at(struct kind kind, const struct rt_acts *x, size_t group)
{
    return (struct operand){(const uint8_t *)x->q + group * GROUP * kind.act_bytes,
                            x->scale + group, x->t + group, x->minus_8_sum + group, x->groups};
}

INLINE void advance(struct kind kind, struct operand *x, size_t groups)
{
    x->q += groups * GROUP * kind.act_bytes;
    x->scale += groups;
    x->t += groups;
    x->minus_8_sum += groups;
}

/* A block of one tile, expanded. */
struct expanded {
    __m512i w[WORDS_A16]; /* of a8 the first half */
    __m512 u_d, u_m;
};

/* dot[n_tiles][n_cols] of expanded blocks, W8 less 8 times the sum. So many sums are under way in
 * turn that none waits for the one before. */
INLINE void dot_expanded(struct kind kind, const struct expanded *block, unsigned n_tiles,
                         const struct operand *x, uint32_t n_cols, __m512i dot[][STEP])
{
    size_t stride = x->groups * GROUP * kind.act_bytes;
#pragma GCC unroll 8
    for (uint32_t c = 0; c < n_cols; c++) {
        dot[0][c] =
            kind.w8 ? _mm512_set1_epi32(x->minus_8_sum[c * x->groups]) : _mm512_setzero_si512();
        if (n_tiles > 1)
            dot[1][c] = dot[0][c];
    }
    for (unsigned i = 0; i < GROUP * kind.act_bytes / 4; i++) {
#pragma GCC unroll 8
        for (uint32_t c = 0; c < n_cols; c++) {
            __m512i q = broadcast(x->q + c * stride, i);
            dot[0][c] = kind.multiply(dot[0][c], block[0].w[i], q);
            if (n_tiles > 1)
                dot[1][c] = kind.multiply(dot[1][c], block[1].w[i], q);
        }
    }
}

/* ---- products ------------------------------------------------------------------------------ */

INLINE __m512 bytes_to_float(const uint8_t *u)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)u)));
}

INLINE void add_to(float *acc, __m512 product)
{
    _mm512_storeu_ps(acc, _mm512_add_ps(_mm512_loadu_ps(acc), product));
}

INLINE void prefetch(const uint8_t *block, unsigned bytes)
{
#pragma GCC unroll 5
    for (unsigned i = 0; i < bytes; i += LINE)
        _mm_prefetch((const char *)block + AHEAD + i, _MM_HINT_T0);
}

/* acc_d and acc_m of n_cols columns; from one tile's accumulators to the next it is `stride`. */
INLINE void add_columns(struct kind kind, const struct expanded *block, unsigned n_tiles,
                        const struct operand *x, uint32_t n_cols, float *acc, size_t stride)
{
    __m512i dot[RT_TILES][STEP];
    dot_expanded(kind, block, n_tiles, x, n_cols, dot);
#pragma GCC unroll 8
    for (uint32_t c = 0; c < n_cols; c++, acc += 2 * TILE) {
        __m512 scale = _mm512_set1_ps(x->scale[c * x->groups]);
        __m512 t = _mm512_set1_ps(x->t[c * x->groups]);
#pragma GCC unroll 2
        for (unsigned tile = 0; tile < n_tiles; tile++) {
            __m512 scaled = _mm512_mul_ps(block[tile].u_d, scale);
            float *to = acc + tile * stride;
            add_to(to, _mm512_mul_ps(_mm512_cvtepi32_ps(dot[tile][c]), scaled));
            add_to(to + TILE, _mm512_mul_ps(block[tile].u_m, t));
        }
    }
}

INLINE void expand_block(struct kind kind, const uint8_t *h, const uint8_t *l,
                         struct expanded *block)
{
    prefetch(h, PACK_H_BLOCK);
    if (kind.w8)
        prefetch(l, PACK_L_BLOCK);
    kind.expand(h + 2 * TILE, l, block->w);
    block->u_d = bytes_to_float(h);
    block->u_m = bytes_to_float(h + TILE);
}

/* n_tiles tiles from `tile` on, together. */
INLINE void dot_together(struct kind kind, const struct rt_tiles *w, size_t tile, unsigned n_tiles,
                         struct operand first, uint32_t n_cols, float *acc)
{
    size_t stride = (size_t)n_cols * 2 * TILE;
    const uint8_t *h = w->h + tile * w->stride * PACK_H_BLOCK;
    const uint8_t *l = kind.w8 ? w->l + tile * w->stride * PACK_L_BLOCK : NULL;
    acc += tile * stride;
    for (uint32_t g = 0; g < w->n_groups; g++, advance(kind, &first, 1)) {
        struct expanded block[RT_TILES];
        struct operand x = first;
        uint32_t c = 0;
#pragma GCC unroll 2
        for (unsigned t = 0; t < n_tiles; t++)
            expand_block(kind, h + t * w->stride * (size_t)PACK_H_BLOCK,
                         kind.w8 ? l + t * w->stride * (size_t)PACK_L_BLOCK : NULL, &block[t]);
        for (; c + STEP <= n_cols; c += STEP, advance(kind, &x, STEP * x.groups))
            add_columns(kind, block, n_tiles, &x, STEP, acc + (size_t)c * 2 * TILE, stride);
        for (; c < n_cols; c++, advance(kind, &x, x.groups))
            add_columns(kind, block, n_tiles, &x, 1, acc + (size_t)c * 2 * TILE, stride);
        h += PACK_H_BLOCK;
        l += kind.w8 ? PACK_L_BLOCK : 0;
    }
}

/* Few columns wait for memory: tile by tile is one stream of it. */
INLINE void dot_tiles(struct kind kind, const struct rt_tiles *w, const struct rt_acts *acts,
                      size_t group, uint32_t n_cols, float *acc)
{
    struct operand x = operand_at(kind, acts, group);
    size_t tile = 0;
    if (n_cols >= STEP)
        for (; tile + RT_TILES <= w->n_tiles; tile += RT_TILES)
            dot_together(kind, w, tile, RT_TILES, x, n_cols, acc);
    for (; tile < w->n_tiles; tile++)
        dot_together(kind, w, tile, 1, x, n_cols, acc);
}

void rt_dot_w4a16_avx512vnni(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                             uint32_t n_cols, uint32_t group, float *acc)
{
    dot_tiles(W4A16, w, x, (size_t)col * x->groups + group, n_cols, acc);
}

void rt_dot_w8a16_avx512vnni(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                             uint32_t n_cols, uint32_t group, float *acc)
{
    dot_tiles(W8A16, w, x, (size_t)col * x->groups + group, n_cols, acc);
}

void rt_dot_w8a8_avx512vnni(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                            uint32_t n_cols, uint32_t group, float *acc)
{
    dot_tiles(W8A8, w, x, (size_t)col * x->groups + group, n_cols, acc);
}

INLINE __m512 brains_to_float(const uint8_t *bf16)
{
    __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)bf16));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

void rt_scale_rows_avx512vnni(const uint8_t *pairs, float fraction, const float *acc,
                              uint32_t n_cols, float *y, uint32_t y_stride)
{
    __m512 d = _mm512_mul_ps(brains_to_float(pairs), _mm512_set1_ps(fraction));
    __m512 m = brains_to_float(pairs + 2 * TILE);
    for (uint32_t c = 0; c < n_cols; c++, acc += 2 * TILE, y += y_stride) {
        __m512 scaled_d = _mm512_mul_ps(d, _mm512_loadu_ps(acc));
        __m512 scaled_m = _mm512_mul_ps(m, _mm512_loadu_ps(acc + TILE));
        _mm512_storeu_ps(y, _mm512_sub_ps(scaled_d, scaled_m));
    }
}

INLINE __m512 halves_to_float(const uint8_t *f16)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)f16));
}

INLINE void outlier_columns(struct kind kind, const uint8_t *block, const struct rt_acts *acts,
                            uint32_t col, uint32_t n_cols, float *y, uint32_t y_stride)
{
    const uint8_t *h = block + 4 * TILE;
    struct expanded w;
    kind.expand(h, h + PACK_NIBBLES, w.w);
    __m512 d = _mm512_mul_ps(halves_to_float(block), _mm512_set1_ps(0.0625F));
    __m512 m = halves_to_float(block + 2 * TILE);
    struct operand x = operand_at(kind, acts, (size_t)col * acts->groups);
    for (uint32_t c = 0; c < n_cols; c++, y += y_stride, advance(kind, &x, x.groups)) {
        __m512i dot[1][STEP];
        dot_expanded(kind, &w, 1, &x, 1, dot);
        __m512 scaled = _mm512_mul_ps(d, _mm512_set1_ps(*x.scale));
        __m512 o = _mm512_sub_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(dot[0][0]), scaled),
                                 _mm512_mul_ps(m, _mm512_set1_ps(*x.t)));
        add_to(y, o);
    }
}

void rt_outlier_a16_avx512vnni(const uint8_t *block, const struct rt_acts *x, uint32_t col,
                               uint32_t n_cols, float *y, uint32_t y_stride)
{
    outlier_columns(W8A16, block, x, col, n_cols, y, y_stride);
}

void rt_outlier_a8_avx512vnni(const uint8_t *block, const struct rt_acts *x, uint32_t col,
                              uint32_t n_cols, float *y, uint32_t y_stride)
{
    outlier_columns(W8A8, block, x, col, n_cols, y, y_stride);
}

INLINE void dot_f32_columns(const float *w, uint32_t n_groups, const float *x, uint32_t stride,
                            uint32_t n_cols, float *acc)
{
    __m512 sum[STEP];
#pragma GCC unroll 8
    for (unsigned c = 0; c < n_cols; c++)
        sum[c] = _mm512_loadu_ps(acc + (size_t)c * TILE);
    for (size_t i = 0; i < (size_t)n_groups * GROUP; i++, w += TILE) {
        __m512 weights = _mm512_loadu_ps(w);
#pragma GCC unroll 8
        for (uint32_t c = 0; c < n_cols; c++) {
            __m512 value = _mm512_set1_ps(x[(size_t)c * stride + i]);
            sum[c] = _mm512_add_ps(sum[c], _mm512_mul_ps(weights, value));
        }
    }
#pragma GCC unroll 8
    for (unsigned c = 0; c < n_cols; c++)
        _mm512_storeu_ps(acc + (size_t)c * TILE, sum[c]);
}

/* Columns in steps of 8, 4, 2 and 1. */
void rt_dot_f32_avx512vnni(const float *w, uint32_t n_groups, const float *x, uint32_t stride,
                           uint32_t n_cols, float *acc)
{
    for (; n_cols >= STEP; n_cols -= STEP) {
        dot_f32_columns(w, n_groups, x, stride, STEP, acc);
        x += (size_t)STEP * stride;
        acc += STEP * TILE;
    }
    if (n_cols & 4) {
        dot_f32_columns(w, n_groups, x, stride, 4, acc);
        x += (size_t)4 * stride;
        acc += 4 * TILE;
    }
    if (n_cols & 2) {
        dot_f32_columns(w, n_groups, x, stride, 2, acc);
        x += (size_t)2 * stride;
        acc += 2 * TILE;
    }
    if (n_cols & 1)
        dot_f32_columns(w, n_groups, x, stride, 1, acc);
}
