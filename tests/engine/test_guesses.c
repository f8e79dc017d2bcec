/* Tokens guessed and computed ahead, in the engine's own loop: what is said is what is said
 * without, every token is booked to the point that computed it, and a rung may say that there are
 * none. */
#include "tests/engine/stage.h"

#include <pthread.h>
#include <stdatomic.h>
#include "tests/random.h"

/* ---- at one point -------------------------------------------------------------------------- */

struct fixed {
    struct ert_model *model;
    struct ert_engine *engine;
};

static void open_fixed(struct fixed *f, const char *point)
{
    struct ert_failure why;
    struct ert_engine_options options = {.point = point, .threads = 2};
    f->model = stage_model("nested");
    if (ert_engine_open(&f->engine, f->model, &options, &why))
        fail_msg("%s", why.text);
}

/* Two turns of a conversation, the first one cut off; all that was heard is in *heard. */
static void two_turns(struct ert_engine *engine, const struct ert_conversation_options *options,
                      struct heard *heard, struct ert_answer answers[2])
{
    struct ert_failure why;
    *heard = (struct heard){.cancel_after = 25};
    if (ert_conversation_open(&heard->talk, engine, options, &why))
        fail_msg("%s", why.text);
    struct ert_callbacks callbacks = heard_callbacks(heard);
    for (int i = 0; i < 2; i++)
        if (ert_say(heard->talk, PROMPT, 120, &callbacks, &answers[i], &why))
            fail_msg("%s", why.text);
    assert_int_equal(answers[0].end, ERT_END_CANCELLED);
    assert_int_equal(answers[0].tokens, 25);
    assert_int_equal(answers[1].end, ERT_END_LENGTH);
    /* All but the last token of each answer, which the second turn begins with. */
    assert_int_equal(rt_session_position(heard->talk->session),
                     2 * PROMPT_TOKENS + 25 + answers[1].tokens - 1);
    ert_conversation_free(heard->talk);
}

static void compare(struct ert_engine *engine, struct ert_conversation_options *options,
                    uint64_t *accepted)
{
    static const char *const ways[] = {"auto", "on"};
    struct heard without, with;
    struct ert_answer answers[2];
    options->raw = true;
    options->speculation = "off";
    two_turns(engine, options, &without, answers);
    assert_int_equal(answers[0].drafted + answers[1].drafted, 0);
    for (size_t i = 0; i < 2; i++) {
        options->speculation = ways[i];
        two_turns(engine, options, &with, answers);
        assert_int_equal(with.n_tokens, without.n_tokens);
        assert_memory_equal(with.ids, without.ids, with.n_tokens * sizeof *with.ids);
        assert_string_equal(with.text, without.text);
        *accepted += answers[0].accepted + answers[1].accepted;
    }
}

static void what_is_said_is_what_is_said_without(void **state)
{
    static const struct {
        const char *point;
        uint32_t cache_bits;
    } cases[] = {{"w8a8", 16}, {"w4a16-r80", 16}, {"w8a8", 8}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixed f;
        uint64_t accepted = 0;
        struct ert_conversation_options options;
        struct ert_point_use use[ERT_MAX_POINTS];
        open_fixed(&f, cases[i].point);
        ert_conversation_defaults(&options);
        options.cache_bits = cases[i].cache_bits;
        options.temperature = 0;
        compare(f.engine, &options, &accepted);
        options.repeat_penalty = 1;
        compare(f.engine, &options, &accepted);
        for (options.seed = 1, options.temperature = 0.7f; options.seed <= 3; options.seed++)
            compare(f.engine, &options, &accepted);
        assert_true(accepted > 0);
        assert_int_equal(ert_get_use(f.engine, use, ERT_MAX_POINTS), 1);
        assert_int_equal(use[0].accepted, accepted);
        assert_true(use[0].drafted >= accepted);
        stage_close(f.model, f.engine);
    }
}

