/* Every kernel of every ISA this CPU has against scalar, and all of them against references in
 * double and int64 that decode the layout from the formulas of docs/pack-format.md.
 * EDGERT_TEST_ISAS names the ISAs to check instead, of which the last must be the best here: an
 * emulated CPU is slow, and which one it is said to be is known. */
#include "tests/test.h"

#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/base.h"
#include "runtime/kernels/kernels.h"
#include "tests/random.h"

enum {
    MAX_GROUPS = 48,
    MAX_DIMS = 160,
    N_SEEDS = 6,
    MOST_WORK = 4 * MAX_GROUPS, /* groups x columns of one case: scalar is slow */
};

static const double u = 0x1p-23;

/* Numbers of columns around every step a kernel may take them in. */
static const uint32_t column_counts[] = {1,  2,  3,  4,  5,  7,  8,           9,
                                         11, 12, 13, 16, 17, 31, RT_COLS - 1, RT_COLS};
enum { N_COLUMN_COUNTS = sizeof column_counts / sizeof column_counts[0] };

/* Arrays end where their memory ends (so that an over-read shows under AddressSanitizer) and start
 * off every vector boundary. */
static uint8_t *new_bytes(size_t n)
{
    uint8_t *memory = malloc(n + 1);
    assert_non_null(memory);
    return memory + 1;
}

static void free_bytes(uint8_t *p)
{
    free(p - 1);
}

static float *new_floats(size_t n)
{
    float *memory = malloc((n + 1) * sizeof *memory);
    assert_non_null(memory);
    return memory + 1;
}

static void free_floats(float *p)
{
    free(p - 1);
}

static void assert_same_bits(const void *a, const void *b, size_t n)
{
    assert_memory_equal(a, b, n);
}

static void assert_within(double value, double expected, double bound)
{
    if (!(fabs(value - expected) <= bound))
        fail_msg("%.9g, expected %.9g within %.3g", value, expected, bound);
}

/* ---- activations --------------------------------------------------------------------------- */

enum act_fill { ACT_RANDOM, ACT_LARGEST, ACT_SMALLEST, ACT_ZERO, N_ACT_FILLS };

/* Quantized columns with arbitrary scales; the a16 order is the business of whoever reads them. */
static struct rt_acts new_acts(uint64_t *seed, uint32_t n_cols, uint32_t groups, unsigned bits,
                               enum act_fill fill)
{
    size_t n = (size_t)n_cols * groups;
    int limit = bits == 16 ? 32767 : 127;
    struct rt_acts x = {malloc(n * 32 * bits / 8), malloc(n * sizeof *x.group), groups};
    assert_true(x.q && x.group);
    for (size_t g = 0; g < n; g++) {
        float scale = fill == ACT_ZERO ? 0 : fabsf(random_float(seed)) * 0.01F;
        int sum = 0;
        for (size_t i = g * 32; i < g * 32 + 32; i++) {
            int q = fill == ACT_RANDOM    ? (int)(random_u64(seed) % (2 * limit + 1)) - limit
                    : fill == ACT_LARGEST ? limit
                    : fill == ACT_ZERO    ? 0
                                          : -limit;
            sum += q;
            if (bits == 16)
                ((int16_t *)x.q)[i] = (int16_t)q;
            else
                ((int8_t *)x.q)[i] = (int8_t)q;
        }
        x.group[g] = (struct rt_group){scale, scale * (float)sum, sum, -8 * sum};
    }
    return x;
}

static void free_acts(struct rt_acts *x)
{
    free(x->q);
    free(x->group);
}

