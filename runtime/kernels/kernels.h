/* kernels: one table, operation x ISA (kernels.def). The scalar column is the definition
 * (docs/pack-format.md, "Arithmetic"); every other column must give the same bits for quantization
 * and the matrix products (multiply-adds are fused there where the definition says so and nowhere
 * else) and stay within the bound stated per type elsewhere. The bounds hold for finite inputs; u =
 * 2^-23.
 *
 * Nothing here allocates, blocks or knows threads. Weights need no alignment, the other arrays only
 * that of their type. */
#ifndef RT_KERNELS_H
#define RT_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "runtime/pack_format.h"

enum {
    RT_COLS = 96, /* activation columns of one call: many, so that weights are expanded once */
    RT_TILES = 2, /* tiles of one call: several, so that an activation is loaded once for them */
    RT_CACHE_TILE = 16, /* positions whose keys are cached together */
    RT_CACHE_BLOCK =
        128, /* positions that attention takes in at a time, a multiple of RT_CACHE_TILE */
};

/* What belongs to a group of 32 quantized activations q. */
struct rt_group {
    float scale;
    float t; /* scale * (float)sum */
    int32_t sum;
    int32_t minus_8_sum;
};

/* Quantized activations of n_cols columns (tokens), each of `groups` groups of 32.
 * a16 keeps q as int16_t[32] per group in the order 0 2 1 3, 4 6 5 7, ... (so that a pair of 16-bit
 * weights masked out of a 32-bit word meets its pair of activations); a8 keeps int8_t[32] in order.
 */
struct rt_acts {
    void *q;                /* int16_t or int8_t [n_cols][groups][32] */
    struct rt_group *group; /* [n_cols][groups] */
    uint32_t groups;        /* stride between columns, in groups */
};

/* Blocks of neighbouring tiles of one panel. */
struct rt_tiles {
    const uint8_t *h, *l; /* blocks of the first tile; l is not read by w4 */
    const uint8_t *pairs; /* bf16 D[16], M[16] of each tile */
    uint32_t n_groups;    /* consecutive blocks of each tile */
    uint32_t n_tiles;     /* 1 to RT_TILES */
    uint32_t stride;      /* blocks from one tile to the next */
    uint32_t acc_stride;  /* floats from one column's accumulators to the next's */
};

/* How keys and values are cached. The 32 dimensions of a group are f32, f16, or a bf16 scale and
 * signed codes of 8 bits or, of values only, 4, of which a value is the product: exact in f32. */
enum rt_cache_type { RT_CACHE_F32, RT_CACHE_F16, RT_CACHE_Q8, RT_CACHE_Q4 };

static inline bool rt_cache_is_codes(enum rt_cache_type type)
{
    return type == RT_CACHE_Q8 || type == RT_CACHE_Q4;
}

/* Bits of one value. */
static inline size_t rt_cache_bits(enum rt_cache_type type)
{
    static const size_t bits[] = {
        [RT_CACHE_F32] = 32, [RT_CACHE_F16] = 16, [RT_CACHE_Q8] = 8, [RT_CACHE_Q4] = 4};
    return bits[type];
}

/* Bytes of one position's scale in a group, and of the group: 128, 64, 34 or 18. */
static inline size_t rt_cache_scale(enum rt_cache_type type)
{
    return rt_cache_is_codes(type) ? sizeof(uint16_t) : 0;
}

static inline size_t rt_cache_group(enum rt_cache_type type)
{
    return rt_cache_scale(type) + PACK_GROUP * rt_cache_bits(type) / 8;
}

/* Positions of one KV head's cache that queries meet together: [n / 16][width / 32] groups of whole
 * tiles, of which the last one's rest may be anything. Floats are value[32][16] of keys, and
 * value[32] of each position alone of values. Eight bits are {scale[16]; code}, with what is added
 * up side by side: code[16][16][2], two dimensions of a position, of keys; code[8][32][2], two
 * positions of a dimension, of values. Of four bits a byte has two dimensions, 16 apart:
 * byte[8][16][2], the first 16 in the low halves. */
struct rt_cached {
    const void *data;
    uint32_t width; /* dimensions cached, a multiple of 32 */
    uint32_t dims;  /* those that count, a multiple of 32 */
    uint32_t n;     /* positions */
};

/* Positions of a tile of values. */
static inline uint32_t rt_value_lanes(enum rt_cache_type type)
{
    return rt_cache_is_codes(type) ? RT_CACHE_TILE : 1;
}

/* Which of the values of a tile's group is dimension dim of position `lane`. */
static inline size_t rt_key_place(enum rt_cache_type type, size_t lane, size_t dim)
{
    return type == RT_CACHE_Q8 ? (dim / 2 * RT_CACHE_TILE + lane) * 2 + dim % 2
                               : dim * RT_CACHE_TILE + lane;
}

static inline size_t rt_value_place(enum rt_cache_type type, size_t lane, size_t dim)
{
    const size_t half = PACK_GROUP / 2;
    if (type == RT_CACHE_Q4)
        return ((lane / 2 * half + dim % half) * 2 + lane % 2) * 2 + dim / half;
    return type == RT_CACHE_Q8 ? (lane / 2 * PACK_GROUP + dim) * 2 + lane % 2 : dim;
}

/* w against columns col .. col + n_cols - 1 (1 to RT_COLS) of x from group `group` on.
 * Accumulators: float acc[n_cols][acc_stride], of which [n_tiles][16] are added to, not cleared. */
