/* The energy meter and the battery's gauge on files made up here, at times made up here. Expected
 * values are worked out by hand. */
#include "tests/tree.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "governor/energy.h"

#define SECOND   1000000000ULL
#define START_NS (3600 * SECOND)
#define RAPL     "sys/class/powercap/intel-rapl:0/"
#define BATTERY  "sys/class/power_supply/BAT0/"

struct fixture {
    char root[64];
    struct gov_machine machine;
    struct gov_meter *meter;
    struct gov_clocks clocks;
    struct gov_energy sum;
};

#define put(f, path, ...) tree_put((f)->root, path, __VA_ARGS__)

static void take_away(const struct fixture *f, const char *path)
{
    char full[256];
    snprintf(full, sizeof full, "%s/%s", f->root, path);
    assert_int_equal(unlink(full), 0);
}

static int make(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    strcpy(f->root, "/tmp/edgert-energy-XXXXXX");
    if (!mkdtemp(f->root)) {
        free(f);
        return -1;
    }
    f->machine.root = f->root;
    f->clocks = (struct gov_clocks){10 * SECOND, 10 * SECOND, 10 * SECOND};
    setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent", 1); /* no UPower but these files */
    *state = f;
    return 0;
}

static int drop(void **state)
{
    struct fixture *f = *state;
    char command[128];
    gov_meter_free(f->meter);
    gov_machine_release(&f->machine);
    snprintf(command, sizeof command, "rm -r '%s'", f->root);
    int rc = system(command);
    free(f);
    return rc;
}

/* ---- the meter ------------------------------------------------------------------------------ */

static const struct gov_battery none = {.why = "it is charging", .until_ns = UINT64_MAX};
static const struct gov_battery eight_watts = {.known = true, .watts = 8, .until_ns = UINT64_MAX};

static void count_joules(const struct fixture *f, double joules)
{
    put(f, RAPL "energy_uj", "%.0f\n", joules * 1e6);
}

/* A package's counter that wraps at 1000 J and stands at that. */
static void begin_with_counter(struct fixture *f, double joules)
{
    struct ert_error err;
    put(f, RAPL "name", "package-0\n");
    put(f, RAPL "max_energy_range_uj", "1000000000\n");
    count_joules(f, joules);
    assert_int_equal(gov_meter_create(&f->meter, f->root, &err), 0);
    gov_meter_begin_at(f->meter, f->clocks);
}

static void take_after(struct fixture *f, double seconds, const struct gov_battery *battery,
                       double model_w)
{
    f->clocks.monotonic_ns += (uint64_t)(seconds * 1e9);
    f->clocks.boottime_ns += (uint64_t)(seconds * 1e9);
    gov_meter_take_at(f->meter, f->clocks, battery, model_w, &f->sum);
}

static bool near(double a, double b)
{
    return fabs(a - b) < 1e-9;
}

static void expect(const struct fixture *f, enum gov_energy_source source, double joules,
                   double seconds)
{
    if (!near(f->sum.joules[source], joules) || !near(f->sum.seconds[source], seconds))
        fail_msg("%s: %.9g J in %.9g s, expected %.9g J in %.9g s", gov_energy_name(source),
                 f->sum.joules[source], f->sum.seconds[source], joules, seconds);
}

static void expect_unknown(const struct fixture *f, double seconds, const char *words)
{
    if (!near(f->sum.unknown_s, seconds) || !strstr(gov_meter_why(f->meter), words))
        fail_msg("unknown %.9g s ('%s'), expected %.9g s and '%s'", f->sum.unknown_s,
                 gov_meter_why(f->meter), seconds, words);
}

static void counters_come_before_the_battery(void **state)
{
    struct fixture *f = *state;
    begin_with_counter(f, 100);
    count_joules(f, 107.5);
    take_after(f, 1.5, &eight_watts, 3);
    count_joules(f, 108);
    take_after(f, 0.5, &eight_watts, 3);
    expect(f, GOV_RAPL, 8, 2);
    expect(f, GOV_BATTERY, 0, 0);
    assert_string_equal(gov_meter_why(f->meter), "");
}

/* 997 to 1000 J, and 2 more. */
static void a_counter_that_wraps_counts_on(void **state)
{
    struct fixture *f = *state;
    begin_with_counter(f, 997);
    count_joules(f, 2);
    take_after(f, 1, &none, NAN);
    expect(f, GOV_RAPL, 5, 1);
}

/* What was spent between two answers is nobody's. */
static void begin_starts_anew(void **state)
{
    struct fixture *f = *state;
    begin_with_counter(f, 100);
    count_joules(f, 150);
    f->clocks.monotonic_ns += 60 * SECOND;
    f->clocks.boottime_ns += 60 * SECOND;
    gov_meter_begin_at(f->meter, f->clocks);
    count_joules(f, 152);
    take_after(f, 1, &none, NAN);
    expect(f, GOV_RAPL, 2, 1);
}

