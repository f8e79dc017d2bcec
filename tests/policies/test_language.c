/* What a policy text says, and what is wrong with one. */
#include "tests/policies/compiled.h"

#define POWER(rest) POLICY("    power: {sensor: temp.skin, target: 42C, " rest "}\n")
#define TRIP(rest)  POLICY("    trips:\n      - {name: hot, sensor: temp.cpu, " rest "}\n")

struct refusal {
    const char *text;
    int code;
    const char *sentence;
};

static void refused(const struct refusal *r)
{
    struct pol_file *file;
    struct ert_error err = {0};
    int rc = pol_file_parse(&file, "t.yaml", r->text, strlen(r->text), &err);
    if (rc != -r->code || !strstr(err.text, r->sentence))
        fail_msg("got %d '%s', expected %d '%s'", rc, err.text, -r->code, r->sentence);
    assert_null(file);
}

static void test_defaults(void **state)
{
    (void)state;
    struct pol_policy p = compiled(TRIP("above: 70C, states: 1..max"), "p");
    assert_true(p.poll_s == 0.5 && p.dwell_down_s == 0 && p.dwell_up_s == 10);
    assert_int_equal(p.n_states, 4);
    assert_string_equal(p.states[2].name, "w4a16@1t,6tok/s");
    assert_true(p.states[3].pause && !p.states[2].pause);
    assert_int_equal(p.failsafe, 2); /* the worst that still generates */
    assert_int_equal(p.trips[0].governor, POL_STEP_WISE);
    assert_int_equal(p.trips[0].highest, 3);
    assert_true(p.trips[0].hysteresis == 0 && p.trips[0].for_s == 0);
    assert_string_equal(p.sensors[0].sources[0], "hwmon:k10temp/Tdie");
    assert_int_equal(p.sensors[0].missing_state, -1);
    assert_int_equal(p.discharging_sensor, -1);
}

static void test_every_key(void **state)
{
    (void)state;
    struct pol_policy p = compiled(
        "edgert: 1\n"
        "sensors:\n"
        "  temp.cpu: {sources: [hwmon:a/b, thermal:c], stale: 4s, stuck: 5min}\n"
        "  temp.skin: thermal:skin\n"
        "ladders: {l: [w8a8, {point: w4a16, prefill: w8a8, threads: 2, name: four}, pause]}\n"
        "policies:\n"
        "  p:\n"
        "    aliases: [q, \"r s\"]\n"
        "    ladder: l\n"
        "    poll: 250ms\n"
        "    trips:\n"
        "      - {name: hot, sensor: temp.cpu, above: 70.5C, hysteresis: 3C, for: 1min, when: "
        "discharging,\n"
        "         governor: bang_bang, states: 1}\n"
        "      - {name: mem, sensor: memory.available, below: 1GB, states: 0..1}\n"
        "    dwell: {down: 100ms, up: 1h}\n"
        "    on-missing: {temp.skin: state 2, temp.cpu: ignore}\n"
        "    failsafe: four\n",
        "r s");
    assert_string_equal(p.name, "p");
    assert_true(p.poll_s == 0.25 && p.dwell_down_s == 0.1 && p.dwell_up_s == 3600);
    assert_string_equal(p.states[1].prefill, "w8a8");
    assert_true(p.trips[0].threshold == 70.5 && p.trips[0].for_s == 60 &&
                p.trips[0].when_discharging);
    assert_int_equal(p.trips[0].governor, POL_BANG_BANG);
    assert_true(!p.trips[1].above && p.trips[1].threshold == 1000);
    assert_true(p.sensors[0].stale_s == 4 && p.sensors[0].stuck_s == 300);
    assert_string_equal(p.sensors[p.discharging_sensor].name, "battery.discharging");
    assert_string_equal(p.sensors[p.power_sensor].name, "battery.power");
    assert_string_equal(p.sensors[p.n_sensors - 1].name, "temp.skin");
    assert_int_equal(p.sensors[p.n_sensors - 1].missing_state, 2);
    assert_int_equal(p.failsafe, 1);
}

