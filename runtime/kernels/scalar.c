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

/* One group as integers in q[32]; returns the scale. */
static float quantize_group(const float *x, int limit, int32_t *q)
{
    float amax = 0;
    for (unsigned i = 0; i < GROUP; i++)
        amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax; /* false for a NaN */
    if (amax < RT_AMAX_MIN || isinf(amax)) {
        memset(q, 0, GROUP * sizeof *q);
        return 0;
    }
    float inverse = (float)limit / amax;
    for (unsigned i = 0; i < GROUP; i++) {
        int32_t rounded = isnan(x[i]) ? 0 : (int32_t)rintf(x[i] * inverse);
        q[i] = rounded > limit ? limit : rounded < -limit ? -limit : rounded;
    }
    return amax / (float)limit;
}

static int32_t sum_group(const int32_t *q)
{
    int32_t sum = 0;
    for (unsigned i = 0; i < GROUP; i++)
        sum += q[i];
    return sum;
}

void rt_quantize_a16_scalar(const float *x, uint32_t n_groups, void *q, float *scale, int32_t *sum)
{
    int16_t *out = q;
    for (uint32_t g = 0; g < n_groups; g++, x += GROUP, out += GROUP) {
        int32_t group[GROUP];
        scale[g] = quantize_group(x, RT_Q16, group);
        sum[g] = sum_group(group);
        for (unsigned i = 0; i < GROUP; i++)
            out[place_a16(i)] = (int16_t)group[i];
    }
}

