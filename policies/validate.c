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

static double median_of_three(const double *v)
{
    double low = v[0] < v[1] ? v[0] : v[1], high = v[0] < v[1] ? v[1] : v[0];
    return v[2] < low ? low : v[2] > high ? high : v[2];
}

/* The value that counts: the sample, or with two before it the median of the three. */
static double filtered(const struct pol_sensor *sensor, struct pol_sensor_state *state,
                       struct dev_reading raw)
{
    if (!sensor->median)
        return raw.value;
    if (!state->fresh)
        return state->last.value;
    if (state->has_last &&
        pol_elapsed_ns(raw.time_ns, state->last.time_ns) > pol_ns(sensor->stale_s))
        state->n_samples = 0;
    state->samples[state->n_samples++ % 3] = raw.value;
    return state->n_samples < 3 ? raw.value : median_of_three(state->samples);
}

static void validate(const struct pol_sensor *sensor, struct pol_sensor_state *state,
                     uint64_t now_ns, struct dev_reading raw)
{
    state->why = judge(sensor, state, now_ns, raw);
    state->fresh = state->falling = state->rising = false;
    if (state->why != DEV_PRESENT)
        return;
    state->fresh = !state->has_last || raw.time_ns != state->last.time_ns;
    raw.value = filtered(sensor, state, raw);
    state->falling = state->has_last && raw.value < state->last.value;
    state->rising = state->has_last && raw.value > state->last.value;
    state->last = raw;
    state->has_last = true;
}

/* The sensor as its parts give it. A maximum is that of the parts that have a value, since a lower
 * bound protects better than none; the others need all of them. Its sample is as new as the newest
 * of its parts'. */
static struct dev_reading blend(const struct pol_sensor *sensor, const struct pol_state *state)
{
    struct dev_reading made = {.why = DEV_PART_MISSING};
    double sum = 0, largest = -HUGE_VAL;
    size_t n = 0;
    for (size_t i = 0; i < sensor->n_parts; i++) {
        const struct pol_sensor_state *part = &state->sensors[sensor->parts[i].sensor];
        if (part->why != DEV_PRESENT)
            continue;
        double value = part->last.value;
        sum += value * (sensor->blend == POL_SUM ? sensor->parts[i].weight : 1);
        largest = value > largest ? value : largest;
        made.time_ns = part->last.time_ns > made.time_ns ? part->last.time_ns : made.time_ns;
        n++;
    }
    if (n == 0 || (sensor->blend != POL_MAX && n < sensor->n_parts))
        return made;
    made.why = DEV_PRESENT;
    made.value = sensor->offset + (sensor->blend == POL_MAX    ? largest
                                   : sensor->blend == POL_MEAN ? sum / (double)n
                                                               : sum);
    return made;
}

void pol_validate(const struct pol_policy *policy, struct pol_state *state, unsigned i,
                  struct dev_reading raw)
{
    const struct pol_sensor *sensor = &policy->sensors[i];
    struct pol_sensor_state *s = &state->sensors[i];
    validate(sensor, s, state->now_ns, raw);
    if (s->why == DEV_PRESENT || sensor->blend == POL_NO_BLEND)
        return;
    struct dev_reading made = blend(sensor, state);
    if (made.why == DEV_PRESENT)
        validate(sensor, s, state->now_ns, made);
    else if (s->why == DEV_NO_SOURCE)
        s->why = made.why;
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
