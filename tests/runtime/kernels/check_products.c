/* Products of packed weights and quantized columns, of floats, and the outlier group's. */
#include "tests/runtime/kernels/check.h"

enum {
    MAX_GROUPS = 100,    /* more than any kernel takes at a time */
    MOST_WORK = 18 * 13, /* groups x columns of one case: scalar is slow */
};

/* Numbers of columns around every step a kernel may take them in. */
static const uint32_t column_counts[] = {1,  2,  3,  4,  5,  7,  8,           9,
                                         11, 12, 13, 16, 17, 31, RT_COLS - 1, RT_COLS};
enum { N_COLUMN_COUNTS = sizeof column_counts / sizeof column_counts[0] };

/* ---- weights: "byte (p * 16 + row) * 4 + j holds column 4p + j low, 16 + 4p + j high" -------- */

static int64_t weight4(const uint8_t *nibbles, unsigned row, unsigned col)
{
    for (unsigned p = 0; p < 4; p++)
        for (unsigned j = 0; j < 4; j++) {
            unsigned byte = nibbles[(p * 16 + row) * 4 + j];
            if (4 * p + j == col)
                return byte & 0x0f;
            if (16 + 4 * p + j == col)
                return byte >> 4;
        }
    return -1;
}

static int64_t reference_dot(const uint8_t *h, const uint8_t *l, unsigned row,
                             const struct rt_acts *x, size_t group, unsigned bits)
{
    int64_t dot = 0;
    for (unsigned i = 0; i < 32; i++) {
        int64_t q = activation(x, group, i, bits);
        dot +=
            l ? (16 * weight4(h, row, i) + weight4(l, row, i)) * q - 8 * q : weight4(h, row, i) * q;
    }
    return dot;
}

/* Row pairs with some denormal numbers among them. */
static uint8_t *new_pairs(uint64_t *seed, size_t n_tiles)
{
    uint8_t *pairs = new_bytes(n_tiles * PACK_PAIRS);
    for (size_t i = 0; i < n_tiles * 2 * PACK_TILE; i++) {
        uint16_t bf16 = ert_f32_to_bf16(fabsf(random_float(seed)) * (i % 7 ? 1e-3F : 1e-38F));
        memcpy(pairs + sizeof bf16 * i, &bf16, sizeof bf16);
    }
    return pairs;
}

static double pair_value(const uint8_t *pairs, unsigned i)
{
    uint16_t bf16;
    memcpy(&bf16, pairs + sizeof bf16 * i, sizeof bf16);
    return (double)ert_bf16_to_f32(bf16);
}

enum weight_fill { WEIGHTS_RANDOM, WEIGHTS_LARGEST, WEIGHTS_ZERO, N_WEIGHT_FILLS };

static uint8_t *new_weights(uint64_t *seed, size_t n, enum weight_fill fill)
{
    uint8_t *w = new_bytes(n);
    if (fill == WEIGHTS_RANDOM)
        random_bytes(seed, w, n);
    else
        memset(w, fill == WEIGHTS_LARGEST ? 0xff : 0, n);
    return w;
}

/* ---- dot ----------------------------------------------------------------------------------- */

struct dot_case {
    struct rt_tiles tiles; /* shape only */
    uint32_t n_cols, col, group, groups;
    enum weight_fill weights;
    enum act_fill acts;
};

static void run_dot_case(rt_dot_fn *fn, rt_dot_fn *scalar, bool w8, unsigned bits,
                         const struct dot_case *t, uint64_t seed)
{
    struct rt_tiles w = t->tiles;
    size_t n_blocks = (size_t)(w.n_tiles - 1) * w.stride + w.n_groups;
    uint8_t *h = new_weights(&seed, n_blocks * PACK_H_BLOCK, t->weights);
    uint8_t *l = w8 ? new_weights(&seed, n_blocks * PACK_L_BLOCK, t->weights) : NULL;
    uint8_t *pairs = new_pairs(&seed, w.n_tiles);
    struct rt_acts x = new_acts(&seed, t->col + t->n_cols, t->groups, bits, t->acts);
    size_t n = (size_t)t->n_cols * w.acc_stride; /* what lies between stays as it is */
    float *acc = new_floats(n), *expected = new_floats(n);
    random_floats(&seed, acc, n, 1);
    memcpy(expected, acc, n * sizeof *acc);
    w.h = h;
    w.l = l;
    w.pairs = pairs;
    fn(&w, &x, t->col, t->n_cols, t->group, acc);
    scalar(&w, &x, t->col, t->n_cols, t->group, expected);
    assert_same_bits(acc, expected, n * sizeof *acc);
    free_floats(acc);
    free_floats(expected);
    free_acts(&x);
    free_bytes(pairs);
    free_bytes(h);
    if (l)
        free_bytes(l);
}

