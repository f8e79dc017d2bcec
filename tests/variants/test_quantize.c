/* Quantized tiles, decoded here from docs/pack-format.md: what the rows give out errs less with a
 * hessian than without, no single code could be changed for the better, and the residual serves. */
#include "tests/test.h"

#include <math.h>
#include <string.h>

#include "base/base.h"
#include "variants/quantize.h"

enum { ROWS = 16, COLS = 160, GROUPS = COLS / 32, SAMPLES = 400 };

static uint32_t seed = 11;

static double uniform(void)
{
    seed = seed * 1664525u + 1013904223u;
    return (double)(seed >> 8) / 16777216.0 - 0.5;
}

/* A tile in memory. */
struct packed {
    uint8_t pairs[PACK_PAIRS], outlier[PACK_OUTLIER], h[GROUPS * PACK_H_BLOCK],
        l[GROUPS * PACK_L_BLOCK];
};

/* One weight as the page has it. */
struct weight {
    double d, m;
    int h, l, u_d;
};

static int nibble(const uint8_t *block, int row, int col)
{
    int i = col % 16;
    return block[(i / 4 * 16 + row) * 4 + i % 4] >> (col < 16 ? 0 : 4) & 15;
}

static struct weight weight_at(const struct packed *p, bool outlier, int row, int col)
{
    uint16_t d, m;
    struct weight w = {0};
    if (outlier && col < 32) {
        memcpy(&d, p->outlier + 2 * row, 2);
        memcpy(&m, p->outlier + 32 + 2 * row, 2);
        w.d = (double)ert_f16_to_f32(d);
        w.m = (double)ert_f16_to_f32(m);
        w.h = nibble(p->outlier + 64, row, col);
        w.l = nibble(p->outlier + 320, row, col);
        return w;
    }
    int g = col / 32 - (outlier ? 1 : 0);
    const uint8_t *block = p->h + g * PACK_H_BLOCK;
    memcpy(&d, p->pairs + 2 * row, 2);
    memcpy(&m, p->pairs + 32 + 2 * row, 2);
    w.u_d = block[row];
    w.d = (double)ert_bf16_to_f32(d) * w.u_d;
    w.m = (double)ert_bf16_to_f32(m) * block[16 + row];
    w.h = nibble(block + 32, row, col % 32);
    w.l = nibble(p->l + g * PACK_L_BLOCK, row, col % 32);
    return w;
}

static double value(struct weight w, int bits)
{
    return bits == 4 ? w.d * w.h - w.m : w.d / 16 * (16 * w.h + w.l) - (w.m + w.d / 2);
}

static float gram[COLS * COLS];

static void make_gram(void)
{
    static double x[SAMPLES][COLS];
    for (int s = 0; s < SAMPLES; s++)
        for (int i = 0; i < COLS; i++)
            x[s][i] = uniform() * (i < 32 ? 8 : 1 + i % 3) + (i ? 0.5 * x[s][i - 1] : 0);
    for (int i = 0; i < COLS; i++)
        for (int j = 0; j < COLS; j++) {
            double sum = 0;
            for (int s = 0; s < SAMPLES; s++)
                sum += x[s][i] * x[s][j];
            gram[i * COLS + j] = (float)(sum / SAMPLES);
        }
}

static float source[ROWS * COLS];

static struct var_hessian *prepare(const uint32_t *ends, uint32_t n_ends, bool outlier)
{
    struct var_hessian *h;
    struct ert_error err;
    make_gram();
    for (int i = 0; i < ROWS * COLS; i++)
        source[i] = (float)(uniform() + uniform() + uniform());
    const struct var_hessian_config c = {gram, COLS, NULL, COLS, ends, n_ends, outlier};
    assert_int_equal(var_hessian_make(&h, &c, &err), 0);
    return h;
}

struct setup {
    bool outlier, eight_bits, h_only;
};

