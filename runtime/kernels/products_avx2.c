/* Matrix products for AVX2. A 32-bit lane is one row, so a tile is two registers ("halves"); within
 * a lane the integer dot is exact, and the float steps are those of scalar.c in the same order. */
#include "runtime/kernels/versions.h"

#include <immintrin.h>
#include <string.h>

enum {
    GROUP = PACK_GROUP,
    TILE = PACK_TILE,
    LANES = 8,        /* rows in a half */
    QUADS = 4,        /* 32-bit words of a row in a plane, 8 weights each */
    AHEAD = 8 * 1024, /* bytes to prefetch ahead: the hardware prefetcher stops at pages */
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

INLINE __m256i add_madd(__m256i acc, __m256i weights, const uint8_t *q, unsigned word)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(weights, broadcast(q, word)));
}

/* High nibbles stay where they are, 16 times too large, and are summed apart: at most
 * 240 * 32767 * 16 < 2^27, a multiple of 16, shifted down once at the end. */
INLINE void half_w4a16(const uint8_t *h, const uint8_t *l, const uint8_t *const *q, uint32_t n_cols,
                       __m256i *dot)
{
    const __m256i low = _mm256_set1_epi32(0x000f000f), high = _mm256_set1_epi32(0x00f000f0);
    __m256i x16[STEP];
    (void)l;
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        dot[c] = x16[c] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++) {
        __m256i even = load(h + p * LINE), odd = _mm256_srli_epi32(even, 8);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < n_cols; c++) {
            dot[c] = add_madd(dot[c], _mm256_and_si256(even, low), q[c], 2 * p);
            dot[c] = add_madd(dot[c], _mm256_and_si256(odd, low), q[c], 2 * p + 1);
            x16[c] = add_madd(x16[c], _mm256_and_si256(even, high), q[c], 2 * p + 8);
            x16[c] = add_madd(x16[c], _mm256_and_si256(odd, high), q[c], 2 * p + 9);
        }
    }
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        dot[c] = _mm256_add_epi32(dot[c], _mm256_srai_epi32(x16[c], 4));
}

/* 16 h + l as bytes, then even and odd columns as 16-bit pairs. */
INLINE void half_w8a16(const uint8_t *h, const uint8_t *l, const uint8_t *const *q, uint32_t n_cols,
                       __m256i *dot)
{
    const __m256i low = _mm256_set1_epi8(0x0f), even = _mm256_set1_epi16(0x00ff);
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        dot[c] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++) {
        __m256i wh = load(h + p * LINE), wl = load(l + p * LINE);
        __m256i first = _mm256_or_si256(_mm256_slli_epi32(_mm256_and_si256(wh, low), 4),
                                        _mm256_and_si256(wl, low));
        __m256i second = _mm256_or_si256(_mm256_andnot_si256(low, wh),
                                         _mm256_and_si256(_mm256_srli_epi32(wl, 4), low));
#pragma GCC unroll 4
        for (uint32_t c = 0; c < n_cols; c++) {
            dot[c] = add_madd(dot[c], _mm256_and_si256(first, even), q[c], 2 * p);
            dot[c] = add_madd(dot[c], _mm256_srli_epi16(first, 8), q[c], 2 * p + 1);
            dot[c] = add_madd(dot[c], _mm256_and_si256(second, even), q[c], 2 * p + 8);
            dot[c] = add_madd(dot[c], _mm256_srli_epi16(second, 8), q[c], 2 * p + 9);
        }
    }
}

INLINE __m256i add_maddubs(__m256i acc, __m256i weights, const uint8_t *q, unsigned word)
{
    return _mm256_add_epi16(acc, _mm256_maddubs_epi16(weights, broadcast(q, word)));
}

/* vpmaddubsw would saturate on whole bytes (2 * 255 * 127), so the planes are summed apart: a
 * 16-bit lane takes 8 pairs of a plane, at most 8 * 2 * 15 * 127 = 30480. */
INLINE void half_w8a8(const uint8_t *h, const uint8_t *l, const uint8_t *const *q, uint32_t n_cols,
                      __m256i *dot)
{
    const __m256i low = _mm256_set1_epi8(0x0f);
    __m256i sum_h[STEP], sum_l[STEP];
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        sum_h[c] = sum_l[c] = _mm256_setzero_si256();
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++) {
        __m256i wh = load(h + p * LINE), wl = load(l + p * LINE);
        __m256i h_low = _mm256_and_si256(wh, low), l_low = _mm256_and_si256(wl, low);
        __m256i h_high = _mm256_and_si256(_mm256_srli_epi32(wh, 4), low);
        __m256i l_high = _mm256_and_si256(_mm256_srli_epi32(wl, 4), low);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < n_cols; c++) {
            sum_h[c] = add_maddubs(sum_h[c], h_low, q[c], p);
            sum_l[c] = add_maddubs(sum_l[c], l_low, q[c], p);
            sum_h[c] = add_maddubs(sum_h[c], h_high, q[c], p + 4);
            sum_l[c] = add_maddubs(sum_l[c], l_high, q[c], p + 4);
        }
    }
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++)
        dot[c] = _mm256_add_epi32(_mm256_madd_epi16(sum_h[c], _mm256_set1_epi16(16)),
                                  _mm256_madd_epi16(sum_l[c], _mm256_set1_epi16(1)));
}

