/* Answers with guesses are the answers without: the same tokens drawn from the same bits, greedy
 * and sampled, while the point changes, however many guesses come true. */
#include "tests/allocations.h"
#include "tests/random.h"
#include "tests/runtime/random_pack.h"

#include <string.h>

enum { THREADS = 3, PROMPT = 9, TOKENS = 120, SEEDS = 3 };

struct stage {
    struct rt_pack *pack;
    struct rt_team *team;
    struct rt_session *session;
};

static void open_stage(struct stage *s, const char *kind, uint32_t chunk, uint32_t cache_bits)
{
    const struct rt_session_config config = {.chunk = chunk, .cache_bits = cache_bits};
    *s = (struct stage){.pack = random_pack(kind)};
    assert_int_equal(rt_team_create(&s->team, THREADS, NULL), 0);
    assert_int_equal(rt_session_create(&s->session, s->pack, s->team, &config, NULL), 0);
}

static void close_stage(struct stage *s)
{
    rt_session_free(s->session);
    rt_team_free(s->team);
    rt_pack_free(s->pack);
}

static void set_point(const struct stage *s, const char *text, uint32_t threads)
{
    struct rt_point point;
    assert_int_equal(rt_point_parse(text, s->pack, &point, NULL), 0);
    point.threads = threads;
    rt_session_set_point(s->session, &point);
}

/* The point of the token at each place of the answer: another one every 13 tokens. */
static void take_point(const struct stage *s, uint32_t token)
{
    static const struct {
        const char *point;
        uint32_t threads;
    } turns[] = {{"w8a8", 0}, {"w4a16-r80", 2}, {"w4a8", 1}, {"w8a8-r70", 3}, {"w4a16", 0}};
    uint32_t turn = token / 13 % (sizeof turns / sizeof *turns);
    bool f32 = s->pack->kind == RT_PACK_F32;
    set_point(s, f32 ? "f32" : turns[turn].point, turns[turn].threads);
}

/* What was said, and from which logits. */
struct said {
    int32_t ids[TOKENS];
    float *logits; /* [TOKENS][n_vocab] */
    uint32_t passes, drafted, accepted;
};

/* What comes next, for a pass: nothing; what came after the same tokens before; or what will come,
 * right with the probability right_of_8 / 8, as is known from an answer that was given already. */
struct source {
    struct rt_lookup *lookup;
    const struct said *known;
    uint32_t right_of_8;
    uint64_t seed;
};

/* Guesses of what follows the token at this place; returns how many. */
static uint32_t guess(struct source *from, uint32_t token, uint32_t n_vocab, int32_t *ids)
{
    if (from->lookup && rt_lookup_match(from->lookup)) {
        rt_lookup_guess(from->lookup, ids, RT_MAX_GUESSES);
        return RT_MAX_GUESSES;
    }
    if (!from->known)
        return 0;
    uint32_t n = random_below(&from->seed, RT_MAX_GUESSES + 1);
    for (uint32_t i = 0; i < n; i++) {
        bool right = token + 1 + i < TOKENS && random_below(&from->seed, 8) < from->right_of_8;
        ids[i] =
            right ? from->known->ids[token + 1 + i] : (int32_t)random_below(&from->seed, n_vocab);
    }
    return n;
}

static void decode(const struct stage *s, struct source *from, struct said *said, uint32_t token)
{
    int32_t guesses[RT_MAX_GUESSES], id = said->ids[token];
    if (from->lookup)
        rt_lookup_add(from->lookup, id);
    if (rt_session_advance(s->session, id)) {
        said->accepted++;
        return;
    }
    uint32_t n = guess(from, token, s->pack->model.n_vocab, guesses);
    assert_int_equal(rt_session_feed_ahead(s->session, id, guesses, &n, NULL, NULL, NULL), 0);
    said->passes++;
    said->drafted += n;
}

static const int32_t prompt[PROMPT] = {5, 17, 0, 199, 3, 42, 42, 8, 100};

/* An answer from the conversation's start. Without a source, the reference: each token fed alone,
 * by the call that knows nothing of guesses. */
static struct said *answer(const struct stage *s, const struct rt_sampler_config *sampling,
                           struct source *from)
{
    struct said *said = calloc(1, sizeof *said);
    struct rt_sampler *sampler;
    const size_t v = s->pack->model.n_vocab;
    assert_non_null(said);
    said->logits = calloc(TOKENS * v, sizeof *said->logits);
    assert_non_null(said->logits);
    assert_int_equal(rt_sampler_create(&sampler, sampling, (uint32_t)v, NULL), 0);
    rt_session_rewind(s->session, 0);
    take_point(s, 0);
    assert_int_equal(rt_session_feed(s->session, prompt, PROMPT, NULL, NULL, NULL, NULL), 0);
    for (uint32_t i = 0; from && from->lookup && i < PROMPT; i++)
        rt_lookup_add(from->lookup, prompt[i]);
    for (uint32_t t = 0; t < TOKENS; t++) {
        memcpy(said->logits + t * v, rt_session_logits(s->session), v * sizeof(float));
        said->ids[t] = rt_sample(sampler, said->logits + t * v);
        assert_int_equal(rt_session_position(s->session), PROMPT + t);
        take_point(s, t);
        if (from)
            decode(s, from, said, t);
        else
            assert_int_equal(rt_session_feed(s->session, &said->ids[t], 1, NULL, NULL, NULL, NULL),
                             0);
    }
    rt_sampler_free(sampler);
    return said;
}

