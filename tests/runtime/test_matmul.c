/* rt_matmul and rt_matrix_row against a matrix kept as plain arrays: the packed form is made from
 * them by the formulas of docs/pack-format.md, the expected values are computed in double. */
#include "tests/test.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/base.h"
#include "runtime/matmul.h"
#include "tests/random.h"

static const double u = 0x1p-23;

static const struct rt_kernels *kernels; /* of the ISA under test */

static void on_every_isa(void (*test)(void))
{
    for (unsigned i = 0; (kernels = rt_kernels_isa(i)); i++)
        test();
}

static void *new_memory(size_t n)
{
    void *memory = calloc(n ? n : 1, 1);
    assert_non_null(memory);
    return memory;
}

/* ---- a matrix as plain arrays, indexed [row][column] or [row][group] ------------------------- */

struct plain {
    uint32_t rows, cols;
    bool outlier;
    uint8_t *weight8;   /* 16 h + l */
    uint8_t *u_d, *u_m; /* [rows][cols / 32] */
    uint16_t *d, *m;    /* bf16 per row */
    uint16_t *od, *om;  /* f16 per row, of the outlier group */
    float *f32;
};

static struct plain new_plain(uint64_t *seed, uint32_t rows, uint32_t cols, bool outlier)
{
    size_t n = (size_t)rows * cols, groups = n / 32;
    struct plain p = {.rows = rows, .cols = cols, .outlier = outlier};
    p.weight8 = new_memory(n);
    p.u_d = new_memory(groups);
    p.u_m = new_memory(groups);
    p.d = new_memory(rows * sizeof *p.d);
    p.m = new_memory(rows * sizeof *p.m);
    p.od = new_memory(rows * sizeof *p.od);
    p.om = new_memory(rows * sizeof *p.om);
    p.f32 = new_memory(n * sizeof *p.f32);
    random_bytes(seed, p.weight8, n);
    random_bytes(seed, p.u_d, groups);
    random_bytes(seed, p.u_m, groups);
    random_floats(seed, p.f32, n, 1);
    for (uint32_t r = 0; r < rows; r++) {
        p.d[r] = ert_f32_to_bf16(fabsf(random_float(seed)) * 1e-3F);
        p.m[r] = ert_f32_to_bf16(random_float(seed) * 1e-2F);
        p.od[r] = ert_f32_to_f16(fabsf(random_float(seed)));
        p.om[r] = ert_f32_to_f16(random_float(seed));
    }
    return p;
}

static void free_plain(struct plain *p)
{
    void *const all[] = {p->weight8, p->u_d, p->u_m, p->d, p->m, p->od, p->om, p->f32};
    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
        free(all[i]);
}

/* The weight as the format page defines it, and in *size the sum of the magnitudes of its terms, to
 * which rounding is relative. kind: 4 or 8 bits, or 0 for f32. */
static double weight(const struct plain *p, unsigned kind, uint32_t row, uint32_t col, double *size)
{
    size_t i = (size_t)row * p->cols + col, g = i / 32;
    *size = fabs(p->f32[i]);
    if (kind == 0)
        return p->f32[i];
    bool outlier = p->outlier && col < 32;
    double d =
        outlier ? ert_f16_to_f32(p->od[row]) : (double)ert_bf16_to_f32(p->d[row]) * p->u_d[g];
    double m =
        outlier ? ert_f16_to_f32(p->om[row]) : (double)ert_bf16_to_f32(p->m[row]) * p->u_m[g];
    *size = 17 * d + fabs(m);
    double w4 = d * (p->weight8[i] >> 4) - m;
    return kind == 4 && !outlier ? w4 : w4 + d / 16 * ((p->weight8[i] & 15) - 8);
}

/* ---- packing ------------------------------------------------------------------------------- */

/* Nibbles of one plane (shift 4 = h, 0 = l) of the block at (tile, group). */
static void pack_nibbles(const struct plain *p, uint32_t tile, uint32_t group, int shift,
                         uint8_t *out)
{
    for (unsigned quad = 0; quad < 4; quad++)
        for (unsigned row = 0; row < 16; row++)
            for (unsigned j = 0; j < 4; j++) {
                const uint8_t *w = p->weight8 + (size_t)(tile * 16 + row) * p->cols + group * 32;
                int low = w[4 * quad + j] >> shift & 15, high = w[16 + 4 * quad + j] >> shift & 15;
                out[(quad * 16 + row) * 4 + j] = (uint8_t)(low | high << 4);
            }
}

