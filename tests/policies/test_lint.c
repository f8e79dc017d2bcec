/* What `policy check` warns of: each lint with a policy that has the fault, and with one that has
 * it only nearly. */
#include "tests/test.h"

#include <string.h>

#include "policies/policies.h"

/* Trips begin at line 7; column 9 is where a mapping of the list begins. */
#define HEAD                                                                                       \
    "edgert: 1\n"                                                                                  \
    "ladders: {l: [w8a8, w4a16, {point: w4a16, threads: 1}, {point: w4a16, threads: 2}, pause]}\n" \
    "policies:\n"                                                                                  \
    "  p:\n"                                                                                       \
    "    ladder: l\n"
#define TRIPS(trips) HEAD "    trips:\n" trips
#define TRIP(rest)   "      - {" rest "}\n"
#define ALL_OF_THEM  TRIP("name: all, sensor: cpu.load, above: 90%, hysteresis: 9%, states: 1..3")

struct findings {
    size_t n;
    struct pol_finding of[8];
};

static void keep(void *ctx, const struct pol_finding *finding)
{
    struct findings *all = ctx;
    assert_in_range(all->n, 0, 7);
    all->of[all->n++] = *finding;
}

static struct findings findings_of(const char *text)
{
    struct findings all = {0};
    struct pol_file *file;
    struct ert_error err = {0};
    if (pol_file_parse(&file, "t.yaml", text, strlen(text), &err))
        fail_msg("%s", err.text);
    for (size_t i = 0; i < pol_file_count(file); i++)
        assert_int_equal(pol_lint(file, i, keep, &all, &err), 0);
    for (size_t i = 0; i < all.n; i++) {
        assert_string_equal(all.of[i].file, "t.yaml");
        all.of[i].file = all.of[i].policy = NULL; /* the file's, which goes */
    }
    pol_file_free(file);
    return all;
}

static void assert_none(const char *text)
{
    struct findings all = findings_of(text);
    if (all.n)
        fail_msg("%s: %s\nin\n%s", all.of[0].lint, all.of[0].text, text);
}

/* The one finding there is. */
static void assert_one(const char *text, const char *lint, size_t line, size_t column,
                       const char *sentence)
{
    struct findings all = findings_of(text);
    if (all.n != 1)
        fail_msg("%zu findings in\n%s", all.n, text);
    const struct pol_finding *f = &all.of[0];
    assert_string_equal(f->lint, lint);
    if (f->line != line || f->column != column || !strstr(f->text, sentence))
        fail_msg("%zu:%zu: %s", f->line, f->column, f->text);
}

/* ---- contradictions ------------------------------------------------------------------------ */

static void test_trips_that_leave_nothing_free(void **state)
{
    (void)state;
    assert_one(
        TRIPS(ALL_OF_THEM TRIP(
            "name: hot, sensor: temp.cpu, above: 60C, hysteresis: 1C, states: 1..2")
                  TRIP("name: cold, sensor: temp.cpu, below: 65C, hysteresis: 1C, states: 3")),
        "contradiction", 9, 9,
        "'hot' (above 60C) and 'cold' (below 65C) leave no reading at which neither acts");
    assert_one(
        TRIPS(
            ALL_OF_THEM TRIP("name: cold, sensor: temp.cpu, below: 60C, hysteresis: 1C, states: 3")
                TRIP("name: hot, sensor: temp.cpu, above: 60C, hysteresis: 1C, states: 1..2")),
        "contradiction", 9, 9, "leave no reading");
    /* Apart, or of two sensors. */
    assert_none(TRIPS(
        ALL_OF_THEM TRIP("name: hot, sensor: temp.cpu, above: 60C, hysteresis: 1C, states: 1..2")
            TRIP("name: cold, sensor: temp.cpu, below: 50C, hysteresis: 1C, states: 3")));
    assert_none(TRIPS(
        ALL_OF_THEM TRIP("name: hot, sensor: temp.cpu, above: 60C, hysteresis: 1C, states: 1..2")
            TRIP("name: cold, sensor: temp.gpu, below: 65C, hysteresis: 1C, states: 3")));
}

/* The later one asks for a better state, and outlasts the sooner one, so that it does decide. */
static void test_hotter_for_better(void **state)
{
    (void)state;
    assert_one(
        TRIPS(
            ALL_OF_THEM TRIP("name: warm, sensor: temp.cpu, above: 60C, hysteresis: 1C, states: 3")
                TRIP("name: hot, sensor: temp.cpu, above: 80C, hysteresis: 30C, states: 1..2")),
        "contradiction", 9, 9,
        "trip 'hot' (above 80C) asks for a better state than 'warm' does from 60C on: 2 at most, "
        "against 3 at least");
    assert_one(
        TRIPS(
            ALL_OF_THEM TRIP(
                "name: low, sensor: battery.charge, below: 30%, hysteresis: 1%, for: 9s, states: 3")
                TRIP("name: empty, sensor: battery.charge, below: 9%, hysteresis: 1%, states: 1")),
        "contradiction", 9, 9, "trip 'empty' (below 9%) asks for a better state");
}

