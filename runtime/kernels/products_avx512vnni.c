/* Matrix products for AVX-512 with VNNI. A 32-bit lane is one row, so a tile is one register. Few
 * columns wait for the weights to come from memory: each block is expanded into registers and meets
 * them one by one. For many columns two tiles of a strip of groups are expanded into the L1 cache
 * once, and a few columns at a time pass over the strip with their sums in registers; the longer a
 * strip is, the less often these are loaded and stored. The float
 * steps are those of scalar.c in the same order. */
#include "runtime/kernels/versions.h"

#include <immintrin.h>
#include <string.h>

enum {
    GROUP = PACK_GROUP,
    TILE = PACK_TILE,
    QUADS = 4,    /* 32-bit words of a row in a plane, 8 weights each */
    WORDS_A8 = 8, /* 32-bit words of a group of activations */
    WORDS_A16 = 16,
    AHEAD = 4 * 1024, /* bytes to prefetch ahead: the hardware prefetcher stops at pages */
    LINE = 64,
    STEP = 6, /* columns whose dots and sums the registers hold, of RT_TILES tiles */
    MANY = 8, /* columns from which it pays to keep weights expanded */
    STRIP = 28 * 1024 /
            LINE, /* lines of weights that are kept expanded: the columns want some of L1 too */
    APART = 48,   /* groups of activations that are kept as bytes */
    STEP_F32 = 8,
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

INLINE void expand_w4(const uint8_t *h, const uint8_t *l, __m512i *w)
{
    const __m512i low = _mm512_set1_epi8(0x0f);
    (void)l;
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++) {
        __m512i wh = _mm512_loadu_si512(h + p * LINE);
        w[p] = _mm512_and_si512(wh, low);
        w[p + QUADS] = _mm512_and_si512(_mm512_srli_epi32(wh, 4), low);
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

/* Sums as what they are, 16 of 32 bits: GCC copies registers where it sees __m512i change its type
 * on the way through an instruction. */
typedef int32_t lanes __attribute__((vector_size(64)));

/* 32 bits to every row. */
INLINE __m512i broadcast(const void *p)
{
    int32_t bits;
    memcpy(&bits, p, sizeof bits);
    return _mm512_set1_epi32(bits);
}

/* dot + one expanded word of weights times one word of activations */
typedef lanes multiply_fn(lanes dot, __m512i w, __m512i q);

INLINE lanes multiply_a8(lanes dot, __m512i w, __m512i q)
{
    return (lanes)_mm512_dpbusd_epi32((__m512i)dot, w, q);
}

INLINE lanes multiply_a16(lanes dot, __m512i w, __m512i q)
{
    return (lanes)_mm512_dpwssd_epi32((__m512i)dot, w, q);
}

/* What a kind of weights and activations needs. */
struct kind {
    expand_fn *expand;
    multiply_fn *multiply;
    unsigned words; /* of an expanded block */
    unsigned act_bytes;
    bool w8;
};

#define W4A16 ((struct kind){expand_w4_to_16, multiply_a16, WORDS_A16, 2, false})
#define W8A16 ((struct kind){expand_w8_to_16, multiply_a16, WORDS_A16, 2, true})
#define W4A8  ((struct kind){expand_w4, multiply_a8, WORDS_A8, 1, false})
#define W8A8  ((struct kind){expand_w8, multiply_a8, WORDS_A8, 1, true})
/* Of few columns: dot_nibbles. */
#define W4A16_APART ((struct kind){expand_w4, NULL, WORDS_A8, 2, false})

/* Activations from one column's group on; the other columns follow `groups` apart. */
struct operand {
    const uint8_t *q;
    const struct rt_group *group;
    size_t groups;
};

INLINE struct operand operand_at(struct kind kind, const struct rt_acts *x, size_t group)
{
    return (struct operand){(const uint8_t *)x->q + group * GROUP * kind.act_bytes,
                            x->group + group, x->groups};
}

INLINE void advance(struct kind kind, struct operand *x, size_t groups)
{
    x->q += groups * GROUP * kind.act_bytes;
    x->group += groups;
}

/* A block of one tile, expanded: the words of weights, then the floats D u_d, of 8-bit weights a
 * sixteenth of it, and M u_m. */
INLINE size_t block_size(struct kind kind)
{
    return kind.words + 2;
}

/* What a dot starts from: W8 counts each weight 8 too high. */
INLINE lanes start(struct kind kind, const struct rt_group *group)
{
    return kind.w8 ? (lanes)broadcast(&group->minus_8_sum) : (lanes){0};
}

/* Of 16-bit activations in two sums that do not wait for each other: 16 multiplications in a row
 * take longer than what else there is to do. */
INLINE lanes dot_column(struct kind kind, const __m512i *block, const struct operand *x)
{
    lanes dot[2] = {start(kind, x->group)};
#pragma GCC unroll 16
    for (unsigned i = 0; i < kind.words; i++) {
        lanes *sum = &dot[i % kind.act_bytes];
        *sum = kind.multiply(*sum, block[i], broadcast(x->q + 4 * i));
    }
    return dot[0] + dot[1];
}

/* The same of 4-bit weights as bytes, w[WORDS_A8], and 16-bit activations taken apart into bytes, a
 * = 256 high + low: half of the work of expanding nibbles to 16 bits. vpdpbusd multiplies unsigned
 * bytes by signed ones; nibbles are either, so they meet the signed high bytes and the unsigned low
 * ones. */
INLINE lanes dot_nibbles(const __m512i *w, const uint8_t *apart)
{
    __m512i low = _mm512_setzero_si512(), high = low;
#pragma GCC unroll 8
    for (unsigned i = 0; i < WORDS_A8; i++) {
        const uint8_t *at = apart + i / 2 * 16 + i % 2 * 4;
        low = _mm512_dpbusd_epi32(low, broadcast(at), w[i]);
        high = _mm512_dpbusd_epi32(high, w[i], broadcast(at + 8));
    }
    return (lanes)_mm512_add_epi32(_mm512_slli_epi32(high, 8), low);
}

/* n_cols columns of n_tiles tiles: dot[n_tiles][n_cols]. With STEP of them so many sums are under
 * way in turn that none waits for the one before, and each broadcast serves all tiles. */
INLINE void dot_columns(struct kind kind, const __m512i *blocks, unsigned n_tiles,
                        const struct operand *x, unsigned n_cols, lanes dot[][STEP])
{
    size_t stride = x->groups * GROUP * kind.act_bytes;
#pragma GCC unroll 6
    for (unsigned c = 0; c < n_cols; c++)
#pragma GCC unroll 2
        for (unsigned t = 0; t < n_tiles; t++)
            dot[t][c] = start(kind, &x->group[c * x->groups]);
#pragma GCC unroll 16
    for (unsigned i = 0; i < kind.words; i++)
#pragma GCC unroll 6
        for (unsigned c = 0; c < n_cols; c++) {
            __m512i q = broadcast(x->q + c * stride + 4 * i);
#pragma GCC unroll 2
            for (unsigned t = 0; t < n_tiles; t++)
                dot[t][c] = kind.multiply(dot[t][c], blocks[t * block_size(kind) + i], q);
        }
}

/* ---- products ------------------------------------------------------------------------------ */

INLINE __m512 bytes_to_float(const uint8_t *u)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)u)));
}

