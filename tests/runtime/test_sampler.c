/* Sampler: against probabilities worked out here by sorting, and known cases. */
#include "tests/test.h"

#include <math.h>
#include <string.h>

#include "runtime/sampler.h"

enum { N = 64, DRAWS = 10000 };

static const struct rt_sampler_config plain = {
    .temperature = 1, .top_p = 1, .repeat_penalty = 1, .seed = 7};

static struct rt_sampler *create(struct rt_sampler_config config, uint32_t n_vocab)
{
    struct rt_sampler *s;
    assert_int_equal(rt_sampler_create(&s, &config, n_vocab, NULL), 0);
    return s;
}

/* Logits of some spread, different for each seed, with ties. */
static void make_logits(float *logits, uint32_t n, uint32_t seed)
{
    for (uint32_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        logits[i] = (float)(seed >> 24) / 32.0f - 4.0f;
    }
}

/* ---- reference: sort everything, then cut -------------------------------------------------- */

struct ranked {
    double p;
    int32_t id;
};

static int best_first(const void *left, const void *right)
{
    const struct ranked *a = left, *b = right;
    if (a->p != b->p)
        return a->p > b->p ? -1 : 1;
    return a->id - b->id;
}

/* Probabilities by id after temperature, top-k, top-p and min-p, each on what the one before left.
 */
static void reference(const struct rt_sampler_config *c, const float *logits, uint32_t n, double *p)
{
    struct ranked ranked[N];
    double total = 0, cumulative = 0, kept_total = 0;
    for (uint32_t i = 0; i < n; i++)
        ranked[i] = (struct ranked){exp((double)logits[i] / (double)c->temperature), (int32_t)i};
    qsort(ranked, n, sizeof *ranked, best_first);
    uint32_t kept = c->top_k && c->top_k < n ? c->top_k : n;
    for (uint32_t i = 0; i < kept; i++)
        total += ranked[i].p;
    for (uint32_t i = 0; i < kept; i++) {
        if (i > 0 && c->top_p < 1 && cumulative >= (double)c->top_p * total)
            kept = i;
        else
            cumulative += ranked[i].p;
    }
    while (kept > 1 && ranked[kept - 1].p < (double)c->min_p * ranked[0].p)
        kept--;
    for (uint32_t i = 0; i < kept; i++)
        kept_total += ranked[i].p;
    memset(p, 0, n * sizeof *p);
    for (uint32_t i = 0; i < kept; i++)
        p[ranked[i].id] = ranked[i].p / kept_total;
}

/* Draws, and compares with the reference: nothing outside the kept set, and Pearson's statistic
 * over the expected counts below its mean by five standard deviations more. */
static void check_distribution(struct rt_sampler_config config, uint32_t logits_seed)
{
    float logits[N];
    double p[N], statistic = 0;
    unsigned count[N] = {0}, cells = 0;
    make_logits(logits, N, logits_seed);
    reference(&config, logits, N, p);
    struct rt_sampler *s = create(config, N);
    for (unsigned i = 0; i < DRAWS; i++)
        count[rt_sample(s, logits)]++;
    rt_sampler_free(s);
    for (unsigned i = 0; i < N; i++) {
        double expected = p[i] * DRAWS;
        if (p[i] == 0)
            assert_int_equal(count[i], 0);
        if (expected < 5)
            continue;
        assert_true(count[i] > 0);
        statistic += (count[i] - expected) * (count[i] - expected) / expected;
        cells++;
    }
    double freedom = cells > 1 ? cells - 1 : 1;
    assert_true(statistic < freedom + 5 * sqrt(2 * freedom));
}

#define CONFIG(t, k, p, m, penalty, last)                                                          \
    (struct rt_sampler_config)                                                                     \
    {                                                                                              \
        .temperature = (t), .top_k = (k), .top_p = (p), .min_p = (m), .repeat_penalty = (penalty), \
        .repeat_last = (last), .seed = 3                                                           \
    }
/* At temperature 2 every token that is kept comes up often enough to be counted. */
#define CUTS(k, p, m) CONFIG(2, k, p, m, 1, 0)

static void test_distribution(void **state)
{
    (void)state;
    check_distribution(CUTS(0, 1, 0), 1);
    for (uint32_t seed = 0; seed < 3; seed++) {
        check_distribution(CUTS(1 + 9 * seed, 1, 0), seed);
        check_distribution(CUTS(0, 0.3f + 0.3f * (float)seed, 0), seed);
        check_distribution(CUTS(0, 1, 0.03f + 0.2f * (float)seed), seed);
        check_distribution(CUTS(50, 0.9f, 0.25f), seed);
        check_distribution(CUTS(50, 0.6f, 0.05f), seed);
    }
    check_distribution(CUTS(N, 1, 0), 4);
    check_distribution(CUTS(N + 7, 0.95f, 0), 4);
    check_distribution(CUTS(0, 1e-6f, 0), 5);
    check_distribution(CUTS(0, 1, 1), 6); /* only those as likely as the best */
}

static void test_temperature(void **state)
{
    struct rt_sampler_config config = plain;
    (void)state;
    config.temperature = 0.5f;
    check_distribution(config, 8);
    config.temperature = 3.0f;
    config.top_k = 25;
    check_distribution(config, 9);
}

/* ---- known cases --------------------------------------------------------------------------- */

static void test_greedy_takes_the_best_and_the_lower_id(void **state)
{
    const float logits[] = {1, 5, NAN, 5, NAN, -INFINITY};
    struct rt_sampler_config config = plain;
    (void)state;
    config.temperature = 0;
    struct rt_sampler *s = create(config, 6);
    for (int i = 0; i < 3; i++)
        assert_int_equal(rt_sample(s, logits), 1);
    rt_sampler_free(s);
}