static struct packed quantize(struct setup s, const struct var_hessian *h)
{
    struct packed p;
    memset(&p, 0, sizeof p);
    float *scratch = malloc(var_quantize_scratch(COLS) * sizeof *scratch);
    assert_non_null(scratch);
    struct var_tile t = {.pairs = p.pairs,
                         .outlier = s.outlier ? p.outlier : NULL,
                         .h = p.h,
                         .l = s.h_only ? NULL : p.l,
                         .eight_bits = s.eight_bits,
                         .panel_groups = 2,
                         .n_tiles = 1,
                         .n_groups = GROUPS - s.outlier,
                         .scratch = scratch};
    var_quantize_tile(&t, source, COLS, h);
    free(scratch);
    return p;
}

/* Errors of row `row` in units of w; outlier groups are read with both planes. */
static void errors_of(const struct packed *p, bool outlier, int row, int bits, double *e)
{
    for (int c = 0; c < COLS; c++) {
        struct weight w = weight_at(p, outlier, row, c);
        e[c] = (double)source[row * COLS + c] - value(w, outlier && c < 32 ? 8 : bits);
    }
}

/* e^T H e with the slices' H, over columns of one slice each. */
static double cost(const struct var_hessian *h, const double *e)
{
    double sum = 0;
    for (uint32_t i = 0; i < h->n_slices; i++) {
        const struct var_slice *s = &h->slices[i];
        for (uint32_t j = 0; j < s->n; j++)
            for (uint32_t k = 0; k < s->n; k++)
                sum += e[s->from + j] * (double)s->gram[j * s->n + k] * e[s->from + k];
    }
    return sum;
}

static double total(const struct var_hessian *h, const struct packed *p, bool outlier, int bits)
{
    double e[COLS], sum = 0;
    for (int r = 0; r < ROWS; r++) {
        errors_of(p, outlier, r, bits, e);
        sum += cost(h, e);
    }
    return sum;
}

static void a_hessian_lowers_the_error_of_the_output(void **state)
{
    (void)state;
    const uint32_t ends[] = {64};
    for (uint32_t n_ends = 0; n_ends < 2; n_ends++)
        for (int outlier = 0; outlier < 2; outlier++) {
            struct var_hessian *h = prepare(ends, n_ends, outlier);
            struct packed plain = quantize((struct setup){.outlier = outlier}, NULL);
            struct packed fed = quantize((struct setup){.outlier = outlier}, h);
            double before = total(h, &plain, outlier, 4), after = total(h, &fed, outlier, 4);
            assert_true(after < 0.75 * before);
            assert_true(total(h, &fed, outlier, 8) < 0.1 * after);
            var_hessian_free(h);
        }
}

/* With all else fixed, how many residuals could move by one for the better, by more than rounding.
 */
static int improvable(const struct var_hessian *h, const struct packed *p, int row)
{
    double e[COLS];
    int n = 0;
    errors_of(p, false, row, 8, e);
    double now = cost(h, e);
    for (int c = 0; c < COLS; c++)
        for (int way = -1; way <= 1; way += 2) {
            struct weight w = weight_at(p, false, row, c);
            if (w.l + way < 0 || w.l + way > 15)
                continue;
            double kept = e[c];
            e[c] -= way * w.d / 16;
            n += cost(h, e) < now * (1 - 1e-3);
            e[c] = kept;
        }
    return n;
}

static int all_improvable(const struct var_hessian *h, const struct packed *p)
{
    int n = 0;
    for (int r = 0; r < ROWS; r++)
        n += improvable(h, p, r);
    return n;
}

static void hardly_a_residual_could_be_chosen_better(void **state)
{
    (void)state;
    struct var_hessian *h = prepare(NULL, 0, false);
    struct packed nearest = quantize((struct setup){0}, NULL), p = quantize((struct setup){0}, h);
    int before = all_improvable(h, &nearest), after = all_improvable(h, &p);
    print_message("# %d improvable before, %d after\n", before, after);
    assert_true(before > ROWS * COLS / 4);
    assert_true(after < ROWS * COLS / 40); /* descent stops after a few sweeps */
    var_hessian_free(h);
}