/* Activation of column i of a group by the sentence in kernels.h: a16 in the order 0 2 1 3. */
static int64_t activation(const struct rt_acts *x, size_t group, unsigned i, unsigned bits)
{
    static const unsigned stored[32] = {0,  2,  1,  3,  4,  6,  5,  7,  8,  10, 9,
                                        11, 12, 14, 13, 15, 16, 18, 17, 19, 20, 22,
                                        21, 23, 24, 26, 25, 27, 28, 30, 29, 31};
    if (bits == 8)
        return ((const int8_t *)x->q)[group * 32 + i];
    for (unsigned at = 0; at < 32; at++)
        if (stored[at] == i)
            return ((const int16_t *)x->q)[group * 32 + at];
    return 0;
}

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
    size_t n = (size_t)w.n_tiles * t->n_cols * PACK_TILE;
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
    static const uint32_t n_groups[] = {0, 1, 2, 3, 18, MAX_GROUPS};
    if (fn == scalar)
        return;
    for (unsigned g = 0; g < sizeof n_groups / sizeof n_groups[0]; g++)
        for (unsigned n = 0; n < N_COLUMN_COUNTS; n++)
            for (uint32_t n_tiles = 1; n_tiles <= RT_TILES; n_tiles++) {
                struct rt_tiles tiles = {
                    .n_groups = n_groups[g], .n_tiles = n_tiles, .stride = n_groups[g] + n % 3};
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
    const struct rt_tiles w = {h, w8 ? l : NULL, pairs, n_groups, 1, 0};
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

static void check_dot_w4a16(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    check_dot(k->dot_w4a16, scalar->dot_w4a16, false, 16);
    for (uint64_t seed = 0; seed < N_SEEDS; seed++)
        check_dot_definition(k->dot_w4a16, false, 16, seed);
}

static void check_dot_w8a16(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    check_dot(k->dot_w8a16, scalar->dot_w8a16, true, 16);
    for (uint64_t seed = 0; seed < N_SEEDS; seed++)
        check_dot_definition(k->dot_w8a16, true, 16, seed);
}

static void check_dot_w4a8(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    check_dot(k->dot_w4a8, scalar->dot_w4a8, false, 8);
    for (uint64_t seed = 0; seed < N_SEEDS; seed++)
        check_dot_definition(k->dot_w4a8, false, 8, seed);
}

static void check_dot_w8a8(const struct rt_kernels *k, const struct rt_kernels *scalar)
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

static void check_outlier(const struct rt_kernels *k, const struct rt_kernels *scalar)
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

static void check_dot_f32(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    for (unsigned n = 0; n < N_COLUMN_COUNTS; n++)
        for (uint32_t n_groups = 1; n_groups < 20; n_groups += 6)
            check_dot_f32_case(k, scalar, n_groups, column_counts[n], n_groups * 10 + n);
}

/* ---- quantization -------------------------------------------------------------------------- */

/* Groups 0..7 are what a float can be at worst; the others random, of many magnitudes. */
static void fill_hostile(uint64_t *seed, float *x, uint32_t n_groups)
{
    static const float worst[8] = {0, NAN, INFINITY, FLT_MAX, 1e-40F, 0.99e-30F, 1.01e-30F, -1};
    for (uint32_t g = 0; g < n_groups; g++) {
        random_floats(seed, x + g * 32, 32, ldexpf(1, (int)(random_u64(seed) % 120) - 60));
        if (g < 8)
            for (unsigned i = 0; i < 32; i += 1 + g % 3)
                x[g * 32 + i] = i % 2 ? worst[g] : -worst[g];
        if (g == 4 || g == 5)
            for (unsigned i = 0; i < 32; i++)
                x[g * 32 + i] = worst[g] * random_float(seed);
        if (g == 9) /* ties: multiples of one half of the step */
            for (unsigned i = 0; i < 32; i++)
                x[g * 32 + i] = i ? (float)i * 0.5F - 8 : 127;
    }
}

/* |x - scale q| is at most half a step (and the rounding of the two products). */
static void check_quantized_group(const float *x, const struct rt_acts *out, size_t g,
                                  unsigned bits)
{
    double amax = 0, limit = bits == 16 ? 32767 : 127, scale = out->group[g].scale;
    int64_t sum = 0;
    for (unsigned i = 0; i < 32; i++)
        amax = fmax(amax, fabs(x[i])); /* fmax ignores a NaN */
    bool zero = amax < 1e-30F || isinf(amax);
    if (zero)
        assert_true(scale == 0);
    else
        assert_within(scale, amax / limit, u * amax / limit);
    for (unsigned i = 0; i < 32; i++) {
        double q = (double)activation(out, g, i, bits), value = zero || isnan(x[i]) ? 0 : x[i];
        assert_true(fabs(q) <= limit);
        assert_within(q * scale, value, 0.501 * scale + 4 * u * fabs(value));
        sum += (int64_t)q;
    }
    assert_int_equal(out->group[g].sum, sum);
    assert_int_equal(out->group[g].minus_8_sum, -8 * sum);
    assert_true(out->group[g].t == out->group[g].scale * (float)sum);
}

static void check_quantize(rt_quantize_fn *fn, rt_quantize_fn *scalar, unsigned bits)
{
    for (uint64_t seed = 0; seed < N_SEEDS; seed++) {
        uint64_t state = seed;
        uint32_t n_groups = seed == 1 ? 1 : 64;
        size_t bytes = n_groups * 32 * bits / 8;
        struct rt_acts a = new_acts(&state, 1, n_groups, bits, ACT_LARGEST);
        struct rt_acts b = new_acts(&state, 1, n_groups, bits, ACT_SMALLEST);
        float *x = new_floats((size_t)n_groups * 32);
        fill_hostile(&state, x, n_groups);
        fn(x, n_groups, &a, 0);
        scalar(x, 1, &b, 0);
        scalar(x + 32, n_groups - 1, &b, 1);
        assert_same_bits(a.q, b.q, bytes);
        assert_same_bits(a.group, b.group, n_groups * sizeof *a.group);
        for (uint32_t g = 0; g < n_groups; g++)
            check_quantized_group(x + (size_t)g * 32, &a, g, bits);
        free_floats(x);
        free_acts(&a);
        free_acts(&b);
    }
}

/* By hand: with amax = Q the step is 1, and halves round to even. */
static void check_quantize_ties(rt_quantize_fn *fn, unsigned bits, float limit)
{
    const float x[32] = {limit, 0.5F, 1.5F, 2.5F, -0.5F, -1.5F, -2.5F, 0.75F};
    const int expected[8] = {(int)limit, 0, 2, 2, 0, -2, -2, 1};
    uint64_t seed = 1;
    struct rt_acts out = new_acts(&seed, 1, 1, bits, ACT_LARGEST);
    fn(x, 1, &out, 0);
    assert_true(out.group[0].scale == 1);
    assert_int_equal(out.group[0].sum, (int)limit + 1);
    for (unsigned i = 0; i < 32; i++)
        assert_int_equal(activation(&out, 0, i, bits), i < 8 ? expected[i] : 0);
    free_acts(&out);
}

static void check_quantize_a16(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    check_quantize(k->quantize_a16, scalar->quantize_a16, 16);
    check_quantize_ties(k->quantize_a16, 16, 32767);
}

static void check_quantize_a8(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    check_quantize(k->quantize_a8, scalar->quantize_a8, 8);
    check_quantize_ties(k->quantize_a8, 8, 127);
}

/* ---- vectors ------------------------------------------------------------------------------- */

static void check_rmsnorm(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    static const struct {
        uint32_t n, n_true;
        float size;
    } cases[] = {{32, 8, 1}, {64, 64, 1e-20F}, {192, 172, 1e18F}, {576, 576, 3}, {2048, 2048, 0}};
    for (unsigned t = 0; t < sizeof cases / sizeof cases[0]; t++) {
        uint64_t seed = t;
        uint32_t n = cases[t].n, n_true = cases[t].n_true;
        float *x = new_floats(n), *w = new_floats(n), *out = new_floats(n),
              *expected = new_floats(n);
        double squares = 0, eps = (double)1e-5F;
        random_floats(&seed, x, n, cases[t].size);
        random_floats(&seed, w, n, 2);
        memset(x + n_true, 0, (n - n_true) * sizeof *x);
        for (uint32_t i = 0; i < n; i++)
            squares += (double)x[i] * x[i];
        k->rmsnorm(x, w, n, n_true, 1e-5F, out);
        scalar->rmsnorm(x, w, n, n_true, 1e-5F, expected);
        for (uint32_t i = 0; i < n; i++) {
            double y = x[i] / sqrt(squares / n_true + eps) * w[i];
            assert_within(out[i], expected[i], 2 * u * fabs(y));
            assert_within(out[i], y, 2 * u * fabs(y) + 1e-44);
        }
        free_floats(x);
        free_floats(w);
        free_floats(out);
        free_floats(expected);
    }
}

/* Gates from -200 to 200 in steps finer than the reduction of exp, and the far ends. */
static void check_swiglu(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    enum { N = 16 * 1024 };
    static const float far[16] = {0,     -0.0F, 87.3F, -87.3F, 88.3F,  -88.3F, 88.7F,   -88.7F,
                                  1e30F, -1e30, 3e38F, -3e38F, 1e-40F, 1e-30F, -1e-30F, 709};
    float *g = new_floats(N), *up = new_floats(N), *out = new_floats(N), *expected = new_floats(N);
    uint64_t seed = 7;
    random_floats(&seed, up, N, 4);
    for (unsigned i = 0; i < N; i++)
        g[i] = i < 16 ? far[i] : ((float)i - N / 2.F) * (i % 3 ? 0.0245F : 0.001F);
    memcpy(out, g, N * sizeof *g);
    memcpy(expected, g, N * sizeof *g);
    k->swiglu(out, up, N);
    scalar->swiglu(expected, up, N);
    for (unsigned i = 0; i < N; i++) {
        double y = g[i] / (1 + exp(-(double)g[i])) * up[i];
        assert_within(out[i], expected[i], 8 * u * fabs(y) + 1e-36 * fabs(up[i]));
        assert_within(out[i], y, 8 * u * fabs(y) + 1e-36 * fabs(up[i]) + 1e-44);
    }
    free_floats(g);
    free_floats(up);
    free_floats(out);
    free_floats(expected);
}

static void check_softmax_case(const struct rt_kernels *k, const struct rt_kernels *scalar,
                               uint32_t n, float size)
{
    uint64_t seed = n;
    float *x = new_floats(n), *out = new_floats(n), *expected = new_floats(n);
    double max = -INFINITY, sum = 0;
    random_floats(&seed, x, n, size);
    memcpy(out, x, n * sizeof *x);
    memcpy(expected, x, n * sizeof *x);
    k->softmax(out, n);
    scalar->softmax(expected, n);
    for (uint32_t i = 0; i < n; i++)
        max = fmax(max, x[i]);
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)(x[i] - (float)max));
    for (uint32_t i = 0; i < n; i++) {
        double y = exp((double)(x[i] - (float)max)) / sum;
        assert_within(out[i], expected[i], 8 * u * y + 1e-36);
        assert_within(out[i], y, 8 * u * y + 1e-36);
    }
    free_floats(x);
    free_floats(out);
    free_floats(expected);
}

