/* What a policy decides from readings. */
#include "tests/policies/compiled.h"

/* One second later, sensor 0 reads value. */
static unsigned step(struct bench *b, double value)
{
    b->now_ns += 1000000000;
    b->raw[0] = (struct dev_reading){value, b->now_ns, DEV_PRESENT};
    pol_decide(&b->policy, &b->state, b->now_ns, b->raw, &b->decision);
    return b->decision.state;
}

static void test_step_wise_enters_climbs_and_eases(void **state)
{
    (void)state;
    struct bench b;
    start(&b, POLICY("    dwell: {up: 0s}\n    trips: [{name: warm, sensor: temp.cpu, above: 70C, "
                     "hysteresis: 3C, states: 1..3}]\n"));
    assert_int_equal(step(&b, 70), 0);
    assert_int_equal(step(&b, 71.2), 1);
    assert_string_equal(b.decision.reason, "temp.cpu 71.2C above 70C (warm)");
    assert_int_equal(step(&b, 71.2), 2); /* steady above the trip: one worse */
    assert_int_equal(step(&b, 71), 2);   /* falling: hold */
    assert_int_equal(step(&b, 75), 3);
    assert_int_equal(step(&b, 90), 3); /* the range's end */
    assert_int_equal(step(&b, 68), 3); /* within the hysteresis */
    assert_int_equal(step(&b, 66.8), 2);
    assert_string_equal(b.decision.reason, "temp.cpu 66.8C below 67C, warm easing");
    assert_int_equal(step(&b, 66), 1);
    assert_int_equal(step(&b, 66), 0);
    assert_string_equal(b.decision.reason, "temp.cpu 66C below 67C, warm cleared");
    assert_int_equal(b.decision.trip, 0);
    assert_int_equal(step(&b, 66), 0);
    assert_int_equal(b.decision.trip, -1);
}

/* 54.9 - 5.2 is 49.7 to a person, though not in doubles. */
static void test_hysteresis_ends_where_a_person_adds_it_up_to(void **state)
{
    (void)state;
    struct bench b;
    start(&b, POLICY("    dwell: {up: 0s}\n    trips: [{name: t, sensor: temp.cpu, above: 54.9C, "
                     "hysteresis: 5.2C, governor: bang_bang, states: 1}]\n"));
    assert_int_equal(step(&b, 60), 1);
    assert_int_equal(step(&b, 49.8), 1);
    assert_int_equal(step(&b, 49.7), 0);
    assert_string_equal(b.decision.reason, "temp.cpu 49.7C back at 49.7C, t cleared");
}

static void test_the_highest_request_wins(void **state)
{
    (void)state;
    struct bench b;
    start(&b,
          POLICY(
              "    dwell: {up: 0s}\n    trips:\n"
              "      - {name: a, sensor: temp.cpu, above: 50C, governor: bang_bang, states: 1..2}\n"
              "      - {name: b, sensor: temp.cpu, above: 60C, governor: bang_bang, states: 3}\n"));
    assert_int_equal(step(&b, 55), 2);
    assert_int_equal(step(&b, 65), 3);
    assert_int_equal(b.decision.trip, 1);
    assert_int_equal(step(&b, 55), 2);
    assert_int_equal(step(&b, 40), 0);
}

static void test_for_counts_from_the_first_reading_past_the_trip(void **state)
{
    (void)state;
    struct bench b;
    start(&b, POLICY("    trips: [{name: stall, sensor: psi.memory.some, above: 10%, for: 2s, "
                     "states: 1}]\n"));
    assert_int_equal(step(&b, 20), 0);
    assert_int_equal(step(&b, 20), 0);
    assert_int_equal(step(&b, 5), 0); /* starts over */
    assert_int_equal(step(&b, 20), 0);
    assert_int_equal(step(&b, 20), 0);
    assert_int_equal(step(&b, 20), 1);
    assert_string_equal(b.decision.reason, "psi.memory.some 20% above 10% for 2s (stall)");
    assert_true(b.decision.release_memory);
}

