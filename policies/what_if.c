/* What readings come to, and which others would come to another state: pol_decide asked in a loop.
 * Nothing here knows what a trip or a power does; their bounds only say where to ask. */
#include "policies/inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MOST_DECISIONS = 2400,
    WAITING_DECISIONS = 64, /* at most, while a `for` and the dwell pass */
    GRID = 64,
    MOST_PROBES = GRID + 6 * POL_MAX_TRIPS + 8,
};

/* Readings that stay as they are, and the memory that they have led to. */
struct imagined {
    struct pol_policy policy; /* believes every plausible value at once, however long it stays */
    struct dev_signal signals[POL_MAX_SENSORS];
    uint64_t dt_ns; /* between decisions */
    unsigned quiet; /* decisions without a change, after which there will be none */
    struct pol_state state;
    struct dev_reading raw[POL_MAX_SENSORS];
};

/* Where a run of decisions led. */
struct end {
    unsigned state;
    unsigned changed_at;            /* the decision of the last change, 0 = the first or none */
    unsigned moved_at;              /* the same, of the power too */
    unsigned changes, late_changes; /* late: in the second half of the longest run */
    bool settled;
    char reason[POL_REASON]; /* of the last change, else of the last decision */
};

static void imagine(struct imagined *im, const struct pol_policy *policy,
                    const struct dev_reading *readings)
{
    double waiting_s = policy->dwell_down_s + policy->dwell_up_s, longest_s = 0;
    im->policy = *policy;
    for (size_t i = 0; i < policy->n_sensors; i++) {
        im->signals[i] = *policy->sensors[i].signal;
        im->signals[i].rate = 0;
        im->policy.sensors[i].signal = &im->signals[i];
        im->policy.sensors[i].stuck_s = 0;
        im->raw[i] = readings[i];
    }
    for (size_t i = 0; i < policy->n_trips; i++)
        longest_s = fmax(longest_s, policy->trips[i].for_s);
    waiting_s += longest_s;
    double dt_s = fmax(policy->poll_s, waiting_s / WAITING_DECISIONS);
    im->dt_ns = pol_ns(dt_s);
    im->quiet = (unsigned)(waiting_s / dt_s) + 4;
    pol_state_init(&im->state, &im->policy);
}

/* What a decision did, the k-th of a run. */
static void take_note(struct end *end, unsigned k, const struct pol_decision *decision,
                      bool power_moved)
{
    end->state = decision->state;
    if (decision->changed) {
        end->changed_at = k;
        end->changes++;
        end->late_changes += k >= MOST_DECISIONS / 2;
    }
    if (decision->changed || power_moved)
        end->moved_at = k;
    if (decision->changed || !end->changes)
        memcpy(end->reason, decision->reason, sizeof end->reason);
}

/* Decides until nothing moves; first is the first decision. */
static struct end settle(const struct imagined *im, struct pol_state *state,
                         struct dev_reading *raw, struct pol_decision *first)
{
    struct end end = {0};
    const struct pol_power_state *power = &state->power;
    unsigned k = 0;
    for (; k < MOST_DECISIONS && k <= end.moved_at + im->quiet; k++) {
        struct pol_decision decision;
        int64_t granted_mw = power->granted_mw, bucket_nj = power->bucket_nj;
        uint64_t now_ns = state->now_ns + im->dt_ns;
        for (size_t i = 0; i < im->policy.n_sensors; i++)
            raw[i].time_ns = now_ns;
        pol_decide(&im->policy, state, now_ns, raw, &decision);
        if (k == 0)
            *first = decision;
        take_note(&end, k, &decision,
                  granted_mw != power->granted_mw || bucket_nj != power->bucket_nj);
    }
    /* An integral may creep to one late change; a bucket that fills and empties brings many. */
    end.settled = k < MOST_DECISIONS || end.late_changes < 2;
    return end;
}

/* ---- other readings ------------------------------------------------------------------------ */

/* A search along one sensor's values for another state. */
struct search {
    const struct imagined *im;
    unsigned sensor;
};

/* What would come after the imagined readings if this sensor read v. */
static struct end with_reading(const struct search *s, double v)
{
    struct pol_state state = s->im->state;
    struct dev_reading raw[POL_MAX_SENSORS];
    struct pol_decision first;
    memcpy(raw, s->im->raw, sizeof raw);
    raw[s->sensor] = (struct dev_reading){v, 0, DEV_PRESENT};
    return settle(s->im, &state, raw, &first);
}