void rt_quantize_a8_scalar(const float *x, uint32_t n_groups, void *q, float *scale, int32_t *sum)
{
    int8_t *out = q;
    for (uint32_t g = 0; g < n_groups; g++, x += GROUP, out += GROUP) {
        int32_t group[GROUP];
        scale[g] = quantize_group(x, RT_Q8, group);
        sum[g] = sum_group(group);
        for (unsigned i = 0; i < GROUP; i++)
            out[i] = (int8_t)group[i];
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
    return l ? dot - 8 * x->sum[group] : dot;
}

/* One block against one column's group; acc[2][16]. */
static void dot_block(const uint8_t *h, const uint8_t *l, const struct rt_acts *x, size_t group,
                      activation_fn *activation, float *acc)
{
    const uint8_t *u_d = h, *u_m = h + TILE;
    float scale = x->scale[group], t = scale * (float)x->sum[group];
    for (unsigned row = 0; row < TILE; row++) {
        int32_t dot = dot_row(h + 2 * TILE, l, row, x, group, activation);
        acc[row] = acc[row] + (float)dot * ((float)u_d[row] * scale);
        acc[TILE + row] = acc[TILE + row] + (float)u_m[row] * t;
    }
}

static void dot_blocks(const uint8_t *h, const uint8_t *l, uint32_t n_groups,
                       const struct rt_acts *x, uint32_t col, uint32_t n_cols, uint32_t group,
                       activation_fn *activation, float *acc)
{
    for (uint32_t c = 0; c < n_cols; c++)
        for (size_t g = 0; g < n_groups; g++)
            dot_block(h + g * PACK_H_BLOCK, l ? l + g * PACK_L_BLOCK : NULL, x,
                      (size_t)(col + c) * x->groups + group + g, activation,
                      acc + (size_t)c * 2 * TILE);
}

void rt_dot_w4a16_scalar(const uint8_t *h, const uint8_t *l, uint32_t n_groups,
                         const struct rt_acts *x, uint32_t col, uint32_t n_cols, uint32_t group,
                         float *acc)
{
    (void)l;
    dot_blocks(h, NULL, n_groups, x, col, n_cols, group, activation_a16, acc);
}

void rt_dot_w8a16_scalar(const uint8_t *h, const uint8_t *l, uint32_t n_groups,
                         const struct rt_acts *x, uint32_t col, uint32_t n_cols, uint32_t group,
                         float *acc)
{
    dot_blocks(h, l, n_groups, x, col, n_cols, group, activation_a16, acc);
}

void rt_dot_w8a8_scalar(const uint8_t *h, const uint8_t *l, uint32_t n_groups,
                        const struct rt_acts *x, uint32_t col, uint32_t n_cols, uint32_t group,
                        float *acc)
{
    dot_blocks(h, l, n_groups, x, col, n_cols, group, activation_a8, acc);
}

static void outlier_block(const uint8_t *block, const struct rt_acts *x, uint32_t col,
                          uint32_t n_cols, activation_fn *activation, float *o)
{
    uint16_t d[TILE], m[TILE];
    memcpy(d, block, sizeof d);
    memcpy(m, block + sizeof d, sizeof m);
    const uint8_t *h = block + sizeof d + sizeof m, *l = h + PACK_NIBBLES;
    for (uint32_t c = 0; c < n_cols; c++) {
        size_t group = (size_t)(col + c) * x->groups;
        float scale = x->scale[group], t = scale * (float)x->sum[group];
        for (unsigned row = 0; row < TILE; row++) {
            float dot = (float)dot_row(h, l, row, x, group, activation);
            o[c * TILE + row] =
                dot * (ert_f16_to_f32(d[row]) * 0.0625F * scale) - ert_f16_to_f32(m[row]) * t;
        }
    }
}

void rt_outlier_a16_scalar(const uint8_t *block, const struct rt_acts *x, uint32_t col,
                           uint32_t n_cols, float *o)
{
    outlier_block(block, x, col, n_cols, activation_a16, o);
}

void rt_outlier_a8_scalar(const uint8_t *block, const struct rt_acts *x, uint32_t col,
                          uint32_t n_cols, float *o)
{
    outlier_block(block, x, col, n_cols, activation_a8, o);
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

/* ---- attention ----------------------------------------------------------------------------- */

void rt_softmax_scalar(float *x, uint32_t n)
{
    float max = -INFINITY;
    for (uint32_t i = 0; i < n; i++)
        max = x[i] > max ? x[i] : max;
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += x[i] = expf(x[i] - max);
    float inverse = (float)(1 / sum);
    for (uint32_t i = 0; i < n; i++)
        x[i] *= inverse;
}

void rt_score_f16_scalar(const float *q, const void *keys, uint32_t stride, uint32_t n,
                         uint32_t dims, float scale, float *scores)
{
    const uint16_t *key = keys;
    for (uint32_t i = 0; i < n; i++, key += stride) {
        float dot = 0;
        for (uint32_t d = 0; d < dims; d++)
            dot += q[d] * ert_f16_to_f32(key[d]);
        scores[i] = dot * scale;
    }
}

void rt_score_f32_scalar(const float *q, const void *keys, uint32_t stride, uint32_t n,
                         uint32_t dims, float scale, float *scores)
{
    const float *key = keys;
    for (uint32_t i = 0; i < n; i++, key += stride) {
        float dot = 0;
        for (uint32_t d = 0; d < dims; d++)
            dot += q[d] * key[d];
        scores[i] = dot * scale;
    }
}

void rt_mix_f16_scalar(const float *weights, const void *values, uint32_t stride, uint32_t n,
                       uint32_t dims, float *out)
{
    const uint16_t *value = values;
    memset(out, 0, dims * sizeof *out);
    for (uint32_t i = 0; i < n; i++, value += stride)
        for (uint32_t d = 0; d < dims; d++)
            out[d] += weights[i] * ert_f16_to_f32(value[d]);
}

void rt_mix_f32_scalar(const float *weights, const void *values, uint32_t stride, uint32_t n,
                       uint32_t dims, float *out)
{
    const float *value = values;
    memset(out, 0, dims * sizeof *out);
    for (uint32_t i = 0; i < n; i++, value += stride)
        for (uint32_t d = 0; d < dims; d++)
            out[d] += weights[i] * value[d];
}
