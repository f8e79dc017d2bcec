/* The guarantees of a policy, watched decision by decision. */
#include "policies/stl_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct watched {
    struct stl_formula formula;
    struct stl_run *truth, *robustness;
    int sensors[STL_MAX_SIGNALS]; /* of the policy, by the formula's signals; -1 = state */
    struct pol_guarantee_status status;
};

struct pol_monitor {
    const struct pol_policy *policy;
    uint64_t last_ns;
    size_t n;
    struct watched guarantees[];
};

static int find_sensor(const struct pol_policy *policy, const char *name)
{
    for (size_t i = 0; i < policy->n_sensors; i++)
        if (!strcmp(policy->sensors[i].name, name))
            return (int)i;
    return -1;
}

static int watch(const struct pol_policy *policy, const char *text, struct watched *w,
                 struct ert_error *err)
{
    size_t at;
    int rc = stl_parse(&w->formula, text, &at, err);
    if (!rc)
        rc = stl_run_create(&w->truth, &w->formula, policy->poll_s, true, err);
    if (!rc)
        rc = stl_run_create(&w->robustness, &w->formula, policy->poll_s, false, err);
    if (rc)
        return ert_fail_in(err, "guarantee '%s'", text);
    for (size_t i = 0; i < w->formula.n_signals; i++)
        w->sensors[i] = find_sensor(policy, w->formula.signals[i].name);
    w->status.lower = -INFINITY;
    w->status.upper = INFINITY;
    w->status.waits_for = -1;
    return 0;
}

int pol_monitor_create(struct pol_monitor **monitor, const struct pol_policy *policy,
                       struct ert_error *err)
{
    *monitor = NULL;
    struct pol_monitor *m = calloc(1, sizeof *m + policy->n_guarantees * sizeof *m->guarantees);
    if (!m)
        return ert_fail(err, ERT_E_NOMEM, "no memory for the guarantees of '%s'", policy->name);
    m->policy = policy;
    int rc = 0;
    for (; !rc && m->n < policy->n_guarantees; m->n++)
        rc = watch(policy, policy->guarantees[m->n], &m->guarantees[m->n], err);
    if (rc)
        pol_monitor_free(m);
    else
        *monitor = m;
    return rc;
}

void pol_monitor_free(struct pol_monitor *monitor)
{
    if (!monitor)
        return;
    for (size_t i = 0; i < monitor->n; i++) {
        stl_run_free(monitor->guarantees[i].truth);
        stl_run_free(monitor->guarantees[i].robustness);
    }
    free(monitor);
}

/* The values that hold from this decision on; false while one of them has never been. */
static bool read_values(const struct pol_state *state, struct watched *w, double *values)
{
    w->status.waits_for = -1;
    for (size_t i = 0; i < w->formula.n_signals; i++) {
        const struct pol_sensor_state *sensor =
            &state->sensors[w->sensors[i] < 0 ? 0 : w->sensors[i]];
        if (w->sensors[i] >= 0 && !sensor->has_last)
            w->status.waits_for = w->sensors[i];
        values[i] = w->sensors[i] < 0 ? (double)state->state : sensor->last.value;
    }
    return w->status.waits_for < 0;
}

static enum pol_verdict verdict_of(const struct stl_run *truth)
{
    struct stl_bounds bounds = stl_run_bounds(truth);
    return bounds.lower > 0 ? POL_TRUE : bounds.upper < 0 ? POL_FALSE : POL_UNDECIDED;
}

static void take_bounds(struct watched *w)
{
    struct stl_bounds bounds = stl_run_bounds(w->robustness);
    w->status.lower = bounds.lower;
    w->status.upper = bounds.upper;
}

/* With more decisions than there is memory for, the guarantee is watched from here anew. */
static void restart(struct watched *w)
{
    stl_run_reset(w->truth);
    stl_run_reset(w->robustness);
    w->status.restarts++;
    w->status.started = false;
}

/* True if this decision is the one that breaks the guarantee. */
static bool step(struct watched *w, const struct pol_state *state, uint64_t now_ns)
{
    double values[STL_MAX_SIGNALS];
    if (!read_values(state, w, values))
        return false;
    if (!w->status.started)
        w->status.since_ns = now_ns;
    w->status.started = true;
    bool room = stl_run_sample(w->truth, (int64_t)now_ns, values) &
                stl_run_sample(w->robustness, (int64_t)now_ns, values);
    take_bounds(w);
    if (!w->status.decided) {
        w->status.verdict = verdict_of(w->truth);
        w->status.decided = w->status.verdict != POL_UNDECIDED;
        w->status.decided_ns = now_ns;
        if (w->status.decided)
            return w->status.verdict == POL_FALSE;
    }
    if (!room)
        restart(w);
    return false;
}

uint32_t pol_monitor_step(struct pol_monitor *monitor, const struct pol_state *state)
{
    uint32_t broken = 0;
    uint64_t now_ns = state->now_ns > monitor->last_ns ? state->now_ns : monitor->last_ns + 1;
    monitor->last_ns = now_ns;
    for (size_t i = 0; i < monitor->n; i++)
        broken |= (uint32_t)step(&monitor->guarantees[i], state, now_ns) << i;
    return broken;
}

uint32_t pol_monitor_finish(struct pol_monitor *monitor)
{
    uint32_t broken = 0;
    for (size_t i = 0; i < monitor->n; i++) {
        struct watched *w = &monitor->guarantees[i];
        stl_run_finish(w->truth);
        stl_run_finish(w->robustness);
        take_bounds(w);
        if (w->status.decided)
            continue;
        w->status.verdict = verdict_of(w->truth);
        broken |= (uint32_t)(w->status.verdict == POL_FALSE) << i;
    }
    return broken;
}

const struct pol_guarantee_status *pol_monitor_status(const struct pol_monitor *monitor, size_t i)
{
    return i < monitor->n ? &monitor->guarantees[i].status : NULL;
}

const char *pol_verdict_name(enum pol_verdict verdict)
{
    static const char *const names[] = {
        [POL_UNDECIDED] = "undecided", [POL_TRUE] = "true", [POL_FALSE] = "false"};
    return names[verdict];
}
