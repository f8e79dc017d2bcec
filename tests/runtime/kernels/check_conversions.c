/* Floats to activations, to f16 and to 8 bits of the cache. */
#include "tests/runtime/kernels/check.h"

#include <float.h>

/* ---- activations --------------------------------------------------------------------------- */

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

void check_quantize_a16(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    check_quantize(k->quantize_a16, scalar->quantize_a16, 16);
    check_quantize_ties(k->quantize_a16, 16, 32767);
}

void check_quantize_a8(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    check_quantize(k->quantize_a8, scalar->quantize_a8, 8);
    check_quantize_ties(k->quantize_a8, 8, 127);
}

/* ---- the cache ------------------------------------------------------------------------------ */

void check_to_f16(const struct rt_kernels *k, const struct rt_kernels *scalar)
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

/* The same of 4 bits: the scale makes the value of the largest magnitude -8, and what would be 8
 * is 7. */
static void check_q4_group(const float *x, const uint8_t *group)
{
    uint16_t bits;
    double most = 0;
    memcpy(&bits, group, sizeof bits);
    double scale = ert_bf16_to_f32(bits), step = fabs(scale);
    for (unsigned i = 0; i < 32; i++)
        if (fabs((double)x[i]) > fabs(most) || (fabs((double)x[i]) == fabs(most) && x[i] < 0))
            most = x[i];
    if (!(fabs(most) >= 1e-30F) || isinf(most)) {
        assert_int_equal(bits, 0);
        step = 0;
    } else {
        assert_within(scale, most / -8, fabs(most) / 8 * 0x1.001p-8);
    }
    for (unsigned i = 0; i < 32; i++) {
        int code = (group[2 + i % 16] >> i / 16 * 4 & 15) ^ 8;
        double value = isnan(x[i]) || step == 0 ? 0 : x[i], got = (code - 8) * scale;
        bool beyond = code == 15 && value / scale > 7;
        assert_true(step > 0 || code == 8);
        assert_within(got, value, step * (beyond ? 1.04 : 0.50001));
    }
}

enum { GROUPS = 3, VALUES = GROUPS * 32 };

/* Values of all sizes, odd ones, and multiples of half a step (a bf16), of which the codes up to
 * `limit` have ties. */
static void fill_values(uint64_t *seed, unsigned round, int limit, float *x)
{
    static const float sizes[] = {0, 1e-42F, 1e-31F, 1e-30F, 1e-5F, 1, 1e5F, 1e30F, FLT_MAX};
    static const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, FLT_MAX, -1e-45F, -0.0F};
    for (unsigned i = 0; i < VALUES; i++) /* a group of a larger size now and then */
        x[i] = random_float(seed) * sizes[(round + i / 32) % 9];
    if (round % 3 == 0)
        x[random_u64(seed) % VALUES] = odd[round / 3 % 7];
    for (unsigned i = 0; round % 5 == 0 && i < 32; i++) {
        int halves = (int)(random_u64(seed) % (4 * (unsigned)limit)) - 2 * limit;
        x[i] = ldexpf(i ? (float)halves / 2 : -(float)limit, 3);
    }
}

/* Groups of so many bytes whose codes go up to `limit`, each as check_group would have it. */
static void check_to_codes(rt_to_q8_fn *fn, rt_to_q8_fn *scalar, size_t bytes, int limit,
                           void (*check_group)(const float *x, const uint8_t *group))
{
    uint64_t seed = (uint64_t)limit;
    float *x = new_floats(VALUES);
    uint8_t *out = new_bytes(GROUPS * bytes), *expected = new_bytes(GROUPS * bytes);
    for (unsigned round = 0; round < 400; round++) {
        fill_values(&seed, round, limit, x);
        fn(x, VALUES, out);
        scalar(x, VALUES, expected);
        assert_same_bits(out, expected, GROUPS * bytes);
        for (size_t g = 0; g < GROUPS; g++)
            check_group(x + g * 32, out + g * bytes);
    }
    free_floats(x);
    free_bytes(out);
    free_bytes(expected);
}

void check_to_q8(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    check_to_codes(k->to_q8, scalar->to_q8, 34, 127, check_q8_group);
}

void check_to_q4(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    check_to_codes(k->to_q4, scalar->to_q4, 18, 8, check_q4_group);
}