/* Eight bytes as floats. */
INLINE __m256 bytes_to_float(const uint8_t *u)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)u)));
}

INLINE void add_to(float *acc, __m256 product)
{
    _mm256_storeu_ps(acc, _mm256_add_ps(_mm256_loadu_ps(acc), product));
}

/* What a group of activations brings to a block, for n_cols columns. */
struct operand {
    const uint8_t *q[STEP];
    float scale[STEP], t[STEP];
};

/* acc_d and acc_m of one half of one block, acc[n_cols][acc_stride]. */
INLINE void accumulate(const uint8_t *u, const __m256i *dot, const struct operand *b,
                       uint32_t n_cols, float *acc, size_t acc_stride)
{
    __m256 u_d = bytes_to_float(u), u_m = bytes_to_float(u + TILE);
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++, acc += acc_stride) {
        __m256 scaled = _mm256_mul_ps(u_d, _mm256_set1_ps(b->scale[c]));
        add_to(acc, _mm256_mul_ps(_mm256_cvtepi32_ps(dot[c]), scaled));
        add_to(acc + TILE, _mm256_mul_ps(u_m, _mm256_set1_ps(b->t[c])));
    }
}

INLINE void add_minus_8_sum(__m256i *dot, const struct rt_acts *x, size_t group, uint32_t n_cols)
{
#pragma GCC unroll 4
    for (uint32_t c = 0; c < n_cols; c++, group += x->groups)
        dot[c] = _mm256_add_epi32(dot[c], _mm256_set1_epi32(x->group[group].minus_8_sum));
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
        b->scale[c] = x->group[group].scale;
        b->t[c] = x->group[group].t;
    }
}

/* l is read where w8. */
INLINE void dot_columns(half_fn *half, const uint8_t *h, const uint8_t *l, bool w8,
                        uint32_t n_groups, const struct rt_acts *x, size_t group,
                        unsigned act_bytes, uint32_t n_cols, float *acc, size_t acc_stride)
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
                add_minus_8_sum(dot, x, group, n_cols);
            accumulate(h + first, dot, &b, n_cols, acc + first, acc_stride);
        }
        if (w8)
            l += PACK_L_BLOCK;
    }
}

/* STEP columns at a time, one specialisation per number of columns. */
INLINE void dot_tile(half_fn *half, const uint8_t *h, const uint8_t *l, bool w8, uint32_t n_groups,
                     const struct rt_acts *x, size_t group, unsigned act_bytes, uint32_t n_cols,
                     float *acc, size_t acc_stride)
{
    for (; n_cols >= STEP; n_cols -= STEP, group += (size_t)STEP * x->groups) {
        dot_columns(half, h, l, w8, n_groups, x, group, act_bytes, STEP, acc, acc_stride);
        acc += STEP * acc_stride;
    }
    if (n_cols == 1)
        dot_columns(half, h, l, w8, n_groups, x, group, act_bytes, 1, acc, acc_stride);
    else if (n_cols == 2)
        dot_columns(half, h, l, w8, n_groups, x, group, act_bytes, 2, acc, acc_stride);
    else if (n_cols == 3)
        dot_columns(half, h, l, w8, n_groups, x, group, act_bytes, 3, acc, acc_stride);
}

INLINE void dot_tiles(half_fn *half, const struct rt_tiles *w, bool w8, const struct rt_acts *x,
                      size_t group, unsigned act_bytes, uint32_t n_cols, float *acc)
{
    for (size_t tile = 0; tile < w->n_tiles; tile++)
        dot_tile(half, w->h + tile * w->stride * PACK_H_BLOCK,
                 w8 ? w->l + tile * w->stride * PACK_L_BLOCK : NULL, w8, w->n_groups, x, group,
                 act_bytes, n_cols, acc + tile * 2 * TILE, (size_t)w->n_tiles * 2 * TILE);
}

void rt_dot_w4a16_avx2(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                       uint32_t n_cols, uint32_t group, float *acc)
{
    dot_tiles(half_w4a16, w, false, x, (size_t)col * x->groups + group, 2, n_cols, acc);
}

