/* What holds for every policy: random ones, seeded, from text to decision, under random readings.
 */
#include "tests/test.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "policies/policies.h"

enum { FIRST_TRIP_LINE = 7, SECOND_NS = 1000000000, START_NS = 2000000000 };

/* ---- chance -------------------------------------------------------------------------------- */

/* xorshift64* (Vigna 2016). */
struct chance {
    uint64_t x;
};

static uint64_t draw(struct chance *c)
{
    c->x ^= c->x >> 12;
    c->x ^= c->x << 25;
    c->x ^= c->x >> 27;
    return c->x * 0x2545F4914F6CDD1Du;
}

static unsigned up_to(struct chance *c, unsigned most)
{
    return (unsigned)((draw(c) >> 33) % (most + 1));
}

static bool one_in(struct chance *c, unsigned n)
{
    return up_to(c, n - 1) == 0;
}

/* ---- random policies ----------------------------------------------------------------------- */

/* What a trip may watch: values low..high that readings move in, and the side where it gets worse.
 * None of them has a rate, so that any jump is believed. */
static const struct watched {
    const char *name, *unit;
    int low, high;
    bool above;
} watched[] = {
    {"temp.cpu", "C", 30, 90, true},           {"temp.gpu", "C", 30, 90, true},
    {"psi.memory.some", "%", 0, 60, true},     {"cpu.load.others", "%", 0, 100, true},
    {"memory.available", "MB", 0, 120, false},
};
enum { N_WATCHED = sizeof watched / sizeof *watched };

/* Which policies are drawn. */
struct kind {
    bool level;      /* each trip asks for one state, or jumps */
    bool one_sensor; /* all trips watch the first */
    bool no_dwell, no_for, no_power, always_hysteresis, no_missing, no_when;
};

struct text {
    char text[4096];
    size_t n;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    t->n += (size_t)vsnprintf(t->text + t->n, sizeof t->text - t->n, fmt, args);
    va_end(args);
    assert_true(t->n < sizeof t->text);
}

static void put_trip(struct text *t, struct chance *c, const struct kind *kind, unsigned i,
                     unsigned last)
{
    const struct watched *w = &watched[kind->one_sensor ? 0 : up_to(c, N_WATCHED - 1)];
    unsigned lowest = up_to(c, last), highest = lowest + up_to(c, last - lowest);
    unsigned hysteresis = up_to(c, 9);
    bool bang_bang = one_in(c, 3);
    put(t, "      - {name: t%u, sensor: %s, %s: %d%s", i, w->name, w->above ? "above" : "below",
        w->low + (int)up_to(c, (unsigned)(w->high - w->low)), w->unit);
    if (hysteresis || kind->always_hysteresis)
        put(t, ", hysteresis: %u%s", hysteresis ? hysteresis : 1, w->unit);
    if (!kind->no_for && one_in(c, 4))
        put(t, ", for: %us", 1 + up_to(c, 2));
    if (!kind->no_when && one_in(c, 6))
        put(t, ", when: discharging");
    put(t, ", governor: %s, ", bang_bang ? "bang_bang" : "step_wise");
    put(t, "states: %u..%u}\n", lowest, kind->level && !bang_bang ? lowest : highest);
}

static void put_power(struct text *t, struct chance *c)
{
    put(t, "    power: {governor: %s, sensor: temp.soc, target: %uC, sustainable: %uW",
        one_in(c, 2) ? "power_allocator" : "predictive", 40 + up_to(c, 30), 1 + up_to(c, 5));
    if (one_in(c, 2))
        put(t, ", burst: %uW for %us", 7 + up_to(c, 9), 1 + up_to(c, 30));
    if (one_in(c, 2))
        put(t, ", share: {decode: 1, prefill: 2}");
    put(t, ", plant: {chip: [4C/W, 6J/C], case: [7C/W, 90J/C], sensor-at: chip, ambient: 25C}}\n");
}

