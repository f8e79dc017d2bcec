#include "sim/inner.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What belongs to the policy: its name, states and sensors, with nothing counted of them. */
static void describe_policy(struct sim_result *result, const struct pol_policy *policy)
{
    memcpy(result->policy, policy->name, sizeof result->policy);
    memset(result->states, 0, sizeof result->states);
    memset(result->trans_table, 0, sizeof result->trans_table);
    memset(result->sensors, 0, sizeof result->sensors);
    result->n_states = policy->n_states;
    for (size_t i = 0; i < policy->n_states; i++)
        memcpy(result->states[i], policy->states[i].name, sizeof result->states[i]);
    result->n_sensors = policy->n_sensors;
    for (size_t i = 0; i < policy->n_sensors; i++) {
        struct sim_peak *peak = &result->sensors[i];
        memcpy(peak->sensor, policy->sensors[i].name, sizeof peak->sensor);
        peak->min = peak->max = NAN;
    }
}

static void describe(struct sim_result *result, const char *trace, const struct pol_policy *policy)
{
    const char *slash = strrchr(trace, '/');
    memset(result, 0, sizeof *result);
    snprintf(result->trace, sizeof result->trace, "%.127s", slash ? slash + 1 : trace);
    describe_policy(result, policy);
}

static int add_change(struct sim_run *run, uint64_t now_ns, const struct pol_decision *d,
                      struct ert_error *err)
{
    struct sim_result *r = run->result;
    if (r->total_trans == run->capacity) {
        size_t capacity = run->capacity ? 2 * run->capacity : 64;
        struct sim_change *changes = realloc(r->changes, capacity * sizeof *changes);
        if (!changes)
            return ert_fail(err, ERT_E_NOMEM, "out of memory for %zu changes of state", capacity);
        r->changes = changes;
        run->capacity = capacity;
    }
    struct sim_change *change = &r->changes[r->total_trans++];
    change->time_s = (double)(now_ns - run->begin_ns) * 1e-9;
    change->from = d->previous;
    change->to = d->state;
    memcpy(change->reason, d->reason, sizeof change->reason);
    r->trans_table[d->previous][d->state]++;
    return 0;
}

static void note_readings(struct sim_run *run)
{
    for (unsigned i = 0; i < run->policy->n_sensors; i++) {
        struct sim_peak *peak = &run->result->sensors[i];
        struct dev_reading reading = pol_validated(run->policy, &run->state, i);
        if (reading.why == DEV_PRESENT) {
            peak->min = fmin(peak->min, reading.value);
            peak->max = fmax(peak->max, reading.value);
        } else {
            peak->missing++;
            peak->why = reading.why;
        }
    }
}

int sim_run_init(struct sim_run *run, const char *trace, const struct pol_policy *policy,
                 struct sim_result *result, struct ert_error *err)
{
    memset(run, 0, sizeof *run);
    run->policy = policy;
    run->result = result;
    pol_state_init(&run->state, policy);
    describe(result, trace, policy);
    return pol_monitor_create(&run->monitor, policy, err);
}

int sim_run_reload(struct sim_run *run, const struct pol_policy *policy, struct ert_error *err)
{
    struct pol_monitor *monitor;
    struct pol_state carried;
    int rc = pol_monitor_create(&monitor, policy, err);
    if (rc)
        return rc;
    pol_monitor_free(run->monitor);
    run->monitor = monitor;
    pol_state_carry(&carried, policy, &run->state, run->policy);
    run->state = carried;
    run->policy = policy;
    memset(run->in_state_ns, 0, sizeof run->in_state_ns);
    run->result->total_trans = 0;
    describe_policy(run->result, policy);
    return 0;
}

int sim_run_decide(struct sim_run *run, uint64_t now_ns, const struct dev_reading *raw,
                   struct pol_decision *decision, struct ert_error *err)
{
    struct sim_result *r = run->result;
    if (r->decisions == 0)
        run->begin_ns = run->last_ns = now_ns;
    if (now_ns > run->last_ns)
        run->in_state_ns[run->state.state] += now_ns - run->last_ns;
    run->last_ns = now_ns > run->last_ns ? now_ns : run->last_ns;
    pol_decide(run->policy, &run->state, now_ns, raw, decision);
    pol_monitor_step(run->monitor, &run->state);
    r->decisions++;
    note_readings(run);
    return decision->changed ? add_change(run, run->last_ns, decision, err) : 0;
}

static void note_guarantees(struct sim_run *run)
{
    struct sim_result *r = run->result;
    pol_monitor_finish(run->monitor);
    r->n_guarantees = run->policy->n_guarantees;
    for (size_t i = 0; i < r->n_guarantees; i++) {
        const struct pol_guarantee_status *status = pol_monitor_status(run->monitor, i);
        struct sim_guarantee *g = &r->guarantees[i];
        memcpy(g->text, run->policy->guarantees[i], sizeof g->text);
        g->verdict = status->verdict;
        g->decided = status->decided;
        if (g->decided)
            g->decided_s = (double)(status->decided_ns - run->begin_ns) * 1e-9;
        g->robustness = status->started ? status->lower + 0.0 : NAN; /* -0 becomes 0 */
        g->restarts = status->restarts;
        if (status->waits_for >= 0)
            memcpy(g->waits_for, run->policy->sensors[status->waits_for].name, sizeof g->waits_for);
    }
}

void sim_run_finish(struct sim_run *run, uint64_t end_ns)
{
    struct sim_result *r = run->result;
    if (end_ns > run->last_ns) {
        run->in_state_ns[run->state.state] += end_ns - run->last_ns;
        run->last_ns = end_ns;
    }
    if (run->monitor)
        note_guarantees(run);
    pol_monitor_free(run->monitor);
    run->monitor = NULL;
    r->duration_s = (double)(run->last_ns - run->begin_ns) * 1e-9;
    for (size_t i = 0; i < r->n_states; i++)
        r->time_in_state_ms[i] = (run->in_state_ns[i] + 500000) / 1000000;
}

int sim_replay(const struct dev_trace *trace, const struct pol_policy *policy,
               struct sim_result *result, struct ert_error *err)
{
    enum { MAX_DECISIONS = 100000000 };
    struct sim_run run;
    struct dev_reading raw[POL_MAX_SENSORS];
    struct pol_decision decision;
    int columns[POL_MAX_SENSORS], rc = 0;
    double duration_s = dev_trace_duration_s(trace);
    rc = sim_run_init(&run, trace->path, policy, result, err);
    if (!(duration_s / policy->poll_s < MAX_DECISIONS))
        rc = ert_fail(err, ERT_E_RANGE, "%s: %g s at a poll of %g s are more than %d decisions",
                      trace->path, duration_s, policy->poll_s, MAX_DECISIONS);
    for (size_t i = 0; i < policy->n_sensors; i++)
        columns[i] = dev_trace_column(trace, policy->sensors[i].name);
    uint64_t poll_ns = (uint64_t)llround(policy->poll_s * 1e9);
    uint64_t end_ns = (uint64_t)llround(duration_s * 1e9);
    for (uint64_t now_ns = 0; !rc && now_ns <= end_ns; now_ns += poll_ns) {
        for (size_t i = 0; i < policy->n_sensors; i++)
            raw[i] = dev_trace_at(trace, columns[i], (double)now_ns * 1e-9, 0);
        rc = sim_run_decide(&run, now_ns, raw, &decision, err);
    }
    sim_run_finish(&run, end_ns);
    if (rc)
        sim_result_release(result);
    return rc;
}

void sim_result_release(struct sim_result *result)
{
    free(result->changes);
    memset(result, 0, sizeof *result);
}