static void test_trips_closer_than_their_hysteresis(void **state)
{
    (void)state;
    assert_one(
        TRIPS(ALL_OF_THEM TRIP(
            "name: hot, sensor: temp.cpu, above: 60C, hysteresis: 12C, states: 1..2")
                  TRIP("name: cold, sensor: temp.cpu, below: 50C, hysteresis: 1C, states: 3")),
        "close-trips", 8, 9,
        "trip 'hot' is over at 48C only, where 'cold' (below 50C) acts already");
    assert_one(
        TRIPS(ALL_OF_THEM TRIP(
            "name: hot, sensor: temp.cpu, above: 60C, hysteresis: 1C, states: 1..2")
                  TRIP("name: cold, sensor: temp.cpu, below: 50C, hysteresis: 10.5C, states: 3")),
        "close-trips", 9, 9, "trip 'cold' is over at 60.5C only");
    assert_none(TRIPS(
        ALL_OF_THEM TRIP("name: hot, sensor: temp.cpu, above: 60C, hysteresis: 10C, states: 1..2")
            TRIP("name: cold, sensor: temp.cpu, below: 50C, hysteresis: 10C, states: 3")));
}

/* ---- without effect ------------------------------------------------------------------------ */

static void test_a_trip_that_another_makes_needless(void **state)
{
    (void)state;
    assert_one(
        TRIPS(ALL_OF_THEM TRIP(
            "name: warm, sensor: temp.cpu, above: 60C, hysteresis: 5C, states: 2..3")
                  TRIP("name: hot, sensor: temp.cpu, above: 80C, hysteresis: 5C, states: 1..2")),
        "no-effect", 9, 9,
        "trip 'hot' changes nothing: 'warm' acts whenever it does, and asks for state 2 or worse");
    /* bang_bang asks for the end of its range. */
    assert_one(
        TRIPS(ALL_OF_THEM TRIP(
            "name: hot, sensor: temp.cpu, above: 80C, hysteresis: 5C, states: 1..2")
                  TRIP("name: warm, sensor: temp.cpu, above: 60C, hysteresis: 5C, states: 0..2, "
                       "governor: bang_bang")),
        "no-effect", 8, 9, "trip 'hot' changes nothing");
    /* The same twice: the later one. */
    assert_one(
        TRIPS(ALL_OF_THEM TRIP("name: a, sensor: temp.cpu, above: 60C, hysteresis: 5C, states: 2")
                  TRIP("name: b, sensor: temp.cpu, above: 60C, hysteresis: 5C, states: 2")),
        "no-effect", 9, 9, "trip 'b' changes nothing");
    assert_one(
        TRIPS(ALL_OF_THEM TRIP("name: a, sensor: temp.cpu, above: 60C, hysteresis: 5C, states: 0")),
        "no-effect", 8, 9, "state 0 is what there is without it");
    /* Worse when hotter; only while discharging; waits longer. */
    assert_none(TRIPS(
        ALL_OF_THEM TRIP("name: warm, sensor: temp.cpu, above: 60C, hysteresis: 5C, states: 1..2")
            TRIP("name: hot, sensor: temp.cpu, above: 80C, hysteresis: 5C, states: 2..3")));
    assert_none(TRIPS(ALL_OF_THEM TRIP(
        "name: warm, sensor: temp.cpu, above: 60C, hysteresis: 5C, when: discharging, states: "
        "2") TRIP("name: hot, sensor: temp.cpu, above: 80C, hysteresis: 5C, states: 2")));
    assert_none(
        TRIPS(ALL_OF_THEM TRIP(
            "name: warm, sensor: temp.cpu, above: 60C, hysteresis: 5C, for: 5s, states: 2")
                  TRIP("name: hot, sensor: temp.cpu, above: 80C, hysteresis: 5C, states: 2")));
}

static void test_bounds_that_no_reading_passes(void **state)
{
    (void)state;
    assert_one(TRIPS(ALL_OF_THEM TRIP(
                   "name: full, sensor: battery.charge, above: 100%, hysteresis: 5%, states: 1")),
               "never-trips", 8, 9,
               "trip 'full' never acts: no plausible reading of battery.charge lies above 100%");
    assert_one(TRIPS(ALL_OF_THEM TRIP(
                   "name: stall, sensor: psi.memory.some, above: 5%, hysteresis: 10%, states: 1")),
               "never-clears", 8, 9, "psi.memory.some does not come to -5%");
    assert_one(TRIPS(ALL_OF_THEM TRIP(
                   "name: low, sensor: battery.charge, below: 95%, hysteresis: 6%, states: 1")),
               "never-clears", 8, 9, "does not come to 101%");
    assert_none(TRIPS(ALL_OF_THEM TRIP(
        "name: low, sensor: battery.charge, below: 95%, hysteresis: 5%, states: 1")));
    assert_none(TRIPS(ALL_OF_THEM TRIP(
        "name: low, sensor: battery.charge, below: 95%, hysteresis: 6%, when: discharging, "
        "states: 1")));
}