/* Every fill of one shape. */
static void check_dot_shape(rt_dot_fn *fn, rt_dot_fn *scalar, bool w8, unsigned bits,
                            struct rt_tiles tiles, uint32_t n_cols)
{
    for (unsigned w = 0; w < N_WEIGHT_FILLS; w++)
        for (unsigned a = 0; a < N_ACT_FILLS; a++) {
            struct dot_case t = {tiles, n_cols, (tiles.n_groups + a) % 3, (w + a) % 4, 0, w, a};
            t.groups = tiles.n_groups + t.group + w;
            run_dot_case(fn, scalar, w8, bits, &t, 100 * n_cols + 10 * w + a);
        }
}

static void check_dot(rt_dot_fn *fn, rt_dot_fn *scalar, bool w8, unsigned bits)
{
    static const uint32_t n_groups[] = {0, 1, 2, 3, 18, 48, MAX_GROUPS};
    if (fn == scalar)
        return;
    for (unsigned g = 0; g < sizeof n_groups / sizeof n_groups[0]; g++)
        for (unsigned n = 0; n < N_COLUMN_COUNTS; n++)
            for (uint32_t n_tiles = 1; n_tiles <= RT_TILES; n_tiles++) {
                struct rt_tiles tiles = {.n_groups = n_groups[g],
                                         .n_tiles = n_tiles,
                                         .stride = n_groups[g] + n % 3,
                                         .acc_stride = (n_tiles + n % 2) * PACK_TILE};
                if (n_groups[g] * column_counts[n] <= MOST_WORK)
                    check_dot_shape(fn, scalar, w8, bits, tiles, column_counts[n]);
            }
}

/* Against double: each of the n steps rounds a few times. */
static void check_dot_definition(rt_dot_fn *fn, bool w8, unsigned bits, uint64_t seed)
{
    uint32_t n_groups = 1 + seed % MAX_GROUPS, n_cols = 1 + seed * 7 % 16;
    uint8_t *h = new_weights(&seed, (size_t)n_groups * PACK_H_BLOCK, WEIGHTS_RANDOM);
    uint8_t *l = new_weights(&seed, (size_t)n_groups * PACK_L_BLOCK, WEIGHTS_RANDOM);
    struct rt_acts x = new_acts(&seed, n_cols, n_groups, bits, ACT_RANDOM);
    uint8_t *pairs = new_pairs(&seed, 1);
    float acc[RT_COLS * PACK_TILE] = {0};
    const struct rt_tiles w = {h, w8 ? l : NULL, pairs, n_groups, 1, 0, PACK_TILE};
    fn(&w, &x, 0, n_cols, 0, acc);
    for (uint32_t c = 0; c < n_cols; c++)
        for (unsigned row = 0; row < PACK_TILE; row++) {
            double sum = 0, size = 0;
            double d_row = pair_value(pairs, row) * (w8 ? 0.0625 : 1);
            double m_row = pair_value(pairs, PACK_TILE + row);
            for (uint32_t g = 0; g < n_groups; g++) {
                const uint8_t *block = h + (size_t)g * PACK_H_BLOCK;
                size_t group = (size_t)c * n_groups + g;
                double dot = (double)reference_dot(
                    block + 32, w8 ? l + (size_t)g * PACK_L_BLOCK : NULL, row, &x, group, bits);
                double d = dot * d_row * block[row] * x.group[group].scale;
                double m = m_row * block[16 + row] * x.group[group].scale * x.group[group].sum;
                sum += d - m;
                size += fabs(d) + fabs(m);
            }
            assert_within(acc[c * 16 + row], sum, (n_groups + 4) * u * size + 1e-37);
        }
    free_acts(&x);
    free_bytes(pairs);
    free_bytes(h);
    free_bytes(l);
}

void check_dot_w4a16(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    check_dot(k->dot_w4a16, scalar->dot_w4a16, false, 16);
    for (uint64_t seed = 0; seed < N_SEEDS; seed++)
        check_dot_definition(k->dot_w4a16, false, 16, seed);
}

void check_dot_w8a16(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    check_dot(k->dot_w8a16, scalar->dot_w8a16, true, 16);
    for (uint64_t seed = 0; seed < N_SEEDS; seed++)
        check_dot_definition(k->dot_w8a16, true, 16, seed);
}

void check_dot_w4a8(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    check_dot(k->dot_w4a8, scalar->dot_w4a8, false, 8);
    for (uint64_t seed = 0; seed < N_SEEDS; seed++)
        check_dot_definition(k->dot_w4a8, false, 8, seed);
}

void check_dot_w8a8(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    check_dot(k->dot_w8a8, scalar->dot_w8a8, true, 8);
    for (uint64_t seed = 0; seed < N_SEEDS; seed++)
        check_dot_definition(k->dot_w8a8, true, 8, seed);
}

/* ---- outliers ------------------------------------------------------------------------------ */

