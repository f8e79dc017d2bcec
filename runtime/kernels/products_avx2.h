/* What the matrix products for AVX2 share with those for AVX2 and VNNI: those of few columns, which
 * wait for the weights to come from memory. Inner header of this folder.
 *
 * A 32-bit lane is one row, so a tile is two registers ("halves"); within a lane the integer dot is
 * exact, and the float steps are those of scalar.c in the same order. */
#ifndef RT_PRODUCTS_AVX2_H
#define RT_PRODUCTS_AVX2_H

#include "runtime/kernels/versions.h"

#include <immintrin.h>
#include <string.h>

enum {
    GROUP = PACK_GROUP,
    TILE = PACK_TILE,
    LANES = 8,        /* rows in a half */
    QUADS = 4,        /* 32-bit words of a row in a plane, 8 weights each */
    AHEAD = 4 * 1024, /* bytes to prefetch ahead: the hardware prefetcher stops at pages */
    LINE = 64,
    STEP = 4, /* columns whose sums the registers hold */
};

/* Inlined into callers with a constant n_cols, so that weights are expanded once for all columns
 * and the accumulators stay in registers. */
#define INLINE static inline __attribute__((always_inline))

/* dot[n_cols] of one half: h and l point at its first row, q at the group of each column. */
typedef void half_fn(const uint8_t *h, const uint8_t *l, const uint8_t *const *q, uint32_t n_cols,
                     __m256i *dot);

INLINE __m256i load(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

/* 32 bits of activations to every row. */
INLINE __m256i broadcast(const uint8_t *q, unsigned word)
{
    int32_t bits;
    memcpy(&bits, q + 4 * word, sizeof bits);
    return _mm256_set1_epi32(bits);
}

/* acc + pairs of 16-bit weights times pairs of activations. */
typedef __m256i multiply_fn(__m256i acc, __m256i weights, __m256i q);

/* High nibbles stay where they are, 16 times too large, and are summed apart: at most
 * 240 * 32767 * 16 < 2^27, a multiple of 16, shifted down once at the end. */
INLINE void half_w4a16_by(multiply_fn *multiply, const uint8_t *h, const uint8_t *const *q,
                          uint32_t n_cols, __m256i *dot)
{
    const __m256i low = _mm256_set1_epi32(0x000f000f), high = _mm256_set1_epi32(0x00f000f0);
    __m256i x16[STEP];
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        dot[c] = x16[c] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++) {
        __m256i even = load(h + p * LINE), odd = _mm256_srli_epi32(even, 8);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < n_cols; c++) {
            dot[c] = multiply(dot[c], _mm256_and_si256(even, low), broadcast(q[c], 2 * p));
            dot[c] = multiply(dot[c], _mm256_and_si256(odd, low), broadcast(q[c], 2 * p + 1));
            x16[c] = multiply(x16[c], _mm256_and_si256(even, high), broadcast(q[c], 2 * p + 8));
            x16[c] = multiply(x16[c], _mm256_and_si256(odd, high), broadcast(q[c], 2 * p + 9));
        }
    }
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        dot[c] = _mm256_add_epi32(dot[c], _mm256_srai_epi32(x16[c], 4));
}

/* Bytes of the low and of the high nibbles. */
INLINE void split(__m256i h, __m256i *first, __m256i *second)
{
    const __m256i low = _mm256_set1_epi8(0x0f);
    *first = _mm256_and_si256(h, low);
    *second = _mm256_and_si256(_mm256_srli_epi32(h, 4), low);
}

/* Bytes 16 h + l of the low and of the high nibbles. */
INLINE void join(__m256i h, __m256i l, __m256i *first, __m256i *second)
{
    const __m256i low = _mm256_set1_epi8(0x0f);
    *first =
        _mm256_or_si256(_mm256_slli_epi32(_mm256_and_si256(h, low), 4), _mm256_and_si256(l, low));
    *second = _mm256_or_si256(_mm256_andnot_si256(low, h),
                              _mm256_and_si256(_mm256_srli_epi32(l, 4), low));
}

/* Even and odd columns as 16-bit pairs. */
INLINE void half_w8a16_by(multiply_fn *multiply, const uint8_t *h, const uint8_t *l,
                          const uint8_t *const *q, uint32_t n_cols, __m256i *dot)
{
    const __m256i even = _mm256_set1_epi16(0x00ff);
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        dot[c] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++) {
        __m256i first, second;
        join(load(h + p * LINE), load(l + p * LINE), &first, &second);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < n_cols; c++) {
            dot[c] = multiply(dot[c], _mm256_and_si256(first, even), broadcast(q[c], 2 * p));
            dot[c] = multiply(dot[c], _mm256_srli_epi16(first, 8), broadcast(q[c], 2 * p + 1));
            dot[c] = multiply(dot[c], _mm256_and_si256(second, even), broadcast(q[c], 2 * p + 8));
            dot[c] = multiply(dot[c], _mm256_srli_epi16(second, 8), broadcast(q[c], 2 * p + 9));
        }
    }
}

/* Eight bytes as floats. */
INLINE __m256 bytes_to_float(const uint8_t *u)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)u)));
}

/* What a group of activations brings to a block, for n_cols columns. */
struct operand {
    const uint8_t *q[STEP];
    const struct rt_group *group[STEP];
};

/* D, of 8-bit weights a sixteenth of it, and M of the rows of a tile. */
struct rows {
    float d[TILE], m[TILE];
};

/* Eight bf16 as floats. */
INLINE __m256 brains_to_float(const uint8_t *bf16)
{
    __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)bf16));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

