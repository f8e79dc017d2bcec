/* Clocks that jump while a model answers: the wall clock is set, the machine sleeps, the process is
 * held up. The answer goes on, decisions do not follow, and the journal says what happened. The
 * program has its own clock_gettime, which the libraries call too. */
#include "tests/engine/stage.h"
#include "tests/tree.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#define NS_PER_S 1000000000LL

/* ---- the clocks ----------------------------------------------------------------------------- */

static _Atomic int64_t set_ns, slept_ns; /* what the clocks are ahead of the kernel's */

int clock_gettime(clockid_t id, struct timespec *t)
{
    if (syscall(SYS_clock_gettime, id, t))
        return -1;
    int64_t ns = t->tv_sec * NS_PER_S + t->tv_nsec;
    if (id == CLOCK_REALTIME || id == CLOCK_BOOTTIME)
        ns += slept_ns;
    if (id == CLOCK_REALTIME)
        ns += set_ns;
    t->tv_sec = ns / NS_PER_S;
    t->tv_nsec = ns % NS_PER_S;
    return 0;
}

/* ---- the stage ------------------------------------------------------------------------------ */

/* The zone stands at 60 C. A state that asks for half a minute of it is never reached, unless the
 * decision clock jumps. */
static const char policy[] =
    "edgert: 1\n"
    "sensors: {temp.cpu: 'thermal:soc'}\n"
    "ladders: {l: [{point: w8a8, tokens-per-second: 200}, {point: w4a16, tokens-per-second: "
    "200}]}\n"
    "policies: {p: {ladder: l, poll: 50ms, trips: [{name: long, sensor: temp.cpu, above: 50C, "
    "for: 30s, states: 1}], failsafe: w4a16@200tok/s}}\n";

static struct {
    struct ert_model *model;
    struct ert_engine *engine;
    struct ert_conversation *talk;
    struct heard heard;
    struct ert_answer answer;
} s;

static int begin(void **state)
{
    (void)state;
    const char *root = stage_path("root");
    struct ert_engine_options options = {.policy = "p",
                                         .policy_file = stage_path("policy.yaml"),
                                         .journal = stage_path("journal.jsonl"),
                                         .sensor_root = root,
                                         .threads = 2};
    struct ert_failure why;
    memset(&s, 0, sizeof s);
    set_ns = slept_ns = 0;
    tree_put(root, "sys/class/thermal/thermal_zone0/type", "soc\n");
    tree_put(root, "sys/class/thermal/thermal_zone0/temp", "60000\n");
    stage_write(stage_path("policy.yaml"), policy);
    s.model = stage_model("nested");
    rt_pack_populate_l(s.model->pack, NULL, NULL); /* so that it begins at w8a8 */
    if (ert_engine_open(&s.engine, s.model, &options, &why))
        fail_msg("%s", why.text);
    s.talk = s.heard.talk = stage_talk(s.engine);
    return 0;
}

static int end(void **state)
{
    (void)state;
    char command[4600];
    ert_conversation_free(s.talk);
    ert_engine_close(s.engine, NULL);
    ert_model_free(s.model);
    stage_clear();
    snprintf(command, sizeof command, "rm -rf '%s'", stage_path("root"));
    return system(command);
}

/* Until two decisions have been made from here on. */
static void wait_for_decisions(void)
{
    struct ert_status status;
    ert_get_status(s.engine, &status);
    for (uint64_t until = status.decisions + 3; status.decisions < until; usleep(2000))
        ert_get_status(s.engine, &status);
}

static void answer(void (*at_token)(struct heard *), uint32_t n)
{
    struct ert_failure why;
    s.heard.at_token = at_token;
    struct ert_callbacks callbacks = heard_callbacks(&s.heard);
    if (ert_say(s.talk, PROMPT, n, &callbacks, &s.answer, &why))
        fail_msg("%s", why.text);
    assert_int_equal(s.answer.end, ERT_END_LENGTH);
    assert_int_equal(s.heard.n_tokens, n);
    check_against_schedule(s.model->pack, s.engine->ladders[0]->table, 0, &s.heard);
}

/* Every line of the journal: its time goes on and is that of a short run, no reading is missing.
 * Events whose text has `words` are counted, held-up decisions of a busy machine are let pass, any
 * other is a failure. */
