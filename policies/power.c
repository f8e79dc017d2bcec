/* `power:`: how much power may be spent, and the states that come to it. */
#include "policies/inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- the table of powers ------------------------------------------------------------------- */

/* Bits per weight that a point reads, by its name: w4a16-r90 reads 0.9 of 4 bits. */
static double bits_of(const char *point)
{
    const char *tier = strstr(point, "-r");
    double bits = point[0] == 'w' ? strtod(point + 1, NULL) : 0;
    double share = tier ? strtod(tier + 2, NULL) / 100 : 1;
    return (bits > 0 ? bits : 32) * (share > 0 && share < 1 ? share : 1);
}

/* A guess at a state's power as a share of the most: what streams weights as fast as it can takes
 * the same whatever it streams; fewer threads take less; a pace takes its share of the bytes that
 * 4 bits at 20 tokens per second are. */
static double guessed_share(const struct pol_point *p)
{
    static const double cores = 4, usual_bits_per_s = 4 * 20;
    double share = p->threads && p->threads < cores ? p->threads / cores : 1;
    if (p->pause)
        return 0;
    if (p->tokens_per_second > 0)
        share = fmin(share, p->tokens_per_second * bits_of(p->point) / usual_bits_per_s);
    return share;
}

/* What the guesses are shares of: what the known powers say, else twice what can be sustained. */
static double guessed_most(const struct pol_policy *policy)
{
    double most_w = 0;
    for (size_t i = 0; i < policy->n_states; i++) {
        double share = guessed_share(&policy->states[i]);
        if (share > 0 && policy->states[i].power_w / share > most_w)
            most_w = policy->states[i].power_w / share;
    }
    return most_w > 0 ? most_w : 2 * policy->power.sustainable_w;
}

static int64_t as_mw(double watts)
{
    return (int64_t)llround(watts * 1000);
}

static void fill_table(struct pol_policy *policy)
{
    struct pol_power *power = &policy->power;
    double most_w = guessed_most(policy);
    for (size_t i = 0; i < policy->n_states; i++) {
        const struct pol_point *p = &policy->states[i];
        double w = p->power_w > 0 ? p->power_w : most_w * guessed_share(p);
        struct pol_point unpaced = *p;
        unpaced.tokens_per_second = 0; /* a prompt is read without a pace */
        double prefill_w =
            p->prefill_power_w > 0 ? p->prefill_power_w : fmax(w, most_w * guessed_share(&unpaced));
        power->state_mw[POL_DECODE][i] = as_mw(w);
        power->state_mw[POL_PREFILL][i] = as_mw(prefill_w);
    }
}

static int64_t most_of(const struct pol_policy *policy, int actor)
{
    int64_t most_mw = 0;
    for (unsigned i = policy->power.lowest; i <= policy->power.highest; i++)
        if (policy->power.state_mw[actor][i] > most_mw)
            most_mw = policy->power.state_mw[actor][i];
    return most_mw;
}

/* The kernel's estimates: the powers of the worst state can be sustained; gains that reach all of
 * it (above the target), or twice of it (below), at the switch-on's distance. */
static void fill_gains(struct pol_policy *policy)
{
    const struct pol_power *power = &policy->power;
    struct pol_pid_gains *gains = &policy->power.gains;
    int64_t one = 1 << POL_FRACTION_BITS;
    int64_t span_mc = llround((power->target_c - power->switch_on_c) * 1000);
    const double given[] = {power->k_po, power->k_pu, power->k_i, power->k_d};
    int64_t *const k[] = {&gains->k_po, &gains->k_pu, &gains->k_i, &gains->k_d};
    gains->sustainable_mw = as_mw(power->sustainable_w);
    for (unsigned i = power->highest + 1; gains->sustainable_mw == 0 && i > power->lowest; i--)
        gains->sustainable_mw = power->state_mw[POL_DECODE][i - 1];
    gains->k_po = gains->sustainable_mw * one / span_mc;
    gains->k_pu = 2 * gains->sustainable_mw * one / span_mc;
    gains->k_i = gains->k_pu / 10 > 0 ? gains->k_pu / 10 : 1;
    gains->k_d = 0;
    for (int i = 0; i < 4; i++)
        if (given[i] >= 0)
            *k[i] = llround(given[i] * (double)one);
    gains->cutoff_mc = llround(power->integral_cutoff_c * 1000);
    gains->delay_ms = llround(fmax(policy->poll_s * 1000, 1));
}

