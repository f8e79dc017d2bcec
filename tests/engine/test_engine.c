/* The engine under a policy: sessions, the switch, the governor and the planes' worker together. */
#include "tests/engine/stage.h"
#include "tests/tree.h"

#include <math.h>

/* cpu.load.others asks for the state directly: 10 % a state. Poll by poll of the trace's time. */
static const char policy_head[] = "edgert: 1\n"
                                  "ladders:\n"
                                  "  swing:\n";
static const char policy_tail[] =
    "policies:\n"
    "  swing:\n"
    "    ladder: swing\n"
    "    poll: 100ms\n"
    "    trips:\n"
    "      - {name: one, sensor: cpu.load.others, above: 10%, governor: bang_bang, states: 1}\n"
    "      - {name: two, sensor: cpu.load.others, above: 20%, governor: bang_bang, states: 2}\n"
    "      - {name: three, sensor: cpu.load.others, above: 30%, governor: bang_bang, states: 3}\n"
    "      - {name: memory, sensor: memory.available, below: 400MB, governor: bang_bang, states: "
    "1}\n"
    "    dwell: {down: 0s, up: 0s}\n"
    "    failsafe: \"w4a16-r80@1t,800tok/s\"\n";

/* Four rungs; the last is given by the test. Paced, so that a tiny model lives through many polls.
 */
static void write_policy(const char *last)
{
    char text[4096];
    snprintf(text, sizeof text,
             "%s    - {point: w8a8, tokens-per-second: 800}\n"
             "    - {point: w4a16, tokens-per-second: 800}\n"
             "    - {point: w4a16-r80, threads: 1, tokens-per-second: 800}\n"
             "    - %s\n%s",
             policy_head, last, policy_tail);
    stage_write(stage_path("policy.yaml"), text);
}

/* n rows a poll apart; load and memory cycle through what is given. */
static void write_trace(const double *load, size_t n_load, const double *memory, size_t n_memory,
                        size_t n)
{
    FILE *f = fopen(stage_path("trace.csv"), "we");
    assert_non_null(f);
    fputs("# device: none\n# source: this test\n# licence: CC0-1.0\n"
          "time_s,cpu.load.others_%,memory.available_MB\n",
          f);
    for (size_t i = 0; i < n; i++)
        fprintf(f, "%.1f,%g,%g\n", (double)i * 0.1, load[i % n_load], memory[i % n_memory]);
    assert_int_equal(fclose(f), 0);
}

static const double plenty[] = {4000};

struct stage {
    struct ert_model *model;
    struct ert_engine *engine;
    struct ert_conversation *talk;
    struct heard heard;
    struct ert_answer answer;
};

static struct stage *open_stage(const char *journal, double speed)
{
    struct stage *s = calloc(1, sizeof *s);
    struct ert_failure why;
    char sensors[4500];
    assert_non_null(s);
    s->model = stage_model("nested");
    snprintf(sensors, sizeof sensors, "replay:%s@%g", stage_path("trace.csv"), speed);
    struct ert_engine_options options = {.policy = "swing",
                                         .policy_file = stage_path("policy.yaml"),
                                         .sensors = sensors,
                                         .journal = journal,
                                         .threads = 2};
    if (ert_engine_open(&s->engine, s->model, &options, &why))
        fail_msg("%s", why.text);
    s->talk = s->heard.talk = stage_talk(s->engine);
    return s;
}

static void say(struct stage *s, uint32_t n)
{
    struct ert_failure why;
    struct ert_callbacks callbacks = heard_callbacks(&s->heard);
    if (ert_say(s->talk, PROMPT, n, &callbacks, &s->answer, &why))
        fail_msg("%s", why.text);
}

static void close_stage(struct stage *s)
{
    struct ert_failure why;
    ert_conversation_free(s->talk);
    if (s->engine && ert_engine_close(s->engine, &why))
        fail_msg("%s", why.text);
    ert_model_free(s->model);
    stage_clear();
    free(s);
}

static void check(const struct stage *s)
{
    assert_int_equal(s->answer.tokens, s->heard.n_tokens);
    check_against_schedule(s->model->pack, s->engine->ladders[0]->table, 0, &s->heard);
}

/* ---- tests --------------------------------------------------------------------------------- */

