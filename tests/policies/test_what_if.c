/* What readings come to and what would change it, against what the page of the language says. That
 * it agrees with decisions made one by one, on random policies, is in test_properties.c. */
#include "tests/test.h"

#include <string.h>

#include "policies/policies.h"

#define POLICY(rest)                                                                               \
    "edgert: 1\nladders: {l: [w8a8, w4a16, {point: w4a16, threads: 1}, pause]}\npolicies:\n  p:\n" \
    "    ladder: l\n" rest

struct imagined {
    struct pol_policy policy;
    struct dev_reading readings[POL_MAX_SENSORS];
    struct pol_what_if what_if;
};

static unsigned index_of(const struct imagined *im, const char *sensor)
{
    for (unsigned i = 0; i < im->policy.n_sensors; i++)
        if (!strcmp(im->policy.sensors[i].name, sensor))
            return i;
    fail_msg("no sensor %s", sensor);
    return 0;
}

static void begin(struct imagined *im, const char *text)
{
    struct pol_file *file;
    struct ert_error err = {0};
    memset(im, 0, sizeof *im);
    if (pol_file_parse(&file, "t.yaml", text, strlen(text), &err) ||
        pol_compile(file, "p", NULL, 0, &im->policy, &err))
        fail_msg("%s", err.text);
    pol_file_free(file);
    for (size_t i = 0; i < POL_MAX_SENSORS; i++)
        im->readings[i].why = DEV_NO_SOURCE;
}

static void given(struct imagined *im, const char *sensor, double value)
{
    im->readings[index_of(im, sensor)] = (struct dev_reading){value, 0, DEV_PRESENT};
}

static const struct pol_what_if *looked(struct imagined *im)
{
    struct ert_error err;
    assert_int_equal(pol_what_if(&im->policy, im->readings, &im->what_if, &err), 0);
    return &im->what_if;
}

static const struct pol_what_if_sensor *of(const struct imagined *im, const char *sensor)
{
    return &im->what_if.sensors[index_of(im, sensor)];
}

static void assert_turn(const struct pol_turn *turn, double value, bool included, unsigned state)
{
    assert_true(turn->there);
    if (turn->value != value || turn->included != included || turn->state != state)
        fail_msg("%s %.9g: state %u, expected %s %.9g: state %u", turn->included ? "at" : "past",
                 turn->value, turn->state, included ? "at" : "past", value, state);
}

static const char two_trips[] =
    POLICY("    trips:\n"
           "      - {name: warm, sensor: temp.cpu, above: 70C, hysteresis: 3C, states: 1..2}\n"
           "      - {name: low, sensor: battery.charge, below: 20%, hysteresis: 2%, when: "
           "discharging, states: 3}\n"
           "    dwell: {down: 0s, up: 10s}\n");

static void test_step_wise_climbs_and_where_it_is_over(void **state)
{
    (void)state;
    static struct imagined im;
    begin(&im, two_trips);
    given(&im, "temp.cpu", 75);
    const struct pol_what_if *what_if = looked(&im);
    assert_int_equal(what_if->first, 1);
    assert_string_equal(what_if->first_reason, "temp.cpu 75C above 70C (warm)");
    assert_int_equal(what_if->state, 2);
    assert_true(what_if->after_s == 0.5 && what_if->settled); /* one poll later */
    assert_turn(&of(&im, "temp.cpu")->below, 67, true, 0);    /* the far side of the hysteresis */
    assert_string_equal(of(&im, "temp.cpu")->below.reason,
                        "temp.cpu 67C back at 67C, warm cleared");
    assert_false(of(&im, "temp.cpu")->above.there);
    /* Nobody knows whether it discharges. */
    assert_false(of(&im, "battery.charge")->below.there || of(&im, "battery.charge")->above.there);
    assert_int_equal(of(&im, "battery.charge")->reading.why, DEV_NO_SOURCE);
}

static void test_each_sensor_that_would_change_it(void **state)
{
    (void)state;
    static struct imagined im;
    begin(&im, two_trips);
    given(&im, "temp.cpu", 50);
    given(&im, "battery.charge", 15);
    given(&im, "battery.discharging", 0);
    const struct pol_what_if *what_if = looked(&im);
    assert_true(what_if->first == 0 && what_if->state == 0 && what_if->after_s == 0);
    assert_string_equal(what_if->reason, "nothing tripped");
    assert_turn(&of(&im, "temp.cpu")->above, 70, false, 2);
    assert_string_equal(of(&im, "temp.cpu")->above.reason, "temp.cpu 70.1C above 70C (warm)");
    assert_turn(&of(&im, "battery.discharging")->above, 0.5, false, 3);
    assert_false(of(&im, "battery.power")->above.there); /* the battery's own word goes first */
    given(&im, "battery.discharging", 1);
    assert_int_equal(looked(&im)->state, 3);
    assert_turn(&of(&im, "battery.charge")->above, 22, true, 0);
    assert_turn(&of(&im, "battery.discharging")->below, 0.5, true, 0);
    assert_false(of(&im, "temp.cpu")->above.there); /* asks for no worse than there is */
}