/* sum + what one column of one tile adds. */
INLINE __m512 accumulate(struct kind kind, __m512 sum, const __m512i *block, lanes dot,
                         const struct rt_group *x)
{
    __m512 d = _mm512_castsi512_ps(block[kind.words]);
    __m512 m = _mm512_castsi512_ps(block[kind.words + 1]);
    __m512 scaled = _mm512_mul_ps(d, _mm512_set1_ps(x->scale));
    sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps((__m512i)dot), scaled, sum);
    return _mm512_fnmadd_ps(m, _mm512_set1_ps(x->t), sum);
}

INLINE __m512 brains_to_float(const uint8_t *bf16)
{
    __m512i bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)bf16));
    return _mm512_castsi512_ps(_mm512_slli_epi32(bits, 16));
}

/* D, of 8-bit weights a sixteenth of it, and M of the rows of a tile. */
struct rows {
    __m512 d, m;
};

INLINE struct rows rows_of(struct kind kind, const struct rt_tiles *w, size_t tile)
{
    const uint8_t *pairs = w->pairs + tile * PACK_PAIRS;
    __m512 d = brains_to_float(pairs);
    return (struct rows){kind.w8 ? _mm512_mul_ps(d, _mm512_set1_ps(0.0625F)) : d,
                         brains_to_float(pairs + 2 * TILE)};
}