static const struct refusal refused_files[] = {
    {"", ERT_E_FORMAT, "t.yaml:1:1: is empty, expected 'edgert: 1'"},
    {"edgert: 2\n", ERT_E_FORMAT, "t.yaml:1:9: edgert (the language's version): '2'"},
    {"ladders: {}\n", ERT_E_FORMAT, "'edgert:' is missing"},
    {"edgert: 1\npolices: {}\n", ERT_E_FORMAT,
     "t.yaml:2:1: policy file: unknown key 'polices', did you mean 'policies'?"},
    {"edgert: 1\nedgert: 1\n", ERT_E_FORMAT, "t.yaml:2:1: policy file: 'edgert' appears twice"},
    {"edgert: 1\n---\nedgert: 1\n", ERT_E_FORMAT, "a second document"},
    {"edgert: [\n", ERT_E_FORMAT, "not valid YAML"},
};

static const struct refusal refused_sensors[] = {
    {"edgert: 1\nsensors: {temp.cpu: {max: [a, b]}}\n", ERT_E_FORMAT,
     "t.yaml:2:28: temp.cpu: unknown sensor 'a'"},
    {"edgert: 1\nsensors: {temp.skin: {max: [temp.cpu], mean: [temp.cpu]}}\n", ERT_E_FORMAT,
     "expected one of max:, mean: and sum:"},
    {"edgert: 1\nsensors: {temp.skin: {max: []}}\n", ERT_E_FORMAT, "is made of nothing"},
    {"edgert: 1\nsensors: {temp.skin: {max: [cpu.load]}}\n", ERT_E_FORMAT,
     "is in C and cannot be made of 'cpu.load', which is in %"},
    {"edgert: 1\nsensors: {temp.skin: {sum: {temp.cpu: 1C}}}\n", ERT_E_FORMAT, "weight: '1C'"},
    {"edgert: 1\nsensors: {temp.skin: {sources: a:b, offset: 1C}}\n", ERT_E_FORMAT,
     "offset: goes with max:, mean: or sum:"},
    {"edgert: 1\nsensors: {temp.skin: {stale: 1s}}\n", ERT_E_FORMAT,
     "expected sources:, max:, mean: or sum:"},
    {"edgert: 1\nsensors: {temp.cpu: {sources: a:b, median: 2}}\n", ERT_E_FORMAT,
     "expected 3 samples"},
    {"edgert: 1\nsensors: {temp.skin: {max: [temp.cpu]}, temp.cpu: {mean: "
     "[temp.skin]}}\n" LADDER
     "policies: {p: {ladder: l, trips: [{name: a, sensor: temp.cpu, above: 9C, states: 1}]}}\n",
     ERT_E_FORMAT, "is made of itself in the end"},
    {POLICY("    on-missing: {default: state 4}\n"), ERT_E_RANGE, "the ladder ends at state 3"},
    {"edgert: 1\nsensors: {tmp.cpu: hwmon:x}\n", ERT_E_FORMAT,
     "unknown sensor 'tmp.cpu', did you mean 'temp.cpu'?"},
    {"edgert: 1\nsensors: {temp.cpu: hwmon}\n", ERT_E_FORMAT,
     "'hwmon' is no source, expected KIND:NAME"},
    {"edgert: 1\nsensors: {temp.cpu: []}\n", ERT_E_FORMAT, "has no source"},
    {POLICY("    on-missing: {temp.cpu: 2}\n"), ERT_E_FORMAT, "expected 'ignore' or a state"},
    {POLICY("    on-missing: {temp.cpu: state 4}\n"), ERT_E_RANGE, "the ladder ends at state 3"},
    {"edgert: 1\nsensors: {temp.skin: {max: [temp.cpu, fan.x]}}\n", ERT_E_FORMAT,
     "sensor 'temp.skin' is in C and cannot be made of 'fan.x', which is in no unit"},
};

