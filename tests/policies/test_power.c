/* `power:` beyond the arithmetic, which test_power_allocator.py and tests/sim/test_page.py check:
 * tables of powers, bursts in time, and both governors in a closed loop with a plant. */
#include "tests/allocations.h"
#include "tests/policies/compiled.h"

#include <math.h>
#include <string.h>

#include "policies/policies.h"

#define POINTS                                                                                     \
    "{point: w8a8, power: 9W}, {point: w4a16, power: 6W}, {point: w4a16, threads: 1, power: 3W}, " \
    "{point: w4a16, threads: 1, tokens-per-second: 6, power: 1500mW}, pause"
#define ALLOCATED(ladder, power)                                                                   \
    "edgert: 1\nladders: {l: [" ladder "]}\npolicies:\n  p:\n    ladder: l\n    dwell: {up: 0s}\n" \
    "    power: {sensor: temp.skin, " power "}\n"
#define PLANT "plant: {chip: [3C/W, 8J/C], case: [5C/W, 60J/C], sensor-at: case, ambient: 25C}"
static const struct dev_thermal plant = {3, 8, 5, 60};

/* ---- the table of powers ------------------------------------------------------------------- */

static void test_unknown_powers_are_estimated_in_order(void **state)
{
    (void)state;
    struct pol_policy p =
        compiled(ALLOCATED("w8a8, w4a16, {point: w4a16, threads: 1}, {point: w4a16, threads: 1, "
                           "tokens-per-second: 5}, {point: w4a16-r90, threads: 1, "
                           "tokens-per-second: 3}, {point: w4a16-r70, threads: 1, "
                           "tokens-per-second: 2}, pause",
                           "governor: power_allocator, target: 42C, sustainable: 2W"),
                 "p");
    const int64_t *mw = p.power.state_mw[POL_DECODE];
    assert_int_equal(mw[0], 4000); /* twice the sustainable power */
    for (size_t i = 1; i < p.n_states; i++)
        assert_true(mw[i] <= mw[i - 1]);
    assert_true(mw[4] < mw[3] && mw[5] < mw[4]); /* fewer bytes, fewer tokens */
    assert_int_equal(mw[6], 0);
    assert_int_equal(p.power.highest, 5); /* the pause is left to the trips */
    for (size_t i = 0; i < p.n_states; i++)
        assert_true(p.power.state_mw[POL_PREFILL][i] >= mw[i]);
    assert_round_trip(&p, NULL);
}

static void test_what_is_known_scales_what_is_not(void **state)
{
    (void)state;
    struct pol_policy p =
        compiled(ALLOCATED("w8a8, {point: w4a16, power: 6W}, {point: w4a16, threads: 1}",
                           "governor: power_allocator, target: 42C"),
                 "p");
    assert_int_equal(p.power.state_mw[POL_DECODE][0], 6000);
    assert_int_equal(p.power.state_mw[POL_DECODE][2], 1500); /* a quarter of the threads */
    assert_int_equal(p.power.gains.sustainable_mw, 1500);    /* the worst state's */
    assert_round_trip(&p, NULL);
}

static void test_measured_powers_fill_in_and_are_shown(void **state)
{
    (void)state;
    struct pol_policy p = compiled(ALLOCATED("w8a8, {point: w4a16, power: 6W}, pause",
                                             "governor: power_allocator, target: 42C"),
                                   "p");
    pol_set_powers(&p, (const double[]){8.25, 5, 0}, (const double[]){0, 7.5, 0});
    assert_int_equal(p.power.state_mw[POL_DECODE][0], 8250);
    assert_int_equal(p.power.state_mw[POL_DECODE][1], 6000); /* the file's word */
    assert_int_equal(p.power.state_mw[POL_PREFILL][1], 7500);
    assert_int_equal(p.power.most_mw, 8250);
    assert_int_equal(p.power.gains.sustainable_mw, 6000);
    assert_round_trip(&p, NULL); /* so that a journal's policy decides the same */
}

