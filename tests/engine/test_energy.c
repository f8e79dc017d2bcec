/* What answers take, on a machine made up here: its counter moves by a known step at each token. */
#include <math.h>

#include "engine/powers.h"
#include "tests/engine/stage.h"
#include "tests/tree.h"

#define RAPL    "sys/class/powercap/intel-rapl:0/"
#define BATTERY "sys/class/power_supply/BAT0/"

static const double STEP_J = 0.25;
static double counted_j;

static const char *root(void)
{
    static char path[4400];
    snprintf(path, sizeof path, "%s", stage_path("root"));
    return path;
}

static void put(const char *name, const char *text)
{
    tree_put(root(), name, "%s", text);
}

static void put_counter(void)
{
    char text[32];
    snprintf(text, sizeof text, "%.0f\n", counted_j * 1e6);
    put(RAPL "energy_uj", text);
}

static void spend_at_token(struct heard *heard)
{
    (void)heard;
    counted_j += STEP_J;
    put_counter();
}

/* A battery of 40 Wh that gives 8 W. */
static void put_battery(void)
{
    put(BATTERY "type", "Battery\n");
    put(BATTERY "status", "Discharging\n");
    put(BATTERY "power_now", "8000000\n");
    put(BATTERY "energy_full", "40000000\n");
}

static void clear(void)
{
    char command[4600];
    snprintf(command, sizeof command, "rm -rf '%s'", root());
    assert_int_equal(system(command), 0);
    stage_clear();
}

static struct ert_answer answer_at_a_fixed_point(struct ert_model *model,
                                                 struct ert_engine **engine, struct heard *heard,
                                                 uint32_t tokens)
{
    struct ert_failure why;
    struct ert_answer answer;
    const struct ert_engine_options options = {
        .point = "w4a16", .threads = 1, .sensor_root = root()};
    if (ert_engine_open(engine, model, &options, &why))
        fail_msg("%s", why.text);
    heard->talk = stage_talk(*engine);
    const struct ert_callbacks callbacks = heard_callbacks(heard);
    if (ert_say(heard->talk, PROMPT, tokens, &callbacks, &answer, &why))
        fail_msg("%s", why.text);
    ert_conversation_free(heard->talk);
    return answer;
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fabs(b);
}

/* 40 tokens, each with its step after the prompt was read: 10 J. 39 of them were decoded. The
 * prompt's time passed before the counter was seen to move, so the battery has it. */
static void an_answer_takes_what_the_counter_counted(void **state)
{
    struct ert_model *model = stage_model("nested");
    struct ert_engine *engine;
    struct ert_point_use use[ERT_MAX_POINTS];
    struct ert_status status;
    struct heard *heard = calloc(1, sizeof *heard);
    assert_non_null(heard);
    heard->at_token = spend_at_token;
    counted_j = 900;
    put(RAPL "name", "package-0\n");
    put(RAPL "max_energy_range_uj", "905000000\n"); /* wraps on the way */
    put_counter();
    put_battery();
    setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent", 1);
    struct ert_answer answer = answer_at_a_fixed_point(model, &engine, heard, 40);
    assert_true(near(answer.decode_energy.joules[ERT_RAPL], 10));
    assert_true(near(answer.each_j, 10 / 39.0));
    const struct ert_energy *prompt = &answer.prefill_energy;
    assert_true(prompt->seconds[ERT_BATTERY] > 0 && prompt->unknown_s == 0);
    assert_true(near(prompt->joules[ERT_BATTERY], 8 * prompt->seconds[ERT_BATTERY]));
    assert_true(ert_energy_known(&answer.decode_energy) == 1);
    assert_int_equal(ert_get_use(engine, use, ERT_MAX_POINTS), 1);
    assert_true(near(ert_energy_joules(&use[0].decode_energy), 10));
    ert_get_status(engine, &status);
    assert_string_equal(status.energy_why, "");
    assert_string_equal(status.policy, "");
    assert_true(near(status.battery_wh, 40));
    /* 40 Wh are 144 kJ, a percent of which is 1440 J. */
    assert_true(near(ert_energy_per_percent(status.battery_wh, answer.each_j), 1440 * 39 / 10.0));
    ert_engine_close(engine, NULL);
    ert_model_free(model);
    free(heard);
    clear();
    (void)state;
}