void rt_dot_w8a16_avx2(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                       uint32_t n_cols, uint32_t group, float *acc)
{
    dot_tiles(half_w8a16, w, true, x, (size_t)col * x->groups + group, 2, n_cols, acc);
}

void rt_dot_w8a8_avx2(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                      uint32_t n_cols, uint32_t group, float *acc)
{
    dot_tiles(half_w8a8, w, true, x, (size_t)col * x->groups + group, 1, n_cols, acc);
}

/* Eight bf16 as floats. */
INLINE __m256 brains_to_float(const uint8_t *bf16)
{
    __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)bf16));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

void rt_scale_rows_avx2(const uint8_t *pairs, float fraction, const float *acc, uint32_t acc_stride,
                        uint32_t n_cols, float *y, uint32_t y_stride)
{
    for (unsigned first = 0; first < TILE; first += LANES) {
        __m256 d = _mm256_mul_ps(brains_to_float(pairs + 2 * first), _mm256_set1_ps(fraction));
        __m256 m = brains_to_float(pairs + 2 * TILE + 2 * first);
        for (size_t c = 0; c < n_cols; c++) {
            const float *of_column = acc + c * acc_stride + first;
            __m256 scaled_d = _mm256_mul_ps(d, _mm256_loadu_ps(of_column));
            __m256 scaled_m = _mm256_mul_ps(m, _mm256_loadu_ps(of_column + TILE));
            _mm256_storeu_ps(y + c * y_stride + first, _mm256_sub_ps(scaled_d, scaled_m));
        }
    }
}

INLINE __m256 halves_to_float(const uint8_t *f16)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)f16));
}

void rt_outlier_avx2(const uint8_t *block, const struct rt_acts *x, uint32_t col, uint32_t n_cols,
                     float *y, uint32_t y_stride)
{
    const uint8_t *h = block + 4 * TILE, *l = h + PACK_NIBBLES;
    for (uint32_t c = 0; c < n_cols; c++, y += y_stride) {
        struct operand b;
        size_t group = (size_t)(col + c) * x->groups;
        operand_of_group(&b, x, group, 2, 1);
        for (unsigned first = 0; first < TILE; first += LANES) {
            __m256i dot;
            half_w8a16(h + 4 * first, l + 4 * first, b.q, 1, &dot);
            add_minus_8_sum(&dot, x, group, 1);
            __m256 d = _mm256_mul_ps(halves_to_float(block + 2 * first), _mm256_set1_ps(0.0625F));
            __m256 m = halves_to_float(block + 2 * TILE + 2 * first);
            __m256 scaled = _mm256_mul_ps(d, _mm256_set1_ps(b.scale[0]));
            __m256 o = _mm256_sub_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(dot), scaled),
                                     _mm256_mul_ps(m, _mm256_set1_ps(b.t[0])));
            add_to(y + first, o);
        }
    }
}

INLINE void dot_f32_columns(const float *w, uint32_t n_groups, const float *x, uint32_t stride,
                            uint32_t n_cols, float *acc)
{
    __m256 sum[2 * STEP];
#pragma GCC unroll 8
    for (unsigned i = 0; i < 2 * n_cols; i++)
        sum[i] = _mm256_loadu_ps(acc + (size_t)i * LANES);
    for (size_t i = 0; i < (size_t)n_groups * GROUP; i++, w += TILE) {
        __m256 top = _mm256_loadu_ps(w), bottom = _mm256_loadu_ps(w + LANES);
#pragma GCC unroll 4
        for (uint32_t c = 0; c < n_cols; c++) {
            __m256 value = _mm256_broadcast_ss(x + (size_t)c * stride + i);
            sum[2 * c] = _mm256_add_ps(sum[2 * c], _mm256_mul_ps(top, value));
            sum[2 * c + 1] = _mm256_add_ps(sum[2 * c + 1], _mm256_mul_ps(bottom, value));
        }
    }
#pragma GCC unroll 8
    for (unsigned i = 0; i < 2 * n_cols; i++)
        _mm256_storeu_ps(acc + (size_t)i * LANES, sum[i]);
}

void rt_dot_f32_avx2(const float *w, uint32_t n_groups, const float *x, uint32_t stride,
                     uint32_t n_cols, float *acc)
{
    for (; n_cols >= STEP; n_cols -= STEP, x += (size_t)STEP * stride, acc += STEP * TILE)
        dot_f32_columns(w, n_groups, x, stride, STEP, acc);
    if (n_cols == 1)
        dot_f32_columns(w, n_groups, x, stride, 1, acc);
    else if (n_cols == 2)
        dot_f32_columns(w, n_groups, x, stride, 2, acc);
    else if (n_cols == 3)
        dot_f32_columns(w, n_groups, x, stride, 3, acc);
}