static void test_every_key_is_shown(void **state)
{
    (void)state;
    struct pol_policy p = compiled(
        ALLOCATED(POINTS,
                  "governor: predictive, target: 42.5C, switch-on: 30C, sustainable: "
                  "4500mW, burst: 9W for 1.5min, draw: battery.power, states: 1..max, k_po: "
                  "0.1W, k_pu: 333mW, k_i: 0W, k_d: 1W, integral_cutoff: 2C, share: {decode: "
                  "2, prefill: 0.3}, horizon: 90s, plant: {chip: [3.1C/W, 8J/C], case: "
                  "[5C/W, 60.5J/C], sensor-at: chip, ambient: 25C, ambient-sensor: "
                  "temp.ambient}"),
        "p");
    assert_int_equal(p.power.gains.k_po, 102); /* 0.1 * 1024 */
    assert_int_equal(p.power.gains.k_i, 0);
    assert_int_equal(p.power.bucket_nj, 4500LL * 90 * 1000000);
    assert_int_equal(p.power.highest, 4);
    assert_string_equal(p.sensors[p.power.draw_sensor].name, "battery.power");
    assert_string_equal(p.sensors[p.power.load_sensors[POL_PREFILL]].name, "load.prefill");
    assert_round_trip(&p, NULL);
}

/* ---- deciding ------------------------------------------------------------------------------ */

static unsigned step(struct bench *b, double temperature_c, uint64_t passed_ms)
{
    b->now_ns += passed_ms * 1000000;
    b->raw[0] = (struct dev_reading){temperature_c, b->now_ns, DEV_PRESENT};
    pol_decide(&b->policy, &b->state, b->now_ns, b->raw, &b->decision);
    return b->decision.state;
}

/* 9 W for 30 s are 135 J above the sustainable 4.5 W. At 3 W the bucket fills with 1.5 W: 45 s to
 * its half. */
static void test_a_burst_lasts_as_long_as_it_says(void **state)
{
    (void)state;
    struct bench b;
    start(&b,
          ALLOCATED(POINTS, "governor: power_allocator, target: 80C, sustainable: 4500mW, burst: "
                            "9W for 30s"));
    double since_s = 0;
    for (int cycle = 0; cycle < 3; cycle++) {
        double burst_s = cycle ? 15 : 30; /* later ones begin with half a bucket */
        while (step(&b, 30, 500) == 0)
            since_s += 0.5;
        assert_int_equal(b.decision.state, 2);
        assert_string_equal(b.decision.reason, "burst spent: 4.5W allowed");
        assert_true(b.decision.granted_w == 4.5);
        assert_true(fabs(since_s - burst_s) <= 1);
        since_s = 0;
        while (step(&b, 30, 500) == 2)
            since_s += 0.5;
        assert_int_equal(b.decision.state, 0);
        assert_true(fabs(since_s - 45) <= 1);
        since_s = 0;
    }
}

/* What is measured counts, while it is above 0: an idle device at state 0 keeps its bucket. */
static void test_a_burst_is_paid_by_what_is_measured(void **state)
{
    (void)state;
    struct bench b;
    start(&b,
          ALLOCATED(POINTS, "governor: power_allocator, target: 80C, sustainable: 4500mW, burst: "
                            "9W for 30s, draw: power.package"));
    for (int i = 0; i < 400; i++) {
        b.raw[1] = (struct dev_reading){0.8, b.now_ns + 500000000, DEV_PRESENT};
        assert_int_equal(step(&b, 30, 500), 0);
    }
    assert_true(b.state.power.bucket_nj == b.policy.power.bucket_nj);
    b.raw[1] = (struct dev_reading){.why = DEV_READ_FAILED};
    int polls = 0;
    while (step(&b, 30, 500) == 0)
        polls++;
    /* Its last value stands in for it until it is stale (180 s), then the state's 9 W for 30 s. */
    assert_in_range(polls, 2 * (180 + 30) - 3, 2 * (180 + 30) + 3);
}