struct packed {
    struct rt_matrix m;
    uint8_t *data, *l, *pairs, *outlier;
};

static void pack_block(const struct plain *p, struct packed *out, size_t block, uint32_t tile,
                       uint32_t group)
{
    uint8_t *h = out->data + block * PACK_H_BLOCK;
    for (unsigned row = 0; row < 16; row++) {
        size_t at = (size_t)(tile * 16 + row) * (p->cols / 32) + group;
        h[row] = p->u_d[at];
        h[16 + row] = p->u_m[at];
    }
    pack_nibbles(p, tile, group, 4, h + 32);
    pack_nibbles(p, tile, group, 0, out->l + block * PACK_L_BLOCK);
}

static void pack_f32_block(const struct plain *p, struct packed *out, size_t block, uint32_t tile,
                           uint32_t group)
{
    float *values = (float *)(void *)out->data + block * 512;
    for (unsigned col = 0; col < 32; col++)
        for (unsigned row = 0; row < 16; row++)
            values[col * 16 + row] = p->f32[(size_t)(tile * 16 + row) * p->cols + group * 32 + col];
}

static void pack_rows(const struct plain *p, struct packed *out)
{
    for (uint32_t r = 0; r < p->rows; r++) {
        size_t tile = r / 16, row = r % 16;
        memcpy(out->pairs + tile * 64 + 2 * row, &p->d[r], 2);
        memcpy(out->pairs + tile * 64 + 32 + 2 * row, &p->m[r], 2);
        memcpy(out->outlier + tile * 576 + 2 * row, &p->od[r], 2);
        memcpy(out->outlier + tile * 576 + 32 + 2 * row, &p->om[r], 2);
    }
    for (uint32_t tile = 0; tile < p->rows / 16; tile++) {
        pack_nibbles(p, tile, 0, 4, out->outlier + tile * (size_t)576 + 64);
        pack_nibbles(p, tile, 0, 0, out->outlier + tile * (size_t)576 + 320);
    }
}

static struct packed new_packed(const struct plain *p, uint32_t panel_groups, bool f32)
{
    uint32_t tiles = p->rows / 16, first = !f32 && p->outlier ? 1 : 0, end = p->cols / 32;
    size_t n = (size_t)tiles * (end - first), block = 0;
    struct packed out = {.data = new_memory(n * (f32 ? PACK_F32_BLOCK : PACK_H_BLOCK)),
                         .l = new_memory(n * PACK_L_BLOCK),
                         .pairs = new_memory(tiles * (size_t)64),
                         .outlier = new_memory(tiles * (size_t)576)};
    for (uint32_t panel = first; panel < end; panel += panel_groups)
        for (uint32_t tile = 0; tile < tiles; tile++)
            for (uint32_t g = panel; g < end && g < panel + panel_groups; g++, block++)
                (f32 ? pack_f32_block : pack_block)(p, &out, block, tile, g);
    assert_int_equal(block, n);
    pack_rows(p, &out);
    out.m = (struct rt_matrix){.data = out.data,
                               .l = f32 ? NULL : out.l,
                               .pairs = f32 ? NULL : out.pairs,
                               .outlier = first ? out.outlier : NULL,
                               .rows = p->rows,
                               .cols = p->cols,
                               .panel_groups = panel_groups};
    return out;
}

static void free_packed(struct packed *packed)
{
    free(packed->data);
    free(packed->l);
    free(packed->pairs);
    free(packed->outlier);
}

/* ---- inputs -------------------------------------------------------------------------------- */

struct variant {
    unsigned weight_bits, act_bits;
};

static const struct variant variants[] = {{4, 16}, {4, 8}, {8, 16}, {8, 8}, {0, 0}};
enum { N_VARIANTS = 5, N_COLS = 7, MANY_COLS = RT_COLS + 9, MAX_ROWS = 96 };

struct input {
    struct rt_input x;
    struct rt_acts acts, outlier;
    float *f32;
};