static const struct refusal refused_ladders[] = {
    {"edgert: 1\nladders: {l: [w8a8, w8a8]}\n", ERT_E_FORMAT, "two points named 'w8a8'"},
    {"edgert: 1\nladders: {l: [pause]}\n", ERT_E_FORMAT, "must begin with a point that generates"},
    {"edgert: 1\nladders: {auto: [w8a8]}\n", ERT_E_FORMAT, "'auto' is the catalog's ladder"},
    {"edgert: 1\nladders: {l: [w8a8], l: [w8a8]}\n", ERT_E_FORMAT,
     "t.yaml:2:22: a name that appears twice"},
    {"edgert: 1\nladders: {l: [w8 a8]}\n", ERT_E_FORMAT, "'w8 a8' is no operating point"},
    {"edgert: 1\nladders: {l: [{point: w8a8, threads: 0}]}\n", ERT_E_FORMAT,
     "'0' is not a whole number from 1"},
    {"edgert: 1\nladders: {l: [{point: w8a8, cores: big}]}\n", ERT_E_FORMAT,
     "expected 'efficient' or 'any'"},
    {"edgert: 1\nladders: {l: [{point: w8a8, prefill-chunk: 513}]}\n", ERT_E_FORMAT,
     "prefill-chunk"},
    {"edgert: 1\nladders: {l: [{point: w8a8, speculation: sometimes}]}\n", ERT_E_FORMAT,
     "speculation: 'sometimes', expected auto, on or off"},
};

static const struct refusal refused_policies[] = {
    {"edgert: 1\npolicies: {p: {ladder: x}}\n", ERT_E_MISSING, "policy 'p': no ladder 'x'"},
    {POLICY("    poll: 500\n"), ERT_E_FORMAT, "t.yaml:6:11: poll: '500' has no unit"},
    {POLICY("    poll: 1ms\n"), ERT_E_RANGE, "expected 0.01s to 3600s"},
    {POLICY("    failsafe: w4a61\n"), ERT_E_MISSING,
     "no point 'w4a61' in ladder 'l', did you mean 'w4a16'?"},
    {POLICY("    dwell: {upp: 1s}\n"), ERT_E_FORMAT, "unknown key 'upp', did you mean 'up'?"},
    {"edgert: 1\n" LADDER "policies: {p: {ladder: l, aliases: [q]}, q: {ladder: l}}\n",
     ERT_E_FORMAT, "alias 'q' already means policy 'q'"},
};

static const struct refusal refused_trips[] = {
    {TRIP("above: 70, states: 1"), ERT_E_FORMAT,
     "t.yaml:7:46: above: '70' has no unit, expected a temperature"},
    {TRIP("above: 70%, states: 1"), ERT_E_FORMAT, "wrong unit, expected a temperature"},
    {TRIP("above: 700C, states: 1"), ERT_E_RANGE, "700C is out of range"},
    {TRIP("above: 70C, hysteresis: -1C, states: 1"), ERT_E_RANGE,
     "hysteresis: -1C is out of range"},
    {TRIP("above: 70C, below: 60C, states: 1"), ERT_E_FORMAT,
     "trip 'hot': expected one of above: and below:"},
    {TRIP("states: 1"), ERT_E_FORMAT, "expected one of above: and below:"},
    {TRIP("above: 70C, kernel: pasive, states: 1"), ERT_E_FORMAT,
     "expected active, passive, hot or critical"},
    {TRIP("below: 70C, kernel: passive, states: 1"), ERT_E_FORMAT, "only a temperature that"},
    {TRIP("above: 70C, margin: 2C, states: 1"), ERT_E_FORMAT, "it goes with kernel:"},
    {TRIP("kernel: hot, margin: 51C, states: 1"), ERT_E_RANGE, "51C is out of range"},
    {TRIP("above: 70C, states: 3..1"), ERT_E_FORMAT, "expected a state such as 3, or a range"},
    {TRIP("above: 70C, states: 4"), ERT_E_RANGE,
     "trip 'hot' asks for state 4, but the ladder 'l' ends at state 3"},
    {TRIP("above: 70C"), ERT_E_FORMAT, "'states:' is missing"},
    {TRIP("above: 70C, states: 1, governor: bangbang"), ERT_E_FORMAT, "did you mean 'bang_bang'?"},
    {TRIP("above: 70C, states: 1, governor: power_allocator"), ERT_E_FORMAT,
     "governor 'power_allocator' belongs into power:, not into a trip"},
    {TRIP("above: 70C, states: 1, when: charging"), ERT_E_FORMAT, "expected 'discharging'"},
    {TRIP("above: 70C, states: 1, \"na\\nme\": 1"), ERT_E_FORMAT, "expected printable text"},
};