/* The last guesses are those that may still be said, and none has a place past the context. */
static void guesses_end_with_the_answer_and_the_context(void **state)
{
    struct fixed f;
    struct ert_failure why;
    struct ert_answer answer;
    struct heard heard = {0};
    (void)state;
    open_fixed(&f, "w4a16");
    struct ert_conversation *talk = stage_talk_guessing(f.engine, "on");
    struct ert_callbacks callbacks = heard_callbacks(&heard);
    for (uint32_t n = 1; n <= 2;
         n++) { /* a token that is the last, or the last but one: no guess */
        assert_int_equal(ert_say(talk, PROMPT PROMPT PROMPT, n, &callbacks, &answer, &why), 0);
        assert_int_equal(answer.tokens, n);
        assert_int_equal(answer.drafted, 0);
    }
    heard.n_tokens = 0;
    assert_int_equal(ert_say(talk, PROMPT, 0, &callbacks, &answer, &why), 0);
    assert_int_equal(answer.end, ERT_END_CONTEXT);
    assert_int_equal(rt_session_position(talk->session), rt_session_capacity(talk->session));
    assert_true(answer.accepted > 0 && answer.accepted <= answer.drafted);
    ert_conversation_free(talk);
    stage_close(f.model, f.engine);
}

static void an_unknown_word_is_refused(void **state)
{
    struct fixed f;
    struct ert_failure why;
    struct ert_conversation *talk;
    struct ert_conversation_options options;
    (void)state;
    open_fixed(&f, "w4a16");
    ert_conversation_defaults(&options);
    options.speculation = "always";
    assert_int_equal(ert_conversation_open(&talk, f.engine, &options, &why), -ERT_FAILED_USAGE);
    assert_null(talk);
    assert_non_null(strstr(why.text, "'always', expected auto, on or off"));
    stage_close(f.model, f.engine);
}

/* ---- while the point changes --------------------------------------------------------------- */

enum { RUNGS = 4 };
static const char ladder[] =
    "[w8a8, {point: w4a16-r80, speculation: off}, {point: w8a8-r70, speculation: on}, "
    "{point: w4a16, threads: 1, tokens-per-second: 2000}]";

struct moving {
    struct ert_model *model;
    struct ert_engine *engine;
    struct heard heard;
    uint64_t seed;
    atomic_bool stop; /* of move_at_any_time */
};

static void open_moving(struct moving *m)
{
    memset(m, 0, sizeof *m);
    m->model = stage_model("nested");
    m->engine = stage_calm_engine(m->model, ladder);
}

/* One token in ten brings another point, often in the midst of those that one pass computed. */
static void moving_token(void *ctx, const struct ert_token *token)
{
    struct moving *m = ctx;
    assert_int_equal(token->position, PROMPT_TOKENS + m->heard.n_tokens);
    heard_token(&m->heard, token);
    if (random_below(&m->seed, 10) == 0)
        rt_switch_publish(m->engine->sw, random_below(&m->seed, RUNGS));
}

static void moving_swap(void *ctx, const struct ert_swap *swap)
{
    struct moving *m = ctx;
    heard_swap(&m->heard, swap);
}

/* Tokens at each rung, by the swaps: the one at position p is decoded at the point of the last swap
 * that names p or an earlier one. */
static void count_by_swaps(const struct heard *heard, uint32_t first, uint64_t tokens[RUNGS])
{
    size_t next = 0;
    uint32_t index = first;
    for (uint32_t p = 0; p + 1 < PROMPT_TOKENS + heard->n_tokens; p++) {
        while (next < heard->n_swaps && heard->swaps[next].token <= p)
            index = heard->swaps[next++].to;
        tokens[index] += p >= PROMPT_TOKENS;
    }
}

static void answer_on_the_move(struct moving *m, const struct ert_callbacks *callbacks,
                               const char *speculation, uint64_t by_swaps[RUNGS])
{
    struct ert_failure why;
    struct ert_answer answer;
    uint32_t first = m->engine->code;
    memset(&m->heard, 0, sizeof m->heard);
    struct ert_conversation *talk = stage_talk_guessing(m->engine, speculation);
    if (ert_say(talk, PROMPT, 200, callbacks, &answer, &why))
        fail_msg("%s", why.text);
    assert_int_equal(answer.tokens, 200);
    check_against_schedule(m->model->pack, m->engine->ladders[0]->table, first, &m->heard);
    count_by_swaps(&m->heard, first, by_swaps);
    ert_conversation_free(talk);
}