static void check_softmax(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    for (uint32_t n = 1; n < 40; n++)
        check_softmax_case(k, scalar, n, 10);
    check_softmax_case(k, scalar, 2048, 1);
    check_softmax_case(k, scalar, 2047, 1e4F);
    check_softmax_case(k, scalar, 1000, 0);
}

static void check_to_f16(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    enum { N = 1 << 16 };
    float *x = new_floats(N);
    uint16_t *out = malloc(N * sizeof *out), *expected = malloc(N * sizeof *expected);
    assert_true(out && expected);
    for (uint32_t high = 0; high < 4; high++) { /* every upper half, four lower halves: the ties */
        static const uint32_t low[4] = {0, 0x1000, 0x1001, 0x3000};
        for (uint32_t i = 0; i < N; i++) {
            uint32_t bits = i << 16 | low[high];
            bits = (bits & 0x7fffffff) > 0x7f800000 ? 0 : bits;
            memcpy(x + i, &bits, sizeof bits);
        }
        k->to_f16(x, N, out);
        scalar->to_f16(x, N, expected);
        assert_same_bits(out, expected, N * sizeof *out);
    }
    free_floats(x);
    free(out);
    free(expected);
}

/* From the words of kernels.h, in double: the scale is a bf16 next to amax / 127, the codes are the
 * integers next to x / scale; both as near as the roundings of float let them be. */