static const struct refusal refused_power[] = {
    {POLICY("    power: {target: 42C}\n"), ERT_E_FORMAT,
     "t.yaml:6:12: power: 'governor:' is missing"},
    {POWER("governor: step_wise"), ERT_E_FORMAT,
     "governor 'step_wise' belongs into a trip, not into power:"},
    {POWER("governor: predictiv"), ERT_E_FORMAT, "did you mean 'predictive'?"},
    {POWER("governor: predictive, sustainable: 3W"), ERT_E_MISSING,
     "t.yaml:6:12: power: governor 'predictive' needs a plant:"},
    {POWER("governor: power_allocator"), ERT_E_MISSING,
     "no power is known; give sustainable:, or points of the ladder a power:"},
    {POWER("governor: power_allocator, sustainable: 3"), ERT_E_FORMAT, "'3' has no unit"},
    {POWER("governor: power_allocator, sustainable: 3W, burst: 9W"), ERT_E_FORMAT,
     "burst: '9W', expected a power and how long, such as 9W for 30s"},
    {POWER("governor: power_allocator, sustainable: 3W, burst: 9W for 30"), ERT_E_FORMAT,
     "burst: '30' has no unit"},
    {POWER("governor: power_allocator, sustainable: 3W, burst: 3W for 30s"), ERT_E_FORMAT,
     "power: a burst of 3W is not above the sustainable 3W"},
    {POWER("governor: power_allocator, sustainable: 3W, switch-on: 42C"), ERT_E_FORMAT,
     "power: switch-on 42C is not below the target 42C"},
    {POWER("governor: power_allocator, sustainable: 3W, states: 2..4"), ERT_E_RANGE,
     "power asks for state 4, but the ladder 'l' ends at state 3"},
    {POWER("governor: power_allocator, sustainable: 3W, draw: temp.cpu"), ERT_E_FORMAT,
     "draw: 'temp.cpu' is in C, expected a sensor in W"},
    {POWER("governor: power_allocator, sustainable: 3W, share: {decode: 1}"), ERT_E_FORMAT,
     "'prefill:' is missing"},
    {POWER("governor: predictive, sustainable: 3W, plant: {chip: [4C/W, 6J/C], case: [7C/W], "
           "sensor-at: case, ambient: 25C}"),
     ERT_E_FORMAT, "case: expected its resistance and its capacity, such as [4C/W, 6J/C]"},
    {POWER("governor: predictive, sustainable: 3W, plant: {chip: [4C/W, 6], case: [7C/W, "
           "90J/C], sensor-at: case, ambient: 25C}"),
     ERT_E_FORMAT, "chip: '6' has no unit, expected a heat capacity such as 90J/C"},
    {POWER("governor: predictive, sustainable: 3W, plant: {chip: [4C/W, 6J/C], case: [7C/W, "
           "90J/C], sensor-at: skin, ambient: 25C}"),
     ERT_E_FORMAT, "sensor-at: 'skin', expected chip or case"},
};