void pol_power_prepare(struct pol_policy *policy)
{
    struct pol_power *power = &policy->power;
    if (!power->on)
        return;
    fill_table(policy);
    fill_gains(policy);
    power->most_mw = most_of(policy, POL_DECODE);
    if (power->shared)
        power->most_mw += most_of(policy, POL_PREFILL);
    power->burst_mw = as_mw(power->burst_w);
    power->bucket_nj =
        (power->burst_mw - power->gains.sustainable_mw) * as_mw(power->burst_s) * 1000;
    if (power->governor != POL_PREDICTIVE)
        return;
    for (int i = 0; i < POL_LOOKS_AHEAD; i++)
        power->ahead[i] =
            dev_thermal_discretize(&power->plant, power->horizon_s * (i + 1) / POL_LOOKS_AHEAD);
}

void pol_set_powers(struct pol_policy *policy, const double *decode_w, const double *prefill_w)
{
    for (size_t i = 0; i < policy->n_states; i++) {
        struct pol_point *p = &policy->states[i];
        if (p->power_w <= 0 && decode_w[i] > 0)
            p->power_w = decode_w[i];
        if (p->prefill_power_w <= 0 && prefill_w && prefill_w[i] > 0)
            p->prefill_power_w = prefill_w[i];
    }
    pol_power_prepare(policy);
}

/* ---- one decision -------------------------------------------------------------------------- */

/* A decision about power on its way. */
struct budget {
    const struct pol_policy *policy;
    const struct pol_power *power;
    struct pol_state *state;
    double temperature_c;
    double passed_s; /* since the last step */
};

/* The value of one of the power's sensors while it has one, else otherwise. */
static double value_or(const struct budget *b, int sensor, double otherwise)
{
    if (sensor < 0 ||
        pol_is_silent(&b->policy->sensors[sensor], &b->state->sensors[sensor], b->state->now_ns))
        return otherwise;
    return b->state->sensors[sensor].last.value;
}

/* What is being spent: as measured, where that is above 0 (it is not while a battery charges). */
static double spent_w(const struct budget *b)
{
    double measured_w = value_or(b, b->power->draw_sensor, 0);
    int64_t by_table_mw = b->power->state_mw[POL_DECODE][b->state->state];
    return measured_w > 0 ? measured_w : (double)by_table_mw / 1000;
}

static int64_t power_allocator(struct budget *b)
{
    int64_t error_mc = llround((b->power->target_c - b->temperature_c) * 1000);
    return pol_pid_step(&b->power->gains, &b->state->power.pid, error_mc, b->power->most_mw)
        .output_mw;
}

/* The node that the sensor is on is known; the other one follows from the plant and from what was
 * spent since the last step. */
static void observe(struct budget *b, double ambient_c)
{
    const struct dev_thermal *plant = &b->power->plant;
    struct dev_heat *heat = &b->state->power.heat;
    double above_c = b->temperature_c - ambient_c;
    if (b->state->power.stepped) {
        struct dev_thermal_step step = dev_thermal_discretize(plant, b->passed_s);
        *heat = dev_thermal_step(&step, *heat, spent_w(b), ambient_c);
    } else if (b->power->at_case) {
        heat->chip_c = ambient_c + above_c * (plant->r_case + plant->r_chip) / plant->r_case;
    } else {
        heat->case_c = ambient_c + above_c * plant->r_case / (plant->r_case + plant->r_chip);
    }
    *(b->power->at_case ? &heat->case_c : &heat->chip_c) = b->temperature_c;
}

/* Each temperature ahead is linear in the power that is spent until then. */
static int64_t predictive(struct budget *b)
{
    const struct pol_power *power = b->power;
    double ambient_c = value_or(b, power->ambient_sensor, power->ambient_c);
    int node = power->at_case ? 1 : 0;
    double allowed_mw = (double)power->most_mw;
    observe(b, ambient_c);
    for (int i = 0; i < POL_LOOKS_AHEAD; i++) {
        const struct dev_thermal_step *step = &power->ahead[i];
        struct dev_heat coasting = dev_thermal_step(step, b->state->power.heat, 0, ambient_c);
        double reached_c = node ? coasting.case_c : coasting.chip_c;
        allowed_mw =
            fmin(allowed_mw, (power->target_c - reached_c) / step->from_power[node] * 1000);
    }
    return allowed_mw > 0 ? (int64_t)allowed_mw : 0;
}