INLINE void prefetch(const uint8_t *block, unsigned bytes)
{
#pragma GCC unroll 5
    for (unsigned i = 0; i < bytes; i += LINE)
        _mm_prefetch((const char *)block + AHEAD + i, _MM_HINT_T0);
}

/* Block `index` of the panel. */
INLINE void expand_block(struct kind kind, const struct rt_tiles *w, struct rows rows, size_t index,
                         __m512i *block)
{
    const uint8_t *h = w->h + index * PACK_H_BLOCK, *l = NULL;
    prefetch(h, PACK_H_BLOCK);
    if (kind.w8) {
        l = w->l + index * PACK_L_BLOCK;
        prefetch(l, PACK_L_BLOCK);
    }
    kind.expand(h + 2 * TILE, l, block);
    block[kind.words] = _mm512_castps_si512(_mm512_mul_ps(rows.d, bytes_to_float(h)));
    block[kind.words + 1] = _mm512_castps_si512(_mm512_mul_ps(rows.m, bytes_to_float(h + TILE)));
}

/* n_groups groups of one tile from group `from` on, column by column: few columns wait for
 * memory, and one tile is one stream of it. */
INLINE void dot_tile(struct kind kind, const struct rt_tiles *w, size_t tile, uint32_t from,
                     uint32_t n_groups, struct operand first, uint32_t n_cols, float *acc)
{
    const struct rows rows = rows_of(kind, w, tile);
    for (uint32_t g = 0; g < n_groups; g++, advance(kind, &first, 1)) {
        __m512i block[WORDS_A16 + 2];
        struct operand x = first;
        float *to = acc + tile * TILE;
        expand_block(kind, w, rows, tile * w->stride + from + g, block);
        for (uint32_t c = 0; c < n_cols; c++, advance(kind, &x, x.groups)) {
            lanes dot = kind.multiply ? dot_column(kind, block, &x) : dot_nibbles(block, x.q);
            _mm512_storeu_ps(to, accumulate(kind, _mm512_loadu_ps(to), block, dot, x.group));
            to += w->acc_stride;
        }
    }
}

/* n_cols columns, at most STEP, of a strip: expanded blocks [n_groups][n_tiles];
 * acc[n_cols][stride], of which [n_tiles][16]. */
INLINE void dot_strip(struct kind kind, const __m512i *strip, unsigned n_tiles, uint32_t n_groups,
                      struct operand x, unsigned n_cols, float *acc, size_t stride)
{
    __m512 sums[RT_TILES][STEP];
#pragma GCC unroll 6
    for (unsigned c = 0; c < n_cols; c++)
#pragma GCC unroll 2
        for (unsigned t = 0; t < n_tiles; t++)
            sums[t][c] = _mm512_loadu_ps(acc + c * stride + t * TILE);
    for (uint32_t g = 0; g < n_groups; g++, advance(kind, &x, 1)) {
        lanes dot[RT_TILES][STEP];
        dot_columns(kind, strip, n_tiles, &x, n_cols, dot);
#pragma GCC unroll 6
        for (unsigned c = 0; c < n_cols; c++)
#pragma GCC unroll 2
            for (unsigned t = 0; t < n_tiles; t++)
                sums[t][c] = accumulate(kind, sums[t][c], strip + t * block_size(kind), dot[t][c],
                                        &x.group[c * x.groups]);
        strip += n_tiles * block_size(kind);
    }
#pragma GCC unroll 6
    for (unsigned c = 0; c < n_cols; c++)
#pragma GCC unroll 2
        for (unsigned t = 0; t < n_tiles; t++)
            _mm512_storeu_ps(acc + c * stride + t * TILE, sums[t][c]);
}

