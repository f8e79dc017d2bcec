/* The definition of every kernel, in plain C: docs/pack-format.md, "Arithmetic". */
#include "runtime/kernels/versions.h"

#include <math.h>
#include <string.h>

#include "base/base.h"

enum { GROUP = PACK_GROUP, TILE = PACK_TILE };

/* ---- quantization -------------------------------------------------------------------------- */

/* Where a16 keeps column `col` of a group: 0 2 1 3 within each four. */
static unsigned place_a16(unsigned col)
{
    static const unsigned order[4] = {0, 2, 1, 3};
    return col / 4 * 4 + order[col % 4];
}

/* Largest magnitude of a group. */
static float largest(const float *x)
{
    float amax = 0;
    for (unsigned i = 0; i < GROUP; i++)
        amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax; /* false for a NaN */
    return amax;
}

/* One group as integers in q[32]; an inverse of 0 makes all of them 0. */
static void round_group(const float *x, float inverse, int limit, int32_t *q)
{
    for (unsigned i = 0; i < GROUP; i++) {
        int32_t rounded = isnan(x[i]) || inverse == 0 ? 0 : (int32_t)rintf(x[i] * inverse);
        q[i] = rounded > limit ? limit : rounded < -limit ? -limit : rounded;
    }
}

/* One group as integers in q[32]; returns the scale. */
static float quantize_group(const float *x, int limit, int32_t *q)
{
    float amax = largest(x);
    bool zero = amax < RT_AMAX_MIN || isinf(amax);
    round_group(x, zero ? 0 : (float)limit / amax, limit, q);
    return zero ? 0 : amax / (float)limit;
}

static int32_t sum_group(const int32_t *q)
{
    int32_t sum = 0;
    for (unsigned i = 0; i < GROUP; i++)
        sum += q[i];
    return sum;
}

/* One group and what belongs to it; the integers go to q[32]. */
static void quantize_into(const float *x, int limit, const struct rt_acts *out, size_t group,
                          int32_t *q)
{
    float scale = quantize_group(x, limit, q);
    int32_t sum = sum_group(q);
    out->group[group] = (struct rt_group){scale, scale * (float)sum, sum, -8 * sum};
}

void rt_quantize_a16_scalar(const float *x, uint32_t n_groups, const struct rt_acts *out,
                            size_t group)
{
    int16_t *to = (int16_t *)out->q + group * GROUP;
    for (uint32_t g = 0; g < n_groups; g++, x += GROUP, to += GROUP) {
        int32_t q[GROUP];
        quantize_into(x, RT_Q16, out, group + g, q);
        for (unsigned i = 0; i < GROUP; i++)
            to[place_a16(i)] = (int16_t)q[i];
    }
}

void rt_quantize_a8_scalar(const float *x, uint32_t n_groups, const struct rt_acts *out,
                           size_t group)
{
    int8_t *to = (int8_t *)out->q + group * GROUP;
    for (uint32_t g = 0; g < n_groups; g++, x += GROUP, to += GROUP) {
        int32_t q[GROUP];
        quantize_into(x, RT_Q8, out, group + g, q);
        for (unsigned i = 0; i < GROUP; i++)
            to[i] = (int8_t)q[i];
    }
}

/* ---- matrix products ----------------------------------------------------------------------- */

/* The 4-bit weight of (row, col) in a plane of one block. */
static int nibble(const uint8_t *plane, unsigned row, unsigned col)
{
    uint8_t byte = plane[(col % 16 / 4 * TILE + row) * 4 + col % 4];
    return col < 16 ? byte & 15 : byte >> 4;
}

typedef int32_t activation_fn(const struct rt_acts *x, size_t group, unsigned col);

static int32_t activation_a16(const struct rt_acts *x, size_t group, unsigned col)
{
    return ((const int16_t *)x->q)[group * GROUP + place_a16(col)];
}

static int32_t activation_a8(const struct rt_acts *x, size_t group, unsigned col)
{
    return ((const int8_t *)x->q)[group * GROUP + col];
}

/* dot of one row with one group: sum of h q, or with an L plane sum of (16 h + l) q - 8 sum of q.
 */