static void test_seeds(void **state)
{
    float logits[N];
    int32_t first[3][100];
    const uint64_t seeds[] = {42, 42, 43};
    (void)state;
    make_logits(logits, N, 1);
    for (unsigned k = 0; k < 3; k++) {
        struct rt_sampler_config config = plain;
        config.seed = seeds[k];
        struct rt_sampler *s = create(config, N);
        for (unsigned i = 0; i < 100; i++)
            first[k][i] = rt_sample(s, logits);
        rt_sampler_free(s);
    }
    assert_memory_equal(first[0], first[1], sizeof first[0]);
    assert_memory_not_equal(first[0], first[2], sizeof first[0]);
}

static void test_penalty(void **state)
{
    /* 4 / 2 = 2 and -1 * 2 = -2: seen tokens lose to 3 and -1.5. */
    const float positive[] = {4, 3, 1}, negative[] = {-1, -1.5f, -5};
    struct rt_sampler_config config = plain;
    (void)state;
    config.temperature = 0;
    config.repeat_penalty = 2;
    config.repeat_last = 2;
    struct rt_sampler *s = create(config, 3);
    assert_int_equal(rt_sample(s, positive), 0);
    assert_int_equal(rt_sample(s, positive), 1); /* 2 against 3 */
    assert_int_equal(rt_sample(s, positive), 0); /* 2 against 1.5: now all are among the last two */
    rt_sampler_accept(s, 2);
    rt_sampler_accept(s, 2);
    assert_int_equal(rt_sample(s, positive), 0); /* forgotten: only 2 is penalised, and once */
    rt_sampler_free(s);

    s = create(config, 3);
    rt_sampler_accept(s, 0);
    assert_int_equal(rt_sample(s, negative), 1);
    rt_sampler_accept(s, -1);
    rt_sampler_accept(s, 3); /* no tokens: nothing happens */
    assert_int_equal(rt_sample(s, negative), 0);
    rt_sampler_free(s);
}

static void test_penalty_counts_a_token_once(void **state)
{
    const float logits[] = {4, 1.9f};
    struct rt_sampler_config config = plain;
    (void)state;
    config.temperature = 0;
    config.repeat_penalty = 2;
    config.repeat_last = 8;
    struct rt_sampler *s = create(config, 2);
    for (int i = 0; i < 8; i++)
        rt_sampler_accept(s, 0);
    assert_int_equal(rt_sample(s, logits), 0);
    rt_sampler_free(s);
}

static void test_strange_logits(void **state)
{
    static const float sets[][4] = {
        {NAN, NAN, NAN, NAN},
        {-INFINITY, -INFINITY, -INFINITY, -INFINITY},
        {INFINITY, INFINITY, 0, NAN},
        {NAN, 3e38f, -3e38f, -INFINITY},
        {0, 0, 0, 0},
        {-INFINITY, NAN, -3, NAN},
    };
    static const unsigned allowed[] = {1, 1, 3, 2, 15, 4}; /* bit i: token i may come */
    (void)state;
    for (unsigned i = 0; i < sizeof sets / sizeof *sets; i++) {
        struct rt_sampler_config config = plain;
        config.temperature = 0.7f;
        config.repeat_penalty = 1.1f;
        config.repeat_last = 2;
        config.top_k = i % 2 ? 3 : 0;
        struct rt_sampler *s = create(config, 4);
        for (int draw = 0; draw < 200; draw++) {
            int32_t id = rt_sample(s, sets[i]);
            assert_in_range(id, 0, 3);
            assert_true(allowed[i] >> id & 1u);
        }
        rt_sampler_free(s);
    }
}

static void test_bad_parameters_are_named(void **state)
{
    static const struct {
        const char *name;
        struct rt_sampler_config config;
    } bad[] = {
        {"temperature", CONFIG(-1, 0, 1, 0, 1, 0)},
        {"temperature", CONFIG(NAN, 0, 1, 0, 1, 0)},
        {"top_p", CONFIG(1, 0, 0, 0, 1, 0)},
        {"top_p", CONFIG(1, 0, 1.5f, 0, 1, 0)},
        {"min_p", CONFIG(1, 0, 1, -0.1f, 1, 0)},
        {"min_p", CONFIG(1, 0, 1, 1.1f, 1, 0)},
        {"repeat_penalty", CONFIG(1, 0, 1, 0, 0, 0)},
        {"repeat_penalty", CONFIG(1, 0, 1, 0, INFINITY, 0)},
        {"repeat_last", CONFIG(1, 0, 1, 0, 1, UINT32_MAX)},
    };
    struct ert_error err;
    struct rt_sampler *s;
    (void)state;
    for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(rt_sampler_create(&s, &bad[i].config, N, &err), -ERT_E_RANGE);
        assert_non_null(strstr(err.text, bad[i].name));
        assert_null(s);
    }
    assert_int_equal(rt_sampler_create(&s, &plain, 0, &err), -ERT_E_RANGE);
    assert_int_equal(rt_sampler_create(&s, &(struct rt_sampler_config)RT_SAMPLER_DEFAULT, N, &err),
                     0);
    rt_sampler_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_temperature),
        cmocka_unit_test(test_greedy_takes_the_best_and_the_lower_id),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_penalty),
        cmocka_unit_test(test_penalty_counts_a_token_once),
        cmocka_unit_test(test_strange_logits),
        cmocka_unit_test(test_bad_parameters_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
