/* Matrix products of many columns for AVX2, with VNNI and without. Inner header of this folder.
 *
 * A strip of blocks is expanded into the L1 cache once, to what the multiplication wants; then a
 * few columns at a time pass over it, their dots of both halves of a tile in registers. */
#ifndef RT_PRODUCTS_MANY_AVX2_H
#define RT_PRODUCTS_MANY_AVX2_H

#include "runtime/kernels/products_avx2.h"

enum {
    MANY = 12,     /* columns from which it pays to keep weights expanded */
    STEP_MANY = 6, /* columns whose dots of a tile the registers hold */
    HALVES = TILE / LANES,
    VECTOR = sizeof(__m256i),
    WORDS_A8 = 8, /* 32-bit words of a group of activations */
    WORDS_A16 = 16,
    BLOCK_A16 = (WORDS_A16 + 2) * HALVES, /* vectors of a block expanded to 16 bits */
    STRIP_A16 = 16,                       /* blocks of a strip: the columns want some of L1 too */
    STRIP = STRIP_A16 * BLOCK_A16,        /* vectors of a strip */
};

/* Expands one half of a block: w[i * HALVES] is what meets word i of a group of activations. */
typedef void expand_fn(const uint8_t *h, const uint8_t *l, __m256i *w);
/* What multiply_fn added up as sums of 32 bits. */
typedef __m256i finish_fn(__m256i dot);

/* What a kind of weights and activations needs. */
struct kind {
    half_fn *half;     /* of few columns; the rest is for many */
    expand_fn *expand; /* to weights of 16 bits, which are what they are, or to bytes, 8 too high */
    multiply_fn *multiply;
    finish_fn *finish;  /* NULL: nothing to do */
    unsigned words;     /* of an expanded block, WORDS_A8 or WORDS_A16 */
    unsigned act_bytes; /* 1 with WORDS_A16: activations are widened */
    bool w8;
};

/* ---- weights ------------------------------------------------------------------------------- */

/* Two weights a word: columns 0 and 2, then 1 and 3 of each four (struct rt_acts). */
INLINE void expand_w4_to_16(const uint8_t *h, const uint8_t *l, __m256i *w)
{
    const __m256i low = _mm256_set1_epi16(0x000f);
    (void)l;
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++, w += 2 * HALVES) {
        __m256i wh = load(h + p * LINE);
        w[0] = _mm256_and_si256(wh, low);
        w[HALVES] = _mm256_and_si256(_mm256_srli_epi16(wh, 8), low);
        w[8 * HALVES] = _mm256_and_si256(_mm256_srli_epi16(wh, 4), low);
        w[9 * HALVES] = _mm256_srli_epi16(wh, 12);
    }
}

/* 16 h + l - 8. */
INLINE void expand_w8_to_16(const uint8_t *h, const uint8_t *l, __m256i *w)
{
    const __m256i even = _mm256_set1_epi16(0x00ff), eight = _mm256_set1_epi16(8);
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++, w += 2 * HALVES) {
        __m256i first, second;
        join(load(h + p * LINE), load(l + p * LINE), &first, &second);
        w[0] = _mm256_sub_epi16(_mm256_and_si256(first, even), eight);
        w[HALVES] = _mm256_sub_epi16(_mm256_srli_epi16(first, 8), eight);
        w[8 * HALVES] = _mm256_sub_epi16(_mm256_and_si256(second, even), eight);
        w[9 * HALVES] = _mm256_sub_epi16(_mm256_srli_epi16(second, 8), eight);
    }
}

/* Four weights a word. */
INLINE void expand_w4_to_8(const uint8_t *h, const uint8_t *l, __m256i *w)
{
    (void)l;
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++, w += HALVES)
        split(load(h + p * LINE), &w[0], &w[4 * HALVES]);
}

/* 16 h + l. */
INLINE void expand_w8_to_8(const uint8_t *h, const uint8_t *l, __m256i *w)
{
#pragma GCC unroll 4
    for (unsigned p = 0; p < QUADS; p++, w += HALVES)
        join(load(h + p * LINE), load(l + p * LINE), &w[0], &w[4 * HALVES]);
}

/* A block, expanded: words of weights [words][HALVES], then the floats D u_d and M u_m [TILE]. */
INLINE size_t block_size(struct kind kind)
{
    return (kind.words + 2) * HALVES;
}

INLINE float *block_d(struct kind kind, __m256i *block)
{
    return (float *)(block + kind.words * HALVES);
}