static void put_policy(struct text *t, struct chance *c, const struct kind *kind)
{
    unsigned last = 1 + up_to(c, 5), trips = 1 + up_to(c, 5);
    *t = (struct text){.n = 0};
    put(t, "edgert: 1\nladders: {l: [w8a8");
    for (unsigned i = 1; i <= last; i++)
        put(t, ", {point: w4a16, tokens-per-second: %u}", 10 * (last - i + 1));
    put(t, "]}\npolicies:\n  p:\n    ladder: l\n    trips:\n");
    for (unsigned i = 0; i < trips; i++)
        put_trip(t, c, kind, i, last);
    put(t, "    dwell: {down: %us, up: %us}\n", kind->no_dwell ? 0 : up_to(c, 3),
        kind->no_dwell ? 0 : up_to(c, 6));
    if (!kind->no_missing && one_in(c, 2))
        put(t, "    on-missing: {temp.skin: state %u, default: state %u}\n", up_to(c, last),
            up_to(c, last));
    if (!kind->no_power && one_in(c, 2))
        put_power(t, c);
}

/* ---- a policy at work ---------------------------------------------------------------------- */

struct work {
    struct text text;
    struct pol_file *file;
    struct pol_policy policy;
    struct pol_state state;
    struct dev_reading raw[POL_MAX_SENSORS];
    struct pol_decision decision;
    uint64_t now_ns;
};

static void begin(struct work *w)
{
    pol_state_init(&w->state, &w->policy);
    w->now_ns = START_NS;
    for (size_t i = 0; i < POL_MAX_SENSORS; i++)
        w->raw[i] = (struct dev_reading){.why = DEV_NO_SOURCE};
}

static void draw_policy(struct work *w, struct chance *c, const struct kind *kind)
{
    struct ert_error err = {0};
    put_policy(&w->text, c, kind);
    if (pol_file_parse(&w->file, "t.yaml", w->text.text, w->text.n, &err) ||
        pol_compile(w->file, "p", NULL, 0, &w->policy, &err))
        fail_msg("%s in\n%s", err.text, w->text.text);
    begin(w);
}

static void finish(struct work *w)
{
    pol_file_free(w->file);
}

static void decide(struct work *w)
{
    pol_decide(&w->policy, &w->state, w->now_ns, w->raw, &w->decision);
}

static const struct watched *watched_of(const struct work *w, size_t sensor)
{
    for (size_t k = 0; k < N_WATCHED; k++)
        if (!strcmp(watched[k].name, w->policy.sensors[sensor].name))
            return &watched[k];
    return NULL;
}

static double draw_value(struct work *w, struct chance *c, size_t sensor)
{
    const struct watched *watch = watched_of(w, sensor);
    if (watch)
        return watch->low + up_to(c, (unsigned)(2 * (watch->high - watch->low))) / 2.0;
    if (!strcmp(w->policy.sensors[sensor].name, "battery.discharging"))
        return up_to(c, 1);
    return 30 + up_to(c, 60);
}

/* Half a second later, with new values. */
static void draw_readings(struct work *w, struct chance *c, bool all)
{
    w->now_ns += SECOND_NS / 2;
    for (size_t i = 0; i < w->policy.n_sensors; i++)
        if (all || !one_in(c, 3))
            w->raw[i] = (struct dev_reading){draw_value(w, c, i), w->now_ns, DEV_PRESENT};
        else if (one_in(c, 2))
            w->raw[i].why = DEV_READ_FAILED;
}

#define HOLDS(w, condition)                                                                        \
    do {                                                                                           \
        if (!(condition))                                                                          \
            fail_msg("%s does not hold at %g s: state %u, %s, in\n%s", #condition,                 \
                     (double)(w)->now_ns * 1e-9, (w)->decision.state, (w)->decision.reason,        \
                     (w)->text.text);                                                              \
    } while (0)

/* ---- the state is always in range ---------------------------------------------------------- */

