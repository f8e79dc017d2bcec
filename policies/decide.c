/* A reading's way to a state: validate, trips, the highest request, dwell, the reason. */
#include "policies/inner.h"

#include <math.h>
#include <string.h>

void pol_state_init(struct pol_state *state, const struct pol_policy *policy)
{
    memset(state, 0, sizeof *state);
    state->trip = -1;
    pol_power_init(&state->power, policy);
    for (size_t i = 0; i < policy->n_sensors; i++)
        state->sensors[i].why = DEV_NO_SAMPLE;
}

/* One decision on its way. */
struct step {
    const struct pol_policy *policy;
    struct pol_state *state;
    bool may_worsen, may_improve; /* as dwell has it */
};

static bool dwell_over(const struct pol_state *state, double dwell_s)
{
    return !state->has_changed || state->now_ns - state->changed_ns >= pol_ns(dwell_s);
}

/* Whether a sensor's last good value exceeds a bound; unknown is false. */
static bool exceeds(const struct step *s, int sensor, double bound, bool *known)
{
    const struct pol_sensor_state *state = &s->state->sensors[sensor];
    *known = !pol_is_silent(&s->policy->sensors[sensor], state, s->state->now_ns);
    return *known && state->last.value > bound;
}

/* From the battery's own word, else from the sign of its power. */
static bool is_discharging(const struct step *s)
{
    bool known = false, yes = false;
    if (s->policy->discharging_sensor >= 0)
        yes = exceeds(s, s->policy->discharging_sensor, 0.5, &known);
    if (!known && s->policy->power_sensor >= 0)
        yes = exceeds(s, s->policy->power_sensor, 0, &known);
    return yes;
}

bool pol_is_tripped(const struct pol_trip *trip, double v)
{
    return trip->above ? v > trip->threshold : v < trip->threshold;
}

double pol_clear_bound(const struct pol_trip *trip)
{
    /* As a person adds them: in doubles 54.9 - 5.2 lies a little below 49.7. */
    double bound = trip->threshold + (trip->above ? -trip->hysteresis : trip->hysteresis);
    return rint(bound * 1e9) / 1e9;
}

bool pol_is_clear(const struct pol_trip *trip, double v)
{
    double bound = pol_clear_bound(trip);
    return trip->above ? v <= bound : v >= bound;
}

static void release(struct pol_trip_state *state)
{
    state->active = state->held = false;
    state->request = 0;
}

/* An inactive trip becomes active once its condition has held for long enough. */
static void watch(const struct pol_trip *trip, struct pol_trip_state *state, uint64_t now_ns,
                  double v)
{
    if (!pol_is_tripped(trip, v)) {
        state->held = false;
        return;
    }
    if (!state->held)
        state->since_ns = now_ns;
    state->held = true;
    if (now_ns - state->since_ns < pol_ns(trip->for_s))
        return;
    state->active = true;
    state->request = trip->governor == POL_BANG_BANG ? trip->highest : trip->lowest;
}

/* The kernel's gov_step_wise with one difference: above the trip a steady value steps worse as a
 * rising one does, since a poll may well see the same value twice on the way up. */
static void step_wise(const struct step *s, const struct pol_trip *trip,
                      struct pol_trip_state *state, const struct pol_sensor_state *sensor)
{
    bool improving = trip->above ? sensor->falling : sensor->rising;
    if (pol_is_tripped(trip, sensor->last.value)) {
        if (sensor->fresh && !improving && s->may_worsen && state->request < trip->highest)
            state->request++;
    } else if (pol_is_clear(trip, sensor->last.value) && s->may_improve) {
        if (state->request > trip->lowest)
            state->request--;
        else
            release(state);
    }
}

static void bang_bang(const struct step *s, const struct pol_trip *trip,
                      struct pol_trip_state *state, const struct pol_sensor_state *sensor)
{
    (void)s;
    if (pol_is_clear(trip, sensor->last.value))
        release(state);
}

static void (*const governors[POL_N_GOVERNORS])(const struct step *, const struct pol_trip *,
                                                struct pol_trip_state *,
                                                const struct pol_sensor_state *) = {
    [POL_STEP_WISE] = step_wise,
    [POL_BANG_BANG] = bang_bang,
};