static void test_on_battery_only(void **state)
{
    (void)state;
    struct bench b;
    start(&b,
          POLICY("    dwell: {up: 0s}\n    trips: [{name: low, sensor: battery.charge, below: 20%, "
                 "when: discharging, states: 2}]\n"));
    int discharging = b.policy.discharging_sensor, power = b.policy.power_sensor;
    assert_int_equal(step(&b, 15), 0); /* nobody knows: does not count */
    b.raw[power] = (struct dev_reading){3, b.now_ns, DEV_PRESENT};
    assert_int_equal(step(&b, 15), 2); /* by the sign of the power */
    b.raw[discharging] = (struct dev_reading){0, b.now_ns, DEV_PRESENT};
    assert_int_equal(step(&b, 15), 0); /* the battery's own word goes first */
    assert_string_equal(b.decision.reason, "not discharging, low released");
    b.raw[discharging].value = 1;
    assert_int_equal(step(&b, 15), 2);
}

static void test_a_missing_sensor_asks_for_its_state(void **state)
{
    (void)state;
    struct bench b;
    start(&b, "edgert: 1\nsensors: {temp.cpu: {sources: [a:b], stale: 3s}}\n" LADDER
              "policies: {p: {ladder: l, dwell: {up: 0s}, on-missing: {temp.cpu: state 2}}}\n");
    pol_decide(&b.policy, &b.state, b.now_ns, b.raw, &b.decision);
    assert_int_equal(b.decision.state, 2); /* never had one */
    assert_string_equal(b.decision.reason,
                        "temp.cpu missing: no source on this machine has it (on-missing state 2)");
    assert_int_equal(step(&b, 50), 0);
    assert_string_equal(b.decision.reason, "missing readings are back");
    b.raw[0].why = DEV_READ_FAILED;
    for (int s = 1; s <= 4; s++) { /* the last good value stands in for 3 s */
        pol_decide(&b.policy, &b.state, b.now_ns + (uint64_t)s * 1000000000, b.raw, &b.decision);
        assert_int_equal(b.decision.state, s <= 3 ? 0 : 2);
    }
}

static void test_readings_are_judged(void **state)
{
    (void)state;
    struct bench b;
    const char *text =
        "edgert: 1\nsensors: {temp.battery: {sources: [a:b], stale: 10s, stuck: 3s}}\n" LADDER
        "policies: {p: {ladder: l, trips: [{name: t, sensor: temp.battery, above: 40C, states: "
        "1}]}}\n";
    static const struct {
        double value;
        enum dev_absence why;
    } cases[] = {
        {30, DEV_PRESENT},   {-273.1, DEV_OUT_OF_RANGE}, {65261.8, DEV_OUT_OF_RANGE},
        {30.5, DEV_PRESENT}, {85, DEV_TOO_FAST},         {31, DEV_PRESENT},
        {31, DEV_PRESENT},   {31, DEV_PRESENT},          {31, DEV_PRESENT},
        {31, DEV_STUCK},     {31.1, DEV_PRESENT},
    };
    start(&b, text);
    assert_int_equal(pol_validated(&b.policy, &b.state, 0).why, DEV_NO_SAMPLE);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        step(&b, cases[i].value);
        struct dev_reading r = pol_validated(&b.policy, &b.state, 0);
        assert_int_equal(r.why, cases[i].why);
        assert_true(r.why != DEV_PRESENT || r.value == cases[i].value);
    }
    pol_decide(&b.policy, &b.state, b.now_ns + 10000000001, b.raw, &b.decision);
    assert_int_equal(pol_validated(&b.policy, &b.state, 0).why, DEV_STALE);
}

/* ---- sensors made of others ---------------------------------------------------------------- */

#define MADE_OF(mapping)                                                                           \
    "edgert: 1\n"                                                                                  \
    "sensors: {temp.skin: {" mapping "}}\n" LADDER "policies:\n"                                   \
    "  p: {ladder: l, trips: [{name: a, sensor: temp.skin, above: 60C, states: 1}]}\n"

struct part_bench {
    struct pol_policy policy;
    struct pol_state state;
    struct dev_reading raw[POL_MAX_SENSORS];
};

static void start_parts(struct part_bench *b, const char *text)
{
    b->policy = compiled(text, "p");
    pol_state_init(&b->state, &b->policy);
    for (size_t i = 0; i < POL_MAX_SENSORS; i++)
        b->raw[i].why = DEV_NO_SOURCE;
}