static uint8_t *new_outlier_block(uint64_t *seed, enum weight_fill fill)
{
    uint8_t *block = new_weights(seed, PACK_OUTLIER, fill);
    for (unsigned i = 0; i < 32; i++) {
        uint16_t f16 = ert_f32_to_f16(i % 5 == 4 ? 1e-7F : fabsf(random_float(seed)) * 0.1F);
        memcpy(block + sizeof f16 * i, &f16, sizeof f16);
    }
    return block;
}

static void check_outlier_values(const uint8_t *block, const struct rt_acts *x, uint32_t col,
                                 uint32_t n_cols, const float *before, const float *y,
                                 uint32_t y_stride)
{
    for (uint32_t c = 0; c < n_cols; c++)
        for (unsigned row = 0; row < PACK_TILE; row++) {
            uint16_t d, m;
            memcpy(&d, block + 2 * row, 2);
            memcpy(&m, block + 32 + 2 * row, 2);
            size_t group = (size_t)(col + c) * x->groups;
            double dot = (double)reference_dot(block + 64, block + 320, row, x, group, 16);
            double a = dot * ert_f16_to_f32(d) / 16 * x->group[group].scale;
            double b = (double)ert_f16_to_f32(m) * x->group[group].scale * x->group[group].sum;
            size_t at = (size_t)c * y_stride + row;
            assert_within(y[at], before[at] + (a - b),
                          4 * u * (fabs(a) + fabs(b) + fabs((double)before[at])) + 1e-37);
        }
}

/* The sum of a tile's outliers, and nothing between the tile's rows of one column and the next. */
static void run_outlier_case(rt_outlier_fn *fn, rt_outlier_fn *scalar, uint32_t n_cols,
                             enum weight_fill w, enum act_fill a)
{
    uint64_t seed = 100 * n_cols + 10 * w + a;
    uint32_t stride = PACK_TILE + (w + a) % 3;
    size_t n = (size_t)(n_cols - 1) * stride + PACK_TILE;
    uint8_t *block = new_outlier_block(&seed, w);
    struct rt_acts x = new_acts(&seed, n_cols + w, 1 + a, 16, a);
    float *before = new_floats(n), *y = new_floats(n), *expected = new_floats(n);
    random_floats(&seed, before, n, 1);
    memcpy(y, before, n * sizeof *y);
    memcpy(expected, before, n * sizeof *y);
    fn(block, &x, w, n_cols, y, stride);
    scalar(block, &x, w, n_cols, expected, stride);
    assert_same_bits(y, expected, n * sizeof *y);
    check_outlier_values(block, &x, w, n_cols, before, y, stride);
    free_floats(before);
    free_floats(y);
    free_floats(expected);
    free_acts(&x);
    free_bytes(block);
}

void check_outlier(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    for (unsigned n = 0; n < N_COLUMN_COUNTS; n++)
        for (unsigned w = 0; w < N_WEIGHT_FILLS; w++)
            for (unsigned a = 0; a < N_ACT_FILLS; a++)
                run_outlier_case(k->outlier, scalar->outlier, column_counts[n], w, a);
}

/* ---- f32 products -------------------------------------------------------------------------- */

static void check_dot_f32_case(const struct rt_kernels *k, const struct rt_kernels *scalar,
                               uint32_t n_groups, uint32_t n_cols, uint64_t seed)
{
    uint32_t cols = n_groups * 32, stride = cols + 32;
    size_t n_x = (size_t)(n_cols - 1) * stride + cols, n_w = (size_t)cols * PACK_TILE;
    float *w = new_floats(n_w), *x = new_floats(n_x), *acc = new_floats(n_cols * PACK_TILE);
    float expected[RT_COLS * PACK_TILE] = {0};
    random_floats(&seed, w, n_w, 1);
    random_floats(&seed, x, n_x, 100);
    memset(acc, 0, n_cols * PACK_TILE * sizeof *acc);
    k->dot_f32(w, n_groups, x, stride, n_cols, acc);
    scalar->dot_f32(w, n_groups, x, stride, n_cols, expected);
    assert_same_bits(acc, expected, n_cols * PACK_TILE * sizeof *acc);
    for (uint32_t c = 0; c < n_cols; c++)
        for (unsigned row = 0; row < PACK_TILE; row++) {
            double sum = 0, size = 0;
            for (uint32_t i = 0; i < cols; i++) {
                double term = (double)w[i * 16 + row] * x[(size_t)c * stride + i];
                sum += term;
                size += fabs(term);
            }
            assert_within(acc[c * 16 + row], sum, cols * u * size);
        }
    free_floats(w);
    free_floats(x);
    free_floats(acc);
}

void check_dot_f32(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    for (unsigned n = 0; n < N_COLUMN_COUNTS; n++)
        for (uint32_t n_groups = 1; n_groups < 20; n_groups += 6)
            check_dot_f32_case(k, scalar, n_groups, column_counts[n], n_groups * 10 + n);
}