static void update_trip(const struct step *s, size_t i, bool discharging)
{
    const struct pol_trip *trip = &s->policy->trips[i];
    struct pol_trip_state *state = &s->state->trips[i];
    const struct pol_sensor_state *sensor = &s->state->sensors[trip->sensor];
    bool silent = pol_is_silent(&s->policy->sensors[trip->sensor], sensor, s->state->now_ns);
    if (silent || (trip->when_discharging && !discharging))
        release(state);
    else if (sensor->why != DEV_PRESENT)
        return; /* a short gap changes nothing */
    else if (state->active)
        governors[trip->governor](s, trip, state, sensor);
    else
        watch(trip, state, s->state->now_ns, sensor->last.value);
}

/* The highest request of all active trips and missing sensors. */
static struct pol_want strongest(const struct pol_policy *policy, const struct pol_state *state)
{
    struct pol_want want = {0, -1, -1, false};
    for (size_t i = 0; i < policy->n_trips; i++) {
        const struct pol_trip_state *t = &state->trips[i];
        if (t->active && (want.trip < 0 || t->request > want.state))
            want = (struct pol_want){t->request, (int)i, -1, false};
    }
    for (size_t i = 0; i < policy->n_sensors; i++) {
        int missing = policy->sensors[i].missing_state;
        if (missing > (int)want.state &&
            pol_is_silent(&policy->sensors[i], &state->sensors[i], state->now_ns))
            want = (struct pol_want){(unsigned)missing, -1, (int)i, false};
    }
    return want;
}

static bool wants_memory(const struct pol_policy *policy, const struct pol_state *state)
{
    for (size_t i = 0; i < policy->n_trips; i++) {
        const char *sensor = policy->sensors[policy->trips[i].sensor].name;
        bool of_memory = !strncmp(sensor, "memory.", 7) || !strncmp(sensor, "psi.memory.", 11);
        if (of_memory && state->trips[i].active)
            return true;
    }
    return false;
}

static void take_state(const struct step *s, const struct pol_want *want,
                       struct pol_decision *decision)
{
    struct pol_state *state = s->state;
    decision->previous = state->state;
    bool allowed = want->state > state->state ? s->may_worsen : s->may_improve;
    if (want->state != state->state && allowed) {
        state->state = want->state;
        state->changed_ns = state->now_ns;
        state->has_changed = true;
    }
    decision->state = state->state;
    decision->changed = decision->state != decision->previous;
}

/* Prompts are not held back by dwell, but by what wants a state besides the power. */
static void take_power(const struct step *s, unsigned besides, struct pol_decision *decision)
{
    const struct pol_power_state *power = &s->state->power;
    unsigned prefill = power->request[POL_PREFILL];
    decision->granted_w = power->active ? (double)power->granted_mw / 1000 : 0;
    decision->prefill_state = decision->state;
    if (power->active && s->policy->power.shared)
        decision->prefill_state = prefill > besides ? prefill : besides;
}

void pol_decide(const struct pol_policy *policy, struct pol_state *state, uint64_t now_ns,
                const struct dev_reading *raw, struct pol_decision *decision)
{
    if (now_ns > state->now_ns)
        state->now_ns = now_ns;
    state->decisions++;
    for (size_t i = 0; i < policy->n_sensors; i++)
        pol_validate(policy, state, (unsigned)i, raw[i]);
    struct step s = {
        .policy = policy,
        .state = state,
        .may_worsen = dwell_over(state, policy->dwell_down_s),
        .may_improve = dwell_over(state, policy->dwell_up_s),
    };
    bool discharging = is_discharging(&s);
    for (size_t i = 0; i < policy->n_trips; i++)
        update_trip(&s, i, discharging);
    pol_power_decide(policy, state);
    struct pol_want want = strongest(policy, state);
    unsigned besides = want.state;
    if (state->power.active && state->power.request[POL_DECODE] > besides)
        want = (struct pol_want){state->power.request[POL_DECODE], -1, -1, true};
    int before = state->trip;
    take_state(&s, &want, decision);
    take_power(&s, besides, decision);
    decision->release_memory = wants_memory(policy, state);
    pol_give_reason(policy, state, &want, before, decision);
    if (state->state == want.state) {
        state->trip = want.trip;
        state->by_power = want.power;
    }
}
