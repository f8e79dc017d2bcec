/* Ten thousand swaps, at random and to random points, in the engine's own token loop: each token is
 * the one that its position's point computes, and nothing is allocated between two tokens. */
#include "tests/allocations.h"
#include "tests/engine/stage.h"
#include "tests/random.h"

enum {
    ANSWER_TOKENS = 240,
#if COUNTS_ALLOCATIONS
    ENOUGH_SWAPS = 10000
#else
    ENOUGH_SWAPS = 600 /* a sanitizer takes its time */
#endif
};

enum { RUNGS = 5 };
static const char ladder[] = "[w8a8, w4a16, w4a16-r80, w8a8-r70, {point: w4a16, threads: 1}]";

struct storm {
    struct ert_model *model;
    struct ert_engine *engine;
    struct ert_conversation *talk;
    struct heard heard;
    uint64_t seed;
    size_t swaps, tokens;
    unsigned long between; /* allocations between two tokens, summed */
    unsigned long mark;
};

static unsigned long allocated_here(void)
{
#if COUNTS_ALLOCATIONS
    return allocations_here;
#else
    return 0;
#endif
}

static struct storm *open_storm(void)
{
    struct storm *s = calloc(1, sizeof *s);
    assert_non_null(s);
    s->model = stage_model("nested");
    s->engine = stage_calm_engine(s->model, ladder);
    s->talk = stage_talk(s->engine);
    return s;
}

static void close_storm(struct storm *s)
{
    ert_conversation_free(s->talk);
    stage_close(s->model, s->engine);
    free(s);
}

/* After two tokens of three another point is asked for. */
static void storm_token(void *ctx, const struct ert_token *token)
{
    struct storm *s = ctx;
    if (s->heard.n_tokens)
        s->between += allocated_here() - s->mark;
    heard_token(&s->heard, token);
    if (random_below(&s->seed, 3)) {
        uint32_t step = 1 + random_below(&s->seed, RUNGS - 1);
        rt_switch_publish(s->engine->sw, (s->engine->code + step) % RUNGS);
    }
    s->mark = allocated_here();
}

static void storm_swap(void *ctx, const struct ert_swap *swap)
{
    struct storm *s = ctx;
    heard_swap(&s->heard, swap);
}

/* An answer from the context's start, and what it should have been. */
static void answer_and_check(struct storm *s, const struct ert_callbacks *callbacks)
{
    struct ert_answer answer;
    struct ert_failure why;
    uint32_t first = s->engine->code;
    memset(&s->heard, 0, sizeof s->heard);
    rt_session_rewind(s->talk->session, 0);
    s->talk->pending = -1;
    if (ert_say(s->talk, PROMPT, ANSWER_TOKENS, callbacks, &answer, &why))
        fail_msg("%s", why.text);
    assert_int_equal(answer.tokens, ANSWER_TOKENS);
    check_against_schedule(s->model->pack, s->engine->ladders[0]->table, first, &s->heard);
    s->swaps += s->heard.n_swaps;
    s->tokens += s->heard.n_tokens;
}

static void random_swaps_compute_their_tokens_and_allocate_nothing(void **state)
{
    struct storm *s = open_storm();
    struct ert_callbacks callbacks = {.ctx = s, .on_token = storm_token, .on_swap = storm_swap};
#if COUNTS_ALLOCATIONS
    unsigned long before = allocations_here;
    void *volatile one = malloc(1);
    free(one);
    assert_int_equal(allocations_here, before + 1); /* the counter counts */
#endif
    while (s->swaps < ENOUGH_SWAPS)
        answer_and_check(s, &callbacks);
    print_message("# %zu swaps in %zu tokens\n", s->swaps, s->tokens);
    assert_int_equal(s->between, 0);
    assert_int_equal(s->engine->switches, s->swaps);
    close_storm(s);
    (void)state;
}

struct asker {
    struct storm *storm;
    atomic_bool stop;
};

/* Asks at any moment, in the midst of a token too. */
static void *ask_at_random(void *ctx)
{
    struct asker *asker = ctx;
    struct storm *s = asker->storm;
    while (!atomic_load(&asker->stop)) {
        rt_switch_publish(s->engine->sw, random_below(&s->seed, RUNGS));
        usleep(random_below(&s->seed, 400));
    }
    return NULL;
}

static void swaps_asked_for_by_another_thread_compute_their_tokens(void **state)
{
    struct storm *s = open_storm();
    struct asker asker = {.storm = s};
    struct ert_callbacks callbacks = heard_callbacks(&s->heard);
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, ask_at_random, &asker), 0);
    while (s->swaps < ENOUGH_SWAPS / 10)
        answer_and_check(s, &callbacks);
    atomic_store(&asker.stop, true);
    pthread_join(thread, NULL);
    close_storm(s);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_swaps_compute_their_tokens_and_allocate_nothing),
        cmocka_unit_test(swaps_asked_for_by_another_thread_compute_their_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