static const struct refusal refused_guarantees[] = {
    {POLICY("    guarantees: always\n"), ERT_E_FORMAT, "guarantees: expected a list [a, b]"},
    {POLICY("    guarantees:\n    - always (temp.cpu < 95)\n"), ERT_E_FORMAT,
     "t.yaml:7:26: '95' has no unit, expected a temperature"},
    {POLICY("    guarantees:\n    - 'always (tmp.cpu < 95C)'\n"), ERT_E_FORMAT,
     "t.yaml:7:16: unknown sensor 'tmp.cpu', did you mean 'temp.cpu'?"},
    {POLICY("    poll: 10ms\n    guarantees:\n    - always once[0:24h] (state > 0)\n"), ERT_E_RANGE,
     "t.yaml:8:7: guarantee 'always once[0:24h] (state > 0)': its windows need"},
};

static void test_refuses_with_place_and_remedy(void **state)
{
    static const struct {
        const struct refusal *cases;
        size_t n;
    } subjects[] = {
#define CASES(of) {refused_##of, sizeof refused_##of / sizeof refused_##of[0]}
        CASES(files), CASES(sensors), CASES(ladders),    CASES(policies),
        CASES(trips), CASES(power),   CASES(guarantees),
#undef CASES
    };
    (void)state;
    for (size_t s = 0; s < sizeof subjects / sizeof subjects[0]; s++)
        for (size_t i = 0; i < subjects[s].n; i++)
            refused(&subjects[s].cases[i]);
}

static void test_unknown_policies_list_the_known(void **state)
{
    (void)state;
    const char *path = "policies.yaml";
    struct pol_file *file;
    struct pol_policy policy;
    struct ert_error err = {0};
    assert_int_equal(pol_file_load(&file, &path, 1, &err), 0);
    assert_int_equal(pol_compile(file, "turbo", NULL, 0, &policy, &err), -ERT_E_MISSING);
    assert_non_null(strstr(err.text, "performance, balanced, power-saver (battery-saver), cool"));
    pol_file_free(file);
}

static void test_auto_ladder(void **state)
{
    (void)state;
    const char *text = "edgert: 1\npolicies: {p: {ladder: auto, trips: "
                       "[{name: t, sensor: temp.cpu, above: 70C, states: 1..9}]}}\n";
    const struct pol_point ladder[2] = {{.name = "a", .point = "w8a8"},
                                        {.name = "b", .point = "w4a16"}};
    struct pol_file *file;
    struct pol_policy policy;
    struct ert_error err = {0};
    assert_int_equal(pol_file_parse(&file, "t.yaml", text, strlen(text), &err), 0);
    assert_int_equal(pol_compile(file, "p", NULL, 0, &policy, &err), -ERT_E_MISSING);
    assert_non_null(strstr(err.text, "name a ladder instead"));
    assert_int_equal(pol_compile(file, "p", ladder, 2, &policy, &err), 0);
    assert_int_equal(policy.n_states, 2);
    assert_int_equal(policy.trips[0].highest, 1);
    pol_file_free(file);
}