static size_t read_journal(const char *const *words, size_t n_words)
{
    char line[65536];
    double before_s = 0;
    size_t n = 0;
    FILE *f = fopen(stage_path("journal.jsonl"), "re");
    assert_non_null(f);
    while (fgets(line, sizeof line, f)) {
        json_t *object = json_loads(line, 0, NULL);
        const char *type = json_string_value(json_object_get(object, "type"));
        const char *what = json_string_value(json_object_get(object, "what"));
        json_t *t_ns = json_object_get(object, "t_ns"), *t_s = json_object_get(object, "t_s");
        assert_non_null(type);
        if (t_ns)
            assert_true(json_integer_value(t_ns) < (3600 + 600) * NS_PER_S);
        if (t_s) {
            assert_true(json_number_value(t_s) >= before_s - 1 && json_number_value(t_s) < 600);
            before_s = json_number_value(t_s);
        }
        if (!strcmp(type, "input") && strstr(line, "temp.cpu"))
            assert_non_null(strstr(line, "\"temp.cpu\":60"));
        if (!strcmp(type, "event") && n < n_words && strstr(what, words[n]))
            n++;
        else if (!strcmp(type, "event") && !strstr(what, "held up"))
            fail_msg("unexpected: %s", what);
        json_decref(object);
    }
    fclose(f);
    return n;
}

static void expect_reading(void)
{
    struct ert_status status;
    ert_get_status(s.engine, &status);
    assert_int_equal(status.n_sensors, 1);
    assert_true(status.sensors[0].present && status.sensors[0].value == 60);
}

/* ---- tests ---------------------------------------------------------------------------------- */

static void set_the_wall_clock(struct heard *heard)
{
    if (heard->n_tokens != 20 && heard->n_tokens != 60)
        return;
    set_ns += (heard->n_tokens == 20 ? 5 : -9) * 3600 * NS_PER_S;
    wait_for_decisions();
    expect_reading();
}

/* Hours forth and further back: no decision, and no token waits for a time that is hours away. */
static void a_wall_clock_that_is_set_changes_nothing(void **state)
{
    (void)state;
    static const char *const words[] = {
        "the wall clock was set by +18000 s; decisions do not follow it",
        "the wall clock was set by -32400 s; decisions do not follow it"};
    answer(set_the_wall_clock, 100);
    assert_int_equal(s.heard.n_swaps, 0);
    assert_int_equal(read_journal(words, 2), 2);
}

static void sleep_an_hour(struct heard *heard)
{
    if (heard->n_tokens != 20)
        return;
    slept_ns += 3600 * NS_PER_S;
    wait_for_decisions();
    expect_reading();
}

/* What CLOCK_BOOTTIME and the wall clock have more afterwards is told; half a minute at 60 C is not
 * over by it. */
static void a_sleep_is_told_and_no_time_of_the_policy(void **state)
{
    (void)state;
    static const char *const words[] = {"the machine slept for 3600.0 s"};
    answer(sleep_an_hour, 60);
    assert_int_equal(s.heard.n_swaps, 0);
    assert_int_equal(read_journal(words, 1), 1);
}

/* A process of its own stops this one, all threads, for longer than three polls. */
static void stop_for_a_while(struct heard *heard)
{
    if (heard->n_tokens != 20)
        return;
    pid_t self = getpid(), child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        kill(self, SIGSTOP);
        usleep(800000);
        kill(self, SIGCONT);
        _exit(0);
    }
    int status;
    while (waitpid(child, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    wait_for_decisions();
}

/* As after a pause of a virtual machine: the decision that comes late says so. Should a token come
 * before it, it is the failsafe's, which says so too. */
static void a_hold_up_is_told_and_survived(void **state)
{
    (void)state;
    static const char *const words[] = {"held up: this decision comes"};
    answer(stop_for_a_while, 80);
    for (size_t i = 0; i < s.heard.n_swaps; i++)
        assert_int_equal(s.heard.swaps[i].failsafe, s.heard.swaps[i].to == 1);
    assert_int_equal(s.engine->failsafe, false);
    assert_int_equal(read_journal(words, 1), 1);
}

#define ON_STAGE(test) cmocka_unit_test_setup_teardown(test, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_STAGE(a_wall_clock_that_is_set_changes_nothing),
        ON_STAGE(a_sleep_is_told_and_no_time_of_the_policy),
        ON_STAGE(a_hold_up_is_told_and_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