static void check_q8_group(const float *x, const uint8_t *group)
{
    uint16_t bits;
    double amax = 0;
    memcpy(&bits, group, sizeof bits);
    double scale = ert_bf16_to_f32(bits);
    for (unsigned i = 0; i < 32; i++)
        amax = fmax(amax, fabs((double)x[i])); /* passes a NaN by */
    if (!(amax >= 1e-30F) || isinf(amax)) {
        assert_int_equal(bits, 0);
        scale = 0;
    } else {
        assert_within(scale, amax / 127, amax / 127 * 0x1.001p-8);
    }
    for (unsigned i = 0; i < 32; i++) {
        int code = (int8_t)group[2 + i];
        assert_in_range(code + 127, 0, 254);
        assert_true(scale > 0 || code == 0);
        assert_within(code * scale, isnan(x[i]) ? 0 : scale > 0 ? x[i] : 0, scale * 0.50001);
    }
}

static void check_to_q8(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    static const float sizes[] = {0, 1e-42F, 1e-31F, 1e-30F, 1e-5F, 1, 1e5F, 1e30F, FLT_MAX};
    static const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, FLT_MAX, -1e-45F, -0.0F};
    enum { N = 96, GROUPS = N / 32, BYTES = GROUPS * 34 };
    uint64_t seed = 8;
    float *x = new_floats(N);
    uint8_t *out = new_bytes(BYTES), *expected = new_bytes(BYTES);
    for (unsigned round = 0; round < 400; round++) {
        for (unsigned i = 0; i < N; i++) /* a group of a larger size now and then */
            x[i] = random_float(&seed) * sizes[(round + i / 32) % 9];
        if (round % 3 == 0)
            x[random_u64(&seed) % N] = odd[round / 3 % 7];
        if (round % 5 == 0) /* ties: multiples of half a scale that is a bf16 itself */
            for (unsigned i = 0; i < 32; i++)
                x[i] = i ? ldexpf((float)(random_u64(&seed) % 508) / 2 - 127, 3) : 1016;
        k->to_q8(x, N, out);
        scalar->to_q8(x, N, expected);
        assert_same_bits(out, expected, BYTES);
        for (unsigned g = 0; g < GROUPS; g++)
            check_q8_group(x + g * 32, out + g * 34);
    }
    free_floats(x);
    free_bytes(out);
    free_bytes(expected);
}