INLINE void load_rows(struct rows *rows, const uint8_t *pairs, bool w8)
{
    for (unsigned first = 0; first < TILE; first += LANES) {
        __m256 d = brains_to_float(pairs + 2 * first);
        d = w8 ? _mm256_mul_ps(d, _mm256_set1_ps(0.0625F)) : d;
        _mm256_storeu_ps(rows->d + first, d);
        _mm256_storeu_ps(rows->m + first, brains_to_float(pairs + 2 * TILE + 2 * first));
    }
}

/* acc[LANES] + what a dot of one column adds to a half. */
INLINE void add_dot(float *acc, __m256i dot, __m256 d, __m256 m, const struct rt_group *x)
{
    __m256 scaled = _mm256_mul_ps(d, _mm256_set1_ps(x->scale));
    __m256 sum = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), scaled, _mm256_loadu_ps(acc));
    _mm256_storeu_ps(acc, _mm256_fnmadd_ps(m, _mm256_set1_ps(x->t), sum));
}

/* D u_d and M u_m of the half from row `first` on. */
INLINE __m256 half_d(const struct rows *rows, const uint8_t *u, unsigned first)
{
    return _mm256_mul_ps(_mm256_loadu_ps(rows->d + first), bytes_to_float(u + first));
}

INLINE __m256 half_m(const struct rows *rows, const uint8_t *u, unsigned first)
{
    return _mm256_mul_ps(_mm256_loadu_ps(rows->m + first), bytes_to_float(u + TILE + first));
}

/* One half of one block from row `first` on, acc[n_cols][acc_stride]. */
INLINE void accumulate(const uint8_t *u, const struct rows *rows, unsigned first,
                       const __m256i *dot, const struct operand *b, uint32_t n_cols, float *acc,
                       size_t acc_stride)
{
    __m256 d = half_d(rows, u, first), m = half_m(rows, u, first);
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        add_dot(acc + c * acc_stride + first, dot[c], d, m, b->group[c]);
}

INLINE void add_minus_8_sum(__m256i *dot, const struct operand *b, uint32_t n_cols)
{
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        dot[c] = _mm256_add_epi32(dot[c], _mm256_set1_epi32(b->group[c]->minus_8_sum));
}

INLINE void prefetch(const uint8_t *block, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i += LINE)
        _mm_prefetch((const char *)block + AHEAD + i, _MM_HINT_T0);
}

INLINE void operand_of_group(struct operand *b, const struct rt_acts *x, size_t group,
                             unsigned act_bytes, uint32_t n_cols)
{
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++, group += x->groups) {
        b->q[c] = (const uint8_t *)x->q + group * GROUP * act_bytes;
        b->group[c] = x->group + group;
    }
}

/* l is read where w8. */
INLINE void dot_columns(half_fn *half, const uint8_t *h, const uint8_t *l, bool w8,
                        const struct rows *rows, uint32_t n_groups, const struct rt_acts *x,
                        size_t group, unsigned act_bytes, uint32_t n_cols, float *acc,
                        size_t acc_stride)
{
    for (uint32_t g = 0; g < n_groups; g++, group++, h += PACK_H_BLOCK) {
        struct operand b;
        operand_of_group(&b, x, group, act_bytes, n_cols);
        prefetch(h, PACK_H_BLOCK);
        if (w8)
            prefetch(l, PACK_L_BLOCK);
#pragma GCC unroll 2
        for (unsigned first = 0; first < TILE; first += LANES) {
            __m256i dot[STEP];
            half(h + 2 * TILE + 4 * first, w8 ? l + 4 * first : NULL, b.q, n_cols, dot);
            if (w8)
                add_minus_8_sum(dot, &b, n_cols);
            accumulate(h, rows, first, dot, &b, n_cols, acc, acc_stride);
        }
        if (w8)
            l += PACK_L_BLOCK;
    }
}

/* STEP columns at a time, one specialisation per number of columns. */
INLINE void dot_tile(half_fn *half, const uint8_t *h, const uint8_t *l, bool w8,
                     const struct rows *rows, uint32_t n_groups, const struct rt_acts *x,
                     size_t group, unsigned act_bytes, uint32_t n_cols, float *acc,
                     size_t acc_stride)
{
    for (; n_cols >= STEP; n_cols -= STEP, group += (size_t)STEP * x->groups) {
        dot_columns(half, h, l, w8, rows, n_groups, x, group, act_bytes, STEP, acc, acc_stride);
        acc += STEP * acc_stride;
    }
    if (n_cols == 1)
        dot_columns(half, h, l, w8, rows, n_groups, x, group, act_bytes, 1, acc, acc_stride);
    else if (n_cols == 2)
        dot_columns(half, h, l, w8, rows, n_groups, x, group, act_bytes, 2, acc, acc_stride);
    else if (n_cols == 3)
        dot_columns(half, h, l, w8, rows, n_groups, x, group, act_bytes, 3, acc, acc_stride);
}

INLINE void dot_tiles(half_fn *half, const struct rt_tiles *w, bool w8, const struct rt_acts *x,
                      size_t group, unsigned act_bytes, uint32_t n_cols, float *acc)
{
    for (size_t tile = 0; tile < w->n_tiles; tile++) {
        struct rows rows;
        load_rows(&rows, w->pairs + tile * PACK_PAIRS, w8);
        dot_tile(half, w->h + tile * w->stride * PACK_H_BLOCK,
                 w8 ? w->l + tile * w->stride * PACK_L_BLOCK : NULL, w8, &rows, w->n_groups, x,
                 group, act_bytes, n_cols, acc + tile * TILE, w->acc_stride);
    }
}

#endif