/* Values and times as no source should give them. */
static void draw_nonsense(struct work *w, struct chance *c)
{
    static const double values[] = {NAN, INFINITY, -INFINITY, -1e300, 1e300, 0, -273.1, 65261.8};
    w->now_ns = one_in(c, 20) ? draw(c) >> 4 : w->now_ns + draw(c) % (3 * (uint64_t)SECOND_NS);
    for (size_t i = 0; i < w->policy.n_sensors; i++) {
        w->raw[i].value = one_in(c, 5) ? values[up_to(c, 7)] : draw_value(w, c, i);
        w->raw[i].why = one_in(c, 5) ? (enum dev_absence)up_to(c, DEV_N_ABSENCES - 1) : DEV_PRESENT;
        if (!one_in(c, 4))
            w->raw[i].time_ns = one_in(c, 9) ? draw(c) : w->now_ns;
    }
}

static void test_the_state_is_always_in_range(void **state)
{
    (void)state;
    static struct work w;
    struct chance c = {1};
    for (int n = 0; n < 400; n++) {
        draw_policy(&w, &c, &(struct kind){0});
        for (int i = 0; i < 200; i++) {
            unsigned before = w.state.state;
            draw_nonsense(&w, &c);
            decide(&w);
            const struct pol_decision *d = &w.decision;
            HOLDS(&w, d->state < w.policy.n_states && d->prefill_state < w.policy.n_states);
            HOLDS(&w, d->previous == before && d->state == w.state.state);
            HOLDS(&w, d->changed == (d->state != before));
            HOLDS(&w, d->trip >= -1 && d->trip < (int)w.policy.n_trips);
            HOLDS(&w, d->granted_w >= 0 && isfinite(d->granted_w));
            HOLDS(&w, memchr(d->reason, 0, sizeof d->reason) && *d->reason);
            for (size_t t = 0; t < w.policy.n_trips; t++)
                HOLDS(&w, !w.state.trips[t].active ||
                              (w.state.trips[t].request >= w.policy.trips[t].lowest &&
                               w.state.trips[t].request <= w.policy.trips[t].highest));
        }
        finish(&w);
    }
}

/* ---- hotter is never better ---------------------------------------------------------------- */

/* The same readings, but for some that are worse. */
static void worsen(struct work *w, struct chance *c)
{
    for (size_t i = 0; i < w->policy.n_sensors; i++) {
        const struct watched *watch = watched_of(w, i);
        double by = one_in(c, 2) ? up_to(c, 30) / 2.0 : 0;
        if (watch)
            w->raw[i].value = watch->above ? fmin(w->raw[i].value + by, watch->high)
                                           : fmax(w->raw[i].value - by, watch->low);
    }
}

/* From one memory, whatever came before: with dwell, ranges and gaps in the readings. */
static void test_hotter_is_never_better_in_one_decision(void **state)
{
    (void)state;
    static struct work w, hot;
    struct chance c = {2};
    unsigned differ = 0;
    for (int n = 0; n < 300; n++) {
        draw_policy(&w, &c, &(struct kind){.no_power = true});
        for (int i = 0; i < 150; i++) {
            draw_readings(&w, &c, false);
            hot = w;
            worsen(&hot, &c);
            decide(&w);
            decide(&hot);
            HOLDS(&hot, hot.decision.state >= w.decision.state);
            differ += hot.decision.state > w.decision.state;
            if (one_in(&c, 2)) {
                hot.file = w.file;
                w = hot;
            }
        }
        finish(&w);
    }
    assert_true(differ > 500);
}

/* All along: bang_bang, and step_wise whose trips ask for one state each. (Ranges remember how long
 * it was hot, and a dwell when the state last changed, which may come out either way.) */
static void test_hotter_is_never_better_in_a_run(void **state)
{
    (void)state;
    static struct work cool, hot;
    struct chance c = {3};
    unsigned differ = 0;
    for (int n = 0; n < 300; n++) {
        draw_policy(&cool, &c, &(struct kind){.level = true, .no_dwell = true, .no_power = true});
        hot = cool;
        for (int i = 0; i < 200; i++) {
            draw_readings(&cool, &c, false);
            hot.now_ns = cool.now_ns;
            memcpy(hot.raw, cool.raw, sizeof hot.raw);
            worsen(&hot, &c);
            decide(&cool);
            decide(&hot);
            HOLDS(&hot, hot.decision.state >= cool.decision.state);
            differ += hot.decision.state > cool.decision.state;
        }
        finish(&cool);
    }
    assert_true(differ > 1000);
}