/* in->x points into in. */
static void input_init(struct input *in, uint64_t *seed, struct variant v, uint32_t cols,
                       uint32_t n_cols)
{
    size_t groups = cols / 32;
    in->f32 = new_memory(sizeof(float) * n_cols * cols);
    in->acts =
        (struct rt_acts){new_memory(2 * (size_t)n_cols * cols),
                         new_memory(sizeof(struct rt_group) * n_cols * groups), (uint32_t)groups};
    random_floats(seed, in->f32, (size_t)n_cols * cols, 3);
    for (size_t c = 0; c < n_cols && v.act_bits; c++)
        (v.act_bits == 16 ? kernels->quantize_a16 : kernels->quantize_a8)(
            in->f32 + c * cols, (uint32_t)groups, &in->acts, c * groups);
    in->outlier = (struct rt_acts){new_memory(2 * (size_t)n_cols * 32),
                                   new_memory(sizeof(struct rt_group) * n_cols), 1};
    for (size_t c = 0; c < n_cols; c++)
        kernels->quantize_a16(in->f32 + c * cols, 1, &in->outlier, c);
    in->x = (struct rt_input){.weight_bits = v.weight_bits,
                              .act_bits = v.act_bits,
                              .acts = &in->acts,
                              .outlier = v.act_bits == 16 ? &in->acts : &in->outlier,
                              .f32 = in->f32,
                              .stride = cols,
                              .n_cols = n_cols};
}

static void free_input(struct input *in)
{
    free(in->f32);
    free(in->acts.q);
    free(in->acts.group);
    free(in->outlier.q);
    free(in->outlier.group);
}

/* What an activation stands for after quantization; the a16 order swaps 1 and 2 of each four. */
static double value_a16(const struct rt_acts *acts, size_t i)
{
    static const unsigned order[4] = {0, 2, 1, 3};
    return ((const int16_t *)acts->q)[i / 4 * 4 + order[i % 4]] * (double)acts->group[i / 32].scale;
}

static double input_value(const struct input *in, bool outlier, uint32_t c, uint32_t col)
{
    size_t i = (size_t)c * in->x.stride + col;
    if (in->x.act_bits == 0)
        return in->f32[i];
    if (in->x.act_bits == 16)
        return value_a16(&in->acts, i);
    if (outlier && col < 32)
        return value_a16(&in->outlier, (size_t)c * 32 + col);
    return ((const int8_t *)in->acts.q)[i] * (double)in->acts.group[i / 32].scale;
}

/* ---- tests --------------------------------------------------------------------------------- */

enum { STRIDE = MAX_ROWS + 3 };

/* y with everything outside the result left at a mark. */
static float *multiply(const struct rt_matrix *m, const struct rt_input *x, uint32_t rows,
                       uint32_t cols, unsigned n)
{
    float *y = new_memory(sizeof *y * x->n_cols * STRIDE);
    for (size_t i = 0; i < (size_t)x->n_cols * STRIDE; i++)
        y[i] = -12345;
    for (unsigned part = n; part-- > 0;) {
        uint32_t tiles = rows / 16, first = tiles * part / n * 16;
        rt_matmul(kernels, m, x, first, tiles * (part + 1) / n * 16 - first, cols, y + first,
                  STRIDE);
    }
    return y;
}

static void assert_same_y(float *y, const float *expected, uint32_t n_cols)
{
    assert_memory_equal(y, expected, sizeof *y * n_cols * STRIDE);
    free(y);
}

/* Each group rounds a few times, in f32 each column. */
static void check_row(const struct plain *p, const struct input *in, unsigned kind, uint32_t row,
                      uint32_t c, uint32_t cols, double value)
{
    double sum = 0, size = 0, steps = kind ? cols / 32. + 10 : cols;
    for (uint32_t i = 0; i < cols; i++) {
        double weight_size, x = input_value(in, p->outlier, c, i);
        sum += weight(p, kind, row, i, &weight_size) * x;
        size += weight_size * fabs(x);
    }
    if (!(fabs(value - sum) <= steps * u * size))
        fail_msg("row %u column %u: %.9g, expected %.9g", row, c, value, sum);
}

static void check_values(const struct plain *p, const struct input *in, uint32_t rows,
                         uint32_t cols, bool resident, const float *y)
{
    unsigned kind = resident && in->x.weight_bits ? 8 : in->x.weight_bits;
    for (uint32_t c = 0; c < in->x.n_cols; c++)
        for (uint32_t r = 0; r < STRIDE; r++) {
            if (r < rows)
                check_row(p, in, kind, r, c, cols, y[c * STRIDE + r]);
            else
                assert_true(y[c * STRIDE + r] == -12345);
        }
}