/* A second later with these readings of battery, CPU and skin itself; below 0 = none. */
static struct dev_reading skin_of(struct part_bench *b, double battery, double cpu, double own)
{
    struct pol_decision decision;
    uint64_t now_ns = b->state.now_ns + 1000000000U;
    unsigned skin = 0;
    for (unsigned i = 0; i < b->policy.n_sensors; i++) {
        const char *name = b->policy.sensors[i].name;
        double value = !strcmp(name, "temp.battery") ? battery
                       : !strcmp(name, "temp.cpu")   ? cpu
                                                     : own;
        b->raw[i] = (struct dev_reading){value, now_ns, value < 0 ? DEV_NO_SOURCE : DEV_PRESENT};
        skin = strcmp(name, "temp.skin") ? skin : i;
    }
    pol_decide(&b->policy, &b->state, now_ns, b->raw, &decision);
    return pol_validated(&b->policy, &b->state, skin);
}

static void test_a_sensor_made_of_others(void **state)
{
    (void)state;
    static struct part_bench b;
    start_parts(&b, MADE_OF("max: [temp.battery, temp.cpu], offset: -2C"));
    assert_int_equal(b.policy.n_sensors, 3);
    assert_string_equal(b.policy.sensors[2].name, "temp.skin");
    assert_true(skin_of(&b, 30, 40, -1).value == 38);
    assert_true(skin_of(&b, 36, -1, -1).value == 34); /* a lower bound is better than nothing */
    assert_int_equal(skin_of(&b, -1, -1, -1).why, DEV_PART_MISSING);
    assert_true(skin_of(&b, -1, 38, -1).value == 36);
    assert_true(skin_of(&b, 30, 40, 41).value == 41); /* a source comes before what is made up */
    assert_int_equal(skin_of(&b, 30, 90, -1).why, DEV_TOO_FAST);

    start_parts(&b, MADE_OF("mean: [temp.battery, temp.cpu]"));
    assert_true(skin_of(&b, 30, 40, -1).value == 35);
    assert_int_equal(skin_of(&b, 30, -1, -1).why, DEV_PART_MISSING);

    start_parts(&b, MADE_OF("sum: {temp.battery: 0.75, temp.cpu: 0.125}, offset: 3C"));
    assert_true(skin_of(&b, 30, 40, -1).value == 30.5);
    assert_int_equal(skin_of(&b, -1, 40, -1).why, DEV_PART_MISSING);
    assert_int_equal(skin_of(&b, 30, 40, 130).why, DEV_PRESENT); /* its own is out of range */
}

static void test_the_median_of_three_passes_one_outlier_over(void **state)
{
    (void)state;
    static struct part_bench b;
    start_parts(&b, MADE_OF("sources: a:b, median: 3"));
    static const double samples[] = {40, 48, 42, 43, 35, 44, 45},
                        medians[] = {40, 48, 42, 43, 42, 43, 44};
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++)
        assert_true(skin_of(&b, -1, -1, samples[i]).value == medians[i]);
    b.state.now_ns +=
        200 * 1000000000ULL; /* longer than a sample lasts: the old ones are forgotten */
    assert_true(skin_of(&b, -1, -1, 50).value == 50);
    assert_true(skin_of(&b, -1, -1, 52).value == 52);
    assert_true(skin_of(&b, -1, -1, 58).value == 52);
}

static void test_on_missing_has_a_default(void **state)
{
    (void)state;
    struct pol_policy p = compiled(
        POLICY(
            "    trips:\n      - {name: a, sensor: temp.cpu, above: 70C, states: 1}\n"
            "      - {name: b, sensor: temp.gpu, above: 70C, states: 1}\n"
            "      - {name: c, sensor: battery.charge, below: 9%, when: discharging, states: 1}\n"
            "    on-missing: {temp.gpu: ignore, default: state 2, temp.skin: state 1}\n"),
        "p");
    static const struct {
        const char *name;
        int state;
    } expected[] = {{"temp.cpu", 2},  {"temp.gpu", -1},      {"battery.charge", 2},
                    {"temp.skin", 1}, {"battery.power", -1}, {"battery.discharging", -1}};
    for (size_t i = 0; i < p.n_sensors; i++)
        for (size_t k = 0; k < sizeof expected / sizeof *expected; k++)
            if (!strcmp(p.sensors[i].name, expected[k].name))
                assert_int_equal(p.sensors[i].missing_state, expected[k].state);
    assert_int_equal(p.n_sensors, 6);
}