static void eight_bits_everywhere_need_no_good_h(void **state)
{
    (void)state;
    struct var_hessian *h = prepare(NULL, 0, false);
    struct packed nested = quantize((struct setup){0}, h);
    struct packed wide = quantize((struct setup){.eight_bits = true}, h);
    assert_true(total(h, &wide, false, 8) < total(h, &nested, false, 8));
    double worst = 0; /* one long range, no clipping: half a sixteenth, or what feedback adds */
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLS; c++) {
            struct weight w = weight_at(&wide, false, r, c);
            worst = fmax(worst, fabs((double)source[r * COLS + c] - value(w, 8)) / w.d * 16);
        }
    assert_true(worst < 4);
    var_hessian_free(h);
}

static void without_l_planes_h_is_the_same(void **state)
{
    (void)state;
    struct var_hessian *h = prepare(NULL, 0, false);
    struct packed nested = quantize((struct setup){.outlier = true}, h);
    struct packed alone = quantize((struct setup){.outlier = true, .h_only = true}, h);
    assert_memory_equal(nested.h, alone.h, sizeof alone.h);
    assert_memory_equal(nested.pairs, alone.pairs, sizeof alone.pairs);
    assert_memory_equal(nested.outlier, alone.outlier, sizeof alone.outlier);
    var_hessian_free(h);
}

/* A tier that drops the columns from 64 on finds in the others what a tile of them alone has. */
static void a_slice_does_not_depend_on_what_follows(void **state)
{
    (void)state;
    const uint32_t ends[] = {64};
    struct var_hessian *h = prepare(ends, 1, false);
    struct packed before = quantize((struct setup){0}, h);
    for (int r = 0; r < ROWS; r++)
        for (int c = 64; c < COLS; c++) /* within the same range, so that the row pairs stay */
            source[r * COLS + c] = -source[r * COLS + c] * 0.5f;
    for (int r = 0; r < ROWS; r++) { /* the first slice has the extremes of each row */
        source[r * COLS] = 4;
        source[r * COLS + 1] = -4;
    }
    struct packed one = quantize((struct setup){0}, h);
    for (int r = 0; r < ROWS; r++)
        for (int c = 64; c < COLS; c++)
            source[r * COLS + c] *= 0.7f;
    struct packed other = quantize((struct setup){0}, h);
    assert_memory_equal(one.h, other.h, 2 * PACK_H_BLOCK);
    assert_memory_equal(one.l, other.l, 2 * PACK_L_BLOCK);
    assert_memory_not_equal(before.h, other.h, 2 * PACK_H_BLOCK);
    var_hessian_free(h);
}

static void a_zero_row_is_zero(void **state)
{
    (void)state;
    struct var_hessian *h = prepare(NULL, 0, false);
    memset(source + 3 * COLS, 0, COLS * sizeof *source);
    for (int outlier = 0; outlier < 2; outlier++) {
        struct packed p = quantize((struct setup){.outlier = outlier}, h);
        for (int c = 0; c < COLS; c++) {
            struct weight w = weight_at(&p, outlier, 3, c);
            assert_true(w.d == 0 && w.m == 0);
            w = weight_at(&p, outlier, 4, c);
            assert_true(w.d > 0 && (w.u_d >= 1 || (outlier && c < 32)));
        }
    }
    var_hessian_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_hessian_lowers_the_error_of_the_output),
        cmocka_unit_test(hardly_a_residual_could_be_chosen_better),
        cmocka_unit_test(eight_bits_everywhere_need_no_good_h),
        cmocka_unit_test(without_l_planes_h_is_the_same),
        cmocka_unit_test(a_slice_does_not_depend_on_what_follows),
        cmocka_unit_test(a_zero_row_is_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