/* Two tiles of rows whose columns follow each other, as the MLP's groups lie. */
static void check_without_gaps(const struct rt_matrix *m, const struct rt_input *x, uint32_t rows,
                               uint32_t cols, const float *expected)
{
    float y[N_COLS * 32];
    for (uint32_t first = 0; first + 32 <= rows; first += 16) {
        rt_matmul(kernels, m, x, first, 32, cols, y, 32);
        for (uint32_t c = 0; c < x->n_cols; c++)
            assert_memory_equal(y + c * 32, expected + c * STRIDE + first, 32 * sizeof *y);
    }
}

/* One shape: values, then the same bits for other workers, panels and column counts, and prefixes
 * equal to matrices that are physically that small. */
static void check_shape(uint32_t rows, uint32_t cols, bool outlier, bool resident, struct variant v)
{
    uint64_t seed = rows + cols + outlier;
    struct plain p = new_plain(&seed, rows, cols, outlier);
    struct packed whole = new_packed(&p, 1000, v.weight_bits == 0);
    whole.m.l_resident = resident;
    struct input in;
    input_init(&in, &seed, v, cols, N_COLS);
    float *y = multiply(&whole.m, &in.x, rows, cols, 1);
    check_values(&p, &in, rows, cols, resident, y);
    check_without_gaps(&whole.m, &in.x, rows, cols, y);
    for (unsigned n = 2; n < 9; n++)
        assert_same_y(multiply(&whole.m, &in.x, rows, cols, n), y, N_COLS);
    for (uint32_t panel = 1; panel < 6; panel++) {
        struct packed cut = new_packed(&p, panel, v.weight_bits == 0);
        cut.m.l_resident = resident;
        assert_same_y(multiply(&cut.m, &in.x, rows, cols, 2), y, N_COLS);
        free_packed(&cut);
    }
    free(y);
    free_input(&in);
    free_packed(&whole);
    free_plain(&p);
}

static void check_products(void)
{
    static const uint32_t shapes[][2] = {{16, 32}, {96, 64}, {48, 224}, {80, 352}};
    for (unsigned s = 0; s < 4; s++)
        for (unsigned v = 0; v < N_VARIANTS; v++)
            for (unsigned flags = 0; flags < 4; flags++)
                check_shape(shapes[s][0], shapes[s][1], flags & 1 && variants[v].weight_bits,
                            flags & 2 && variants[v].weight_bits, variants[v]);
}

/* The first rows and columns of p as a matrix of its own. */
static struct plain cut_plain(const struct plain *p, uint32_t rows, uint32_t cols)
{
    uint64_t seed = 0;
    struct plain cut = new_plain(&seed, rows, cols, p->outlier);
    for (size_t r = 0; r < rows; r++) {
        memcpy(cut.weight8 + r * cols, p->weight8 + r * p->cols, cols);
        memcpy(cut.f32 + r * cols, p->f32 + r * p->cols, cols * sizeof *p->f32);
        memcpy(cut.u_d + r * cols / 32, p->u_d + r * p->cols / 32, cols / 32);
        memcpy(cut.u_m + r * cols / 32, p->u_m + r * p->cols / 32, cols / 32);
    }
    memcpy(cut.d, p->d, rows * sizeof *p->d);
    memcpy(cut.m, p->m, rows * sizeof *p->m);
    memcpy(cut.od, p->od, rows * sizeof *p->od);
    memcpy(cut.om, p->om, rows * sizeof *p->om);
    return cut;
}

static void check_prefix(const struct plain *p, const struct input *in, uint32_t rows,
                         uint32_t cols, uint32_t panel, uint32_t cut_panel)
{
    bool f32 = in->x.weight_bits == 0;
    struct packed stored = new_packed(p, panel, f32);
    struct plain small = cut_plain(p, rows, cols);
    struct packed physical = new_packed(&small, cut_panel, f32);
    float *y = multiply(&physical.m, &in->x, rows, cols, 1);
    check_values(&small, in, rows, cols, false, y);
    assert_same_y(multiply(&stored.m, &in->x, rows, cols, 3), y, in->x.n_cols);
    free(y);
    free_packed(&stored);
    free_packed(&physical);
    free_plain(&small);
}

static void check_prefix_equals_a_smaller_matrix(void)
{
    for (unsigned v = 0; v < N_VARIANTS; v++)
        for (unsigned outlier = 0; outlier < 2; outlier++) {
            uint64_t seed = v;
            struct plain p = new_plain(&seed, 96, 352, outlier && variants[v].weight_bits);
            struct input in;
            input_init(&in, &seed, variants[v], p.cols, N_COLS);
            for (uint32_t cols = 32; cols <= p.cols; cols += 64)
                for (uint32_t panel = 1; panel < 13; panel += 3)
                    check_prefix(&p, &in, 16 + cols % 80, cols, panel, 1 + cols / 32 % 4);
            free_input(&in);
            free_plain(&p);
        }
}

