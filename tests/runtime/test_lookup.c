/* Guesses by what was said before, against a search through the whole text; and how many of them a
 * pass should carry, against the sum written out. */
#include "tests/allocations.h"
#include "tests/random.h"
#include "tests/test.h"

#include <math.h>

#include "runtime/runtime.h"

enum { TOKENS = 600 };

/* Words of a small vocabulary, some of them said again: repeats of all lengths. */
static void make_text(int32_t *ids, uint32_t n, uint64_t seed)
{
    uint32_t at = 0;
    while (at < n) {
        uint32_t length = 1 + random_below(&seed, 12), from = at ? random_below(&seed, at) : 0;
        bool again = at > 0 && random_below(&seed, 2);
        for (uint32_t i = 0; i < length && at < n; i++, at++)
            ids[at] = again ? ids[from + i] : (int32_t)random_below(&seed, 40);
    }
}

/* The longest match that ends before position `end`. */
static uint32_t longest_at(const int32_t *ids, uint32_t n, uint32_t end)
{
    uint32_t length = 0;
    while (length < end && length < RT_LOOKUP_MATCH && ids[end - 1 - length] == ids[n - 1 - length])
        length++;
    return length;
}

/* Of all places, how long the longest match is. */
static uint32_t longest(const int32_t *ids, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t end = 1; end < n; end++) {
        uint32_t length = longest_at(ids, n, end);
        best = length > best ? length : best;
    }
    return best;
}

/* True if these are what followed a match of this length somewhere, going round past the end. */
static bool followed(const int32_t *ids, uint32_t n, uint32_t match, const int32_t *guess,
                     uint32_t n_guess)
{
    for (uint32_t end = 1; end < n; end++) {
        uint32_t same = 0;
        while (same < n_guess && ids[end + same % (n - end)] == guess[same])
            same++;
        if (same == n_guess && longest_at(ids, n, end) >= match)
            return true;
    }
    return false;
}

static void check_guess(const struct rt_lookup *l, const int32_t *ids, uint32_t n)
{
    int32_t guess[RT_MAX_GUESSES];
    uint32_t match = rt_lookup_match(l);
    if (match == 0)
        return;
    rt_lookup_guess(l, guess, RT_MAX_GUESSES);
    assert_true(followed(ids, n, match, guess, RT_MAX_GUESSES));
}

/* Where three tokens stood before, their index finds them or a place as good; a shorter match may
 * be hidden behind another of its slot only if there is none of one token at all. */
static void guesses_are_what_followed_the_longest_match(void **state)
{
    int32_t ids[TOKENS];
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct rt_lookup *l;
        uint32_t right = 0;
        make_text(ids, TOKENS, seed * 7919);
        assert_int_equal(rt_lookup_create(&l, TOKENS, NULL), 0);
        for (uint32_t n = 1; n <= TOKENS; n++) {
            rt_lookup_add(l, ids[n - 1]);
            uint32_t expected = longest(ids, n), match = rt_lookup_match(l);
            assert_true(match <= expected);
            right += match == expected;
            check_guess(l, ids, n);
        }
        /* The index has the latest place of three tokens: seldom does a longer match end at
         * another. */
        assert_true(right > TOKENS * 9 / 10);
        rt_lookup_free(l);
    }
}

static void a_loop_is_guessed_round_and_round(void **state)
{
    static const int32_t text[] = {9, 1, 2, 3, 1, 2, 3}, then[] = {1, 2, 3, 1, 2, 3, 1};
    struct rt_lookup *l;
    int32_t guess[RT_MAX_GUESSES];
    (void)state;
    assert_int_equal(rt_lookup_create(&l, 8, NULL), 0);
    for (size_t i = 0; i < 4; i++)
        rt_lookup_add(l, text[i]);
    assert_int_equal(rt_lookup_match(l), 0);
    for (size_t i = 4; i < 7; i++)
        rt_lookup_add(l, text[i]);
    assert_int_equal(rt_lookup_match(l), 3);
    rt_lookup_guess(l, guess, RT_MAX_GUESSES);
    assert_memory_equal(guess, then, sizeof then);
    rt_lookup_add(l, 7);
    assert_int_equal(rt_lookup_match(l), 0);
    rt_lookup_add(l, 9); /* there is no room: as if it had not been said */
    assert_int_equal(rt_lookup_match(l), 0);
    rt_lookup_free(l);
}

/* After a cut it is as if what followed had never been said, whatever the index still tells. */
static void a_cut_forgets(void **state)
{
    struct rt_lookup *l;
    int32_t ids[TOKENS];
    uint64_t random = 5;
    uint32_t n = 0;
    (void)state;
    make_text(ids, TOKENS, 11);
    assert_int_equal(rt_lookup_create(&l, TOKENS, NULL), 0);
    for (int round = 0; round < 200; round++) {
        uint32_t cut = random_below(&random, n + 1), more = random_below(&random, 30);
        rt_lookup_cut(l, cut);
        for (n = cut; n < cut + more && n < TOKENS; n++) {
            ids[n] = (int32_t)random_below(&random, 8);
            rt_lookup_add(l, ids[n]);
            assert_true(rt_lookup_match(l) <= longest(ids, n + 1));
            check_guess(l, ids, n + 1);
        }
        assert_true(more == 0 || rt_lookup_match(l) > 0 || longest(ids, n) < 3);
    }
    rt_lookup_free(l);
}

