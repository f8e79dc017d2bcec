/* Ten thousand swaps, at random and to random points, in the engine's own token loop: each token is
 * the one that its position's point computes, and nothing is allocated between two tokens. */
#include "tests/allocations.h"
#include "tests/engine/stage.h"

enum {
    ANSWER_TOKENS = 240,
#if COUNTS_ALLOCATIONS
    ENOUGH_SWAPS = 10000
#else
    ENOUGH_SWAPS = 600 /* a sanitizer takes its time */
#endif
};

static const int32_t prompt[PROMPT_TOKENS] = {3 + 'a' - 33, 3 + 'b' - 33, 3 + 'c' - 33,
                                              3 + 'd' - 33, 3 + 'e' - 33};

/* Calm for as long as the test runs: the governor beats, decides and journals, but leaves the
 * swapping to the test. */
static const char policy[] =
    "edgert: 1\n"
    "ladders:\n"
    "  five: [w8a8, w4a16, w4a16-r80, w8a8-r70, {point: w4a16, threads: 1}]\n"
    "policies:\n"
    "  calm:\n"
    "    ladder: five\n"
    "    poll: 10s\n"
    "    trips:\n"
    "      - {name: busy, sensor: cpu.load.others, above: 90%, states: 1}\n";
static const char calm[] = "# device: none\n# source: this test\n# licence: CC0-1.0\n"
                           "time_s,cpu.load.others_%\n0,5\n3600,5\n";

struct storm {
    struct ert_model *model;
    struct ert_engine *engine;
    struct ert_conversation *talk;
    struct heard heard;
    uint64_t random;
    size_t swaps, tokens;
    unsigned long between; /* allocations between two tokens, summed */
    unsigned long mark;
};

/* xorshift64 (Marsaglia 2003). */
static uint32_t next_random(struct storm *s, uint32_t below)
{
    s->random ^= s->random << 13;
    s->random ^= s->random >> 7;
    s->random ^= s->random << 17;
    return (uint32_t)(s->random >> 32) % below;
}

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
    char sensors[4500];
    struct ert_failure why;
    assert_non_null(s);
    s->random = 88172645463325252ULL;
    s->model = stage_model("nested");
    stage_write(stage_path("policy.yaml"), policy);
    stage_write(stage_path("trace.csv"), calm);
    snprintf(sensors, sizeof sensors, "replay:%s", stage_path("trace.csv"));
    struct ert_engine_options options = {.policy = "calm",
                                         .policy_file = stage_path("policy.yaml"),
                                         .sensors = sensors,
                                         .journal = stage_path("journal.jsonl"),
                                         .threads = 2};
    if (ert_engine_open(&s->engine, s->model, &options, &why))
        fail_msg("%s", why.text);
    s->talk = stage_talk(s->engine);
    return s;
}

static void close_storm(struct storm *s)
{
    struct ert_failure why;
    ert_conversation_free(s->talk);
    if (ert_engine_close(s->engine, &why))
        fail_msg("%s", why.text);
    ert_model_free(s->model);
    stage_clear();
    free(s);
}

/* After two tokens of three another point is asked for. */
static void storm_token(void *ctx, const struct ert_token *token)
{
    struct storm *s = ctx;
    if (s->heard.n_tokens)
        s->between += allocated_here() - s->mark;
    heard_token(&s->heard, token);
    if (next_random(s, 3)) {
        uint32_t step = 1 + next_random(s, 4);
        rt_switch_publish(s->engine->sw, (s->engine->code + step) % 5);
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
    check_against_schedule(s->model->pack, s->engine->ladders[0]->table, first, prompt, &s->heard);
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
        rt_switch_publish(s->engine->sw, next_random(s, 5));
        usleep(next_random(s, 400));
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