static int64_t (*const governors[POL_N_GOVERNORS])(struct budget *) = {
    [POL_POWER_ALLOCATOR] = power_allocator,
    [POL_PREDICTIVE] = predictive,
};

/* The bucket holds what may be spent above the sustainable power, and fills while less is spent.
 * Once empty it must be half full before it is drawn on again. */
static void fill_bucket(struct budget *b)
{
    struct pol_power_state *s = &b->state->power;
    int64_t room_nj = b->power->bucket_nj;
    int64_t passed_us = (int64_t)(pol_elapsed_ns(b->state->now_ns, s->spend_ns) / 1000);
    s->spend_ns = b->state->now_ns;
    s->bucket_nj += (b->power->gains.sustainable_mw - as_mw(spent_w(b))) * passed_us;
    s->bucket_nj = s->bucket_nj < 0 ? 0 : s->bucket_nj > room_nj ? room_nj : s->bucket_nj;
    if (s->bucket_nj == 0)
        s->spent = true;
    else if (s->bucket_nj >= room_nj / 2)
        s->spent = false;
}

/* The best state of the range within a power; the worst if none is. */
static unsigned best_within(const struct pol_power *power, int actor, int64_t mw)
{
    unsigned state = power->lowest;
    while (state < power->highest && power->state_mw[actor][state] > mw)
        state++;
    return state;
}

/* Each actor is granted power for the share of time that it works, so at work it may spend more. */
static void share_out(struct budget *b, unsigned *request)
{
    const struct pol_power *power = b->power;
    struct pol_actor actors[POL_ACTORS];
    double load[POL_ACTORS];
    for (int i = 0; i < POL_ACTORS; i++) {
        load[i] = fmax(value_or(b, power->load_sensors[i], 100), 1) / 100;
        double most_mw = (double)most_of(b->policy, i);
        actors[i].wants_mw = llround(load[i] * power->weight[i] * most_mw);
        actors[i].max_mw = (int64_t)most_mw;
    }
    pol_grant(actors, POL_ACTORS, b->state->power.granted_mw);
    for (int i = 0; i < POL_ACTORS; i++)
        request[i] = best_within(power, i, (int64_t)((double)actors[i].granted_mw / load[i]));
}

static void limit(struct budget *b, int64_t allowed_mw)
{
    struct pol_power_state *s = &b->state->power;
    int64_t burst_mw = s->spent ? b->power->gains.sustainable_mw : b->power->burst_mw;
    s->limited = b->power->burst_mw > 0 && burst_mw < allowed_mw;
    s->granted_mw = s->limited ? burst_mw : allowed_mw;
    s->active = s->granted_mw < b->power->most_mw;
    s->request[POL_DECODE] = best_within(b->power, POL_DECODE, s->granted_mw);
    s->request[POL_PREFILL] = s->request[POL_DECODE];
    if (b->power->shared)
        share_out(b, s->request);
}

static void reset(struct pol_power_state *s)
{
    s->active = s->limited = s->stepped = false;
    s->pid = (struct pol_pid){0};
}

/* Events bring decisions before their time: the controller steps at half a poll at the least. */
static bool is_due(const struct budget *b)
{
    return !b->state->power.stepped || b->passed_s >= b->policy->poll_s / 2;
}

void pol_power_init(struct pol_power_state *power, const struct pol_policy *policy)
{
    power->bucket_nj = policy->power.bucket_nj;
}

void pol_power_decide(const struct pol_policy *policy, struct pol_state *state)
{
    const struct pol_power *power = &policy->power;
    struct pol_power_state *s = &state->power;
    const struct pol_sensor_state *sensor = &state->sensors[power->sensor];
    if (!power->on)
        return;
    struct budget b = {policy, power, state, sensor->last.value, 0};
    if (power->burst_mw > 0 && state->decisions > 1)
        fill_bucket(&b);
    s->spend_ns = state->now_ns;
    if (pol_is_silent(&policy->sensors[power->sensor], sensor, state->now_ns)) {
        reset(s);
        return;
    }
    b.passed_s = (double)pol_elapsed_ns(state->now_ns, s->step_ns) * 1e-9;
    if (sensor->why != DEV_PRESENT || !is_due(&b))
        return;
    int64_t allowed_mw = power->most_mw;
    if (b.temperature_c < power->switch_on_c)
        reset(s);
    else
        allowed_mw = governors[power->governor](&b);
    s->stepped = b.temperature_c >= power->switch_on_c;
    s->step_ns = state->now_ns;
    limit(&b, allowed_mw);
}
