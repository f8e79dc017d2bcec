/* One policy takes over from another in mid-run. */
#include "policies/policies.h"

#include <string.h>

static unsigned same_rung(const struct pol_policy *to, const struct pol_policy *from, unsigned old)
{
    for (unsigned i = 0; i < to->n_states; i++)
        if (!strcmp(to->states[i].name, from->states[old].name))
            return i;
    return old < to->n_states ? old : (unsigned)to->n_states - 1;
}

static void carry_sensors(struct pol_state *state, const struct pol_policy *to,
                          const struct pol_state *old, const struct pol_policy *from)
{
    for (size_t i = 0; i < to->n_sensors; i++)
        for (size_t k = 0; k < from->n_sensors; k++)
            if (!strcmp(to->sensors[i].name, from->sensors[k].name))
                state->sensors[i] = old->sensors[k];
}

static bool is_same_trip(const struct pol_policy *to, const struct pol_trip *a,
                         const struct pol_policy *from, const struct pol_trip *b)
{
    return !strcmp(a->name, b->name) && a->above == b->above &&
           !strcmp(to->sensors[a->sensor].name, from->sensors[b->sensor].name);
}

static void carry_trips(struct pol_state *state, const struct pol_policy *to,
                        const struct pol_state *old, const struct pol_policy *from)
{
    for (size_t i = 0; i < to->n_trips; i++)
        for (size_t k = 0; k < from->n_trips; k++) {
            const struct pol_trip *trip = &to->trips[i];
            if (!is_same_trip(to, trip, from, &from->trips[k]))
                continue;
            struct pol_trip_state *s = &state->trips[i];
            *s = old->trips[k];
            if (s->active && s->request < trip->lowest)
                s->request = trip->lowest;
            if (s->request > trip->highest)
                s->request = trip->highest;
            if (old->trip == (int)k)
                state->trip = (int)i;
        }
}

/* A budget goes on where the same governor keeps the same sensor. */
static void carry_power(struct pol_state *state, const struct pol_policy *to,
                        const struct pol_state *old, const struct pol_policy *from)
{
    if (!to->power.on || !from->power.on || to->power.governor != from->power.governor ||
        strcmp(to->sensors[to->power.sensor].name, from->sensors[from->power.sensor].name) != 0)
        return;
    state->power = old->power;
    state->by_power = old->by_power;
    for (size_t i = 0; i < POL_ACTORS; i++)
        if (state->power.request[i] > to->power.highest)
            state->power.request[i] = to->power.highest;
}

void pol_state_carry(struct pol_state *state, const struct pol_policy *to,
                     const struct pol_state *old, const struct pol_policy *from)
{
    pol_state_init(state, to);
    state->state = same_rung(to, from, old->state);
    state->changed_ns = old->changed_ns;
    state->has_changed = old->has_changed;
    state->now_ns = old->now_ns;
    state->decisions = old->decisions;
    carry_sensors(state, to, old, from);
    carry_trips(state, to, old, from);
    carry_power(state, to, old, from);
}
