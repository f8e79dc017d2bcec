/* The checker of kernels: what every check needs. One check for each operation, by subject in the
 * files beside; test_kernels runs them over all ISAs. */
#ifndef ERT_TEST_KERNELS_CHECK_H
#define ERT_TEST_KERNELS_CHECK_H

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/base.h"
#include "runtime/kernels/kernels.h"
#include "tests/random.h"
#include "tests/test.h"

/* void check_OPERATION(k, scalar): the operation of an ISA against scalar's and a reference. */
#define K(op, type, ...)                                                                           \
    void check_##op(const struct rt_kernels *k, const struct rt_kernels *scalar);
#include "runtime/kernels/kernels.def"
#undef K

enum {
    MAX_DIMS = 160,
    N_SEEDS = 6,
};

static const double u = 0x1p-23;

/* Arrays end where their memory ends (so that an over-read shows under AddressSanitizer) and start
 * off every vector boundary. */
static inline uint8_t *new_bytes(size_t n)
{
    uint8_t *memory = malloc(n + 1);
    assert_non_null(memory);
    return memory + 1;
}

static inline void free_bytes(uint8_t *p)
{
    free(p - 1);
}

static inline float *new_floats(size_t n)
{
    float *memory = malloc((n + 1) * sizeof *memory);
    assert_non_null(memory);
    return memory + 1;
}

static inline void free_floats(float *p)
{
    free(p - 1);
}

static inline void assert_same_bits(const void *a, const void *b, size_t n)
{
    assert_memory_equal(a, b, n);
}

static inline void assert_within(double value, double expected, double bound)
{
    if (!(fabs(value - expected) <= bound))
        fail_msg("%.9g, expected %.9g within %.3g", value, expected, bound);
}

/* ---- activations --------------------------------------------------------------------------- */

enum act_fill { ACT_RANDOM, ACT_LARGEST, ACT_SMALLEST, ACT_ZERO, N_ACT_FILLS };

/* Quantized columns with arbitrary scales; the a16 order is the business of whoever reads them. */
static inline struct rt_acts new_acts(uint64_t *seed, uint32_t n_cols, uint32_t groups,
                                      unsigned bits, enum act_fill fill)
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

static inline void free_acts(struct rt_acts *x)
{
    free(x->q);
    free(x->group);
}

/* Activation of column i of a group by the sentence in kernels.h: a16 in the order 0 2 1 3. */
static inline int64_t activation(const struct rt_acts *x, size_t group, unsigned i, unsigned bits)
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

#endif