static void check_rotate_case(const struct rt_kernels *k, const struct rt_kernels *scalar,
                              uint32_t dims, uint32_t n_angles)
{
    uint64_t seed = dims + n_angles;
    float *turn = new_floats((size_t)2 * n_angles), *head = new_floats(dims);
    float *out = new_floats(dims), *expected = new_floats(dims);
    uint16_t *pairs = malloc((dims / 2 + 1) * sizeof *pairs) /* off every vector boundary */;
    assert_non_null(pairs);
    random_floats(&seed, head, dims, 100);
    for (uint32_t i = 0; i < n_angles; i++) {
        double angle = 4 * (double)random_float(&seed);
        turn[2 * i] = (float)cos(angle);
        turn[2 * i + 1] = (float)sin(angle);
    }
    for (uint32_t p = 0; p < dims / 2; p++)
        pairs[1 + p] = (uint16_t)(random_u64(&seed) % n_angles);
    pairs[dims / 2] = (uint16_t)(n_angles - 1);
    memcpy(out, head, dims * sizeof *head);
    memcpy(expected, head, dims * sizeof *head);
    k->rotate(turn, out, dims, pairs + 1);
    scalar->rotate(turn, expected, dims, pairs + 1);
    assert_same_bits(out, expected, dims * sizeof *out);
    for (uint32_t p = 0; p < dims / 2; p++) { /* (a + b i) times (cos + i sin) */
        double c = turn[2 * pairs[1 + p]], s = turn[2 * pairs[1 + p] + 1];
        double a = head[2 * p], b = head[2 * p + 1], size = 2 * u * (fabs(a) + fabs(b));
        assert_within(out[2 * p], a * c - b * s, size);
        assert_within(out[2 * p + 1], a * s + b * c, size);
    }
    free_floats(turn);
    free_floats(head);
    free_floats(out);
    free_floats(expected);
    free(pairs);
}

static void check_rotate(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    for (uint32_t dims = 16; dims <= MAX_DIMS; dims += 16)
        for (uint32_t n_angles = 1; n_angles < 100; n_angles += 33)
            check_rotate_case(k, scalar, dims, n_angles);
}

/* ---- attention ----------------------------------------------------------------------------- */