/* ---- dwell and hysteresis bound the changes ------------------------------------------------ */

/* A change to a better state comes `up` after the one before at the soonest, one to a worse `down`
 * after it. So there are no more of the former than fit into the time, and of the latter no more
 * than there are states to fall through between two of the former, nor than fit into the time. */
static void test_dwell_bounds_the_changes(void **state)
{
    (void)state;
    static struct work w;
    struct chance c = {4};
    unsigned seen = 0;
    for (int n = 0; n < 300; n++) {
        uint64_t changed_ns = 0;
        double better = 0, worse = 0;
        draw_policy(&w, &c, &(struct kind){0});
        double up_s = w.policy.dwell_up_s, down_s = w.policy.dwell_down_s;
        for (int i = 0; i < 200; i++) {
            draw_readings(&w, &c, false);
            decide(&w);
            if (!w.decision.changed)
                continue;
            bool is_better = w.decision.state < w.decision.previous;
            double since_s = (double)(w.now_ns - changed_ns) * 1e-9;
            HOLDS(&w, better + worse == 0 || since_s >= (is_better ? up_s : down_s));
            *(is_better ? &better : &worse) += 1;
            changed_ns = w.now_ns;
            seen++;
        }
        double ran_s = (double)(w.now_ns - START_NS) * 1e-9;
        HOLDS(&w, up_s == 0 || better <= ran_s / up_s + 1);
        HOLDS(&w, down_s == 0 || worse <= ran_s / down_s + 1);
        HOLDS(&w, worse <= (better + 1) * (double)(w.policy.n_states - 1));
        finish(&w);
    }
    assert_true(seen > 3000);
}

/* What of the way from a value to the next lies within a trip's hysteresis, as a share of it. */
static double crossed(const struct pol_trip *trip, double value, double next)
{
    double far = trip->threshold - trip->hysteresis;
    double a = fmin(fmax(value, far), trip->threshold), b = fmin(fmax(next, far), trip->threshold);
    return fabs(a - b) / trip->hysteresis;
}

/* Each time that a trip turns on or off, but the first, the reading has come all the way through
 * its hysteresis; where trips ask for one state each, nothing else changes the state. */
static void test_hysteresis_bounds_the_changes(void **state)
{
    (void)state;
    static struct work w;
    struct chance c = {5};
    unsigned seen = 0;
    for (int n = 0; n < 400; n++) {
        double value = 60, changes = 0;
        draw_policy(&w, &c,
                    &(struct kind){.level = true,
                                   .one_sensor = true,
                                   .no_dwell = true,
                                   .no_power = true,
                                   .always_hysteresis = true,
                                   .no_missing = true,
                                   .no_when = true});
        double bound = (double)w.policy.n_trips;
        for (int i = 0; i < 300; i++) {
            double step = ((double)up_to(&c, 40) - 20) / (one_in(&c, 8) ? 1 : 10);
            double next = fmin(fmax(value + step, 30), 90);
            for (size_t t = 0; i && t < w.policy.n_trips; t++)
                bound += crossed(&w.policy.trips[t], value, next);
            value = next;
            w.now_ns += SECOND_NS / 2;
            w.raw[0] = (struct dev_reading){value, w.now_ns, DEV_PRESENT};
            decide(&w);
            changes += w.decision.changed;
            HOLDS(&w, changes <= bound + 1e-9);
        }
        seen += (unsigned)changes;
        finish(&w);
    }
    assert_true(seen > 2000);
}

/* ---- what is warned of is so --------------------------------------------------------------- */

struct warned {
    bool no_effect[POL_MAX_TRIPS], never_trips[POL_MAX_TRIPS], unreachable[POL_MAX_STATES];
    unsigned seen[3];
};

static void note(void *ctx, const struct pol_finding *finding)
{
    struct warned *warned = ctx;
    const char *state = strstr(finding->text, "for state ");
    size_t trip = finding->line - FIRST_TRIP_LINE;
    if (!strcmp(finding->lint, "no-effect"))
        warned->no_effect[trip] = ++warned->seen[0];
    if (!strcmp(finding->lint, "never-trips"))
        warned->never_trips[trip] = ++warned->seen[1];
    if (!strcmp(finding->lint, "unreachable-state") && state)
        warned->unreachable[strtoul(state + 10, NULL, 10)] = ++warned->seen[2];
}