static int32_t dot_row(const uint8_t *h, const uint8_t *l, unsigned row, const struct rt_acts *x,
                       size_t group, activation_fn *activation)
{
    int32_t dot = 0;
    for (unsigned i = 0; i < GROUP; i++) {
        int weight = l ? 16 * nibble(h, row, i) + nibble(l, row, i) : nibble(h, row, i);
        dot += weight * activation(x, group, i);
    }
    return l ? dot + x->group[group].minus_8_sum : dot;
}

/* Value `index` of D[16], M[16]. */
static float pair_value(const uint8_t *pairs, unsigned index)
{
    uint16_t bf16;
    memcpy(&bf16, pairs + sizeof bf16 * index, sizeof bf16);
    return ert_bf16_to_f32(bf16);
}

/* One block against one column's group; acc[16]. */
static void dot_block(const uint8_t *h, const uint8_t *l, const uint8_t *pairs,
                      const struct rt_acts *x, size_t group, activation_fn *activation, float *acc)
{
    const uint8_t *u_d = h, *u_m = h + TILE;
    float scale = x->group[group].scale, t = x->group[group].t;
    for (unsigned row = 0; row < TILE; row++) {
        int32_t dot = dot_row(h + 2 * TILE, l, row, x, group, activation);
        float d = pair_value(pairs, row) * (l ? 0.0625F : 1) * (float)u_d[row];
        float m = pair_value(pairs, TILE + row) * (float)u_m[row];
        acc[row] = fmaf(-m, t, fmaf((float)dot, d * scale, acc[row]));
    }
}

static void dot_tiles(const struct rt_tiles *w, bool w8, const struct rt_acts *x, uint32_t col,
                      uint32_t n_cols, uint32_t group, activation_fn *activation, float *acc)
{
    for (uint32_t c = 0; c < n_cols; c++)
        for (size_t tile = 0; tile < w->n_tiles; tile++)
            for (size_t g = 0; g < w->n_groups; g++) {
                size_t block = tile * w->stride + g;
                dot_block(w->h + block * PACK_H_BLOCK, w8 ? w->l + block * PACK_L_BLOCK : NULL,
                          w->pairs + tile * PACK_PAIRS, x,
                          (size_t)(col + c) * x->groups + group + g, activation,
                          acc + c * w->acc_stride + tile * TILE);
            }
}

void rt_dot_w4a16_scalar(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                         uint32_t n_cols, uint32_t group, float *acc)
{
    dot_tiles(w, false, x, col, n_cols, group, activation_a16, acc);
}

void rt_dot_w8a16_scalar(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                         uint32_t n_cols, uint32_t group, float *acc)
{
    dot_tiles(w, true, x, col, n_cols, group, activation_a16, acc);
}

void rt_dot_w4a8_scalar(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                        uint32_t n_cols, uint32_t group, float *acc)
{
    dot_tiles(w, false, x, col, n_cols, group, activation_a8, acc);
}

void rt_dot_w8a8_scalar(const struct rt_tiles *w, const struct rt_acts *x, uint32_t col,
                        uint32_t n_cols, uint32_t group, float *acc)
{
    dot_tiles(w, true, x, col, n_cols, group, activation_a8, acc);
}

void rt_outlier_scalar(const uint8_t *block, const struct rt_acts *x, uint32_t col, uint32_t n_cols,
                       float *y, uint32_t y_stride)
{
    uint16_t d[TILE], m[TILE];
    memcpy(d, block, sizeof d);
    memcpy(m, block + sizeof d, sizeof m);
    const uint8_t *h = block + sizeof d + sizeof m, *l = h + PACK_NIBBLES;
    for (uint32_t c = 0; c < n_cols; c++, y += y_stride) {
        size_t group = (size_t)(col + c) * x->groups;
        float scale = x->group[group].scale, t = x->group[group].t;
        for (unsigned row = 0; row < TILE; row++) {
            float dot = (float)dot_row(h, l, row, x, group, activation_a16);
            float o = dot * (ert_f16_to_f32(d[row]) * 0.0625F * scale) - ert_f16_to_f32(m[row]) * t;
            y[row] = y[row] + o;
        }
    }
}