/* A point every poll, up and down: each token is the one that its position's point computes. */
static void answers_follow_the_swaps(void **state)
{
    static const double load[] = {5, 15, 25, 35, 5, 35, 15, 5, 25, 5, 25, 15};
    write_policy("{point: w8a8-r70, tokens-per-second: 800}");
    write_trace(load, 12, plenty, 1, 2000);
    struct stage *s = open_stage(NULL, 20);
    say(s, 200);
    check(s);
    bool seen[4] = {true};
    for (size_t i = 0; i < s->heard.n_swaps; i++)
        seen[s->heard.swaps[i].to] = true;
    assert_int_equal(s->answer.end, ERT_END_LENGTH);
    assert_true(s->heard.n_swaps >= 4);
    assert_true(seen[1] + seen[2] + seen[3] >= 2);
    close_stage(s);
    (void)state;
}

/* Swaps tell where they come from, in a chain; the use table adds up. */
static void swaps_form_a_chain_and_use_adds_up(void **state)
{
    static const double load[] = {5, 15, 25, 35};
    write_policy("{point: w8a8-r70, tokens-per-second: 800}");
    write_trace(load, 4, plenty, 1, 2000);
    struct stage *s = open_stage(NULL, 20);
    say(s, 150);
    for (size_t i = 1; i < s->heard.n_swaps; i++) {
        assert_string_equal(s->heard.swaps[i].from, s->heard.swaps[i - 1].name);
        assert_true(s->heard.swaps[i].token >= s->heard.swaps[i - 1].token);
    }
    struct ert_point_use use[ERT_MAX_POINTS];
    uint64_t tokens = 0, prompted = 0, entered = 0;
    double seconds = 0;
    assert_int_equal(ert_get_use(s->engine, use, ERT_MAX_POINTS), 4);
    for (size_t i = 0; i < 4; i++) {
        tokens += use[i].tokens;
        prompted += use[i].prompt_tokens;
        entered += use[i].entered;
        seconds += use[i].prefill_s + use[i].decode_s;
    }
    /* The last token of an answer is said, not decoded. */
    assert_int_equal(tokens, s->answer.tokens - (s->answer.end != ERT_END_STOP));
    assert_int_equal(prompted, PROMPT_TOKENS);
    assert_int_equal(entered, s->heard.n_swaps);
    assert_true(fabs(seconds - (s->answer.prefill_s + s->answer.decode_s)) < 0.1 * seconds + 0.01);
    close_stage(s);
    (void)state;
}

/* Held, the session is intact: what comes after a pause is what would have come without. */
static void a_pause_holds_and_resumes(void **state)
{
    static const double load[] = {5, 5, 35, 35, 35, 15, 15};
    write_policy("pause");
    write_trace(load, 7, plenty, 1, 2000);
    struct stage *s = open_stage(NULL, 10);
    say(s, 120);
    check(s);
    bool paused = false;
    for (size_t i = 0; i < s->heard.n_swaps; i++)
        paused |= s->heard.swaps[i].to == 3;
    assert_true(paused && s->heard.holds > 0);
    close_stage(s);
    (void)state;
}

static void *cancel_soon(void *talk)
{
    usleep(100000);
    ert_cancel(talk);
    return NULL;
}

/* A pause that never ends is left by a cancel from another thread. */
static void a_cancel_ends_a_pause(void **state)
{
    static const double load[] = {35};
    pthread_t thread;
    write_policy("pause");
    write_trace(load, 1, plenty, 1, 2000);
    struct stage *s = open_stage(NULL, 1);
    assert_int_equal(pthread_create(&thread, NULL, cancel_soon, s->talk), 0);
    say(s, 10);
    pthread_join(thread, NULL);
    assert_int_equal(s->answer.end, ERT_END_CANCELLED);
    assert_int_equal(s->answer.tokens, 0);
    /* Nothing was said: the prompt is not in the cache. */
    assert_int_equal(rt_session_position(s->talk->session), 0);
    close_stage(s);
    (void)state;
}