/* Whether a request rose to what no other trip asks for. */
static bool trip_matters(const struct work *w, const struct pol_state *before, size_t trip)
{
    const struct pol_trip_state *t = &w->state.trips[trip], *was = &before->trips[trip];
    if (!t->active || (was->active && t->request <= was->request))
        return false;
    for (size_t i = 0; i < w->policy.n_trips; i++)
        if (i != trip && w->state.trips[i].active && w->state.trips[i].request >= t->request)
            return false;
    return t->request > 0;
}

static void test_what_is_warned_of_is_so(void **state)
{
    (void)state;
    static struct work w;
    struct chance c = {6};
    struct ert_error err;
    struct warned warned = {0};
    for (int n = 0; n < 600; n++) {
        memset(&warned, 0, offsetof(struct warned, seen));
        draw_policy(&w, &c,
                    &(struct kind){.one_sensor = n % 2 == 0, .no_for = true, .no_power = true});
        assert_int_equal(pol_lint(w.file, 0, note, &warned, &err), 0);
        for (int i = 0; i < 200; i++) {
            struct pol_state before = w.state;
            draw_readings(&w, &c, false);
            decide(&w);
            HOLDS(&w, !warned.unreachable[w.decision.state]);
            for (size_t t = 0; t < w.policy.n_trips; t++) {
                HOLDS(&w, !warned.never_trips[t] || !w.state.trips[t].active);
                HOLDS(&w, !warned.no_effect[t] || !trip_matters(&w, &before, t));
            }
        }
        finish(&w);
    }
    assert_true(warned.seen[0] > 50 && warned.seen[1] > 0 && warned.seen[2] > 50);
}

/* ---- what if, decision by decision --------------------------------------------------------- */

enum { LONG_ENOUGH = 250 }; /* decisions until nothing can change: 7 states times 9 s of waiting */

/* Where the memory of w comes to if its readings stay. */
static unsigned held(const struct work *w)
{
    static struct work on;
    on = *w;
    for (int i = 0; i < LONG_ENOUGH; i++) {
        on.now_ns += SECOND_NS / 2;
        for (size_t s = 0; s < on.policy.n_sensors; s++)
            on.raw[s].time_ns = on.now_ns;
        decide(&on);
    }
    return on.decision.state;
}

static unsigned held_with(const struct work *w, size_t sensor, double value)
{
    static struct work with;
    with = *w;
    with.raw[sensor].value = value;
    return held(&with);
}

/* On one side of the reading: the turn is where it is said to be, and there is none before it. */
static void check_turn(const struct work *w, struct chance *c, size_t sensor,
                       const struct pol_turn *turn, double limit)
{
    double from = w->raw[sensor].value, out = limit > from ? 0.001 : -0.001;
    double end = turn->there ? turn->value : limit;
    unsigned now = w->state.state;
    for (int i = 0; i < 6; i++)
        HOLDS(w, held_with(w, sensor, from + (end - from) * 0.999 * up_to(c, 1000) / 1000) == now);
    if (!turn->there)
        return;
    HOLDS(w, turn->state != now && turn->settled);
    HOLDS(w, held_with(w, sensor, turn->value + out) == turn->state);
    HOLDS(w, held_with(w, sensor, turn->value - out) == now);
    HOLDS(w, held_with(w, sensor, turn->value) == (turn->included ? turn->state : now));
}