static void forget(struct said *said)
{
    free(said->logits);
    free(said);
}

static void assert_same(const struct stage *s, const struct said *a, const struct said *b)
{
    assert_memory_equal(a->ids, b->ids, sizeof a->ids);
    assert_memory_equal(a->logits, b->logits, TOKENS * s->pack->model.n_vocab * sizeof *a->logits);
}

static void compare(const struct stage *s, const struct rt_sampler_config *sampling)
{
    struct said *alone = answer(s, sampling, NULL);
    for (uint32_t right = 0; right <= 8; right += 4) {
        struct source from = {.known = alone, .right_of_8 = right};
        struct said *said = answer(s, sampling, &from);
        assert_same(s, said, alone);
        assert_int_equal(said->passes + said->accepted, TOKENS);
        assert_true(said->accepted <= said->drafted);
        assert_true(right < 8 || said->passes < TOKENS / 2);
        assert_true(right > 0 || said->accepted < TOKENS / 20);
        forget(said);
    }
    struct source from = {0};
    assert_int_equal(rt_lookup_create(&from.lookup, PROMPT + TOKENS, NULL), 0);
    struct said *said = answer(s, sampling, &from);
    assert_same(s, said, alone);
    assert_true(said->drafted > 0);
    rt_lookup_free(from.lookup);
    forget(said);
    forget(alone);
}

static void greedy_and_sampled_answers_are_those_without_guesses(void **state)
{
    static const struct {
        const char *kind;
        uint32_t cache_bits;
    } cases[] = {{"nested", 16}, {"nested", 8}, {"f32", 0}};
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct stage s;
        open_stage(&s, cases[k].kind, 0, cases[k].cache_bits);
        struct rt_sampler_config greedy = RT_SAMPLER_DEFAULT, plain = RT_SAMPLER_DEFAULT;
        greedy.temperature = 0;
        plain.temperature = 0;
        plain.repeat_penalty = 1;
        compare(&s, &greedy);
        compare(&s, &plain);
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            struct rt_sampler_config sampled = RT_SAMPLER_DEFAULT;
            sampled.seed = seed;
            compare(&s, &sampled);
        }
        close_stage(&s);
    }
}

/* What was computed for another point is not taken for this one's, at any change of it. */
static void another_point_computes_anew(void **state)
{
    static const int32_t next[3] = {7, 8, 9};
    struct stage s;
    uint32_t n = 3;
    (void)state;
    open_stage(&s, "nested", 0, 16);
    set_point(&s, "w8a8", 0);
    assert_int_equal(rt_session_feed_ahead(s.session, 6, next, &n, NULL, NULL, NULL), 0);
    assert_int_equal(n, 3);
    set_point(&s, "w8a8", 0);
    assert_true(rt_session_advance(s.session, 7));
    assert_int_equal(rt_session_position(s.session), 2);
    set_point(&s, "w8a8-r80", 0);
    assert_false(rt_session_advance(s.session, 8));
    set_point(&s, "w8a8", 0);
    assert_false(rt_session_advance(s.session, 8));
    assert_int_equal(rt_session_position(s.session), 2);
    close_stage(&s);
}

/* In a hurry from the n-th time on that it is asked. */
struct hurry {
    uint32_t asked, from;
};

static bool in_hurry(void *ctx)
{
    struct hurry *h = ctx;
    return ++h->asked >= h->from;
}

/* The answer goes on as it would have; only the guesses are lost, from the layer on where somebody
 * is in a hurry. Not even the last layer is too late, nor the first too early. */