static void test_states_that_nothing_asks_for(void **state)
{
    (void)state;
    const char *hole =
        TRIPS(TRIP("name: a, sensor: temp.cpu, above: 60C, hysteresis: 5C, states: 1")
                  TRIP("name: b, sensor: temp.cpu, above: 80C, hysteresis: 5C, states: 3"));
    assert_one(hole, "unreachable-state", 4, 3,
               "nothing asks for state 2 of ladder 'l' (w4a16@1t)");
    /* bang_bang takes the end only; the failsafe and a missing reading ask as well. */
    assert_one(TRIPS(TRIP("name: a, sensor: temp.cpu, above: 60C, hysteresis: 5C, states: 1")
                         TRIP("name: b, sensor: temp.gpu, above: 80C, hysteresis: 5C, states: "
                              "2..3, governor: bang_bang")),
               "unreachable-state", 4, 3, "nothing asks for state 2");
    assert_none(TRIPS(TRIP("name: a, sensor: temp.cpu, above: 60C, hysteresis: 5C, states: 1") TRIP(
        "name: b, sensor: temp.cpu, above: 80C, hysteresis: 5C, states: 3")) "    failsafe: "
                                                                             "w4a16@1t\n");
    assert_none(TRIPS(TRIP("name: a, sensor: temp.cpu, above: 60C, hysteresis: 5C, states: 1") TRIP(
        "name: b, sensor: temp.cpu, above: 80C, hysteresis: 5C, states: 3")) "    on-missing: "
                                                                             "{temp.cpu: state "
                                                                             "2}\n");
    assert_none(HEAD "    power: {governor: power_allocator, sensor: temp.skin, target: 42C, "
                     "sustainable: 3W}\n");
    assert_none("edgert: 1\npolicies: {p: {ladder: auto, trips: [{name: a, sensor: temp.cpu, "
                "above: 60C, hysteresis: 5C, "
                "states: 2..3}], failsafe: w4a16}}\n");
}

/* ---- flapping ------------------------------------------------------------------------------ */

static void test_what_flaps(void **state)
{
    (void)state;
    assert_one(TRIPS(ALL_OF_THEM TRIP("name: a, sensor: temp.cpu, above: 60C, states: 1")),
               "no-hysteresis", 8, 9,
               "trip 'a' has no hysteresis: a reading that trembles about 60C");
    assert_none(
        TRIPS(ALL_OF_THEM TRIP("name: a, sensor: temp.cpu, above: 60C, for: 500ms, states: 1")));
    assert_none(TRIPS(ALL_OF_THEM TRIP("name: a, sensor: battery.warning, above: 1, states: 1")));
    assert_one(TRIPS(ALL_OF_THEM TRIP(
                   "name: a, sensor: temp.cpu, above: 60C, hysteresis: 5C, for: 400ms, states: 1")),
               "short-for", 8, 9, "waits for 0.4s, less than a poll of 0.5s");
    assert_one(TRIPS(ALL_OF_THEM) "    dwell: {up: 400ms}\n", "short-dwell", 8, 12,
               "a dwell of 0.4s before a better state is less than a poll of 0.5s");
    assert_one(TRIPS(ALL_OF_THEM) "    poll: 11s\n", "short-dwell", 4, 3,
               "a dwell of 10s before a better state");
    assert_one(TRIPS(ALL_OF_THEM) "    dwell: {down: 100ms}\n", "short-dwell", 8, 12,
               "holds nothing back");
    assert_none(TRIPS(ALL_OF_THEM) "    dwell: {down: 0s, up: 500ms}\n");
    assert_none(HEAD "    dwell: {up: 0s}\n    failsafe: w8a8\n    on-missing: {temp.cpu: state 1, "
                     "temp.gpu: state 2, "
                     "temp.skin: state 3}\n");
}

static void test_the_shipped_policies_have_none(void **state)
{
    (void)state;
    const char *path = "policies.yaml";
    struct pol_file *file;
    struct ert_error err = {0};
    struct findings all = {0};
    assert_int_equal(pol_file_load(&file, &path, 1, &err), 0);
    assert_true(pol_file_count(file) >= 4);
    for (size_t i = 0; i < pol_file_count(file); i++)
        assert_int_equal(pol_lint(file, i, keep, &all, &err), 0);
    if (all.n)
        fail_msg("%zu:%zu: %s", all.of[0].line, all.of[0].column, all.of[0].text);
    pol_file_free(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trips_that_leave_nothing_free),
        cmocka_unit_test(test_hotter_for_better),
        cmocka_unit_test(test_trips_closer_than_their_hysteresis),
        cmocka_unit_test(test_a_trip_that_another_makes_needless),
        cmocka_unit_test(test_bounds_that_no_reading_passes),
        cmocka_unit_test(test_states_that_nothing_asks_for),
        cmocka_unit_test(test_what_flaps),
        cmocka_unit_test(test_the_shipped_policies_have_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