static void test_what_if_is_what_decisions_come_to(void **state)
{
    (void)state;
    static struct work w;
    static struct pol_what_if what_if;
    struct chance c = {7};
    struct ert_error err;
    unsigned turns = 0;
    for (int n = 0; n < 60; n++) {
        draw_policy(&w, &c, &(struct kind){.no_power = true});
        draw_readings(&w, &c, true);
        assert_int_equal(pol_what_if(&w.policy, w.raw, &what_if, &err), 0);
        decide(&w);
        HOLDS(&w, w.decision.state == what_if.first);
        HOLDS(&w, !strcmp(w.decision.reason, what_if.first_reason));
        for (int i = 0; i < LONG_ENOUGH; i++) {
            w.now_ns += SECOND_NS / 2;
            for (size_t s = 0; s < w.policy.n_sensors; s++)
                w.raw[s].time_ns = w.now_ns;
            decide(&w);
        }
        HOLDS(&w, w.decision.state == what_if.state && what_if.settled);
        for (size_t s = 0; s < w.policy.n_sensors; s++) {
            const struct pol_what_if_sensor *found = &what_if.sensors[s];
            const struct dev_signal *signal = w.policy.sensors[s].signal;
            const struct watched *watch = watched_of(&w, s);
            if (!watch)
                continue;
            check_turn(&w, &c, s, &found->below, fmax(signal->min, watch->low - 20));
            check_turn(&w, &c, s, &found->above, fmin(signal->max, watch->high + 20));
            turns += found->below.there + found->above.there;
        }
        finish(&w);
    }
    assert_true(turns > 50);
}

/* ---- the shipped policies keep their word -------------------------------------------------- */

/* About a trip of the sensor, on its safe side in calm times. */
static double draw_near_a_trip(const struct work *w, struct chance *c, size_t sensor, bool calm)
{
    const struct dev_signal *signal = w->policy.sensors[sensor].signal;
    for (unsigned tries = 0; tries < 100; tries++) {
        const struct pol_trip *trip = &w->policy.trips[up_to(c, (unsigned)w->policy.n_trips - 1)];
        double by = (trip->hysteresis + 1) * ((double)up_to(c, 40) / 10 - (calm ? 8 : 2));
        if (trip->sensor == sensor)
            return fmin(fmax(trip->threshold + (trip->above ? by : -by), signal->min), signal->max);
    }
    return signal->max;
}

/* Readings that stay, tremble or jump and are missing now and then, at polls that come early and
 * late. */
static void draw_heat(struct work *w, struct chance *c, bool calm)
{
    w->now_ns += (300 + up_to(c, 400)) * (uint64_t)(SECOND_NS / 1000);
    for (size_t i = 0; i < w->policy.n_sensors; i++) {
        if (w->raw[i].why == DEV_NO_SOURCE || one_in(c, 4))
            w->raw[i].value = draw_near_a_trip(w, c, i, calm);
        w->raw[i].why = one_in(c, 20) ? DEV_READ_FAILED : DEV_PRESENT;
        w->raw[i].time_ns = w->now_ns;
    }
}

static void test_the_shipped_policies_keep_their_guarantees(void **state)
{
    (void)state;
    static struct work w;
    struct chance c = {8};
    const char *path = "policies.yaml";
    struct ert_error err;
    assert_int_equal(pol_file_load(&w.file, &path, 1, &err), 0);
    for (size_t i = 0; i < pol_file_count(w.file); i++) {
        struct pol_monitor *monitor;
        unsigned changes = 0;
        assert_int_equal(pol_compile(w.file, pol_file_name(w.file, i), NULL, 0, &w.policy, &err),
                         0);
        assert_true(w.policy.n_guarantees > 0);
        assert_int_equal(pol_monitor_create(&monitor, &w.policy, &err), 0);
        begin(&w);
        for (int k = 0; k < 20000; k++) {
            draw_heat(&w, &c, k / 50 % 2);
            decide(&w);
            changes += w.decision.changed;
            HOLDS(&w, pol_monitor_step(monitor, &w.state) == 0);
        }
        assert_true(changes > 500);
        pol_monitor_free(monitor);
    }
    finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_state_is_always_in_range),
        cmocka_unit_test(test_hotter_is_never_better_in_one_decision),
        cmocka_unit_test(test_hotter_is_never_better_in_a_run),
        cmocka_unit_test(test_dwell_bounds_the_changes),
        cmocka_unit_test(test_hysteresis_bounds_the_changes),
        cmocka_unit_test(test_what_is_warned_of_is_so),
        cmocka_unit_test(test_what_if_is_what_decisions_come_to),
        cmocka_unit_test(test_the_shipped_policies_keep_their_guarantees),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