static bool differs(const struct search *s, double v)
{
    struct end end = with_reading(s, v);
    return !end.settled || end.state != s->im->state.state;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The values where a trip or the power may take another turn. */
static size_t bounds_of(const struct search *s, double *bounds)
{
    const struct pol_policy *p = &s->im->policy;
    size_t n = 0;
    for (size_t i = 0; i < p->n_trips; i++)
        if (p->trips[i].sensor == s->sensor) {
            bounds[n++] = p->trips[i].threshold;
            bounds[n++] = pol_clear_bound(&p->trips[i]);
        }
    if (p->power.on && p->power.sensor == s->sensor) {
        bounds[n++] = p->power.switch_on_c;
        bounds[n++] = p->power.target_c;
    }
    qsort(bounds, n, sizeof *bounds, by_value);
    return n;
}

/* Values to ask for, rising: a grid, the bounds, and one between each two of them. */
static size_t probes_between(const struct search *s, double low, double high, double *probes)
{
    double bounds[2 * POL_MAX_TRIPS + 2];
    size_t n_bounds = bounds_of(s, bounds), n = 0, kept = 0;
    for (int i = 0; i <= GRID; i++)
        probes[n++] = low + (high - low) * i / GRID;
    for (size_t i = 0; i < n_bounds; i++) {
        probes[n++] = bounds[i];
        if (i + 1 < n_bounds)
            probes[n++] = (bounds[i] + bounds[i + 1]) / 2;
    }
    for (size_t i = 0; i < n; i++)
        if (probes[i] >= low && probes[i] <= high)
            probes[kept++] = probes[i];
    qsort(probes, kept, sizeof *probes, by_value);
    return kept;
}

/* same leads to the imagined state, other does not. */
static struct pol_turn turn_between(const struct search *s, double same, double other)
{
    enum { DIGITS = 10000 };
    struct pol_turn turn = {.there = true};
    while (fabs(other - same) > 0.01 / DIGITS) {
        double middle = (same + other) / 2;
        *(differs(s, middle) ? &other : &same) = middle;
    }
    turn.value = rint(other * DIGITS) / DIGITS;
    turn.included = differs(s, turn.value);
    struct end end = with_reading(s, turn.included ? turn.value : other);
    turn.state = end.state;
    turn.settled = end.settled;
    /* Just past 88C the reason would be "88C above 88C": words are of a value further out. */
    struct end further = with_reading(s, turn.value + (other > same ? 0.1 : -0.1));
    if (!turn.included && further.state == end.state)
        end = further;
    memcpy(turn.reason, end.reason, sizeof turn.reason);
    return turn;
}

/* The value nearest to `from`, up to `limit`, that leads elsewhere. */
static struct pol_turn find_turn(const struct search *s, double from, double limit)
{
    double probes[MOST_PROBES], same = from;
    size_t n = probes_between(s, fmin(from, limit), fmax(from, limit), probes);
    for (size_t i = 0; i < n; i++) {
        double probe = probes[limit > from ? i : n - 1 - i];
        if (differs(s, probe))
            return turn_between(s, same, probe);
        same = probe;
    }
    return (struct pol_turn){.there = false};
}

/* Of a sensor without a reading: where, from the end of its range that changes nothing, something
 * does. If any reading does, that is at its least value. */
static void find_turns_of_missing(const struct search *s, struct pol_what_if_sensor *found)
{
    const struct dev_signal *signal = &s->im->signals[s->sensor];
    bool at_min = differs(s, signal->min), at_max = differs(s, signal->max);
    if (!at_min || at_max)
        found->above = find_turn(s, signal->min, signal->max);
    if (!at_max)
        found->below = find_turn(s, signal->max, signal->min);
}

static void find_turns(const struct imagined *im, unsigned sensor, struct pol_what_if_sensor *found)
{
    const struct search s = {im, sensor};
    if (found->reading.why != DEV_PRESENT) {
        find_turns_of_missing(&s, found);
        return;
    }
    found->below = find_turn(&s, found->reading.value, im->signals[sensor].min);
    found->above = find_turn(&s, found->reading.value, im->signals[sensor].max);
}

int pol_what_if(const struct pol_policy *policy, const struct dev_reading *readings,
                struct pol_what_if *what_if, struct ert_error *err)
{
    struct imagined *im = malloc(sizeof *im);
    struct pol_decision first = {0};
    if (!im)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for imagined readings");
    memset(what_if, 0, sizeof *what_if);
    imagine(im, policy, readings);
    struct end end = settle(im, &im->state, im->raw, &first);
    what_if->first = first.state;
    what_if->state = end.state;
    what_if->settled = end.settled;
    what_if->after_s = (double)end.changed_at * (double)im->dt_ns * 1e-9;
    memcpy(what_if->first_reason, first.reason, sizeof first.reason);
    memcpy(what_if->reason, end.reason, sizeof end.reason);
    for (size_t i = 0; i < policy->n_sensors; i++) {
        what_if->sensors[i].reading = pol_validated(&im->policy, &im->state, (unsigned)i);
        if (end.settled)
            find_turns(im, (unsigned)i, &what_if->sensors[i]);
    }
    free(im);
    return 0;
}