static void adding_allocates_nothing(void **state)
{
#if COUNTS_ALLOCATIONS
    struct rt_lookup *l;
    int32_t ids[TOKENS], guess[RT_MAX_GUESSES];
    make_text(ids, TOKENS, 3);
    assert_int_equal(rt_lookup_create(&l, TOKENS, NULL), 0);
    unsigned long before = allocations_here;
    for (uint32_t i = 0; i < TOKENS; i++) {
        rt_lookup_add(l, ids[i]);
        if (rt_lookup_match(l))
            rt_lookup_guess(l, guess, RT_MAX_GUESSES);
    }
    assert_int_equal(allocations_here, before);
    rt_lookup_free(l);
#endif
    (void)state;
}

/* ---- how many ------------------------------------------------------------------------------ */

/* A point whose passes take 10 ms and 10 ms * cost more for each guess. */
static void live(struct rt_speculation *s, double cost, int passes)
{
    for (int i = 0; i < passes; i++) {
        rt_speculation_timed(s, 0, 10000000);
        rt_speculation_timed(s, 4, (uint64_t)(1e7 * (1 + 4 * cost)));
    }
}

static void draw(struct rt_speculation *s, int right, int of)
{
    for (int i = 0; i < 20 * of; i++)
        for (uint32_t match = 1; match <= RT_LOOKUP_MATCH; match++)
            rt_speculation_drew(s, match, i % of < right);
}

static void what_is_never_right_is_not_tried_and_what_always_is_goes_far(void **state)
{
    struct rt_speculation s;
    (void)state;
    rt_speculation_init(&s);
    assert_int_equal(rt_speculation_length(&s, 8, 7), 0); /* nothing was timed */
    live(&s, 0.2, 50);
    assert_int_equal(rt_speculation_length(&s, 0, 7), 0);
    draw(&s, 0, 10);
    for (uint32_t match = 0; match <= RT_LOOKUP_MATCH; match++)
        assert_int_equal(rt_speculation_length(&s, match, 7), 0);
    draw(&s, 10, 10);
    for (uint32_t match = 1; match <= RT_LOOKUP_MATCH; match++)
        assert_int_equal(rt_speculation_length(&s, match, 7), 7);
    assert_int_equal(rt_speculation_length(&s, 5, 3), 3);
    rt_speculation_moved(&s);
    assert_int_equal(rt_speculation_length(&s, 8, 7), 0);
}

/* p = 1/2 throughout: 1 + 1/2 + 1/4 + ... tokens in 1 + k c passes. By hand: at c = 1/10 they are
 * 1.364, 1.458, 1.442 for k = 1, 2, 3; at c = 21/100 1.240, 1.232; at c = 2/5 1.071, 0.972; at
 * c = 1/2 nothing is gained. */
static void the_length_is_where_tokens_per_time_are_the_most(void **state)
{
    static const struct {
        double cost;
        uint32_t length;
    } cases[] = {{0.1, 2}, {0.21, 1}, {0.4, 1}, {0.5, 0}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct rt_speculation s;
        rt_speculation_init(&s);
        live(&s, cases[i].cost, 100);
        assert_true(fabs(s.cost - cases[i].cost) < 0.01);
        for (int m = 1; m <= RT_LOOKUP_MATCH; m++)
            s.right[m] = 0.5;
        assert_int_equal(rt_speculation_length(&s, 2, 7), cases[i].length);
    }
}

/* A machine that was busy for a while: guesses look dear, and are tried again later. */
static void a_spoilt_estimate_is_forgotten(void **state)
{
    struct rt_speculation s;
    int passes = 0;
    (void)state;
    rt_speculation_init(&s);
    rt_speculation_timed(&s, 0, 10000000);
    for (int i = 0; i < 20; i++)
        rt_speculation_timed(&s, 2, 1000000000);
    for (int m = 1; m <= RT_LOOKUP_MATCH; m++)
        s.right[m] = 0.8;
    assert_int_equal(rt_speculation_length(&s, 4, 7), 0);
    while (rt_speculation_length(&s, 4, 7) == 0 && passes < 2000) {
        rt_speculation_timed(&s, 0, 10000000);
        passes++;
    }
    assert_true(passes > 20 && passes < 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guesses_are_what_followed_the_longest_match),
        cmocka_unit_test(a_loop_is_guessed_round_and_round),
        cmocka_unit_test(a_cut_forgets),
        cmocka_unit_test(adding_allocates_nothing),
        cmocka_unit_test(what_is_never_right_is_not_tried_and_what_always_is_goes_far),
        cmocka_unit_test(the_length_is_where_tokens_per_time_are_the_most),
        cmocka_unit_test(a_spoilt_estimate_is_forgotten),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