/* A cancelled answer stays as far as it came; the next turn continues behind it. */
static void a_cancelled_answer_can_be_continued(void **state)
{
    static const double load[] = {15};
    write_policy("pause");
    write_trace(load, 1, plenty, 1, 100);
    struct stage *s = open_stage(NULL, 100);
    s->heard.cancel_after = 6;
    say(s, 100);
    assert_int_equal(s->answer.end, ERT_END_CANCELLED);
    assert_int_equal(s->answer.tokens, 6);
    assert_string_equal(s->answer.reason, "cancelled");
    check(s);
    int32_t said[PROMPT_TOKENS + 6];
    memcpy(said, prompt_ids, sizeof prompt_ids);
    memcpy(said + PROMPT_TOKENS, s->heard.ids, 6 * sizeof *said);
    s->heard.n_tokens = 0;
    s->heard.cancel_after = 0;
    say(s, 1);
    /* Prompt, six tokens (the last was said but not yet fed), the second prompt. */
    assert_int_equal(rt_session_position(s->talk->session), PROMPT_TOKENS + 6 + PROMPT_TOKENS);
    assert_int_equal(s->answer.prompt_tokens, 1 + PROMPT_TOKENS);
    struct rt_session *session;
    struct rt_session_config config = {0};
    struct ert_error err;
    assert_int_equal(rt_session_create(&session, s->model->pack, s->engine->team, &config, &err),
                     0);
    rt_session_set_point(session, rt_point_at(s->engine->ladders[0]->table, 1));
    assert_int_equal(rt_session_feed(session, said, PROMPT_TOKENS + 6, NULL, NULL, NULL, &err), 0);
    assert_int_equal(rt_session_feed(session, prompt_ids, PROMPT_TOKENS, NULL, NULL, NULL, &err),
                     0);
    assert_int_equal(likeliest(rt_session_logits(session), s->model->pack->model.n_vocab),
                     s->heard.ids[0]);
    rt_session_free(session);
    close_stage(s);
    (void)state;
}

static void kill_governor(struct heard *heard)
{
    struct ert_engine *engine = heard->talk->engine;
    if (heard->n_tokens != 10)
        return;
    gov_stop(engine->governor, NULL);
    engine->governor = NULL;
    usleep(400000); /* past three polls of 100 ms */
}

/* The decision thread dies in mid-answer: after three polls the policy's failsafe runs, and is
 * told. */
static void a_dead_governor_brings_the_failsafe(void **state)
{
    static const double load[] = {5};
    write_policy("w8a8-r70");
    write_trace(load, 1, plenty, 1, 2000);
    struct stage *s = open_stage(NULL, 20);
    s->heard.at_token = kill_governor;
    say(s, 40);
    check(s);
    assert_true(s->heard.n_swaps >= 1);
    size_t last = s->heard.n_swaps - 1;
    assert_true(s->heard.swaps[last].failsafe);
    assert_int_equal(s->heard.swaps[last].to, 2);
    struct ert_status status;
    ert_get_status(s->engine, &status);
    assert_true(status.failsafe);
    close_stage(s);
    (void)state;
}

/* ---- the policy is read again -------------------------------------------------------------- */

/* Other points in another order, and a bound that today's load is past. */
static const char other_policy[] =
    "edgert: 1\n"
    "ladders:\n"
    "  other: [{point: w4a16-r80, tokens-per-second: 900}, {point: w8a8-r70, tokens-per-second: "
    "900}]\n"
    "policies:\n"
    "  swing: {ladder: other, poll: 50ms, dwell: {up: 0s},\n"
    "    trips: [{name: low, sensor: cpu.load.others, above: 2%, states: 1}]}\n";

/* Puts text in the place of the policy file and waits until the governor has something to say. */
static void change_file(const struct ert_engine *engine, const char *text)
{
    unsigned before = atomic_load(&engine->notices);
    const char *fresh = stage_path("policy.yaml.new"), *path = stage_path("policy.yaml");
    stage_write(fresh, text);
    assert_int_equal(rename(fresh, path), 0);
    while (atomic_load(&engine->notices) == before)
        usleep(1000);
}

static void change_in_mid_answer(struct heard *heard)
{
    const struct ert_engine *engine = heard->talk->engine;
    if (heard->n_tokens == 20)
        change_file(engine, "edgert: 1\npolicies: {swing: {ladder: nowhere}}\n");
    if (heard->n_tokens == 40) {
        assert_int_equal(heard->n_notices, 1);
        assert_non_null(strstr(heard->notice, "the policy that holds stays"));
        assert_non_null(strstr(heard->notice, "policy.yaml:2:12: policy 'swing': no ladder"));
        assert_int_equal(heard->n_swaps, 0);
        change_file(engine, other_policy);
    }
}