/* Block `index` of the panel. */
INLINE void expand_block(struct kind kind, const struct rt_tiles *w, const struct rows *rows,
                         size_t index, __m256i *block)
{
    const uint8_t *h = w->h + index * PACK_H_BLOCK, *l = NULL;
    float *d = block_d(kind, block);
    prefetch(h, PACK_H_BLOCK);
    if (kind.w8) {
        l = w->l + index * PACK_L_BLOCK;
        prefetch(l, PACK_L_BLOCK);
    }
#pragma GCC unroll 2
    for (unsigned first = 0; first < TILE; first += LANES, block++) {
        kind.expand(h + 2 * TILE + 4 * first, kind.w8 ? l + 4 * first : NULL, block);
        _mm256_store_ps(d + first, half_d(rows, h, first));
        _mm256_store_ps(d + TILE + first, half_m(rows, h, first));
    }
}

/* ---- activations --------------------------------------------------------------------------- */

/* Activations of some columns from a group on. */
struct columns {
    const uint8_t *q;
    const struct rt_group *group;
    size_t q_stride, groups; /* bytes and groups from one column to the next */
};

INLINE void skip_columns(struct columns *x, size_t n)
{
    x->q += n * x->q_stride;
    x->group += n * x->groups;
}

INLINE void skip_groups(struct columns *x, size_t n, size_t bytes)
{
    x->q += n * bytes;
    x->group += n;
}

INLINE bool widens(struct kind kind)
{
    return kind.act_bytes == 1 && kind.words == WORDS_A16;
}

/* Some groups of n_cols columns in 16 bits: of a group columns 0, 2, 4, ..., then 1, 3, 5, ... */
INLINE struct columns widen(struct columns x, uint32_t n_groups, unsigned n_cols,
                            __m256i wide[][STRIP_A16][2])
{
#pragma GCC unroll 6
    for (unsigned c = 0; c < n_cols; c++)
        for (uint32_t g = 0; g < n_groups; g++) {
            __m256i q = load(x.q + c * x.q_stride + (size_t)g * GROUP);
            wide[c][g][0] = _mm256_srai_epi16(_mm256_slli_epi16(q, 8), 8);
            wide[c][g][1] = _mm256_srai_epi16(q, 8);
        }
    return (struct columns){(const uint8_t *)wide, x.group, sizeof *wide, x.groups};
}

/* Where of a group that is what word i of weights meets. */
INLINE unsigned word_at(struct kind kind, unsigned i)
{
    return widens(kind) ? i / 2 + i % 2 * WORDS_A8 : i;
}

/* ---- products ------------------------------------------------------------------------------ */

/* What a dot starts from: bytes of W8 count each weight 8 too high. */
INLINE __m256i start(struct kind kind, const struct rt_group *group)
{
    return kind.w8 && kind.words == WORDS_A8 ? _mm256_set1_epi32(group->minus_8_sum)
                                             : _mm256_setzero_si256();
}

/* A block and n_cols columns, at most STEP_MANY; acc[n_cols][stride]. */
INLINE void dot_block(struct kind kind, __m256i *block, const struct columns *x, unsigned n_cols,
                      float *acc, size_t stride)
{
    __m256i dot[STEP_MANY][HALVES];
#pragma GCC unroll 6
    for (unsigned c = 0; c < n_cols; c++)
        dot[c][0] = dot[c][1] = start(kind, x->group + c * x->groups);
#pragma GCC unroll 16
    for (unsigned i = 0; i < kind.words; i++) {
        __m256i top = block[i * HALVES], bottom = block[i * HALVES + 1];
#pragma GCC unroll 6
        for (unsigned c = 0; c < n_cols; c++) {
            __m256i q = broadcast(x->q + c * x->q_stride, word_at(kind, i));
            dot[c][0] = kind.multiply(dot[c][0], top, q);
            dot[c][1] = kind.multiply(dot[c][1], bottom, q);
        }
    }
    const float *d = block_d(kind, block), *m = d + TILE;
#pragma GCC unroll 6
    for (unsigned c = 0; c < n_cols; c++)
#pragma GCC unroll 2
        for (unsigned half = 0; half < HALVES; half++) {
            __m256i sums = kind.finish ? kind.finish(dot[c][half]) : dot[c][half];
            add_dot(acc + c * stride + half * LANES, sums, _mm256_load_ps(d + half * LANES),
                    _mm256_load_ps(m + half * LANES), x->group + c * x->groups);
        }
}

