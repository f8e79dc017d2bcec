/* Attention over a cache for NEON: fused multiply-add, one lane per result, in order. A lane is a
 * position where queries meet keys, a dimension where weights meet values; what is cached is
 * converted once for as many queries as the registers hold sums for. */
#include "runtime/kernels/versions.h"

#include <arm_neon.h>

enum {
    LANES = 4,
    QUERIES = 3, /* that share what was loaded */
    GROUP = PACK_GROUP,
    VECTORS = GROUP / LANES, /* of keys or values */
    TILE = RT_CACHE_TILE,
    TILE_VECTORS = TILE / LANES,
};

#define INLINE static inline __attribute__((always_inline))

/* Scales of four positions, if they have any. */
INLINE float32x4_t load_scales(enum rt_cache_type type, const uint8_t *scales)
{
    if (type != RT_CACHE_Q8)
        return vdupq_n_f32(0);
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(vld1_u8(scales)), 16));
}

/* One position's scale, if it has one. */
INLINE float32x4_t load_scale(enum rt_cache_type type, const uint8_t *scale)
{
    if (type != RT_CACHE_Q8)
        return vdupq_n_f32(0);
    uint32_t bf16 = (uint32_t)scale[0] << 16 | (uint32_t)scale[1] << 24;
    return vreinterpretq_f32_u32(vdupq_n_u32(bf16));
}

/* Values i .. i + 3, i a constant: neighbours share one load of eight codes. */
INLINE float32x4_t load(enum rt_cache_type type, const uint8_t *from, size_t i, float32x4_t scale)
{
    if (type == RT_CACHE_F32)
        return vld1q_f32((const float *)(const void *)from + i);
    if (type == RT_CACHE_F16)
        return vcvt_f32_f16(
            vreinterpret_f16_u16(vld1_u16((const uint16_t *)(const void *)from + i)));
    int16x8_t eight = vmovl_s8(vld1_s8((const int8_t *)from + i / 8 * 8));
    int16x4_t codes = i % 8 ? vget_high_s16(eight) : vget_low_s16(eight);
    return vmulq_f32(scale, vcvtq_f32_s32(vmovl_s16(codes)));
}

/* What the group of dimension dim of a position (of a tile) begins with. */
INLINE const uint8_t *group_at(enum rt_cache_type type, const struct rt_cached *c, size_t lanes,
                               size_t row, size_t dim)
{
    size_t group = row * (c->width / GROUP) + dim / GROUP;
    return (const uint8_t *)c->data + group * lanes * rt_cache_group(type);
}

/* ---- scores -------------------------------------------------------------------------------- */

/* n_vectors vectors of keys from the beginning of a tile on and n_q queries, both constant. */
INLINE void score_strip(enum rt_cache_type type, const struct rt_cached *keys, size_t tile,
                        unsigned n_vectors, const float *q, unsigned n_q, float *scores)
{
    float32x4_t sum[QUERIES][VECTORS];
#pragma GCC unroll 3
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 8
        for (unsigned v = 0; v < n_vectors; v++)
            sum[i][v] = vdupq_n_f32(0);
    for (uint32_t g = 0; g < keys->dims; g += GROUP) {
        const uint8_t *group[VECTORS / TILE_VECTORS];
        float32x4_t scale[VECTORS];
#pragma GCC unroll 8
        for (unsigned v = 0; v < n_vectors; v++) {
            size_t lane = v % TILE_VECTORS * (size_t)LANES;
            group[v / TILE_VECTORS] = group_at(type, keys, TILE, tile + v / TILE_VECTORS, g);
            scale[v] = load_scales(type, group[v / TILE_VECTORS] + lane * rt_cache_scale(type));
        }
        for (uint32_t d = 0; d < GROUP; d++) {
            size_t row = TILE * (rt_cache_scale(type) + d * rt_cache_element(type));
#pragma GCC unroll 8
            for (unsigned v = 0; v < n_vectors; v++) {
                float32x4_t key = load(type, group[v / TILE_VECTORS] + row,
                                       v % TILE_VECTORS * (size_t)LANES, scale[v]);
#pragma GCC unroll 3
                for (unsigned i = 0; i < n_q; i++)
                    sum[i][v] = vfmaq_n_f32(sum[i][v], key, q[(size_t)i * keys->width + g + d]);
            }
        }
    }
#pragma GCC unroll 3
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 8
        for (unsigned v = 0; v < n_vectors; v++)
            vst1q_f32(scores + (size_t)i * RT_CACHE_BLOCK + tile * TILE + (size_t)v * LANES,
                      sum[i][v]);
}