static void test_dwell_holds_a_change_back(void **state)
{
    (void)state;
    struct bench b;
    start(
        &b,
        POLICY("    dwell: {down: 2s, up: 4s}\n    trips: [{name: t, sensor: temp.cpu, above: 50C, "
               "governor: bang_bang, states: 1}]\n"));
    assert_int_equal(step(&b, 60), 1); /* nothing has changed before: at once */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(step(&b, 40), 1);
        assert_string_equal(b.decision.reason, "nothing tripped, held back by dwell");
    }
    assert_int_equal(step(&b, 40), 0);
    assert_int_equal(step(&b, 60), 0);
    assert_int_equal(step(&b, 60), 1);
}

static void test_a_clock_that_falls_counts_as_still(void **state)
{
    (void)state;
    struct bench b;
    start(&b, POLICY("    dwell: {up: 5s}\n    trips: [{name: t, sensor: temp.cpu, above: 50C, "
                     "states: 1}]\n"));
    assert_int_equal(step(&b, 60), 1);
    b.raw[0].value = 40;
    pol_decide(&b.policy, &b.state, 5, b.raw, &b.decision);
    assert_int_equal(b.decision.state, 1);
    assert_true(b.state.now_ns == b.now_ns);
    b.now_ns += 4000000000;
    assert_int_equal(step(&b, 40), 0);
}

/* By what pol_decide accepted, and at the time of the decision that breaks it. */
static void test_a_guarantee_is_broken_once(void **state)
{
    (void)state;
    struct bench b;
    struct pol_monitor *monitor;
    struct ert_error err;
    const struct pol_guarantee_status *status;
    start(&b, POLICY("    trips: [{name: t, sensor: temp.cpu, above: 50C, states: 1}]\n"
                     "    guarantees: [always (temp.cpu < 60C), always (temp.cpu > 55C -> state "
                     ">= 1), eventually (temp.cpu < 20C)]\n"));
    assert_int_equal(pol_monitor_create(&monitor, &b.policy, &err), 0);
    pol_decide(&b.policy, &b.state, b.now_ns, b.raw, &b.decision);
    assert_int_equal(pol_monitor_step(monitor, &b.state), 0);
    assert_int_equal(pol_monitor_status(monitor, 0)->waits_for, 0); /* temp.cpu, not there yet */
    static const double values[] = {40, 58, 200 /* implausible: 58 holds */, 61, 40, 62};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        step(&b, values[i]);
        assert_int_equal(pol_monitor_step(monitor, &b.state), i == 3 ? 1 : 0);
        if (i == 3)
            assert_true(pol_monitor_status(monitor, 0)->decided_ns == b.now_ns);
    }
    status = pol_monitor_status(monitor, 0);
    assert_int_equal(status->verdict, POL_FALSE);
    assert_true(status->upper == -2);
    assert_int_equal(pol_monitor_status(monitor, 2)->verdict, POL_UNDECIDED);
    assert_int_equal(pol_monitor_finish(monitor), 4); /* the one that was still open */
    assert_int_equal(pol_monitor_status(monitor, 1)->verdict, POL_TRUE);
    assert_false(pol_monitor_status(monitor, 1)->decided);
    assert_null(pol_monitor_status(monitor, 3));
    pol_monitor_free(monitor);
}

/* Written down in the middle and read back, the memory goes on as if nothing had been. */
static void test_memory_as_text(void **state)
{
    (void)state;
    static struct part_bench a, b;
    struct pol_decision decision[2];
    struct ert_error err;
    char *text;
    start_parts(&a, POLICY("    trips:\n"
                           "      - {name: hot, sensor: temp.cpu, above: 60C, hysteresis: 3C, for: "
                           "2s, states: 1..3}\n"
                           "      - {name: cold, sensor: temp.battery, below: 20C, states: 2}\n"
                           "    dwell: {down: 1s, up: 3s}\n"));
    srand(5);
    for (unsigned i = 0; i < 400; i++) {
        skin_of(&a, rand() % 4 ? 15 + rand() % 20 : -1, rand() % 9 ? 50 + rand() % 20 : -1, 1);
        if (i % 7)
            continue;
        b.policy = a.policy;
        assert_int_equal(pol_state_write(&a.policy, &a.state, &text, &err), 0);
        assert_int_equal(pol_state_read(&b.policy, text, &b.state, &err), 0);
        free(text);
        struct pol_state before = a.state;
        uint64_t now_ns = a.state.now_ns + 1500000000U;
        pol_decide(&a.policy, &a.state, now_ns, a.raw, &decision[0]);
        pol_decide(&b.policy, &b.state, now_ns, a.raw, &decision[1]);
        assert_int_equal(decision[0].state, decision[1].state);
        assert_string_equal(decision[0].reason, decision[1].reason);
        a.state = before;
    }
    static const char *const damaged[] = {"", "1", "x 0 0 -1 0 0", "99 0 0 -1 0 0", "0 0 2 -1 0 0"};
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++)
        assert_int_equal(pol_state_read(&a.policy, damaged[i], &b.state, &err), -ERT_E_FORMAT);
}