/* |e - exp(x - max)| and the sum, for n values of a size; the largest may be anywhere. */
static void check_softmax_part_case(const struct rt_kernels *k, const struct rt_kernels *scalar,
                                    uint32_t n, float size)
{
    uint64_t seed = n;
    float *x = new_floats(n), *out = new_floats(n), *expected = new_floats(n), max, scalar_max;
    double largest = -INFINITY, exact = 0;
    random_floats(&seed, x, n, size);
    memcpy(out, x, n * sizeof *x);
    memcpy(expected, x, n * sizeof *x);
    float sum = k->softmax_part(out, n, &max);
    float scalar_sum = scalar->softmax_part(expected, n, &scalar_max);
    for (uint32_t i = 0; i < n; i++)
        largest = fmax(largest, x[i]);
    assert_true(max == (float)largest);
    assert_true(scalar_max == (float)largest);
    for (uint32_t i = 0; i < n; i++) {
        double y = exp((double)(x[i] - (float)largest));
        exact += y;
        assert_within(out[i], expected[i], 4 * u * y + 1e-36);
        assert_within(out[i], y, 4 * u * y + 1e-36);
    }
    assert_within(sum, scalar_sum, 8 * u * exact);
    assert_within(sum, exact, 8 * u * exact);
    free_floats(x);
    free_floats(out);
    free_floats(expected);
}

static void check_softmax_part(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    for (uint32_t n = 1; n <= RT_CACHE_BLOCK; n++)
        check_softmax_part_case(k, scalar, n, 10);
    check_softmax_part_case(k, scalar, 2048, 1);
    check_softmax_part_case(k, scalar, 2047, 1e4F);
    check_softmax_part_case(k, scalar, 1000, 0);
}

/* n positions of MAX_DIMS values: floats [n][MAX_DIMS], and the same as a cache has them. */
struct cache {
    enum rt_cache_type type;
    float *values;
    uint8_t *cached;
};

/* Bytes of a position's group {scale; value[32]}, and of the value, where kernels.h has them: keys
 * are cached by tiles of 16 positions. */
struct place {
    size_t scale, value;
};

static struct place place_of(enum rt_cache_type type, bool keys, uint32_t position, uint32_t dim)
{
    static const size_t scales[] = {0, 0, 2}, elements[] = {4, 2, 1};
    size_t scale = scales[type], element = elements[type];
    size_t lanes = keys ? 16 : 1, lane = position % lanes;
    size_t group = position / lanes * (MAX_DIMS / 32) + dim / 32;
    size_t begin = group * lanes * (scale + 32 * element);
    return (struct place){begin + lane * scale,
                          begin + lanes * scale + (dim % 32 * lanes + lane) * element};
}

/* One value, rounded to what the cache can hold: exact f16, or a random code. */
static void put_value(struct cache *cache, uint64_t *seed, struct place at, float *value)
{
    uint16_t half = ert_f32_to_f16(*value), scale;
    int8_t code = (int8_t)((int)(random_u64(seed) % 255) - 127);
    switch (cache->type) {
    case RT_CACHE_F32:
        memcpy(cache->cached + at.value, value, sizeof *value);
        break;
    case RT_CACHE_F16:
        *value = ert_f16_to_f32(half);
        memcpy(cache->cached + at.value, &half, sizeof half);
        break;
    case RT_CACHE_Q8:
        memcpy(&scale, cache->cached + at.scale, sizeof scale);
        *value = ert_bf16_to_f32(scale) * (float)code;
        memcpy(cache->cached + at.value, &code, sizeof code);
    }
}

/* What lies in the last tile beyond n is not a number. */
static struct cache new_cache(uint64_t *seed, enum rt_cache_type type, bool keys, uint32_t n,
                              float size)
{
    uint32_t room = keys ? (n + 15) / 16 * 16 : n;
    size_t bytes = place_of(type, false, room, 0).scale, off = rt_cache_element(type);
    struct cache cache = {type, new_floats((size_t)n * MAX_DIMS), malloc(bytes + off)};
    assert_non_null(cache.cached);
    cache.cached += off;
    memset(cache.cached, 0xff, bytes);
    for (uint32_t p = 0; p < n; p++)
        for (uint32_t d = 0; d < MAX_DIMS; d++) {
            struct place at = place_of(type, keys, p, d);
            float *value = &cache.values[(size_t)p * MAX_DIMS + d];
            uint16_t scale = ert_f32_to_bf16(fabsf(random_float(seed)) * (p % 5 ? size : 1e-6F));
            if (type == RT_CACHE_Q8 && d % 32 == 0)
                memcpy(cache.cached + at.scale, &scale, sizeof scale);
            *value = random_float(seed) * (d % 7 ? size : 1e-6F);
            put_value(&cache, seed, at, value);
        }
    return cache;
}

