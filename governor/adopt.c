/* A policy taken into use: its rhythm and the names of its sensors; and, while the governor runs,
 * another one in its place. */
#include "governor/loop.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t SHORTEST_WAIT_NS = GOV_NS_PER_S / 1000;

/* ---- what holds ----------------------------------------------------------------------------- */

void gov_name_sensors(struct gov_governor *g)
{
    snprintf(g->status.policy, sizeof g->status.policy, "%s", g->policy->name);
    g->status.n_sensors = g->policy->n_sensors;
    for (size_t i = 0; i < g->policy->n_sensors; i++) {
        memcpy(g->status.sensors[i], g->policy->sensors[i].name, DEV_NAME);
        g->status.readings[i] = (struct dev_reading){.why = DEV_NO_SAMPLE};
        g->status.sources[i][0] = g->status.why[i][0] = '\0';
    }
}

int gov_set_poll(struct gov_governor *g, const struct pol_policy *policy, struct ert_error *err)
{
    double poll_s = policy->poll_s;
    if (!(poll_s >= 1e-3) || poll_s > 86400)
        return ert_fail(err, ERT_E_USAGE, "policy %s polls every %g s: expected 1 ms to a day",
                        policy->name, poll_s);
    g->poll_ns = (uint64_t)llround(poll_s * 1e9);
    double wait_ns = (double)g->poll_ns / g->speed;
    g->wait_ns = wait_ns > (double)SHORTEST_WAIT_NS
                     ? (wait_ns < 1e15 ? (uint64_t)wait_ns : (uint64_t)1e15)
                     : SHORTEST_WAIT_NS;
    return 0;
}

/* ---- another one ---------------------------------------------------------------------------- */

/* Sensors and monitor of a policy that is about to take over. */
struct successor {
    struct pol_policy *policy;
    struct gov_sensors sensors;
    struct pol_monitor *monitor;
    struct pol_state state;
};

/* From here on nothing can fail. */
static void take_over(struct gov_governor *g, struct successor *s)
{
    struct pol_policy *before = g->policy;
    pthread_mutex_lock(&g->lock);
    g->policy = s->policy;
    memset(g->reasons, 0, sizeof g->reasons);
    gov_name_sensors(g);
    pthread_mutex_unlock(&g->lock);
    gov_sensors_close(&g->sensors);
    g->sensors = s->sensors;
    gov_events_disarm(&g->events, GOV_EVENT_PRESSURE);
    gov_sensors_arm(&g->sensors, &g->machine, &g->events);
    pol_monitor_free(g->monitor);
    g->monitor = s->monitor;
    g->state = s->state;
    g->adopted = true;
    s->policy = NULL;
    free(before);
    g->actuator.adopt(g->actuator.ctx);
}

/* Everything that may fail, without touching what holds. */
static int prepare(struct gov_governor *g, struct successor *s, struct ert_error *err)
{
    int rc =
        g->trace ? 0 : gov_sensors_ask(s->policy, &g->machine, g->bus_address, gov_changed, g, err);
    if (!rc)
        rc = pol_monitor_create(&s->monitor, s->policy, err);
    if (!rc)
        rc = gov_sensors_open(&s->sensors, s->policy, &g->machine, err);
    if (!rc && (rc = gov_set_poll(g, s->policy, err)))
        gov_sensors_close(&s->sensors);
    if (rc)
        pol_monitor_free(s->monitor);
    else
        pol_state_carry(&s->state, s->policy, &g->state, g->policy);
    return rc;
}

static int change_policy(struct gov_governor *g, struct successor *s, struct ert_error *err)
{
    int rc = prepare(g, s, err);
    if (rc)
        return rc;
    rc = gov_journal_policy(&g->journal, gov_decision_seconds(g, ert_now_ns()), s->policy,
                            g->poll_ns, err);
    if (rc)
        gov_journal_fail(&g->journal, err->text);
    take_over(g, s);
    return 0;
}

static void tell_person(struct gov_governor *g, const char *text)
{
    gov_journal_event(&g->journal, gov_decision_seconds(g, ert_now_ns()), text);
    if (g->actuator.notice)
        g->actuator.notice(g->actuator.ctx, text);
}

/* A policy is flat and its padding zero (policies.h), so that bytes tell. */
static bool same_policy(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct pol_policy)) == 0;
}

void gov_read_policy_again(struct gov_governor *g)
{
    struct ert_error err;
    char text[sizeof err.text + 64];
    struct successor s = {.policy = calloc(1, sizeof *s.policy)};
    int rc = s.policy ? g->actuator.reload(g->actuator.ctx, s.policy, &err)
                      : ert_fail(&err, ERT_E_NOMEM, "no memory for a policy");
    bool same = !rc && s.policy && same_policy(s.policy, g->policy);
    if (!rc && !same)
        rc = change_policy(g, &s, &err);
    if (rc)
        snprintf(text, sizeof text, "the policy that holds stays: %s", err.text);
    else
        snprintf(text, sizeof text, "policy '%s' was read again", g->policy->name);
    if (!same)
        tell_person(g, text);
    free(s.policy);
}