static void test_another_policy_takes_over(void **state)
{
    (void)state;
    static struct part_bench a;
    struct pol_state carried;
    start_parts(&a, POLICY("    trips:\n"
                           "      - {name: hot, sensor: temp.cpu, above: 60C, states: 2..3}\n"
                           "      - {name: warm, sensor: temp.battery, above: 40C, states: 1}\n"));
    skin_of(&a, 30, 70, 1);
    assert_int_equal(a.state.state, 2);
    struct pol_policy next = compiled(
        "edgert: 1\nladders: {l: [w4a16, {point: w4a16, threads: 1, tokens-per-second: 6}]}\n"
        "policies:\n  p:\n    ladder: l\n    trips:\n"
        "      - {name: new, sensor: temp.skin, above: 60C, states: 1}\n"
        "      - {name: hot, sensor: temp.cpu, above: 65C, states: 1}\n",
        "p");
    pol_state_carry(&carried, &next, &a.state, &a.policy);
    assert_int_equal(carried.state, 1); /* the rung of that name */
    assert_int_equal(carried.trip, 1);
    assert_true(carried.trips[1].active && carried.trips[1].request == 1 &&
                !carried.trips[0].active);
    assert_true(carried.sensors[1].last.value == 70 && !carried.sensors[0].has_last);
    assert_true(carried.has_changed && carried.changed_ns == a.state.changed_ns);
    struct pol_policy short_one = compiled("edgert: 1\nladders: {l: [w8a8]}\n"
                                           "policies: {p: {ladder: l}}\n",
                                           "p");
    pol_state_carry(&carried, &short_one, &a.state, &a.policy);
    assert_int_equal(carried.state, 0);
    assert_int_equal(carried.trip, -1);
}

/* The same inputs give the same decision, bit for bit, from a copy of the state, and a shifted
 * clock changes nothing. */
static void test_a_decision_is_a_pure_function(void **state)
{
    (void)state;
    struct bench a, b;
    const char *text =
        POLICY("    dwell: {up: 3s}\n    trips: [{name: t, sensor: temp.cpu, above: 50C, "
               "hysteresis: 5C, for: 1s, states: 1..3}]\n");
    start(&a, text);
    start(&b, text);
    b.now_ns = 77;
    for (unsigned i = 0; i < 2000; i++) {
        double value = 30 + (i * 2654435761u >> 8) % 40;
        struct pol_state before = a.state;
        struct pol_decision again = {0};
        assert_int_equal(step(&a, value), step(&b, value));
        assert_string_equal(a.decision.reason, b.decision.reason);
        pol_decide(&a.policy, &before, a.now_ns, a.raw, &again);
        assert_memory_equal(&before, &a.state, sizeof before);
        assert_string_equal(again.reason, a.decision.reason);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_guarantee_is_broken_once),
        cmocka_unit_test(test_step_wise_enters_climbs_and_eases),
        cmocka_unit_test(test_the_highest_request_wins),
        cmocka_unit_test(test_for_counts_from_the_first_reading_past_the_trip),
        cmocka_unit_test(test_on_battery_only),
        cmocka_unit_test(test_a_missing_sensor_asks_for_its_state),
        cmocka_unit_test(test_readings_are_judged),
        cmocka_unit_test(test_hysteresis_ends_where_a_person_adds_it_up_to),
        cmocka_unit_test(test_a_sensor_made_of_others),
        cmocka_unit_test(test_the_median_of_three_passes_one_outlier_over),
        cmocka_unit_test(test_on_missing_has_a_default),
        cmocka_unit_test(test_dwell_holds_a_change_back),
        cmocka_unit_test(test_a_clock_that_falls_counts_as_still),
        cmocka_unit_test(test_memory_as_text),
        cmocka_unit_test(test_another_policy_takes_over),
        cmocka_unit_test(test_a_decision_is_a_pure_function),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