static void test_a_hot_skin_asks_for_less(void **state)
{
    (void)state;
    struct bench b;
    start(&b, ALLOCATED(POINTS, "governor: power_allocator, target: 42C, sustainable: 3W"));
    assert_int_equal(step(&b, 31.9, 500), 0); /* below the switch-on: free */
    assert_true(b.decision.granted_w == 0);
    assert_int_equal(step(&b, 40, 500), 2); /* 3 W + 2 C * 0.6 W/C */
    assert_string_equal(b.decision.reason, "temp.skin 40C for a target of 42C: 4.199W allowed");
    assert_int_equal(step(&b, 44, 500), 3); /* 3 W - 2 C * 0.3 W/C, and the integral */
    assert_int_equal(step(&b, 30, 5000), 0);
    assert_int_equal(b.state.power.pid.integral, 0);
    step(&b, 44, 5000);
    for (int s = 0; s < 200; s++) {
        b.now_ns += 1000000000;
        b.raw[0].why = DEV_READ_FAILED;
        pol_decide(&b.policy, &b.state, b.now_ns, b.raw, &b.decision);
        if (s == 60)
            assert_int_equal(b.decision.state, 3); /* a gap changes nothing */
    }
    assert_int_equal(b.decision.state, 0); /* silence does */
}

/* Events bring decisions in between, which must not hurry the integral. */
static void test_events_do_not_step_the_controller(void **state)
{
    (void)state;
    struct bench b;
    start(&b, ALLOCATED(POINTS, "governor: power_allocator, target: 42C, sustainable: 3W"));
    step(&b, 43, 500);
    int64_t integral = b.state.power.pid.integral;
    for (int i = 0; i < 24; i++)
        step(&b, 50, 10);
    assert_true(b.state.power.pid.integral == integral);
    step(&b, 50, 10); /* 250 ms: half a poll */
    assert_true(b.state.power.pid.integral < integral);
}

static void test_a_trip_may_ask_for_more(void **state)
{
    (void)state;
    struct bench b;
    start(
        &b,
        ALLOCATED(
            POINTS,
            "governor: power_allocator, target: 42C, sustainable: 3W") "    trips: [{name: hot, "
                                                                       "sensor: temp.skin, above: "
                                                                       "45C, governor: bang_bang, "
                                                                       "states: 4}]\n");
    assert_int_equal(b.policy.n_sensors, 1);
    assert_int_equal(step(&b, 41, 500), 2);
    assert_int_equal(b.decision.trip, -1);
    assert_int_equal(step(&b, 46, 500), 4);
    assert_int_equal(b.decision.trip, 0);
    assert_int_equal(step(&b, 41, 500), 2);
    assert_string_equal(b.decision.reason, "temp.skin 41C below 45C, hot cleared");
}

/* ---- closed loop --------------------------------------------------------------------------- */

struct run {
    double hottest_c, last_c, mean_state, changes;
};

/* The device heats by the state that is decided, for half an hour. */
static struct run closed_loop(const char *text, uint64_t poll_ms)
{
    struct bench b;
    struct run run = {0};
    struct dev_heat heat = {25, 25};
    struct dev_thermal_step tick = dev_thermal_discretize(&plant, (double)poll_ms / 1000);
    unsigned n = 1800000 / (unsigned)poll_ms;
    start(&b, text);
    for (unsigned i = 0; i < n; i++) {
        unsigned now = step(&b, heat.case_c, poll_ms);
        heat = dev_thermal_step(&tick, heat,
                                (double)b.policy.power.state_mw[POL_DECODE][now] / 1000, 25);
        run.hottest_c = fmax(run.hottest_c, heat.case_c);
        run.mean_state += now / (double)n;
        run.changes += b.decision.changed;
    }
    run.last_c = heat.case_c;
    return run;
}

/* 42 C on the case are (42 - 25) / 5 = 3.4 W on average. */
static void test_the_predictive_governor_stays_below_its_target(void **state)
{
    (void)state;
    struct run run = closed_loop(
        ALLOCATED(POINTS, "governor: predictive, target: 42C, horizon: 20s, " PLANT), 500);
    assert_true(run.hottest_c <= 42 + 1e-6);
    assert_true(run.last_c > 39);
    assert_true(run.mean_state < 2.2);
}

