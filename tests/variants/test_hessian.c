/* The Hessian against its definition, recomputed here in double. */
#include "tests/test.h"

#include <math.h>
#include <string.h>

#include "variants/hessian.h"

enum { WIDTH = 80, STORED = 96, SAMPLES = 300 };

/* A gram of correlated samples; channel 7 is always 0. */
static void make_gram(float *gram)
{
    static double x[SAMPLES][WIDTH];
    uint32_t seed = 5;
    for (int s = 0; s < SAMPLES; s++)
        for (int i = 0; i < WIDTH; i++) {
            seed = seed * 1664525u + 1013904223u;
            double noise = (double)seed / 4294967296.0 - 0.5;
            x[s][i] = i == 7 ? 0 : noise * (1 + i % 5) + (i ? 0.6 * x[s][i - 1] : 0);
        }
    for (int i = 0; i < WIDTH; i++)
        for (int j = 0; j < WIDTH; j++) {
            double sum = 0;
            for (int s = 0; s < SAMPLES; s++)
                sum += x[s][i] * x[s][j];
            gram[i * WIDTH + j] = (float)(sum / SAMPLES);
        }
}

static void make_map(int32_t *map)
{
    for (int i = 0; i < STORED; i++)
        map[i] = i < WIDTH ? (i * 37) % WIDTH : -1;
}

/* max |L L^T H - 1| over a slice, H in the order in which columns are rounded. */
static double inverse_error(const struct var_slice *s)
{
    double worst = 0;
    double *inverse = calloc((size_t)s->n * s->n, sizeof *inverse);
    assert_non_null(inverse);
    for (uint32_t i = 0; i < s->n; i++)
        for (uint32_t j = 0; j < s->n; j++)
            for (uint32_t k = 0; k < s->n; k++)
                inverse[i * s->n + j] +=
                    (double)s->feed[i * s->n + k] * (double)s->feed[j * s->n + k];
    for (uint32_t i = 0; i < s->n; i++)
        for (uint32_t j = 0; j < s->n; j++) {
            double sum = i == j ? -1 : 0;
            for (uint32_t k = 0; k < s->n; k++)
                sum += inverse[i * s->n + k] * (double)s->gram[s->order[k] * s->n + s->order[j]];
            worst = fmax(worst, fabs(sum));
        }
    free(inverse);
    return worst;
}

/* Each column once; the outlier group after all others. */
static void check_order(const struct var_slice *s, bool outlier)
{
    bool seen[STORED] = {false};
    for (uint32_t i = 0; i < s->n; i++) {
        assert_false(seen[s->order[i]]);
        seen[s->order[i]] = true;
    }
    for (uint32_t i = 0; i < 32; i++)
        assert_int_equal(s->order[s->n - 32 + i], (outlier ? 0 : s->n - 32) + i);
}

static void the_feed_is_the_factor_of_the_inverse(void **state)
{
    (void)state;
    static float gram[WIDTH * WIDTH];
    int32_t map[STORED];
    const uint32_t ends[] = {32, 64, 96};
    struct ert_error err;
    make_gram(gram);
    make_map(map);
    for (uint32_t n_ends = 0; n_ends <= 3; n_ends++) {
        struct var_hessian *h;
        bool outlier = n_ends == 0;
        const struct var_hessian_config c = {gram, WIDTH, map, STORED, ends, n_ends, outlier};
        assert_int_equal(var_hessian_make(&h, &c, &err), 0);
        assert_int_equal(h->n_slices, n_ends == 3 ? 3 : n_ends + 1);
        uint32_t from = 0;
        for (uint32_t i = 0; i < h->n_slices; from += h->slices[i++].n) {
            assert_int_equal(h->slices[i].from, from);
            check_order(&h->slices[i], outlier);
            assert_true(inverse_error(&h->slices[i]) < 1e-4);
        }
        assert_int_equal(from, STORED);
        var_hessian_free(h);
    }
}

static void the_gram_is_in_stored_order_and_damped(void **state)
{
    (void)state;
    static float gram[WIDTH * WIDTH];
    int32_t map[STORED];
    struct var_hessian *h;
    struct ert_error err;
    make_gram(gram);
    make_map(map);
    const struct var_hessian_config c = {gram, WIDTH, map, STORED, NULL, 0, false};
    assert_int_equal(var_hessian_make(&h, &c, &err), 0);
    const float *got = h->slices[0].gram;
    double trace = 0;
    for (int i = 0; i < WIDTH; i++)
        trace += (double)gram[i * WIDTH + i];
    double damp = 0.01 * trace / (WIDTH - 1); /* channel 7 says nothing */
    for (int i = 0; i < STORED; i++)
        for (int j = 0; j < STORED; j++) {
            double want = i < WIDTH && j < WIDTH ? (double)gram[map[i] * WIDTH + map[j]] : 0;
            want += i == j ? damp : 0;
            assert_true(fabs((double)got[i * STORED + j] - want) < 1e-5);
        }
    var_hessian_free(h);
}

static void what_is_no_number_is_refused(void **state)
{
    (void)state;
    static float gram[WIDTH * WIDTH];
    struct var_hessian *h;
    struct ert_error err;
    make_gram(gram);
    gram[3 * WIDTH + 3] = NAN;
    const struct var_hessian_config c = {gram, WIDTH, NULL, STORED, NULL, 0, false};
    assert_int_equal(var_hessian_make(&h, &c, &err), -ERT_E_CHECK);
    assert_null(h);
    memset(gram, 0, sizeof gram); /* nothing ever arrives: nothing matters, and that is no error */
    assert_int_equal(var_hessian_make(&h, &c, &err), 0);
    var_hessian_free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_feed_is_the_factor_of_the_inverse),
        cmocka_unit_test(the_gram_is_in_stored_order_and_damped),
        cmocka_unit_test(what_is_no_number_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