/* Every token is that of the point which the swaps name, whichever ladder it is of. */
static void check_by_name(const struct stage *s)
{
    struct rt_session *session;
    struct rt_session_config config = {0};
    struct ert_error err;
    const struct heard *h = &s->heard;
    assert_int_equal(rt_session_create(&session, s->model->pack, s->engine->team, &config, &err),
                     0);
    const struct rt_point *point = rt_point_at(s->engine->ladders[0]->table, 0);
    size_t next = 0;
    for (uint32_t p = 0; p + 1 < PROMPT_TOKENS + h->n_tokens; p++) {
        for (; next < h->n_swaps && h->swaps[next].token <= p; next++) {
            const struct rt_point_table *table = s->engine->ladders[1]->table;
            point = rt_point_at(table, h->swaps[next].to);
            assert_string_equal(point->name, h->swaps[next].name);
        }
        rt_session_set_point(session, point);
        int32_t id = p < PROMPT_TOKENS ? prompt_ids[p] : h->ids[p - PROMPT_TOKENS];
        assert_int_equal(rt_session_feed(session, &id, 1, NULL, NULL, NULL, &err), 0);
        if (p + 1 >= PROMPT_TOKENS)
            assert_int_equal(likeliest(rt_session_logits(session), s->model->pack->model.n_vocab),
                             h->ids[p + 1 - PROMPT_TOKENS]);
    }
    rt_session_free(session);
}

/* A bad new file is told and changes nothing; a good one brings its ladder, between two tokens. */
static void a_changed_policy_takes_over_in_mid_answer(void **state)
{
    static const double load[] = {5};
    struct ert_point_use use[ERT_MAX_POINTS];
    struct ert_status status;
    write_policy("w8a8-r70");
    write_trace(load, 1, plenty, 1, 2000);
    struct stage *s = open_stage(stage_path("journal.jsonl"), 20);
    s->heard.at_token = change_in_mid_answer;
    say(s, 120);
    assert_int_equal(s->heard.n_notices, 2);
    assert_string_equal(s->heard.notice, "policy 'swing' was read again");
    assert_true(s->heard.n_swaps >= 1 && s->heard.swaps[0].token >= PROMPT_TOKENS + 39);
    ert_get_status(s->engine, &status);
    assert_string_equal(status.point, "w8a8-r70@900tok/s");
    assert_int_equal(status.state, 1);
    assert_int_equal(status.n_sensors, 1);
    check_by_name(s);
    assert_int_equal(ert_get_use(s->engine, use, ERT_MAX_POINTS), 6);
    uint64_t tokens = 0;
    for (size_t i = 0; i < 6; i++)
        tokens += use[i].tokens;
    assert_int_equal(tokens, s->answer.tokens - 1);
    unsigned before = atomic_load(&s->engine->notices);
    stage_write(stage_path("policy.yaml"), "edgert: 1\n# of nothing\n");
    ert_reload(s->engine);
    while (atomic_load(&s->engine->notices) == before)
        usleep(1000);
    close_stage(s);
    (void)state;
}

/* 4.4 W at the target. Decoding wants 8 W all the time, prompts 2 * 8 W for a tenth of it: 4.4 W
 * are shared 8 : 1.6, which is 3.67 W for decoding (the third rung) and 0.73 W for prompts, or 7.3
 * W while one is read (the second). */
static const char shared_power[] =
    "edgert: 1\n"
    "ladders:\n"
    "  watts:\n"
    "    - {point: w8a8, power: 8W, prefill-power: 8W}\n"
    "    - {point: w4a16, power: 7W, prefill-power: 7W}\n"
    "    - {point: w4a16-r80, power: 3500mW, prefill-power: 3500mW}\n"
    "policies:\n"
    "  swing:\n"
    "    ladder: watts\n"
    "    poll: 100ms\n"
    "    power: {governor: power_allocator, sensor: temp.skin, target: 42C, sustainable: 4400mW,\n"
    "      k_i: 0W, share: {decode: 1, prefill: 2}}\n"
    "    dwell: {down: 0s, up: 0s}\n";