static void free_cache(struct cache *cache)
{
    free_floats(cache->values);
    free(cache->cached - rt_cache_element(cache->type));
}

static struct rt_cached positions(const struct cache *cache, uint32_t dims, uint32_t n)
{
    return (struct rt_cached){cache->cached, MAX_DIMS, dims, n};
}

struct attention_case {
    enum rt_cache_type type;
    uint32_t dims, n, n_queries;
};

/* Against double, against scalar, and each query alone with fewer positions, with the same bits. */
static void check_score(rt_score_fn *fn, rt_score_fn *scalar, struct attention_case t)
{
    uint64_t seed = t.dims + 1000 * t.n + t.n_queries;
    struct cache cache = new_cache(&seed, t.type, true, t.n, 2);
    struct rt_cached keys = positions(&cache, t.dims, t.n);
    size_t room = (size_t)(t.n_queries - 1) * RT_CACHE_BLOCK + (t.n + 15) / 16 * 16;
    float *q = new_floats((size_t)t.n_queries * MAX_DIMS), *out = new_floats(room);
    float *expected = new_floats(room), *alone = new_floats((t.n + 15) / 16 * 16);
    random_floats(&seed, q, (size_t)t.n_queries * MAX_DIMS, 5);
    fn(&keys, q, t.n_queries, out);
    scalar(&keys, q, t.n_queries, expected);
    for (uint32_t i = 0; i < t.n_queries; i++) {
        const float *query = q + (size_t)i * MAX_DIMS;
        const float *row = out + (size_t)i * RT_CACHE_BLOCK;
        for (uint32_t p = 0; p < t.n; p++) {
            double dot = 0, size = 0;
            for (uint32_t d = 0; d < t.dims; d++) {
                double term = (double)query[d] * cache.values[(size_t)p * MAX_DIMS + d];
                dot += term;
                size += fabs(term);
            }
            assert_within(row[p], expected[(size_t)i * RT_CACHE_BLOCK + p], t.dims * u * size);
            assert_within(row[p], dot, t.dims * u * size);
        }
        keys.n = 1 + (t.n + i) / 2 % t.n;
        fn(&keys, query, 1, alone);
        assert_same_bits(alone, row, keys.n * sizeof *alone);
    }
    free_cache(&cache);
    free_floats(q);
    free_floats(out);
    free_floats(expected);
    free_floats(alone);
}

static void check_mix(rt_mix_fn *fn, rt_mix_fn *scalar, struct attention_case t)
{
    uint64_t seed = t.dims + 1000 * t.n + t.n_queries;
    uint32_t stride = MAX_DIMS + t.n_queries % 3;
    struct cache cache = new_cache(&seed, t.type, false, t.n, 3);
    struct rt_cached values = positions(&cache, t.dims, t.n);
    size_t n_weights = (size_t)(t.n_queries - 1) * RT_CACHE_BLOCK + t.n;
    size_t n_out = (size_t)(t.n_queries - 1) * stride + t.dims;
    float *weights = new_floats(n_weights), *alone = new_floats(t.dims);
    float *out = new_floats(n_out), *expected = new_floats(n_out);
    random_floats(&seed, weights, n_weights, 1);
    random_floats(&seed, out, n_out, 1); /* is overwritten, not added to */
    fn(&values, weights, t.n_queries, out, stride);
    scalar(&values, weights, t.n_queries, expected, stride);
    for (uint32_t i = 0; i < t.n_queries; i++) {
        const float *w = weights + (size_t)i * RT_CACHE_BLOCK, *row = out + (size_t)i * stride;
        for (uint32_t d = 0; d < t.dims; d++) {
            double sum = 0, size = 0;
            for (uint32_t p = 0; p < t.n; p++) {
                double term = (double)w[p] * cache.values[(size_t)p * MAX_DIMS + d];
                sum += term;
                size += fabs(term);
            }
            assert_within(row[d], expected[(size_t)i * stride + d], t.n * u * size);
            assert_within(row[d], sum, t.n * u * size);
        }
        fn(&values, w, 1, alone, t.dims);
        assert_same_bits(alone, row, t.dims * sizeof *alone);
    }
    free_cache(&cache);
    free_floats(weights);
    free_floats(out);
    free_floats(expected);
    free_floats(alone);
}

