#include "policies/inner.h"

#include <math.h>

/* How long the source has given the very same number. */
static bool is_stuck(const struct pol_sensor *sensor, struct pol_sensor_state *state,
                     uint64_t now_ns, double value)
{
    if (!state->has_raw || state->last_raw != value) {
        state->last_raw = value;
        state->raw_since_ns = now_ns;
        state->has_raw = true;
    }
    return sensor->stuck_s > 0 &&
           pol_elapsed_ns(now_ns, state->raw_since_ns) > pol_ns(sensor->stuck_s);
}

/* A second's worth of change is always allowed: coarse gauges move in steps of 1 %. */
static bool is_too_fast(const struct pol_sensor *sensor, const struct pol_sensor_state *state,
                        struct dev_reading raw)
{
    double rate = sensor->signal->rate;
    if (rate <= 0 || !state->has_last)
        return false;
    double dt_s = (double)pol_elapsed_ns(raw.time_ns, state->last.time_ns) * 1e-9;
    return fabs(raw.value - state->last.value) > rate * (dt_s > 1 ? dt_s : 1);
}

static enum dev_absence judge(const struct pol_sensor *sensor, struct pol_sensor_state *state,
                              uint64_t now_ns, struct dev_reading raw)
{
    if (raw.why != DEV_PRESENT)
        return raw.why;
    if (!isfinite(raw.value) || raw.value < sensor->signal->min || raw.value > sensor->signal->max)
        return DEV_OUT_OF_RANGE;
    bool stuck = is_stuck(sensor, state, now_ns, raw.value);
    if (pol_elapsed_ns(now_ns, raw.time_ns) > pol_ns(sensor->stale_s))
        return DEV_STALE;
    if (stuck)
        return DEV_STUCK;
    return is_too_fast(sensor, state, raw) ? DEV_TOO_FAST : DEV_PRESENT;
}

void pol_validate(const struct pol_sensor *sensor, struct pol_sensor_state *state, uint64_t now_ns,
                  struct dev_reading raw)
{
    state->why = judge(sensor, state, now_ns, raw);
    state->fresh = state->falling = state->rising = false;
    if (state->why != DEV_PRESENT)
        return;
    state->fresh = !state->has_last || raw.time_ns != state->last.time_ns;
    state->falling = state->has_last && raw.value < state->last.value;
    state->rising = state->has_last && raw.value > state->last.value;
    state->last = raw;
    state->has_last = true;
}

bool pol_is_silent(const struct pol_sensor *sensor, const struct pol_sensor_state *state,
                   uint64_t now_ns)
{
    if (state->why == DEV_PRESENT)
        return false;
    return !state->has_last ||
           pol_elapsed_ns(now_ns, state->last.time_ns) > pol_ns(sensor->stale_s);
}

struct dev_reading pol_validated(const struct pol_policy *policy, const struct pol_state *state,
                                 unsigned sensor)
{
    struct dev_reading reading = {.why = DEV_NO_SAMPLE};
    if (sensor >= policy->n_sensors || state->decisions == 0)
        return reading;
    const struct pol_sensor_state *s = &state->sensors[sensor];
    if (s->why == DEV_PRESENT)
        return s->last;
    reading.why = s->why;
    reading.time_ns = s->last.time_ns;
    return reading;
}