typedef void rt_dot_fn(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                       uint32_t n_cols, uint32_t group, float *acc);
/* y = y + o for one outlier block against group 0, a16, of columns col .. col + n_cols - 1 (1 to
 * RT_COLS); y is [n_cols][y_stride], 16 rows of it. */
typedef void rt_outlier_fn(const uint8_t *block, const struct rt_acts *x, uint32_t col,
                           uint32_t n_cols, float *y, uint32_t y_stride);
/* n_groups f32 blocks of one tile; x[n_cols][stride], n_cols from 1 to RT_COLS, starts at the first
 * of these columns; acc[n_cols][16] is added to. */
typedef void rt_dot_f32_fn(const float *w, uint32_t n_groups, const float *x, uint32_t stride,
                           uint32_t n_cols, float *acc);
/* Quantizes n_groups * 32 floats of one column into groups group .. group + n_groups - 1 of out,
 * counted through all columns. Defined for every input: a NaN counts as 0, and a group whose
 * largest magnitude is below 1e-30 or infinite is a zero group. */
typedef void rt_quantize_fn(const float *x, uint32_t n_groups, const struct rt_acts *out,
                            size_t group);
/* out = x / sqrt(mean(x^2) + eps) * w over n (multiple of 32) values of which n_true are real.
 * Within 2 u relative. out may be x. */
typedef void rt_rmsnorm_fn(const float *x, const float *w, uint32_t n, uint32_t n_true, float eps,
                           float *out);
/* g = silu(g) * u over n (multiple of 16) values. Within 8 u relative + 1e-36 |u|. */
typedef void rt_swiglu_fn(float *g, const float *u, uint32_t n);
/* scores[i][p] = dot(q + i * width, key p) over dims for every query i and position p < n, n at
 * most RT_CACHE_BLOCK; q is [n_queries][width], scores [n_queries][RT_CACHE_BLOCK], of which
 * positions up to a whole tile may be overwritten. A score depends on its query and key alone: same
 * bits for any n and n_queries. Within dims u sum |q k|; of 8 bits, where each 32 dimensions of
 * a query may be rounded to 16 bits, (max |q| / 64000 + 1e-30) sum |k| + 1e-30 of these more. */
typedef void rt_score_fn(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                         float *scores);
/* out[i][d] = sum over p < n of weights[i][p] * value p, p in order, for every query i; weights is
 * [n_queries][RT_CACHE_BLOCK], out [n_queries][stride]. n is at most RT_CACHE_BLOCK, of floats and
 * one query any. Same bits for any n_queries. Within n u sum |weight value|; of codes, where a
 * query's products of weight and scale may be rounded to 16 bits, (max |weight scale| / 64000 +
 * 1e-30) sum |code| + 1e-30 more. */
typedef void rt_mix_fn(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                       float *out, uint32_t stride);
/* In place: exp(x - max) of n values, at least one; returns their sum. Each within 4 u relative +
 * 1e-36, the sum within 8 u relative of that of the exact exponentials. Several parts merge by
 * their max and sum (online softmax, arXiv 1805.02867). */
typedef float rt_softmax_part_fn(float *x, uint32_t n, float *max);
/* In place: exp(x - max) / sum over n values. Within 8 u relative + 1e-36. */
typedef void rt_softmax_fn(float *x, uint32_t n);
/* n floats (multiple of 32) to f16, round to nearest even. Same bits, but for the payload of a NaN.
 */
typedef void rt_to_f16_fn(const float *x, uint32_t n, uint16_t *out);
/* n floats (multiple of 32) to groups {scale; code[32]}, one after another: scale = the largest
 * magnitude / 127 to the nearest bf16 (to even), code = x * (1 / scale), rounded to even, at most
 * 127. Defined for every input as rt_quantize_fn is. Same bits. */
typedef void rt_to_q8_fn(const float *x, uint32_t n, uint8_t *out);
/* The same with codes of 4 bits, {scale; byte[16]}: scale = the value of the largest magnitude (of
 * two the negative one) / -8 to the nearest bf16, code = x * (1 / scale), rounded to even, -8 to 7,
 * so that the whole range is used (as llama.cpp's Q4_0, quantize_row_q4_0_ref). Byte i has code i
 * in its low half and code i + 16 in its high one. Same bits. */
typedef void rt_to_q4_fn(const float *x, uint32_t n, uint8_t *out);
/* Rotates pairs [0, dims / 2) of one head, dims a multiple of 16 (RoPE, arXiv 2104.09864 eq. 34):
 * values a = head[2 p], b = head[2 p + 1] become a c - b s, a s + b c with c = turn[2 pairs[p]] the
 * cosine and s = turn[2 pairs[p] + 1] the sine of the pair's angle. Same bits. */
typedef void rt_rotate_fn(const float *turn, float *head, uint32_t dims, const uint16_t *pairs);

/* The kernels of one ISA, all of them callable: kernels.def fills what an ISA has no version of. */
struct rt_kernels {
    const char *isa; /* "scalar", "avx2", ... */
#define K(op, type, ...) rt_##type##_fn *op;
#include "runtime/kernels/kernels.def"
#undef K
};

/* The best table for this CPU. EDGERT_ISA=scalar in the environment asks for less; a name that is
 * unknown or beyond the CPU changes nothing. Constant as long as the environment is. */
const struct rt_kernels *rt_kernels_best(void);
/* The table of ISA i of those that the CPU has, in order of rising capability, NULL past the end.
 */
const struct rt_kernels *rt_kernels_isa(unsigned i);

#endif