static void check_use(const struct moving *m, const uint64_t by_swaps[RUNGS],
                      struct ert_point_use use[RUNGS])
{
    assert_int_equal(ert_get_use(m->engine, use, RUNGS), RUNGS);
    for (size_t i = 0; i < RUNGS; i++) {
        assert_int_equal(use[i].tokens, by_swaps[i]);
        assert_true(use[i].accepted <= use[i].drafted);
    }
}

static void every_token_is_that_of_the_point_it_is_booked_to(void **state)
{
    struct moving m;
    uint64_t by_swaps[RUNGS] = {0};
    struct ert_point_use use[RUNGS];
    (void)state;
    open_moving(&m);
    struct ert_callbacks callbacks = {.ctx = &m, .on_token = moving_token, .on_swap = moving_swap};
    for (int round = 0; round < 12; round++)
        answer_on_the_move(&m, &callbacks, round % 2 ? "on" : NULL, by_swaps);
    check_use(&m, by_swaps, use);
    assert_true(use[2].accepted > 0);
    stage_close(m.model, m.engine);
}

/* ---- while a pass goes on ------------------------------------------------------------------ */

static void *move_at_any_time(void *ctx)
{
    struct moving *m = ctx;
    while (!atomic_load(&m->stop)) {
        ert_sleep_until_ns(ert_now_ns() + 20000 + random_below(&m->seed, 400000));
        rt_switch_publish(m->engine->sw, random_below(&m->seed, RUNGS));
    }
    return NULL;
}

static void heard_on_the_move(void *ctx, const struct ert_token *token)
{
    struct moving *m = ctx;
    heard_token(&m->heard, token);
}

/* A point that comes in the midst of a pass ends its guesses, wherever that is. */
static void points_come_at_any_time(void **state)
{
    struct moving m;
    uint64_t by_swaps[RUNGS] = {0};
    struct ert_point_use use[RUNGS];
    pthread_t mover;
    (void)state;
    open_moving(&m);
    assert_int_equal(pthread_create(&mover, NULL, move_at_any_time, &m), 0);
    struct ert_callbacks callbacks = {
        .ctx = &m, .on_token = heard_on_the_move, .on_swap = moving_swap};
    for (int round = 0; round < 12; round++)
        answer_on_the_move(&m, &callbacks, round % 2 ? "on" : NULL, by_swaps);
    atomic_store(&m.stop, true);
    pthread_join(mover, NULL);
    check_use(&m, by_swaps, use);
    stage_close(m.model, m.engine);
}

/* The rungs say when, if the conversation does not. */
static void a_rung_says_when(void **state)
{
    static const struct {
        uint32_t rung;
        const char *speculation;
        bool drafts;
    } cases[] = {{1, NULL, false}, {2, NULL, true}, {1, "on", true}, {2, "off", false}};
    struct moving m;
    (void)state;
    open_moving(&m);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ert_failure why;
        struct ert_answer answer;
        struct ert_conversation *talk = stage_talk_guessing(m.engine, cases[i].speculation);
        rt_switch_publish(m.engine->sw, cases[i].rung);
        if (ert_say(talk, PROMPT, 100, NULL, &answer, &why))
            fail_msg("%s", why.text);
        assert_int_equal(answer.drafted > 0, cases[i].drafts);
        ert_conversation_free(talk);
    }
    stage_close(m.model, m.engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_said_is_what_is_said_without),
        cmocka_unit_test(guesses_end_with_the_answer_and_the_context),
        cmocka_unit_test(an_unknown_word_is_refused),
        cmocka_unit_test(every_token_is_that_of_the_point_it_is_booked_to),
        cmocka_unit_test(points_come_at_any_time),
        cmocka_unit_test(a_rung_says_when),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