/* Away in mid-answer: the battery tells meanwhile; what the counter counted until it is back is not
 * of the stretch in which it came back. */
static void a_counter_that_vanishes_leaves_it_to_the_battery(void **state)
{
    struct fixture *f = *state;
    begin_with_counter(f, 100);
    count_joules(f, 110);
    take_after(f, 2, &eight_watts, NAN);
    take_away(f, RAPL "energy_uj");
    take_after(f, 3, &eight_watts, NAN);
    count_joules(f, 500);
    take_after(f, 1, &eight_watts, NAN);
    count_joules(f, 505);
    take_after(f, 1, &eight_watts, NAN);
    expect(f, GOV_RAPL, 15, 3);
    expect(f, GOV_BATTERY, 32, 4);
    assert_true(f->sum.unknown_s == 0);
}

static void what_nobody_told_is_a_share_of_the_time(void **state)
{
    struct fixture *f = *state;
    begin_with_counter(f, 100);
    count_joules(f, 110);
    take_after(f, 3, &none, NAN);
    take_away(f, RAPL "energy_uj");
    take_after(f, 1, &none, NAN);
    expect(f, GOV_RAPL, 10, 3);
    expect_unknown(f, 1, "No such file or directory; battery: it is charging; model: no power");
    take_after(f, 2, NULL, NAN);
    expect_unknown(f, 3, "battery: nobody reads it");
}

/* The clocks are 100 s apart afterwards: the counter went on, or did not, while the machine slept.
 */
static void a_sleep_is_not_counted(void **state)
{
    struct fixture *f = *state;
    begin_with_counter(f, 100);
    count_joules(f, 103);
    f->clocks.boottime_ns += 100 * SECOND;
    take_after(f, 2, &none, NAN);
    expect_unknown(f, 2, "the machine slept");
    count_joules(f, 104);
    take_after(f, 2, &none, NAN);
    expect(f, GOV_RAPL, 1, 2);
}

/* From 500 to 0 J would be 500 J by the wrap: 5 kW. */
static void a_counter_that_is_set_back_is_no_wrap(void **state)
{
    struct fixture *f = *state;
    begin_with_counter(f, 500);
    count_joules(f, 0);
    take_after(f, 0.1, &none, NAN);
    expect_unknown(f, 0.1, "set back");
    count_joules(f, 4);
    take_after(f, 1, &none, NAN);
    expect(f, GOV_RAPL, 4, 1);
}

/* In a virtual machine; and one that moves may not have moved within a few milliseconds. */
static void a_counter_that_stands_still_tells_nothing(void **state)
{
    struct fixture *f = *state;
    begin_with_counter(f, 100);
    take_after(f, 0.001, &none, NAN);
    expect_unknown(f, 0.001, "stands still");
    count_joules(f, 101);
    take_after(f, 0.1, &none, NAN);
    take_after(f, 0.001, &none, NAN);
    expect(f, GOV_RAPL, 1, 0.101);
    take_after(f, 0.5, &none, NAN);
    expect_unknown(f, 0.501, "stands still");
}

static void the_model_tells_where_nothing_is_measured(void **state)
{
    struct fixture *f = *state;
    struct ert_error err;
    assert_int_equal(gov_meter_create(&f->meter, NULL, &err), 0);
    gov_meter_begin_at(f->meter, f->clocks);
    take_after(f, 4, &none, 2.5);
    expect(f, GOV_MODEL, 10, 4);
    take_after(f, 1, &none, NAN);
    expect_unknown(f, 1, "rapl: a trace is replayed");
}

/* The governor hangs: what it read says nothing any more. */
static void an_old_look_at_the_battery_does_not_count(void **state)
{
    struct fixture *f = *state;
    struct gov_battery battery = eight_watts;
    battery.until_ns = f->clocks.monotonic_ns + 2 * SECOND;
    struct ert_error err;
    assert_int_equal(gov_meter_create(&f->meter, f->root, &err), 0);
    gov_meter_begin_at(f->meter, f->clocks);
    take_after(f, 1, &battery, NAN);
    take_after(f, 2, &battery, NAN);
    expect(f, GOV_BATTERY, 8, 1);
    expect_unknown(f, 2, "not read for three polls");
}

/* ---- the gauge ------------------------------------------------------------------------------ */

static void ignore(void *ctx)
{
    (void)ctx;
}

static void open_gauge(struct fixture *f, struct gov_gauge *gauge)
{
    static const char text[] = "edgert: 1\n";
    struct pol_policy *sensor = malloc(sizeof *sensor);
    struct pol_file *file;
    struct ert_error err;
    assert_non_null(sensor);
    assert_int_equal(pol_file_parse(&file, "test", text, sizeof text - 1, &err), 0);
    assert_int_equal(pol_compile_sensor(file, "battery.power", sensor, &err), 0);
    pol_file_free(file);
    if (gov_gauge_open(gauge, sensor, &f->machine, NULL, ignore, NULL, &err))
        fail_msg("%s", err.text);
    free(sensor);
}