INLINE void score_queries(enum rt_cache_type type, const struct rt_cached *keys, const float *q,
                          unsigned n_q, float *scores)
{
    size_t n = (keys->n + TILE - 1) / TILE, tile = 0;
    for (; tile + VECTORS / TILE_VECTORS <= n; tile += VECTORS / TILE_VECTORS)
        score_strip(type, keys, tile, VECTORS, q, n_q, scores);
    for (; tile < n; tile++)
        score_strip(type, keys, tile, TILE_VECTORS, q, n_q, scores);
}

/* Each number of queries has its own code, with the sums in registers. */
INLINE void score(enum rt_cache_type type, const struct rt_cached *keys, const float *q,
                  uint32_t n_queries, float *scores)
{
    for (uint32_t left = n_queries, n; left > 0; left -= n) {
        n = left < QUERIES ? left : QUERIES;
        switch (n) {
        case 1:
            score_queries(type, keys, q, 1, scores);
            break;
        case 2:
            score_queries(type, keys, q, 2, scores);
            break;
        default:
            score_queries(type, keys, q, QUERIES, scores);
        }
        q += (size_t)n * keys->width;
        scores += (size_t)n * RT_CACHE_BLOCK;
    }
}

void rt_score_f16_neon(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                       float *scores)
{
    score(RT_CACHE_F16, keys, q, n_queries, scores);
}

void rt_score_f32_neon(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                       float *scores)
{
    score(RT_CACHE_F32, keys, q, n_queries, scores);
}

void rt_score_q8_neon(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                      float *scores)
{
    score(RT_CACHE_Q8, keys, q, n_queries, scores);
}

/* ---- weighted values ------------------------------------------------------------------------ */

/* The VECTORS vectors of a group of dimensions from d on and n_q queries, a constant. */
INLINE void mix_strip(enum rt_cache_type type, const struct rt_cached *values, size_t d,
                      const float *weights, unsigned n_q, float *out, uint32_t stride)
{
    float32x4_t sum[QUERIES][VECTORS];
#pragma GCC unroll 3
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 8
        for (unsigned v = 0; v < VECTORS; v++)
            sum[i][v] = vdupq_n_f32(0);
    for (size_t p = 0; p < values->n; p++) {
        const uint8_t *group = group_at(type, values, 1, p, d);
        float32x4_t scale = load_scale(type, group);
#pragma GCC unroll 8
        for (unsigned v = 0; v < VECTORS; v++) {
            float32x4_t value = load(type, group + rt_cache_scale(type), (size_t)v * LANES, scale);
#pragma GCC unroll 3
            for (unsigned i = 0; i < n_q; i++)
                sum[i][v] = vfmaq_n_f32(sum[i][v], value, weights[(size_t)i * RT_CACHE_BLOCK + p]);
        }
    }
#pragma GCC unroll 3
    for (unsigned i = 0; i < n_q; i++)
#pragma GCC unroll 8
        for (unsigned v = 0; v < VECTORS; v++)
            vst1q_f32(out + (size_t)i * stride + d + (size_t)v * LANES, sum[i][v]);
}

INLINE void mix_queries(enum rt_cache_type type, const struct rt_cached *values,
                        const float *weights, unsigned n_q, float *out, uint32_t stride)
{
    for (uint32_t d = 0; d < values->dims; d += VECTORS * LANES)
        mix_strip(type, values, d, weights, n_q, out, stride);
}

INLINE void mix(enum rt_cache_type type, const struct rt_cached *values, const float *weights,
                uint32_t n_queries, float *out, uint32_t stride)
{
    for (uint32_t left = n_queries, n; left > 0; left -= n) {
        n = left < QUERIES ? left : QUERIES;
        switch (n) {
        case 1:
            mix_queries(type, values, weights, 1, out, stride);
            break;
        case 2:
            mix_queries(type, values, weights, 2, out, stride);
            break;
        default:
            mix_queries(type, values, weights, QUERIES, out, stride);
        }
        weights += (size_t)n * RT_CACHE_BLOCK;
        out += (size_t)n * stride;
    }
}

void rt_mix_f16_neon(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                     float *out, uint32_t stride)
{
    mix(RT_CACHE_F16, values, weights, n_queries, out, stride);
}

void rt_mix_f32_neon(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                     float *out, uint32_t stride)
{
    mix(RT_CACHE_F32, values, weights, n_queries, out, stride);
}

void rt_mix_q8_neon(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                    float *out, uint32_t stride)
{
    mix(RT_CACHE_Q8, values, weights, n_queries, out, stride);
}