/* A strip, blocks [n_tiles][n_groups], and n_cols columns, at most STEP_MANY. */
INLINE void dot_strip(struct kind kind, __m256i *strip, uint32_t n_tiles, uint32_t n_groups,
                      struct columns x, unsigned n_cols, float *acc, size_t stride)
{
    __m256i wide[STEP_MANY][STRIP_A16][2];
    if (widens(kind))
        x = widen(x, n_groups, n_cols, wide);
    for (uint32_t tile = 0; tile < n_tiles; tile++, acc += TILE) {
        struct columns at = x;
        for (uint32_t g = 0; g < n_groups; g++, strip += block_size(kind)) {
            dot_block(kind, strip, &at, n_cols, acc, stride);
            skip_groups(&at, 1, kind.words * sizeof(int32_t));
        }
    }
}

/* All columns: STEP_MANY at a time, then two, then one. */
INLINE void dot_steps(struct kind kind, __m256i *strip, uint32_t n_tiles, uint32_t n_groups,
                      struct columns x, uint32_t n_cols, float *acc, size_t stride)
{
    for (; n_cols >= STEP_MANY; n_cols -= STEP_MANY, skip_columns(&x, STEP_MANY)) {
        dot_strip(kind, strip, n_tiles, n_groups, x, STEP_MANY, acc, stride);
        acc += STEP_MANY * stride;
    }
    for (; n_cols >= 2; n_cols -= 2, skip_columns(&x, 2)) {
        dot_strip(kind, strip, n_tiles, n_groups, x, 2, acc, stride);
        acc += 2 * stride;
    }
    if (n_cols)
        dot_strip(kind, strip, n_tiles, n_groups, x, 1, acc, stride);
}

/* Groups of a strip: as many as there is room for, and all strips about as long. */
INLINE uint32_t strip_groups(struct kind kind, const struct rt_tiles *w)
{
    uint32_t most = (uint32_t)(STRIP / (w->n_tiles * block_size(kind)));
    uint32_t strips = w->n_groups / most + 1;
    return w->n_groups / strips + 1;
}

INLINE void dot_many(struct kind kind, const struct rt_tiles *w, struct columns x, uint32_t n_cols,
                     float *acc)
{
    __m256i strip[STRIP];
    struct rows rows[RT_TILES];
    uint32_t most = strip_groups(kind, w);
    for (size_t tile = 0; tile < w->n_tiles; tile++)
        load_rows(&rows[tile], w->pairs + tile * PACK_PAIRS, kind.w8);
    for (uint32_t done = 0, n; done < w->n_groups; done += n) {
        __m256i *block = strip;
        n = w->n_groups - done < most ? w->n_groups - done : most;
        for (size_t tile = 0; tile < w->n_tiles; tile++)
            for (uint32_t g = 0; g < n; g++, block += block_size(kind))
                expand_block(kind, w, &rows[tile], tile * w->stride + done + g, block);
        dot_steps(kind, strip, w->n_tiles, n, x, n_cols, acc, w->acc_stride);
        skip_groups(&x, n, GROUP * kind.act_bytes);
    }
}

/* ---- the table's functions ------------------------------------------------------------------ */

INLINE void dot(struct kind kind, const struct rt_tiles *w, const struct rt_acts *acts,
                size_t group, uint32_t n_cols, float *acc)
{
    size_t bytes = GROUP * kind.act_bytes;
    struct columns x = {(const uint8_t *)acts->q + group * bytes, acts->group + group,
                        acts->groups * bytes, acts->groups};
    if (n_cols < MANY)
        dot_tiles(kind.half, w, kind.w8, acts, group, kind.act_bytes, n_cols, acc);
    else
        dot_many(kind, w, x, n_cols, acc);
}

/* The four products of an ISA, which says what W4A16, W8A16, W4A8 and W8A8 are. */
#define DOTS(isa)                                                                                  \
    DOT(w4a16, W4A16, isa)                                                                         \
    DOT(w8a16, W8A16, isa)                                                                         \
    DOT(w4a8, W4A8, isa)                                                                           \
    DOT(w8a8, W8A8, isa)
#define DOT(variant, kind, isa)                                                                    \
    void rt_dot_##variant##_##isa(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col, \
                                  uint32_t n_cols, uint32_t group, float *acc)                     \
    {                                                                                              \
        dot(kind, w, x, (size_t)col * x->groups + group, n_cols, acc);                             \
    }

#endif