void rt_dot_f32_scalar(const float *w, uint32_t n_groups, const float *x, uint32_t stride,
                       uint32_t n_cols, float *acc)
{
    for (uint32_t c = 0; c < n_cols; c++)
        for (size_t i = 0; i < (size_t)n_groups * GROUP; i++)
            for (unsigned row = 0; row < TILE; row++)
                acc[c * TILE + row] =
                    acc[c * TILE + row] + w[i * TILE + row] * x[(size_t)c * stride + i];
}

/* ---- vectors ------------------------------------------------------------------------------- */

void rt_rmsnorm_scalar(const float *x, const float *w, uint32_t n, uint32_t n_true, float eps,
                       float *out)
{
    double squares =
        0; /* a float squared is exact in double: the order of the sum hardly matters */
    for (uint32_t i = 0; i < n; i++)
        squares += (double)x[i] * x[i];
    float scale = (float)(1 / sqrt(squares / n_true + (double)eps));
    for (uint32_t i = 0; i < n; i++)
        out[i] = x[i] * scale * w[i];
}

void rt_swiglu_scalar(float *g, const float *u, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        g[i] = g[i] / (1 + expf(-g[i])) * u[i];
}

void rt_to_f16_scalar(const float *x, uint32_t n, uint16_t *out)
{
    for (uint32_t i = 0; i < n; i++)
        out[i] = ert_f32_to_f16(x[i]);
}

void rt_to_q8_scalar(const float *x, uint32_t n, uint8_t *out)
{
    for (uint32_t i = 0; i < n; i += GROUP, out += rt_cache_group(RT_CACHE_Q8)) {
        int32_t q[GROUP];
        uint16_t scale = rt_q8_scale(largest(x + i));
        round_group(x + i, rt_cache_inverse(scale), RT_Q8, q);
        memcpy(out, &scale, sizeof scale);
        for (unsigned d = 0; d < GROUP; d++)
            out[sizeof scale + d] = (uint8_t)q[d];
    }
}

/* The value of the largest magnitude of a group, of two the negative one. */
static float extreme(const float *x)
{
    float lowest = 0, highest = 0;
    for (unsigned i = 0; i < GROUP; i++) {
        lowest = x[i] < lowest ? x[i] : lowest; /* false for a NaN */
        highest = x[i] > highest ? x[i] : highest;
    }
    return -lowest >= highest ? lowest : highest;
}

void rt_to_q4_scalar(const float *x, uint32_t n, uint8_t *out)
{
    for (uint32_t i = 0; i < n; i += GROUP, out += rt_cache_group(RT_CACHE_Q4)) {
        int32_t q[GROUP];
        uint16_t scale = rt_q4_scale(extreme(x + i));
        round_group(x + i, rt_cache_inverse(scale), 8, q);
        memcpy(out, &scale, sizeof scale);
        for (unsigned d = 0; d < GROUP / 2; d++) {
            int32_t low = q[d] < 7 ? q[d] : 7, high = q[d + GROUP / 2];
            out[sizeof scale + d] = (uint8_t)((low & 15) | (high < 7 ? high : 7) * 16);
        }
    }
}

void rt_rotate_scalar(const float *turn, float *head, uint32_t dims, const uint16_t *pairs)
{
    for (uint32_t p = 0; p < dims / 2; p++) {
        float c = turn[2 * pairs[p]], s = turn[2 * pairs[p] + 1];
        float a = head[2 * p], b = head[2 * p + 1];
        head[2 * p] = a * c - b * s;
        head[2 * p + 1] = a * s + b * c;
    }
}

/* ---- attention ----------------------------------------------------------------------------- */

/* In place: exp(x - max); returns their sum. */
static double exponentials(float *x, uint32_t n, float *max)
{
    double sum = 0;
    *max = -INFINITY;
    for (uint32_t i = 0; i < n; i++)
        *max = x[i] > *max ? x[i] : *max;
    for (uint32_t i = 0; i < n; i++)
        sum += x[i] = expf(x[i] - *max);
    return sum;
}

float rt_softmax_part_scalar(float *x, uint32_t n, float *max)
{
    return (float)exponentials(x, n, max);
}

void rt_softmax_scalar(float *x, uint32_t n)
{
    float max, inverse = (float)(1 / exponentials(x, n, &max));
    for (uint32_t i = 0; i < n; i++)
        x[i] *= inverse;
}