static void a_hurry_drops_the_guesses_and_nothing_else(void **state)
{
    struct stage s;
    (void)state;
    open_stage(&s, "nested", 0, 16);
    uint32_t n_layers = s.pack->model.n_layers;
    const struct rt_sampler_config greedy = {.temperature = 0, .top_p = 1, .repeat_penalty = 1};
    struct said *plain = answer(&s, &greedy, NULL);
    size_t v = s.pack->model.n_vocab;
    for (uint32_t from = 1; from <= n_layers + 1; from++) {
        rt_session_rewind(s.session, 0);
        take_point(&s, 0);
        assert_int_equal(rt_session_feed(s.session, prompt, PROMPT, NULL, NULL, NULL, NULL), 0);
        for (uint32_t t = 0; t < 13 - 1; t++) { /* so many have one point */
            struct hurry hurry = {.from = from};
            uint32_t n = 3;
            assert_int_equal(rt_session_feed_ahead(s.session, plain->ids[t], plain->ids + t + 1, &n,
                                                   in_hurry, &hurry, NULL),
                             0);
            assert_int_equal(hurry.asked, from < n_layers ? from : n_layers);
            assert_int_equal(n, from <= n_layers ? 0 : 3);
            assert_int_equal(rt_session_position(s.session), PROMPT + t + 1);
            assert_memory_equal(rt_session_logits(s.session), plain->logits + (t + 1) * v,
                                v * sizeof(float));
            if (n == 0)
                assert_false(rt_session_advance(s.session, plain->ids[t + 1]));
        }
    }
    struct hurry never_asked = {.from = 1};
    uint32_t none = 0;
    assert_int_equal(
        rt_session_feed_ahead(s.session, 1, prompt, &none, in_hurry, &never_asked, NULL), 0);
    assert_int_equal(never_asked.asked, 0);
    free(plain->logits);
    free(plain);
    close_stage(&s);
}

static void what_is_fed_or_forgotten_ends_the_guesses(void **state)
{
    static const int32_t next[3] = {7, 8, 9};
    struct stage s;
    (void)state;
    open_stage(&s, "nested", 0, 16);
    for (int how = 0; how < 3; how++) {
        uint32_t n = 3;
        rt_session_rewind(s.session, 0);
        assert_int_equal(rt_session_feed_ahead(s.session, 6, next, &n, NULL, NULL, NULL), 0);
        if (how == 0)
            assert_int_equal(rt_session_feed(s.session, next, 1, NULL, NULL, NULL, NULL), 0);
        if (how == 1)
            rt_session_rewind(s.session, 0);
        if (how == 2)
            assert_false(rt_session_advance(s.session, 8)); /* 7 was the guess */
        assert_false(rt_session_advance(s.session, 7));
        assert_int_equal(rt_session_position(s.session), how == 0 ? 2 : how == 1 ? 0 : 1);
    }
    close_stage(&s);
}

static void guesses_that_do_not_fit_are_left_out_and_bad_ones_refused(void **state)
{
    enum { CHUNK = 4 };
    int32_t ids[256] = {0}, next[RT_MAX_GUESSES] = {1, 2, 3, 4, 5, 6, 7};
    struct ert_error err = {0};
    struct stage s;
    uint32_t n = RT_MAX_GUESSES;
    (void)state;
    open_stage(&s, "nested", CHUNK, 16);
    assert_int_equal(rt_session_feed_ahead(s.session, 9, next, &n, NULL, NULL, NULL), 0);
    assert_int_equal(n, CHUNK - 1);
    assert_int_equal(rt_session_feed(s.session, ids, 256 - 3, NULL, NULL, NULL, NULL), 0);
    n = RT_MAX_GUESSES;
    assert_int_equal(rt_session_feed_ahead(s.session, 9, next, &n, NULL, NULL, NULL), 0);
    assert_int_equal(n, 1);
    assert_int_equal(rt_session_feed_ahead(s.session, 9, next, &n, NULL, NULL, NULL), 0);
    assert_int_equal(n, 0);
    assert_int_equal(rt_session_position(s.session), 256);
    n = 1;
    assert_int_equal(rt_session_feed_ahead(s.session, 9, next, &n, NULL, NULL, &err), -ERT_E_FULL);
    rt_session_rewind(s.session, 10);
    next[0] = (int32_t)s.pack->model.n_vocab;
    assert_int_equal(rt_session_feed_ahead(s.session, 9, next, &n, NULL, NULL, &err), -ERT_E_RANGE);
    assert_int_equal(rt_session_position(s.session), 10);
    close_stage(&s);
}

static void guessing_allocates_nothing(void **state)
{
#if COUNTS_ALLOCATIONS
    static const int32_t next[RT_MAX_GUESSES] = {1, 2, 3, 4, 5, 6, 7};
    struct stage s;
    open_stage(&s, "nested", 0, 16);
    unsigned long before = allocations_here;
    for (int i = 0; i < 8; i++) {
        uint32_t n = RT_MAX_GUESSES;
        assert_int_equal(rt_session_feed_ahead(s.session, 9, next, &n, NULL, NULL, NULL), 0);
        assert_true(rt_session_advance(s.session, 1));
    }
    assert_int_equal(allocations_here, before);
    close_stage(&s);
#endif
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_and_sampled_answers_are_those_without_guesses),
        cmocka_unit_test(another_point_computes_anew),
        cmocka_unit_test(a_hurry_drops_the_guesses_and_nothing_else),
        cmocka_unit_test(what_is_fed_or_forgotten_ends_the_guesses),
        cmocka_unit_test(guesses_that_do_not_fit_are_left_out_and_bad_ones_refused),
        cmocka_unit_test(guessing_allocates_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