/* A product of one column is that column of the product of many, whatever stands beside it. */
static void check_columns_do_not_meet(void)
{
    for (unsigned v = 0; v < N_VARIANTS; v++) {
        uint64_t seed = v;
        struct plain p = new_plain(&seed, 96, 224, variants[v].weight_bits != 0);
        struct packed m = new_packed(&p, 3, variants[v].weight_bits == 0);
        struct input in;
        input_init(&in, &seed, variants[v], p.cols, MANY_COLS);
        float *y = multiply(&m.m, &in.x, p.rows, p.cols, 1);
        for (uint32_t n_cols = 1; n_cols < MANY_COLS; n_cols += 1 + n_cols / 5) {
            struct rt_input fewer = in.x;
            fewer.n_cols = n_cols;
            float *part = multiply(&m.m, &fewer, p.rows, p.cols, 2);
            assert_memory_equal(part, y, sizeof *y * n_cols * STRIDE);
            free(part);
        }
        free(y);
        free_input(&in);
        free_packed(&m);
        free_plain(&p);
    }
}

static void check_rows(const struct plain *p, const struct packed *packed, unsigned bits,
                       unsigned kind)
{
    float *out = new_memory(p->cols * sizeof *out);
    for (uint32_t r = 0; r < p->rows; r++) {
        rt_matrix_row(&packed->m, bits, r, out);
        for (uint32_t i = 0; i < p->cols; i++) {
            double size, expected = weight(p, kind, r, i, &size);
            if (!(fabs(out[i] - expected) <= (kind ? 4 * u * size : 0)))
                fail_msg("row %u column %u: %.9g, expected %.9g", r, i, out[i], expected);
        }
    }
    free(out);
}

static void test_rows(void **state)
{
    (void)state;
    for (unsigned outlier = 0; outlier < 2; outlier++)
        for (uint32_t panel = 1; panel < 9; panel += 2) {
            uint64_t seed = panel;
            struct plain p = new_plain(&seed, 48, 224, outlier);
            struct packed nested = new_packed(&p, panel, false), f32 = new_packed(&p, panel, true);
            check_rows(&p, &nested, 4, 4);
            check_rows(&p, &nested, 8, 8);
            nested.m.l_resident = true;
            check_rows(&p, &nested, 4, 8);
            check_rows(&p, &f32, 0, 0);
            free_packed(&nested);
            free_packed(&f32);
            free_plain(&p);
        }
}

/* Without an L plane, 4-bit weights are as they were, and 8-bit ones are the 4-bit ones. */
static void check_products_without_l_plane(struct variant v)
{
    uint64_t seed = 3;
    struct plain p = new_plain(&seed, 32, 96, true);
    struct packed m = new_packed(&p, 2, false);
    struct input in;
    input_init(&in, &seed, v, p.cols, N_COLS);
    in.x.weight_bits = 4;
    float *y = multiply(&m.m, &in.x, p.rows, p.cols, 1);
    m.m.l = NULL;
    in.x.weight_bits = v.weight_bits;
    assert_same_y(multiply(&m.m, &in.x, p.rows, p.cols, 1), y, N_COLS);
    check_rows(&p, &m, v.weight_bits, 4);
    free(y);
    free_input(&in);
    free_packed(&m);
    free_plain(&p);
}

static void check_matrix_without_l_plane(void)
{
    for (unsigned v = 0; v < N_VARIANTS; v++)
        if (variants[v].weight_bits)
            check_products_without_l_plane(variants[v]);
}

static void test_products(void **state)
{
    (void)state;
    on_every_isa(check_products);
}

static void test_prefix_equals_a_smaller_matrix(void **state)
{
    (void)state;
    on_every_isa(check_prefix_equals_a_smaller_matrix);
}

static void test_columns_do_not_meet(void **state)
{
    (void)state;
    on_every_isa(check_columns_do_not_meet);
}

static void test_matrix_without_l_plane(void **state)
{
    (void)state;
    on_every_isa(check_matrix_without_l_plane);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_prefix_equals_a_smaller_matrix),
        cmocka_unit_test(test_columns_do_not_meet),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_matrix_without_l_plane),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