static void what_is_unknown_is_told(void **state)
{
    struct ert_model *model = stage_model("nested");
    struct ert_engine *engine;
    struct ert_status status;
    struct heard *heard = calloc(1, sizeof *heard);
    assert_non_null(heard);
    put("proc/uptime", "1 1\n");
    setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent", 1);
    struct ert_answer answer = answer_at_a_fixed_point(model, &engine, heard, 5);
    assert_true(ert_energy_known(&answer.prefill_energy) == 0);
    assert_true(ert_energy_known(&answer.decode_energy) == 0);
    assert_true(answer.each_j == 0 && answer.decode_energy.unknown_s > 0);
    ert_get_status(engine, &status);
    if (!strstr(status.energy_why, "rapl: the kernel counts no energy"))
        fail_msg("%s", status.energy_why);
    assert_non_null(strstr(status.energy_why, "battery: "));
    assert_true(status.battery_wh == 0);
    ert_engine_close(engine, NULL);
    ert_model_free(model);
    free(heard);
    clear();
    (void)state;
}

/* Half of the time unknown: what is known stands for the rest. */
static void shares_and_sums(void **state)
{
    struct ert_energy sum = {.joules = {[ERT_RAPL] = 3}, .seconds = {[ERT_RAPL] = 1}};
    const struct ert_energy more = {.joules = {[ERT_BATTERY] = 5, [ERT_MODEL] = 2},
                                    .seconds = {[ERT_BATTERY] = 2, [ERT_MODEL] = 1},
                                    .unknown_s = 4};
    ert_energy_add(&sum, &more);
    assert_true(near(ert_energy_joules(&sum), 10) && near(ert_energy_known(&sum), 0.5));
    assert_true(near(ert_energy_each(&sum, 4), 5));
    assert_true(ert_energy_each(&sum, 0) == 0);
    assert_true(near(ert_energy_per_percent(50, 5), 360));
    assert_true(ert_energy_per_percent(0, 5) == 0 && ert_energy_per_percent(50, 0) == 0);
    assert_string_equal(ert_energy_source_name(ERT_BATTERY), "battery");
    (void)state;
}

static const char ladder[] =
    "edgert: 1\n"
    "ladders: {l: [w8a8, w4a16, {point: w4a16, threads: 1}, {point: w4a16, tokens-per-second: 8},\n"
    "  {point: w4a16, tokens-per-second: 30}, {point: w8a8, threads: 9, power: 3W}]}\n"
    "policies: {p: {ladder: l}}\n";

static const char saved[] =
    "{\"machine\": \"M\", \"model\": \"tiny\", \"results\": ["
    "{\"point\": \"w8a8\", \"test\": \"decode\", \"threads\": 4, \"tok_s\": 10, \"power_w\": 9.5},"
    "{\"point\": \"w8a8\", \"test\": \"prefill\", \"threads\": 4, \"tok_s\": 90, \"power_w\": 11},"
    "{\"point\": \"w4a16\", \"test\": \"decode\", \"threads\": 4, \"tok_s\": 20, \"power_w\": 7},"
    "{\"point\": \"w4a16\", \"test\": \"prefill\", \"threads\": 4, \"tok_s\": 99, \"power_w\": "
    "null}]}";

static void expect_powers(const struct pol_policy *policy, const double *decode_w,
                          const double *prefill_w)
{
    for (size_t i = 0; i < 6; i++) {
        assert_true(policy->states[i].power_w == decode_w[i]);
        assert_true(policy->states[i].prefill_power_w == prefill_w[i]);
    }
}

/* As measured with all 4 threads; one thread was not, nor was a pace of 8, which is slower than the
 * 20 tokens per second that were. What the ladder says stays. */
static void measured_powers_become_the_states(void **state)
{
    struct pol_policy *policy = malloc(sizeof *policy);
    struct pol_file *file;
    struct ert_error err;
    const char *path = stage_path("policy.yaml");
    assert_non_null(policy);
    assert_int_equal(pol_file_parse(&file, "test", ladder, sizeof ladder - 1, &err), 0);
    assert_int_equal(pol_compile(file, "p", NULL, 0, policy, &err), 0);
    pol_file_free(file);
    const double none[6] = {0}, own[6] = {[5] = 3};
    powers_apply_file(policy, "/nonexistent", "tiny", 4);
    expect_powers(policy, own, none);
    stage_write(path, "no JSON");
    powers_apply_file(policy, path, "tiny", 4);
    stage_write(path, saved);
    powers_apply_file(policy, path, "another", 4);
    powers_apply_file(policy, path, "tiny", 2);
    expect_powers(policy, own, none);
    powers_apply_file(policy, path, "tiny", 4);
    expect_powers(policy, (const double[]){9.5, 7, 0, 0, 7, 3},
                  (const double[]){11, 0, 0, 0, 0, 11});
    unlink(path);
    free(policy);
    (void)state;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_answer_takes_what_the_counter_counted),
        cmocka_unit_test(what_is_unknown_is_told),
        cmocka_unit_test(shares_and_sums),
        cmocka_unit_test(measured_powers_become_the_states),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