static void test_a_sensor_without_a_reading(void **state)
{
    (void)state;
    static struct imagined im;
    begin(&im,
          POLICY(
              "    trips:\n"
              "      - {name: hot, sensor: temp.cpu, above: 70C, hysteresis: 3C, states: 1}\n"
              "      - {name: low, sensor: battery.charge, below: 20%, hysteresis: 2%, states: 1}\n"
              "    on-missing: {temp.skin: state 2}\n"));
    given(&im, "temp.cpu", 200); /* not plausible */
    const struct pol_what_if *what_if = looked(&im);
    assert_int_equal(what_if->state, 2);
    assert_int_equal(of(&im, "temp.cpu")->reading.why, DEV_OUT_OF_RANGE);
    assert_turn(&of(&im, "temp.skin")->above, 1, true, 0); /* any reading, from the least on */
    assert_false(of(&im, "temp.skin")->below.there);
    given(&im, "temp.skin", 30);
    assert_int_equal(looked(&im)->state, 0);
    assert_turn(&of(&im, "temp.cpu")->above, 70, false, 1);
    assert_false(of(&im, "temp.cpu")->below.there);
    assert_turn(&of(&im, "battery.charge")->below, 20, false, 1);
    assert_false(of(&im, "battery.charge")->above.there);
}

/* A window between two bounds, narrower than any grid over the range of memory. */
static void test_a_narrow_window_is_found(void **state)
{
    (void)state;
    static struct imagined im;
    begin(&im, POLICY("    trips:\n"
                      "      - {name: more, sensor: memory.available, above: 1000MB, states: 1}\n"
                      "      - {name: less, sensor: memory.available, below: 999MB, states: 1}\n"));
    given(&im, "memory.available", 9000);
    assert_int_equal(looked(&im)->state, 1);
    assert_turn(&of(&im, "memory.available")->below, 1000, true, 0);
    assert_false(of(&im, "memory.available")->above.there);
}

static void test_a_jump_and_a_standing_value_are_believed(void **state)
{
    (void)state;
    static struct imagined im;
    begin(&im, "edgert: 1\nsensors: {temp.skin: {sources: a:b, stuck: 1s}}\n"
               "ladders: {l: [w8a8, w4a16, pause]}\npolicies:\n  p:\n    ladder: l\n"
               "    dwell: {up: 0s}\n"
               "    trips: [{name: hot, sensor: temp.skin, above: 80C, hysteresis: 60C, for: 30s, "
               "states: 1}]\n");
    given(&im, "temp.skin", 5);
    looked(&im);
    assert_turn(&of(&im, "temp.skin")->above, 80, false, 1);
    given(&im, "temp.skin", 85);
    assert_true(looked(&im)->first == 0 && im.what_if.state == 1);
    assert_true(im.what_if.after_s >= 30 && im.what_if.after_s < 31);
    assert_turn(&of(&im, "temp.skin")->below, 20, true, 0);
}

static void assert_turn_near(const struct pol_turn *turn, double value, double within,
                             unsigned state)
{
    assert_true(turn->there && turn->state == state);
    assert_true(turn->value >= value - within && turn->value <= value + within);
}

/* 4 W + 1 W/C * (42 C - t), in whole mC: 8 W down to 38 C, less than 4 W past 42 C. */
static void test_a_budget_of_power(void **state)
{
    (void)state;
    static struct imagined im;
    begin(&im, "edgert: 1\nladders: {l: [{point: w8a8, power: 8W}, {point: w4a16, power: 4W}, "
               "{point: w4a16, threads: 1, "
               "power: 2W}]}\npolicies:\n  p:\n    ladder: l\n    dwell: {up: 0s}\n"
               "    power: {governor: power_allocator, sensor: temp.skin, target: 42C, switch-on: "
               "32C, sustainable: 4W, "
               "k_po: 1W, k_pu: 1W, k_i: 0W, k_d: 0W}\n");
    given(&im, "temp.skin", 30);
    assert_int_equal(looked(&im)->state, 0);
    assert_turn_near(&of(&im, "temp.skin")->above, 38, 0.001, 1);
    given(&im, "temp.skin", 41);
    assert_int_equal(looked(&im)->state, 1);
    assert_turn_near(&of(&im, "temp.skin")->below, 38, 0.001, 0);
    assert_turn_near(&of(&im, "temp.skin")->above, 42, 0.001, 2);
    assert_true(im.what_if.settled);
}

/* The bucket empties, and fills again while it counts as empty. */
static void test_a_burst_does_not_settle(void **state)
{
    (void)state;
    static struct imagined im;
    begin(&im, "edgert: 1\nladders: {l: [{point: w8a8, power: 8W}, {point: w4a16, power: "
               "3W}]}\npolicies:\n  p:\n"
               "    ladder: l\n    dwell: {up: 0s}\n"
               "    power: {governor: power_allocator, sensor: temp.skin, target: 42C, "
               "sustainable: 4W, burst: 9W for 30s}\n");
    given(&im, "temp.skin", 25);
    assert_false(looked(&im)->settled);
    assert_true(im.what_if.first == 0 && im.what_if.after_s > 30);
    assert_false(of(&im, "temp.skin")->below.there || of(&im, "temp.skin")->above.there);
    given(&im, "temp.skin", 60);
    assert_true(looked(&im)->settled && im.what_if.state == 1);
    assert_true(of(&im, "temp.skin")->below.there && !of(&im, "temp.skin")->below.settled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_wise_climbs_and_where_it_is_over),
        cmocka_unit_test(test_each_sensor_that_would_change_it),
        cmocka_unit_test(test_a_sensor_without_a_reading),
        cmocka_unit_test(test_a_narrow_window_is_found),
        cmocka_unit_test(test_a_jump_and_a_standing_value_are_believed),
        cmocka_unit_test(test_a_budget_of_power),
        cmocka_unit_test(test_a_burst_does_not_settle),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
