/* A block of the cache: scores, their exponentials, mixed values. */
#include "tests/runtime/kernels/check.h"

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

void check_softmax_part(const struct rt_kernels *k, const struct rt_kernels *scalar)
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

/* Bytes of a position's scale in its group, and of a value (the half of one), where kernels.h has
 * them. */
struct place {
    size_t scale, value;
    bool high;
};

static bool is_codes(enum rt_cache_type type)
{
    return type == RT_CACHE_Q8 || type == RT_CACHE_Q4;
}

static struct place place_of(enum rt_cache_type type, bool keys, uint32_t position, uint32_t dim)
{
    static const size_t elements[] = {4, 2};
    size_t lanes = keys || is_codes(type) ? 16 : 1, lane = position % lanes, d = dim % 32;
    size_t group = position / lanes * (MAX_DIMS / 32) + dim / 32;
    if (!is_codes(type))
        return (struct place){0, ((group * 32 + d) * lanes + lane) * elements[type], false};
    if (type == RT_CACHE_Q4)
        return (struct place){group * 288 + lane * 2,
                              group * 288 + 32 + lane / 2 * 32 + d % 16 * 2 + lane % 2, d >= 16};
    size_t code = keys ? d / 2 * 32 + lane * 2 + d % 2 : lane / 2 * 64 + d * 2 + lane % 2;
    return (struct place){group * 544 + lane * 2, group * 544 + 32 + code, false};
}

/* One half of a byte, the other one stays. */
static void put_half(uint8_t *byte, bool high, int code)
{
    *byte = (uint8_t)(high ? (*byte & 15) | (code & 15) << 4 : (*byte & 0xf0) | (code & 15));
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
        break;
    case RT_CACHE_Q4:
        memcpy(&scale, cache->cached + at.scale, sizeof scale);
        code = (int8_t)(code & 15) - 8;
        *value = ert_bf16_to_f32(scale) * (float)code;
        put_half(cache->cached + at.value, at.high, code);
    }
}

/* A cache begins at an odd address of its kind. */
static size_t offset_of(enum rt_cache_type type)
{
    return is_codes(type) ? 1 : rt_cache_bits(type) / 8;
}

/* What lies in the last tile beyond n is not a number, or -1 as a code. */
static struct cache new_cache(uint64_t *seed, enum rt_cache_type type, bool keys, uint32_t n,
                              float size)
{
    uint32_t room = keys || is_codes(type) ? (n + 15) / 16 * 16 : n;
    size_t bytes = room * (MAX_DIMS / 32) * rt_cache_group(type), off = offset_of(type);
    struct cache cache = {type, new_floats((size_t)n * MAX_DIMS), malloc(bytes + off)};
    assert_non_null(cache.cached);
    cache.cached += off;
    memset(cache.cached, 0xff, bytes);
    for (uint32_t p = 0; p < n; p++)
        for (uint32_t d = 0; d < MAX_DIMS; d++) {
            struct place at = place_of(type, keys, p, d);
            float *value = &cache.values[(size_t)p * MAX_DIMS + d];
            uint16_t scale = ert_f32_to_bf16(fabsf(random_float(seed)) * (p % 5 ? size : 1e-6F));
            if (type == RT_CACHE_Q4 && random_u64(seed) % 2)
                scale |= 0x8000; /* as the value that becomes -8 has it */
            if (is_codes(type) && d % 32 == 0)
                memcpy(cache.cached + at.scale, &scale, sizeof scale);
            *value = random_float(seed) * (d % 7 ? size : 1e-6F);
            put_value(&cache, seed, at, value);
        }
    return cache;
}

static void free_cache(struct cache *cache)
{
    free_floats(cache->values);
    free(cache->cached - offset_of(cache->type));
}

static struct rt_cached positions(const struct cache *cache, uint32_t dims, uint32_t n)
{
    return (struct rt_cached){cache->cached, MAX_DIMS, dims, n};
}

struct attention_case {
    enum rt_cache_type type;
    uint32_t dims, n, n_queries;
};

/* What rounding each 32 of a query to 16 bits may change of a score. */
static double score_slack(enum rt_cache_type type, const float *query, const float *key,
                          uint32_t dims)
{
    double slack = 0;
    for (uint32_t g = 0; is_codes(type) && g < dims; g += 32) {
        double largest = 0, size = 0;
        for (uint32_t d = g; d < g + 32; d++) {
            largest = fmax(largest, fabsf(query[d]));
            size += fabsf(key[d]);
        }
        slack += (largest / 64000 + 1e-30) * size + 1e-30;
    }
    return slack;
}

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
            const float *key = cache.values + (size_t)p * MAX_DIMS;
            double dot = 0, size = 0, slack = score_slack(t.type, query, key, t.dims);
            for (uint32_t d = 0; d < t.dims; d++) {
                double term = (double)query[d] * key[d];
                dot += term;
                size += fabs(term);
            }
            double bound = t.dims * u * size + slack;
            assert_within(row[p], expected[(size_t)i * RT_CACHE_BLOCK + p], bound);
            assert_within(row[p], dot, bound);
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

/* What rounding weights times scales to 16 bits may change of a sum. */
static double mix_slack(const struct cache *cache, const float *w, uint32_t n, uint32_t d)
{
    double largest = 0, size = 0;
    if (!is_codes(cache->type))
        return 0;
    for (uint32_t p = 0; p < n; p++) {
        uint16_t scale;
        memcpy(&scale, cache->cached + place_of(cache->type, false, p, d).scale, sizeof scale);
        double value = cache->values[(size_t)p * MAX_DIMS + d];
        double step = fabsf(ert_bf16_to_f32(scale));
        largest = fmax(largest, fabs((double)w[p]) * step);
        size += value == 0 ? 0 : fabs(value) / step;
    }
    return (largest / 64000 + 1e-30) * size + 1e-30;
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
            double bound = t.n * u * size + mix_slack(&cache, w, t.n, d);
            assert_within(row[d], expected[(size_t)i * stride + d], bound);
            assert_within(row[d], sum, bound);
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

void check_score_f16(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    FOR_EACH_ATTENTION_CASE(RT_CACHE_F16, check_score(k->score_f16, scalar->score_f16, t));
}

void check_score_q8(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    FOR_EACH_ATTENTION_CASE(RT_CACHE_Q8, check_score(k->score_q8, scalar->score_q8, t));
}

void check_score_f32(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    FOR_EACH_ATTENTION_CASE(RT_CACHE_F32, check_score(k->score_f32, scalar->score_f32, t));
}

void check_mix_f16(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    FOR_EACH_ATTENTION_CASE(RT_CACHE_F16, check_mix(k->mix_f16, scalar->mix_f16, t));
}

void check_mix_q8(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    FOR_EACH_ATTENTION_CASE(RT_CACHE_Q8, check_mix(k->mix_q8, scalar->mix_q8, t));
}

void check_mix_q4(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    FOR_EACH_ATTENTION_CASE(RT_CACHE_Q4, check_mix(k->mix_q4, scalar->mix_q4, t));
}

void check_mix_f32(const struct rt_kernels *k, const struct rt_kernels *scalar)
{
    FOR_EACH_ATTENTION_CASE(RT_CACHE_F32, check_mix(k->mix_f32, scalar->mix_f32, t));
    struct attention_case long_one = {RT_CACHE_F32, 64, 1000, 1};
    check_mix(k->mix_f32, scalar->mix_f32, long_one);
}