/* All columns meet a strip: STEP at a time, then two, then one. */
INLINE void dot_steps(struct kind kind, const __m512i *strip, unsigned n_tiles, uint32_t n_groups,
                      struct operand x, uint32_t n_cols, float *acc, size_t stride)
{
    for (; n_cols >= STEP; n_cols -= STEP, advance(kind, &x, STEP * x.groups)) {
        dot_strip(kind, strip, n_tiles, n_groups, x, STEP, acc, stride);
        acc += STEP * stride;
    }
    for (; n_cols >= 2; n_cols -= 2, advance(kind, &x, 2 * x.groups)) {
        dot_strip(kind, strip, n_tiles, n_groups, x, 2, acc, stride);
        acc += 2 * stride;
    }
    if (n_cols)
        dot_strip(kind, strip, n_tiles, n_groups, x, 1, acc, stride);
}

/* Groups of a strip: as many as there is room for, and all strips about as long. */
INLINE uint32_t strip_groups(struct kind kind, unsigned n_tiles, uint32_t n_groups)
{
    uint32_t most = (uint32_t)(STRIP / (n_tiles * block_size(kind)));
    uint32_t strips = n_groups / most + 1;
    return n_groups / strips + 1;
}

/* n_tiles tiles: strip by strip, each expanded once. */
INLINE void dot_strips(struct kind kind, const struct rt_tiles *w, unsigned n_tiles,
                       struct operand x, uint32_t n_cols, float *acc)
{
    __m512i strip[STRIP];
    struct rows rows[RT_TILES];
    uint32_t most = strip_groups(kind, n_tiles, w->n_groups);
    for (unsigned t = 0; t < n_tiles; t++)
        rows[t] = rows_of(kind, w, t);
    for (uint32_t done = 0, n; done < w->n_groups; done += n, advance(kind, &x, n)) {
        __m512i *block = strip;
        n = w->n_groups - done < most ? w->n_groups - done : most;
        for (uint32_t g = 0; g < n; g++)
            for (unsigned t = 0; t < n_tiles; t++, block += block_size(kind))
                expand_block(kind, w, rows[t], (size_t)t * w->stride + done + g, block);
        dot_steps(kind, strip, n_tiles, n, x, n_cols, acc, w->acc_stride);
    }
}

INLINE void dot_tiles(struct kind kind, const struct rt_tiles *w, const struct rt_acts *acts,
                      size_t group, uint32_t n_cols, float *acc)
{
    struct operand x = operand_at(kind, acts, group);
    if (n_cols >= MANY && w->n_tiles == RT_TILES)
        dot_strips(kind, w, RT_TILES, x, n_cols, acc);
    else if (n_cols >= MANY)
        dot_strips(kind, w, 1, x, n_cols, acc);
    else
        for (size_t tile = 0; tile < w->n_tiles; tile++)
            dot_tile(kind, w, tile, 0, w->n_groups, x, n_cols, acc);
}

/* ---- 4-bit weights and few columns of 16-bit activations ------------------------------------ */

/* What dot_nibbles reads of some groups of each column. */
struct apart {
    _Alignas(LINE) uint8_t bytes[MANY - 1][APART][LINE];
    struct rt_group group[MANY - 1][APART];
};

