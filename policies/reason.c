#include "policies/inner.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

/* Text that grows in a fixed buffer and is cut where it ends. */
struct words {
    char *text;
    size_t n;
};

__attribute__((format(printf, 2, 3))) static void say(struct words *w, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(w->text + w->n, POL_REASON - w->n, fmt, args);
    va_end(args);
    w->n += n > 0 ? (size_t)n : 0;
    if (w->n >= POL_REASON)
        w->n = POL_REASON - 1;
}

static void say_value(struct words *w, double value, enum ert_unit unit)
{
    say(w, fabs(value) < 1000 ? "%.4g" : "%.0f", value);
    say(w, "%s", ert_unit_name(unit));
}

static void say_reading(struct words *w, const struct pol_sensor *sensor, double value)
{
    say(w, "%s ", sensor->name);
    say_value(w, value, sensor->signal->unit);
}

/* "temp.cpu 71.2C above 70C (warm)": why a trip asks for its state. */
static void say_tripped(struct words *w, const struct pol_policy *policy,
                        const struct pol_state *state, int index)
{
    const struct pol_trip *trip = &policy->trips[index];
    const struct pol_sensor *sensor = &policy->sensors[trip->sensor];
    double value = state->sensors[trip->sensor].last.value;
    bool tripped = pol_is_tripped(trip, value);
    say_reading(w, sensor, value);
    say(w, tripped ? " %s " : " not yet %s ", trip->above == tripped ? "above" : "below");
    say_value(w, tripped ? trip->threshold : pol_clear_bound(trip), sensor->signal->unit);
    if (tripped && trip->for_s > 0)
        say(w, " for %gs", trip->for_s);
    say(w, " (%s)", trip->name);
}

static void say_missing(struct words *w, const struct pol_policy *policy,
                        const struct pol_state *state, int index)
{
    const struct pol_sensor *sensor = &policy->sensors[index];
    say(w, "%s missing: %s (on-missing state %d)", sensor->name,
        dev_absence_text(state->sensors[index].why), sensor->missing_state);
}

/* "temp.cpu 66.8C below 67C, warm cleared": why a trip no longer asks for what it did. */
static void say_cleared(struct words *w, const struct pol_policy *policy,
                        const struct pol_state *state, int index)
{
    const struct pol_trip *trip = &policy->trips[index];
    const struct pol_sensor *sensor = &policy->sensors[trip->sensor];
    const struct pol_sensor_state *s = &state->sensors[trip->sensor];
    if (s->why != DEV_PRESENT) {
        say(w, "%s: %s, %s released", sensor->name, dev_absence_text(s->why), trip->name);
    } else if (!pol_is_clear(trip, s->last.value)) {
        say(w,
            trip->when_discharging ? "not discharging, %s released" : "%s cleared, dwell is over",
            trip->name);
    } else {
        double bound = pol_clear_bound(trip);
        const char *at = s->last.value == bound ? "back at" : trip->above ? "below" : "above";
        say_reading(w, sensor, s->last.value);
        say(w, " %s ", at);
        say_value(w, bound, sensor->signal->unit);
        say(w, ", %s %s", trip->name, state->trips[index].active ? "easing" : "cleared");
    }
}

/* "temp.skin 41.8C for a target of 42C: 4.6W allowed" */
static void say_power(struct words *w, const struct pol_policy *policy,
                      const struct pol_state *state)
{
    const struct pol_power *power = &policy->power;
    double granted_w = (double)state->power.granted_mw / 1000;
    if (state->power.limited) {
        say(w, "%s: ", state->power.spent ? "burst spent" : "burst");
    } else {
        say_reading(w, &policy->sensors[power->sensor], state->sensors[power->sensor].last.value);
        say(w, " for a target of ");
        say_value(w, power->target_c, ERT_UNIT_CELSIUS);
        say(w, ": ");
    }
    say_value(w, granted_w, ERT_UNIT_WATT);
    say(w, " allowed");
}

static void say_wanted(struct words *w, const struct pol_policy *policy,
                       const struct pol_state *state, const struct pol_want *want)
{
    if (want->trip >= 0)
        say_tripped(w, policy, state, want->trip);
    else if (want->power)
        say_power(w, policy, state);
    else if (want->missing >= 0)
        say_missing(w, policy, state, want->missing);
    else
        say(w, "nothing tripped");
}

void pol_give_reason(const struct pol_policy *policy, const struct pol_state *state,
                     const struct pol_want *want, int before, struct pol_decision *decision)
{
    struct words w = {decision->reason, 0};
    decision->trip = want->trip;
    if (!decision->changed || decision->state > decision->previous) {
        say_wanted(&w, policy, state, want);
        if (want->state != decision->state)
            say(&w, ", held back by dwell");
    } else if (before >= 0) {
        decision->trip = before;
        say_cleared(&w, policy, state, before);
    } else if (state->by_power) {
        say_power(&w, policy, state);
    } else {
        say(&w, "missing readings are back");
    }
}
