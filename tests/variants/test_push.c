/* The innermost loop of quantizing: each version against sums in double, those with fused
 * operations against each other. */
#include "tests/test.h"

#include <math.h>
#include <string.h>

#include "variants/push.h"

enum { N = 72, STRIDE = 99 };

static float matrix[STRIDE * STRIDE];
static struct var_lanes start[N];
static struct var_errors errors;

static float draw(void)
{
    return (float)rand() / (float)RAND_MAX - 0.5F;
}

static void make(uint32_t n_errors)
{
    for (size_t i = 0; i < sizeof matrix / sizeof *matrix; i++)
        matrix[i] = draw();
    for (size_t i = 0; i < N; i++)
        for (int r = 0; r < VAR_LANES; r++)
            start[i].v[r] = 10 * draw();
    errors.n = n_errors;
    for (uint32_t k = 0; k < n_errors; k++) {
        errors.column[k] = k * PACK_GROUP / n_errors;
        for (int r = 0; r < VAR_LANES; r++)
            errors.error[k].v[r] = draw();
    }
}

/* What element (i, r) is, and the sum of all terms' sizes. */
static double exact(struct var_factor f, uint32_t i, int r, double *size)
{
    double sum = (double)start[i].v[r];
    *size = fabs(sum);
    for (uint32_t k = 0; k < errors.n; k++) {
        double term =
            (double)f.at[i * f.across + errors.column[k] * f.down] * (double)errors.error[k].v[r];
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

static void compare(struct var_factor f, uint32_t n)
{
    struct var_lanes y[N], fused[N];
    for (unsigned v = 0; var_push_version(v); v++) {
        memcpy(y, start, sizeof y);
        var_push_version(v)(y, f, n, &errors);
        for (uint32_t i = 0; i < N; i++)
            for (int r = 0; r < VAR_LANES; r++) {
                double size, sum = i < n ? exact(f, i, r, &size) : (double)start[i].v[r];
                double bound = i < n ? (errors.n + 1) * size * 0x1p-24 : 0;
                assert_true(fabs((double)y[i].v[r] - sum) <= bound);
            }
        if (v > 1)
            assert_memory_equal(y, fused, sizeof y);
        memcpy(fused, y, sizeof y);
    }
}

static void versions_agree(void **state)
{
    const uint32_t counts[] = {0, 1, 7, PACK_GROUP}, widths[] = {0, 8, 32, N};
    (void)state;
    srand(3);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            make(counts[c]);
            compare((struct var_factor){matrix + 3, 1, STRIDE}, widths[w]);
            compare((struct var_factor){matrix + 3, STRIDE, 1}, widths[w]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(versions_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