static void test_the_power_allocator_settles_at_its_target(void **state)
{
    (void)state;
    struct run run = closed_loop(
        ALLOCATED(POINTS, "governor: power_allocator, target: 42C, sustainable: 3400mW"), 500);
    assert_true(run.hottest_c < 44);
    assert_true(run.last_c > 39 && run.last_c < 43);
}

/* A step takes its inputs from its arguments alone. */
static void test_a_decision_is_a_pure_function(void **state)
{
    (void)state;
    static const char *const texts[] = {
        ALLOCATED(POINTS,
                  "governor: predictive, target: 42C, burst: 9W for 10s, sustainable: 3W, " PLANT),
        ALLOCATED(POINTS, "governor: power_allocator, target: 42C, burst: 9W for 10s, sustainable: "
                          "3W, share: {decode: 1, prefill: 2}, integral_cutoff: 3C, k_d: 2W"),
    };
    for (int t = 0; t < 2; t++) {
        struct bench a, b;
        start(&a, texts[t]);
        start(&b, texts[t]);
        b.now_ns = 77;
        for (unsigned i = 0; i < 2000; i++) {
            double value = 36 + (i * 2654435761u >> 8) % 100 / 10.0;
            struct pol_state before = a.state;
            struct pol_decision again = {0};
            assert_int_equal(step(&a, value, 500), step(&b, value, 500));
            assert_true(a.decision.granted_w == b.decision.granted_w);
            assert_int_equal(a.decision.prefill_state, b.decision.prefill_state);
            pol_decide(&a.policy, &before, a.now_ns, a.raw, &again);
            assert_memory_equal(&before, &a.state, sizeof before);
        }
    }
}

static void test_a_decision_and_its_watch_allocate_nothing(void **state)
{
    (void)state;
#if COUNTS_ALLOCATIONS
    struct bench b;
    struct pol_monitor *monitor;
    struct ert_error err;
    start(&b, ALLOCATED(
                  POINTS,
                  "governor: predictive, target: 42C, burst: 9W for 10s, sustainable: 3W, "
                  "share: {decode: 1, prefill: 2}, " PLANT) "    guarantees:\n"
                                                            "      - always (temp.skin > 40C -> "
                                                            "eventually[0:5s] (state >= 2))\n"
                                                            "      - always once[0:30s] (temp.skin "
                                                            "< 44C until[1s:3s] state < 3)\n");
    assert_int_equal(pol_monitor_create(&monitor, &b.policy, &err), 0);
    unsigned long before = allocations_here;
    for (unsigned i = 0; i < 3000; i++) {
        step(&b, 36 + (i * 2654435761u >> 8) % 100 / 10.0, 500);
        pol_monitor_step(monitor, &b.state);
    }
    assert_int_equal(allocations_here, before);
    free(malloc(1));
    assert_int_equal(allocations_here, before + 1); /* the counter counts */
    pol_monitor_free(monitor);
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unknown_powers_are_estimated_in_order),
        cmocka_unit_test(test_what_is_known_scales_what_is_not),
        cmocka_unit_test(test_measured_powers_fill_in_and_are_shown),
        cmocka_unit_test(test_every_key_is_shown),
        cmocka_unit_test(test_a_burst_lasts_as_long_as_it_says),
        cmocka_unit_test(test_a_burst_is_paid_by_what_is_measured),
        cmocka_unit_test(test_a_hot_skin_asks_for_less),
        cmocka_unit_test(test_events_do_not_step_the_controller),
        cmocka_unit_test(test_a_trip_may_ask_for_more),
        cmocka_unit_test(test_the_predictive_governor_stays_below_its_target),
        cmocka_unit_test(test_the_power_allocator_settles_at_its_target),
        cmocka_unit_test(test_a_decision_is_a_pure_function),
        cmocka_unit_test(test_a_decision_and_its_watch_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