/* What lies at a place of a group, of position `lane` of a tile. */
typedef float element_fn(const uint8_t *group, size_t lane, size_t place);

static float element_f16(const uint8_t *group, size_t lane, size_t place)
{
    uint16_t f16;
    (void)lane;
    memcpy(&f16, group + place * sizeof f16, sizeof f16);
    return ert_f16_to_f32(f16);
}

static float element_f32(const uint8_t *group, size_t lane, size_t place)
{
    float f32;
    (void)lane;
    memcpy(&f32, group + place * sizeof f32, sizeof f32);
    return f32;
}

static float element_q8(const uint8_t *group, size_t lane, size_t place)
{
    const int8_t *codes = (const int8_t *)group + TILE * rt_cache_scale(RT_CACHE_Q8);
    return pair_value(group, (unsigned)lane) * codes[place];
}

static float element_q4(const uint8_t *group, size_t lane, size_t place)
{
    uint8_t codes = group[TILE * rt_cache_scale(RT_CACHE_Q4) + place / 2];
    int8_t times_16 = (int8_t)(place % 2 ? codes & 0xf0 : (uint8_t)(codes << 4));
    int code = times_16 / 16;
    return pair_value(group, (unsigned)lane) * (float)code;
}

/* Group of dimension dim of a position, whose tile has so many lanes. */
static const uint8_t *group_at(enum rt_cache_type type, const struct rt_cached *c, size_t lanes,
                               size_t position, size_t dim)
{
    size_t group = position / lanes * (c->width / GROUP) + dim / GROUP;
    return (const uint8_t *)c->data + group * lanes * rt_cache_group(type);
}

static void score(element_fn *element, enum rt_cache_type type, const struct rt_cached *keys,
                  const float *q, uint32_t n_queries, float *scores)
{
    const size_t lanes = RT_CACHE_TILE;
    for (uint32_t i = 0; i < n_queries; i++, q += keys->width, scores += RT_CACHE_BLOCK)
        for (size_t p = 0; p < keys->n; p++) {
            scores[p] = 0;
            for (size_t d = 0; d < keys->dims; d++)
                scores[p] += q[d] * element(group_at(type, keys, lanes, p, d), p % lanes,
                                            rt_key_place(type, p % lanes, d % GROUP));
        }
}

static void mix(element_fn *element, enum rt_cache_type type, const struct rt_cached *values,
                const float *weights, uint32_t n_queries, float *out, uint32_t stride)
{
    const size_t lanes = rt_value_lanes(type);
    for (uint32_t i = 0; i < n_queries; i++, weights += RT_CACHE_BLOCK, out += stride) {
        memset(out, 0, values->dims * sizeof *out);
        for (size_t p = 0; p < values->n; p++)
            for (size_t d = 0; d < values->dims; d++)
                out[d] += weights[p] * element(group_at(type, values, lanes, p, d), p % lanes,
                                               rt_value_place(type, p % lanes, d % GROUP));
    }
}

void rt_score_f16_scalar(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                         float *scores)
{
    score(element_f16, RT_CACHE_F16, keys, q, n_queries, scores);
}

void rt_score_f32_scalar(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                         float *scores)
{
    score(element_f32, RT_CACHE_F32, keys, q, n_queries, scores);
}

void rt_score_q8_scalar(const struct rt_cached *keys, const float *q, uint32_t n_queries,
                        float *scores)
{
    score(element_q8, RT_CACHE_Q8, keys, q, n_queries, scores);
}

void rt_mix_f16_scalar(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                       float *out, uint32_t stride)
{
    mix(element_f16, RT_CACHE_F16, values, weights, n_queries, out, stride);
}

void rt_mix_f32_scalar(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                       float *out, uint32_t stride)
{
    mix(element_f32, RT_CACHE_F32, values, weights, n_queries, out, stride);
}

void rt_mix_q8_scalar(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                      float *out, uint32_t stride)
{
    mix(element_q8, RT_CACHE_Q8, values, weights, n_queries, out, stride);
}

void rt_mix_q4_scalar(const struct rt_cached *values, const float *weights, uint32_t n_queries,
                      float *out, uint32_t stride)
{
    mix(element_q4, RT_CACHE_Q4, values, weights, n_queries, out, stride);
}