static void prompts_are_read_at_their_own_share_of_the_power(void **state)
{
    struct ert_point_use use[ERT_MAX_POINTS];
    stage_write(stage_path("policy.yaml"), shared_power);
    stage_write(stage_path("trace.csv"), "time_s,temp.skin_C,load.decode_%,load.prefill_%\n"
                                         "0,42,100,10\n1000,42,100,10\n");
    struct stage *s = open_stage(NULL, 1);
    uint32_t first = rungs_state(s->engine->code);
    say(s, 30);
    check_against_schedule(s->model->pack, s->engine->ladders[0]->table, first, &s->heard);
    assert_int_equal(s->heard.n_swaps, first == 1 ? 1 : 2);
    const size_t last = s->heard.n_swaps - 1;
    assert_int_equal(s->heard.swaps[last].token, PROMPT_TOKENS);
    assert_string_equal(s->heard.swaps[last].from, "w4a16");
    assert_string_equal(s->heard.swaps[last].name, "w4a16-r80");
    assert_int_equal(ert_get_use(s->engine, use, ERT_MAX_POINTS), 3);
    assert_true(use[1].prompt_tokens == PROMPT_TOKENS && use[1].tokens == 0);
    assert_true(use[2].prompt_tokens == 0 && use[2].tokens == 29);
    memset(&s->heard, 0, sizeof s->heard);
    say(s, 5);
    assert_int_equal(s->heard.n_swaps, 2);
    assert_string_equal(s->heard.swaps[0].name, "w4a16");
    assert_string_equal(s->heard.swaps[1].name, "w4a16-r80");
    close_stage(s);
    (void)state;
}

static const char busy_policy[] =
    "edgert: 1\n"
    "ladders: {l: [{point: w4a16, tokens-per-second: 200}, {point: w4a16-r80, tokens-per-second: "
    "200}]}\n"
    "policies:\n"
    "  swing: {ladder: l, poll: 110ms, trips: [{name: busy, sensor: load.decode, above: 50%,\n"
    "    governor: bang_bang, states: 1}]}\n";

/* No trace: what it is at is the engine's own to tell, the pace's waits included. Half a poll
 * leaves room for a token that a loaded machine held up. */
static void the_governor_knows_how_busy_the_engine_is(void **state)
{
    const struct ert_engine_options options = {.policy = "swing",
                                               .policy_file = stage_path("policy.yaml"),
                                               .sensor_root = "/nonexistent",
                                               .threads = 1};
    struct ert_failure why;
    struct stage *s = calloc(1, sizeof *s);
    assert_non_null(s);
    stage_write(stage_path("policy.yaml"), busy_policy);
    s->model = stage_model("nested");
    if (ert_engine_open(&s->engine, s->model, &options, &why))
        fail_msg("%s", why.text);
    s->talk = s->heard.talk = stage_talk(s->engine);
    usleep(300000); /* idle, and known to be */
    say(s, 200);
    assert_int_equal(s->heard.n_swaps, 1);
    assert_string_equal(s->heard.swaps[0].name, "w4a16-r80@200tok/s");
    close_stage(s);
    (void)state;
}

/* A zone of the machine's own at 72 C that the kernel throttles at 70: the policy would act at 88.
 */
static void the_kernels_trip_comes_first(void **state)
{
    const char *root = stage_path("root");
    const struct ert_engine_options options = {
        .policy = "p", .policy_file = stage_path("policy.yaml"), .sensor_root = root, .threads = 1};
    char command[4600];
    struct ert_failure why;
    struct stage *s = calloc(1, sizeof *s);
    assert_non_null(s);
    tree_put(root, "sys/class/thermal/thermal_zone0/type", "soc\n");
    tree_put(root, "sys/class/thermal/thermal_zone0/temp", "72000\n");
    tree_put(root, "sys/class/thermal/thermal_zone0/trip_point_0_type", "passive\n");
    tree_put(root, "sys/class/thermal/thermal_zone0/trip_point_0_temp", "70000\n");
    stage_write(stage_path("policy.yaml"),
                "edgert: 1\n"
                "sensors: {temp.cpu: 'thermal:soc'}\n"
                "ladders: {l: [{point: w4a16, tokens-per-second: 200}, {point: w4a16-r80, "
                "tokens-per-second: 200}]}\n"
                "policies: {p: {ladder: l, poll: 50ms, trips: [{name: hot, sensor: temp.cpu, "
                "above: 88C, kernel: passive, hysteresis: 2C, states: 1}]}}\n");
    s->model = stage_model("nested");
    if (ert_engine_open(&s->engine, s->model, &options, &why))
        fail_msg("%s", why.text);
    s->talk = s->heard.talk = stage_talk(s->engine);
    say(s, 40);
    assert_int_equal(s->heard.n_swaps, 1);
    assert_string_equal(s->heard.swaps[0].name, "w4a16-r80@200tok/s");
    close_stage(s);
    snprintf(command, sizeof command, "rm -rf '%s'", stage_path("root"));
    assert_int_equal(system(command), 0);
    (void)state;
}