static void expect_watts(struct fixture *f, struct gov_gauge *gauge, double watts, double full_wh)
{
    struct gov_battery battery = gov_gauge_read(gauge, &f->machine, START_NS);
    if (!battery.known || !near(battery.watts, watts) || !near(battery.full_wh, full_wh))
        fail_msg("%g W of %g Wh (%s), expected %g W of %g Wh", battery.watts, battery.full_wh,
                 battery.why, watts, full_wh);
}

static void expect_no_watts(struct fixture *f, struct gov_gauge *gauge, const char *words)
{
    struct gov_battery battery = gov_gauge_read(gauge, &f->machine, START_NS);
    if (battery.known || !strstr(battery.why, words))
        fail_msg("%g W ('%s'), expected '%s'", battery.watts, battery.why, words);
}

static void the_battery_tells_while_it_is_drawn_from(void **state)
{
    struct fixture *f = *state;
    struct gov_gauge gauge;
    put(f, BATTERY "type", "Battery\n");
    put(f, BATTERY "status", "Discharging\n");
    put(f, BATTERY "power_now", "6500000\n");
    put(f, BATTERY "energy_full", "40040000\n");
    open_gauge(f, &gauge);
    expect_watts(f, &gauge, 6.5, 40.04);
    put(f, BATTERY "status", "Charging\n");
    expect_no_watts(f, &gauge, "it is charging");
    put(f, BATTERY "status", "Not charging\n");
    expect_no_watts(f, &gauge, "it is not drawn from");
    put(f, BATTERY "status", "Discharging\n");
    take_away(f, BATTERY "power_now");
    expect_no_watts(f, &gauge, "");
    gov_gauge_close(&gauge);
}

/* 5 Ah at 7.7 V and 3 Ah at 3.85 V. */
static void sizes_of_batteries_add_up(void **state)
{
    struct fixture *f = *state;
    struct gov_gauge gauge;
    for (int i = 0; i < 2; i++) {
        char path[96];
        const char *const files[][2] = {{"type", "Battery"},
                                        {"status", "Discharging"},
                                        {"power_now", i ? "1000000" : "3000000"},
                                        {"charge_full", i ? "3000000" : "5000000"},
                                        {"voltage_min_design", i ? "3850000" : "7700000"}};
        for (size_t k = 0; k < 5; k++) {
            snprintf(path, sizeof path, "sys/class/power_supply/BAT%d/%s", i, files[k][0]);
            put(f, path, "%s\n", files[k][1]);
        }
    }
    open_gauge(f, &gauge);
    expect_watts(f, &gauge, 4, 38.5 + 11.55);
    gov_gauge_close(&gauge);
}

/* A trace stands for the battery; it says by the sign alone whether it is drawn from. */
static void a_trace_stands_for_the_battery(void **state)
{
    struct fixture *f = *state;
    struct gov_gauge gauge;
    struct dev_trace *trace;
    struct ert_error err;
    char path[96];
    put(f, "trace.csv", "time_s,battery.power_W\n0,5\n10,-3\n20,0\n");
    snprintf(path, sizeof path, "%s/trace.csv", f->root);
    assert_int_equal(dev_trace_read(&trace, path, &err), 0);
    f->machine.trace = trace;
    f->machine.origin_ns = START_NS;
    open_gauge(f, &gauge);
    expect_watts(f, &gauge, 5, 0);
    f->machine.origin_ns = START_NS - 15 * SECOND;
    expect_no_watts(f, &gauge, "charging");
    f->machine.origin_ns = START_NS - 20 * SECOND;
    expect_no_watts(f, &gauge, "at rest");
    gov_gauge_close(&gauge);
    f->machine.trace = NULL;
    dev_trace_free(trace);
}

#define ON_FILES(test) cmocka_unit_test_setup_teardown(test, make, drop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_FILES(counters_come_before_the_battery),
        ON_FILES(a_counter_that_wraps_counts_on),
        ON_FILES(begin_starts_anew),
        ON_FILES(a_counter_that_vanishes_leaves_it_to_the_battery),
        ON_FILES(what_nobody_told_is_a_share_of_the_time),
        ON_FILES(a_sleep_is_not_counted),
        ON_FILES(a_counter_that_is_set_back_is_no_wrap),
        ON_FILES(a_counter_that_stands_still_tells_nothing),
        ON_FILES(the_model_tells_where_nothing_is_measured),
        ON_FILES(an_old_look_at_the_battery_does_not_count),
        ON_FILES(the_battery_tells_while_it_is_drawn_from),
        ON_FILES(sizes_of_batteries_add_up),
        ON_FILES(a_trace_stands_for_the_battery),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