static void write_file(char *path, const char *text)
{
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void test_later_files_override_by_name(void **state)
{
    (void)state;
    char user[] = "/tmp/policy-XXXXXX";
    write_file(user, "edgert: 1\nsensors: {temp.cpu: thermal:mine}\nladders: {handheld: [w8a8, "
                     "w4a16, w4a16-r90]}\n"
                     "policies: {cool: {ladder: handheld, poll: 1s}}\n");
    const char *paths[] = {"policies.yaml", user};
    struct pol_file *file;
    struct pol_policy policy;
    struct ert_error err = {0};
    assert_int_equal(pol_file_load(&file, paths, 2, &err),
                     -ERT_E_RANGE); /* balanced needs state 3 */
    assert_non_null(strstr(err.text, "but the ladder 'handheld' ends at state 2"));
    unlink(user);
    strcpy(user, "/tmp/policy-XXXXXX");
    write_file(user, "edgert: 1\nsensors: {temp.cpu: thermal:mine}\npolicies: {cool: {ladder: "
                     "handheld, poll: 1s}}\n");
    assert_int_equal(pol_file_load(&file, paths, 2, &err), 0);
    assert_int_equal(pol_compile(file, "cool", NULL, 0, &policy, &err), 0);
    assert_true(policy.poll_s == 1 && policy.n_trips == 0 && policy.n_states == 7);
    assert_int_equal(pol_compile(file, "balanced", NULL, 0, &policy, &err), 0);
    assert_string_equal(policy.sensors[0].sources[0], "thermal:mine");
    assert_int_equal(policy.sensors[0].n_sources, 1);
    assert_int_equal(pol_file_count(file), 4);
    unlink(user);
    pol_file_free(file);
}

static void test_what_is_shown_compiles_to_the_same(void **state)
{
    (void)state;
    const char *path = "policies.yaml";
    struct pol_file *file;
    struct ert_error err = {0};
    assert_int_equal(pol_file_load(&file, &path, 1, &err), 0);
    for (size_t i = 0; i < pol_file_count(file); i++) {
        struct pol_policy policy;
        assert_int_equal(pol_compile(file, pol_file_name(file, i), NULL, 0, &policy, &err), 0);
        assert_round_trip(&policy, NULL);
        assert_round_trip(&policy, file);
    }
    pol_file_free(file);
    struct pol_policy odd = compiled(
        "edgert: 1\nsensors: {temp.cpu: {sources: ['a:\"b\\\\'], stuck: 1.1s, median: 3},\n"
        "  temp.skin: {sources: x:y, sum: {temp.cpu: -0.1, temp.xy: 2}, offset: -0.1C}}\n"
        "ladders: {l: [w8a8, {point: w4a16, tokens-per-second: 0.3, prefill: w8a8, name: "
        "'caf\xc3\xa9 # 1'}, {point: w4a16, threads: 2, cores: efficient, prefill-chunk: 16}, "
        "{point: w4a16, speculation: off}, {point: w4a16, speculation: on}]}\n"
        "policies: {'x: y': {ladder: l, poll: 333.3333ms, on-missing: {temp.skin: state "
        "1, temp.cpu: state 0},\n"
        "  trips: [{name: 'a, b', sensor: temp.cpu, below: 1.7e1C, hysteresis: 0.1C, for: "
        "1.5min, states: 0..max,\n"
        "           when: discharging},\n"
        "          {name: k, sensor: temp.skin, kernel: hot, margin: 2.5C, states: 1}]}}\n",
        "x: y");
    assert_round_trip(&odd, NULL);
}

struct told {
    size_t n;
    struct pol_line lines[32];
    char text[32][400], defaults[32][80];
};

static void keep_line(void *ctx, const struct pol_line *line)
{
    struct told *told = ctx;
    assert_true(told->n < 32);
    struct pol_line *kept = &told->lines[told->n];
    *kept = *line;
    snprintf(told->text[told->n], sizeof told->text[0], "%s", line->text);
    snprintf(told->defaults[told->n], sizeof told->defaults[0], "%s", line->defaults);
    kept->text = told->text[told->n];
    kept->defaults = told->defaults[told->n++];
}

/* The one line that has the words: from that file and line (0 = nowhere), with those defaults. */
static void assert_comes_from(const struct told *told, const char *words, const char *file,
                              size_t line, const char *defaults)
{
    const struct pol_line *found = NULL;
    for (size_t i = 0; i < told->n; i++)
        if (strstr(told->lines[i].text, words)) {
            assert_null(found);
            found = &told->lines[i];
        }
    assert_non_null(found);
    if (file)
        assert_string_equal(found->file, file);
    else
        assert_null(found->file);
    assert_int_equal(found->line, line);
    assert_string_equal(found->defaults, defaults);
}

static void test_lines_know_where_they_come_from(void **state)
{
    (void)state;
    char base[] = "/tmp/policy-XXXXXX", over[] = "/tmp/policy-XXXXXX";
    write_file(base, "edgert: 1\n"
                     "sensors: {temp.cpu: thermal:mine}\n"
                     "ladders:\n"
                     "  l:\n"
                     "    - w8a8\n"
                     "    - pause\n"
                     "policies:\n"
                     "  p:\n"
                     "    ladder: l\n"
                     "    poll:\n"
                     "      1s\n"
                     "    trips:\n"
                     "      - {name: t, sensor: temp.cpu, above: 70C, states: 1}\n"
                     "    dwell: {up: 3s}\n");
    write_file(over, "edgert: 1\n\nsensors: {temp.cpu: {sources: thermal:other,\n  stale: 9s}}\n");
    const char *paths[] = {base, over};
    struct pol_file *file;
    struct pol_policy policy;
    struct told told = {.n = 0};
    struct ert_error err = {0};
    assert_int_equal(pol_file_load(&file, paths, 2, &err), 0);
    assert_int_equal(pol_compile(file, "p", NULL, 0, &policy, &err), 0);
    assert_int_equal(pol_show_lines(&policy, file, keep_line, &told, &err), 0);
    assert_int_equal(told.n, 15);
    assert_comes_from(&told, "edgert: 1", NULL, 0, "");
    assert_comes_from(&told, "sensors:", NULL, 0, "");
    assert_comes_from(&told, "thermal:other", over, 3, "");
    assert_comes_from(&told, "\"states\":", base, 4, "");
    assert_comes_from(&told, "{point: \"w8a8\"", base, 5, "name");
    assert_comes_from(&told, "{point: \"pause\"", base, 6, "name");
    assert_comes_from(&told, "  \"p\":", base, 8, "");
    assert_comes_from(&told, "ladder: \"states\"", base, 9, "");
    assert_comes_from(&told, "poll: 1s", base, 10, "");
    assert_comes_from(&told, "trips:", base, 12, "");
    assert_comes_from(&told, "{name: \"t\"", base, 13, "hysteresis, governor");
    assert_comes_from(&told, "dwell:", base, 14, "down");
    assert_comes_from(&told, "failsafe:", NULL, 0, "failsafe");
    unlink(base);
    unlink(over);
    pol_file_free(file);
}

static void test_guarantees_bring_their_sensors(void **state)
{
    (void)state;
    struct pol_policy p =
        compiled(POLICY("    trips: [{name: hot, sensor: temp.cpu, above: 70C, states: 1}]\n"
                        "    guarantees:\n"
                        "    - always (temp.cpu > 85C -> eventually[0:5s] (state >= 2))\n"
                        "    - \"temp.skin < 45C until[0:10s] temp.cpu < 80C\"\n"),
                 "p");
    assert_int_equal(p.n_guarantees, 2);
    assert_string_equal(p.guarantees[1], "temp.skin < 45C until[0:10s] temp.cpu < 80C");
    assert_int_equal(p.n_sensors, 2);
    assert_string_equal(p.sensors[1].name, "temp.skin");
    assert_round_trip(&p, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_every_key),
        cmocka_unit_test(test_refuses_with_place_and_remedy),
        cmocka_unit_test(test_unknown_policies_list_the_known),
        cmocka_unit_test(test_auto_ladder),
        cmocka_unit_test(test_later_files_override_by_name),
        cmocka_unit_test(test_what_is_shown_compiles_to_the_same),
        cmocka_unit_test(test_lines_know_where_they_come_from),
        cmocka_unit_test(test_guarantees_bring_their_sensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