/* Memory runs short: the L planes go. It comes back: so do they. The answer is the same throughout.
 */
static void planes_leave_and_return(void **state)
{
    static const double load[] = {5};
    static const double memory[] = {4000, 4000, 4000, 4000, 100, 100, 100, 100};
    write_policy("w8a8-r70");
    write_trace(load, 1, memory, 8, 2000);
    struct stage *s = open_stage(NULL, 10);
    say(s, 200);
    check(s);
    assert_true(s->heard.n_swaps >= 2);
    close_stage(s);
    (void)state;
}

/* Demoted for memory while idle, the planes are gone from memory within moments. */
static void dropped_planes_are_not_resident(void **state)
{
    static const double load[] = {5};
    static const double memory[] = {100};
    write_policy("w8a8-r70");
    write_trace(load, 1, memory, 1, 2000);
    struct stage *s = open_stage(NULL, 1);
    double resident = 1;
    for (int i = 0; i < 200 && resident > 0; i++) {
        usleep(10000);
        resident = rt_pack_resident_l(s->model->pack);
    }
    assert_true(resident == 0);
    say(s, 50);
    assert_int_equal(s->engine->code, rungs_code(0, 1, 1));
    check(s);
    assert_true(rt_pack_resident_l(s->model->pack) == 0);
    close_stage(s);
    (void)state;
}

/* Each swap is a line of the journal, in order, with the position that the callback had. */
static void the_journal_has_every_swap(void **state)
{
    static const double load[] = {5, 25, 15};
    char line[65536];
    size_t n = 0;
    write_policy("w8a8-r70");
    write_trace(load, 3, plenty, 1, 2000);
    struct stage *s = open_stage(stage_path("journal.jsonl"), 20);
    say(s, 120);
    ert_conversation_free(s->talk);
    assert_int_equal(ert_engine_close(s->engine, NULL), 0);
    s->talk = NULL;
    s->engine = NULL;
    FILE *f = fopen(stage_path("journal.jsonl"), "re");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        json_t *object = json_loads(line, 0, NULL);
        assert_non_null(object);
        if (!strcmp(json_string_value(json_object_get(object, "type")), "switch")) {
            assert_true(n < s->heard.n_swaps);
            assert_int_equal(json_integer_value(json_object_get(object, "token")),
                             s->heard.swaps[n].token);
            assert_string_equal(json_string_value(json_object_get(object, "to")),
                                s->heard.swaps[n].name);
            n++;
        }
        json_decref(object);
    }
    fclose(f);
    assert_int_equal(n, s->heard.n_swaps);
    assert_true(n >= 2);
    close_stage(s);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_follow_the_swaps),
        cmocka_unit_test(swaps_form_a_chain_and_use_adds_up),
        cmocka_unit_test(a_pause_holds_and_resumes),
        cmocka_unit_test(a_cancel_ends_a_pause),
        cmocka_unit_test(a_cancelled_answer_can_be_continued),
        cmocka_unit_test(a_dead_governor_brings_the_failsafe),
        cmocka_unit_test(a_changed_policy_takes_over_in_mid_answer),
        cmocka_unit_test(prompts_are_read_at_their_own_share_of_the_power),
        cmocka_unit_test(the_governor_knows_how_busy_the_engine_is),
        cmocka_unit_test(the_kernels_trip_comes_first),
        cmocka_unit_test(planes_leave_and_return),
        cmocka_unit_test(dropped_planes_are_not_resident),
        cmocka_unit_test(the_journal_has_every_swap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
