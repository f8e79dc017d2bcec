/* Inside policies/: the steps of one decision, in the order decide.c takes them. */
#ifndef POL_INNER_H
#define POL_INNER_H

#include "policies/policies.h"

static inline uint64_t pol_ns(double seconds)
{
    return (uint64_t)(seconds * 1e9 + 0.5);
}

/* Time from then to now; 0 if then lies ahead. */
static inline uint64_t pol_elapsed_ns(uint64_t now_ns, uint64_t then_ns)
{
    return now_ns > then_ns ? now_ns - then_ns : 0;
}

/* Judges the raw reading of sensor i, makes one of others where it has none, and remembers it
 * (validate.c). Sensors come in order, so that the parts of one are judged before it. */
void pol_validate(const struct pol_policy *policy, struct pol_state *state, unsigned i,
                  struct dev_reading raw);

/* No valid reading now, and the last one is too old to stand in. */
bool pol_is_silent(const struct pol_sensor *sensor, const struct pol_sensor_state *state,
                   uint64_t now_ns);

/* Where the hysteresis ends, in the unit's base. */
double pol_clear_bound(const struct pol_trip *trip);
/* The value v is past the threshold / back on the safe side of the hysteresis. */
bool pol_is_tripped(const struct pol_trip *trip, double v);
bool pol_is_clear(const struct pol_trip *trip, double v);

/* What follows from a policy's powers and settings (power.c). */
void pol_power_prepare(struct pol_policy *policy);
void pol_power_init(struct pol_power_state *power, const struct pol_policy *policy);
/* The readings are judged; says in state->power what power allows. */
void pol_power_decide(const struct pol_policy *policy, struct pol_state *state);

/* What a decision weighed: the state wanted, and the trip, the missing sensor or the power that
 * wants it. */
struct pol_want {
    unsigned state;
    int trip, missing; /* -1 = none */
    bool power;
};

/* Says in words why (reason.c). before is the trip that decided the state before this decision. */
void pol_give_reason(const struct pol_policy *policy, const struct pol_state *state,
                     const struct pol_want *want, int before, struct pol_decision *decision);

#endif