/* Of each 16 bytes, activations 0 2 1 3 4 6 5 7, the low bytes in order, then the high ones. */
INLINE struct operand take_apart(struct operand x, uint32_t n_groups, uint32_t n_cols,
                                 struct apart *apart)
{
    const __m512i order =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 2, 6, 8, 12, 10, 14, 1, 5, 3, 7, 9, 13, 11, 15));
    for (uint32_t c = 0; c < n_cols; c++, advance(W4A16, &x, x.groups)) {
        for (uint32_t g = 0; g < n_groups; g++) {
            __m512i q = _mm512_loadu_si512(x.q + (size_t)g * LINE);
            _mm512_store_si512(apart->bytes[c][g], _mm512_shuffle_epi8(q, order));
        }
        memcpy(apart->group[c], x.group, n_groups * sizeof *x.group);
    }
    return (struct operand){apart->bytes[0][0], apart->group[0], APART};
}

INLINE void dot_tiles_apart(const struct rt_tiles *w, const struct rt_acts *acts, size_t group,
                            uint32_t n_cols, float *acc)
{
    struct apart apart;
    struct operand x = operand_at(W4A16, acts, group);
    for (uint32_t from = 0, n; from < w->n_groups; from += n, advance(W4A16, &x, n)) {
        n = w->n_groups - from < APART ? w->n_groups - from : APART;
        struct operand part = take_apart(x, n, n_cols, &apart);
        for (size_t tile = 0; tile < w->n_tiles; tile++)
            dot_tile(W4A16_APART, w, tile, from, n, part, n_cols, acc);
    }
}

/* ---- the table's functions ------------------------------------------------------------------ */

void rt_dot_w4a16_avx512vnni(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                             uint32_t n_cols, uint32_t group, float *acc)
{
    size_t first = (size_t)col * x->groups + group;
    if (n_cols < MANY)
        dot_tiles_apart(w, x, first, n_cols, acc);
    else
        dot_tiles(W4A16, w, x, first, n_cols, acc);
}

void rt_dot_w8a16_avx512vnni(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                             uint32_t n_cols, uint32_t group, float *acc)
{
    dot_tiles(W8A16, w, x, (size_t)col * x->groups + group, n_cols, acc);
}

void rt_dot_w4a8_avx512vnni(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                            uint32_t n_cols, uint32_t group, float *acc)
{
    dot_tiles(W4A8, w, x, (size_t)col * x->groups + group, n_cols, acc);
}

void rt_dot_w8a8_avx512vnni(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                            uint32_t n_cols, uint32_t group, float *acc)
{
    dot_tiles(W8A8, w, x, (size_t)col * x->groups + group, n_cols, acc);
}

INLINE __m512 halves_to_float(const uint8_t *f16)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)f16));
}

void rt_outlier_avx512vnni(const uint8_t *block, const struct rt_acts *acts, uint32_t col,
                           uint32_t n_cols, float *y, uint32_t y_stride)
{
    const uint8_t *h = block + 4 * TILE;
    __m512i weights[WORDS_A16];
    W8A16.expand(h, h + PACK_NIBBLES, weights);
    __m512 d = _mm512_mul_ps(halves_to_float(block), _mm512_set1_ps(0.0625F));
    __m512 m = halves_to_float(block + 2 * TILE);
    struct operand x = operand_at(W8A16, acts, (size_t)col * acts->groups);
    for (uint32_t c = 0; c < n_cols; c++, y += y_stride, advance(W8A16, &x, x.groups)) {
        __m512 dot = _mm512_cvtepi32_ps((__m512i)dot_column(W8A16, weights, &x));
        __m512 scaled = _mm512_mul_ps(d, _mm512_set1_ps(x.group->scale));
        __m512 o =
            _mm512_sub_ps(_mm512_mul_ps(dot, scaled), _mm512_mul_ps(m, _mm512_set1_ps(x.group->t)));
        _mm512_storeu_ps(y, _mm512_add_ps(_mm512_loadu_ps(y), o));
    }
}

INLINE void dot_f32_columns(const float *w, uint32_t n_groups, const float *x, uint32_t stride,
                            uint32_t n_cols, float *acc)
{
    __m512 sum[STEP_F32];
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
    for (; n_cols >= STEP_F32; n_cols -= STEP_F32) {
        dot_f32_columns(w, n_groups, x, stride, STEP_F32, acc);
        x += (size_t)STEP_F32 * stride;
        acc += STEP_F32 * TILE;
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