/* Numbers of positions around tiles and strips of them, numbers of queries around those of a step.
 */
#define FOR_EACH_ATTENTION_CASE(type, call)                                                        \
    do {                                                                                           \
        static const uint32_t counts[] = {1, 2, 15, 16, 17, 33, 63, 64, 65, 100, 127, 128};        \
        static const uint32_t queries[] = {1, 2, 3, 4, 5, 6, 7, 9, 13, 24};                        \
        for (uint32_t dims = 32; dims <= MAX_DIMS; dims += 32)                                     \
            for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++)                          \
                for (size_t i = c % 3; i < sizeof queries / sizeof queries[0]; i += 3) {           \
                    struct attention_case t = {type, dims, counts[c], queries[i]};                 \
                    call;                                                                          \
                }                                                                                  \
    } while (0)

static void check_score_f16(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    FOR_EACH_ATTENTION_CASE(RT_CACHE_F16, check_score(k->score_f16, scalar->score_f16, t));
}

static void check_score_q8(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    FOR_EACH_ATTENTION_CASE(RT_CACHE_Q8, check_score(k->score_q8, scalar->score_q8, t));
}

static void check_score_f32(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    FOR_EACH_ATTENTION_CASE(RT_CACHE_F32, check_score(k->score_f32, scalar->score_f32, t));
}

static void check_mix_f16(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    FOR_EACH_ATTENTION_CASE(RT_CACHE_F16, check_mix(k->mix_f16, scalar->mix_f16, t));
}

static void check_mix_q8(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    FOR_EACH_ATTENTION_CASE(RT_CACHE_Q8, check_mix(k->mix_q8, scalar->mix_q8, t));
}

static void check_mix_f32(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    FOR_EACH_ATTENTION_CASE(RT_CACHE_F32, check_mix(k->mix_f32, scalar->mix_f32, t));
    struct attention_case long_one = {RT_CACHE_F32, 64, 1000, 1};
    check_mix(k->mix_f32, scalar->mix_f32, long_one);
}

/* ---- the table ----------------------------------------------------------------------------- */

static bool is_to_be_checked(const char *isa)
{
    const char *isas = getenv("EDGERT_TEST_ISAS");
    return !isas || strstr(isas, isa);
}

/* One test per row of kernels.def: a row without a check does not compile. */
#define K(op, type, ...)                                                                           \
    static void test_##op(void **state)                                                            \
    {                                                                                              \
        (void)state;                                                                               \
        for (unsigned i = 0; rt_kernels_isa(i); i++)                                               \
            if (is_to_be_checked(rt_kernels_isa(i)->isa))                                          \
                check_##op(rt_kernels_isa(i), rt_kernels_isa(0));                                  \
    }
#include "runtime/kernels/kernels.def"
#undef K

static void test_best_is_the_last_isa(void **state)
{
    (void)state;
    unsigned n = 0;
    while (rt_kernels_isa(n))
        n++;
    assert_true(n >= 1);
    assert_string_equal(rt_kernels_isa(0)->isa, "scalar");
    unsetenv("EDGERT_ISA");
    assert_ptr_equal(rt_kernels_best(), rt_kernels_isa(n - 1));
    const char *isas = getenv("EDGERT_TEST_ISAS"), *last = isas ? strrchr(isas, ' ') : NULL;
    if (isas)
        assert_string_equal(rt_kernels_best()->isa, last ? last + 1 : isas);
}

static void test_environment_only_lowers(void **state)
{
    (void)state;
    unsetenv("EDGERT_ISA");
    const struct rt_kernels *best = rt_kernels_best();
    setenv("EDGERT_ISA", "scalar", 1);
    assert_string_equal(rt_kernels_best()->isa, "scalar");
    setenv("EDGERT_ISA", "no-such-isa", 1);
    assert_ptr_equal(rt_kernels_best(), best);
    unsetenv("EDGERT_ISA");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_best_is_the_last_isa),
        cmocka_unit_test(test_environment_only_lowers),
#define K(op, type, ...) cmocka_unit_test(test_##op),
#include "runtime/kernels/kernels.def"
#undef K
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
