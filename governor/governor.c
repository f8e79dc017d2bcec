/* The door: a governor's start and end, and what other threads ask it and tell it. */
#include "governor/loop.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- start ---------------------------------------------------------------------------------- */

static int open_machine(struct gov_governor *g, const struct gov_config *config,
                        struct ert_error *err)
{
    const struct gov_sources *sources = &config->sources;
    int rc = 0;
    g->root = strdup(sources->root ? sources->root : "");
    g->bus_address = sources->bus ? strdup(sources->bus) : NULL;
    if (!g->root || (sources->bus && !g->bus_address))
        return ert_fail(err, ERT_E_NOMEM, "no memory for the root folder's name");
    if (sources->replay)
        rc = dev_trace_read(&g->trace, sources->replay, err);
    g->machine = (struct gov_machine){
        .root = g->root, .work = &g->work, .trace = g->trace, .origin_ns = GOV_ORIGIN_NS};
    if (!rc)
        rc = gov_events_open(&g->events, !g->trace && !g->root[0], err);
    if (!rc && !g->trace)
        rc = gov_sensors_ask(g->policy, &g->machine, sources->bus, gov_changed, g, err);
    if (!rc)
        rc = gov_sensors_open(&g->sensors, g->policy, &g->machine, err);
    if (!rc)
        gov_sensors_arm(&g->sensors, &g->machine, &g->events);
    if (!rc)
        rc = gov_gauge_open(&g->gauge, config->battery, &g->machine, sources->bus, gov_changed, g,
                            err);
    for (size_t i = 0; !rc && i < config->n_watched; i++)
        gov_events_watch_folder(&g->events, config->watched[i].folder, config->watched[i].pattern,
                                GOV_EVENT_POLICY);
    return rc;
}

static int set_rhythm(struct gov_governor *g, const struct gov_config *config,
                      struct ert_error *err)
{
    double speed = config->sources.replay_speed;
    g->speed = config->sources.replay && speed != 0 ? speed : 1;
    if (!(g->speed > 0) || !isfinite(g->speed))
        return ert_fail(err, ERT_E_USAGE, "replay speed %g: expected a number above 0", speed);
    return gov_set_poll(g, g->policy, err);
}

static void init_waiting(struct gov_governor *g)
{
    pthread_cond_init(&g->first, NULL);
    pthread_mutex_init(&g->lock, NULL);
}

/* Everything but the thread. */
static void governor_free(struct gov_governor *g)
{
    gov_machine_release(&g->machine);
    gov_sensors_close(&g->sensors);
    gov_gauge_close(&g->gauge);
    gov_events_close(&g->events);
    pol_monitor_free(g->monitor);
    free(g->policy);
    dev_trace_free(g->trace);
    free(g->root);
    free(g->bus_address);
    if (g->c_locale)
        freelocale(g->c_locale);
    gov_worklog_release(&g->work);
    pthread_cond_destroy(&g->first);
    pthread_mutex_destroy(&g->lock);
    free(g);
}

static int start_thread(struct gov_governor *g, struct ert_error *err)
{
    g->start_real_ns = g->decision_real_ns = ert_now_ns();
    g->probe_at_ns = g->start_real_ns + GOV_PROBE_AGAIN_NS;
    int rc = pthread_create(&g->thread, NULL, gov_loop, g);
    if (rc)
        return ert_fail(err, ERT_E_NOMEM, "cannot start the governor's thread: %s", strerror(rc));
    pthread_mutex_lock(&g->lock);
    while (g->status.decisions == 0)
        pthread_cond_wait(&g->first, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return 0;
}

int gov_start(struct gov_governor **governor, const struct gov_config *config,
              struct ert_error *err)
{
    *governor = NULL;
    struct gov_governor *g = calloc(1, sizeof *g);
    if (!g)
        return ert_fail(err, ERT_E_NOMEM, "no memory for the governor");
    g->policy = malloc(sizeof *g->policy);
    if (!g->policy) {
        free(g);
        return ert_fail(err, ERT_E_NOMEM, "no memory for the governor");
    }
    memcpy(g->policy, config->policy, sizeof *g->policy);
    g->actuator = config->actuator;
    g->journal.fd = -1;
    gov_name_sensors(g);
    init_waiting(g);
    gov_ring_init(&g->ring);
    gov_worklog_init(&g->work);
    pol_state_init(&g->state, g->policy);
    g->c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    int rc = g->c_locale ? set_rhythm(g, config, err) : ert_fail(err, ERT_E_NOMEM, "no memory");
    if (!rc)
        rc = pol_monitor_create(&g->monitor, g->policy, err);
    if (!rc)
        rc = open_machine(g, config, err);
    if (!rc)
        rc = gov_journal_open(&g->journal, config->journal, config->journal_bytes, g->policy,
                              g->poll_ns, err);
    if (!rc)
        rc = start_thread(g, err);
    if (rc) {
        gov_journal_close(&g->journal, NULL);
        governor_free(g);
        return rc;
    }
    *governor = g;
    return 0;
}

/* ---- from other threads --------------------------------------------------------------------- */

int gov_stop(struct gov_governor *g, struct ert_error *err)
{
    if (!g)
        return 0;
    pthread_mutex_lock(&g->lock);
    g->stop = true;
    pthread_mutex_unlock(&g->lock);
    gov_events_poke(&g->events);
    pthread_join(g->thread, NULL);
    int rc = gov_journal_close(&g->journal, err);
    governor_free(g);
    return rc;
}

void gov_poke(struct gov_governor *g)
{
    gov_events_poke(&g->events);
}

void gov_reload(struct gov_governor *g)
{
    gov_events_ask_reload(&g->events);
}

void gov_get_status(struct gov_governor *g, struct gov_status *status)
{
    pthread_mutex_lock(&g->lock);
    *status = g->status;
    pthread_mutex_unlock(&g->lock);
}

void gov_get_battery(struct gov_governor *g, struct gov_battery *battery)
{
    pthread_mutex_lock(&g->lock);
    *battery = g->battery;
    pthread_mutex_unlock(&g->lock);
}

/* The decision clock as it runs without a trace; with one the loads are the trace's. */
void gov_report_work(struct gov_governor *g, enum gov_work work)
{
    gov_worklog_set(&g->work, work, GOV_ORIGIN_NS + (ert_now_ns() - g->start_real_ns));
}

void gov_report_progress(struct gov_governor *g, const struct gov_progress *progress)
{
    pthread_mutex_lock(&g->lock);
    g->progress = *progress;
    g->progressed = true;
    pthread_mutex_unlock(&g->lock);
}

void gov_report_switch(struct gov_governor *g, const struct gov_switch_event *event)
{
    gov_ring_put(&g->ring, event);
}

void gov_reason(struct gov_governor *g, unsigned state, char trip[POL_NAME],
                char reason[POL_REASON])
{
    unsigned s = state < POL_MAX_STATES ? state : 0;
    pthread_mutex_lock(&g->lock);
    bool tripped = g->reasons[s].text[0] && g->reasons[s].trip >= 0;
    snprintf(trip, POL_NAME, "%s", tripped ? g->policy->trips[g->reasons[s].trip].name : "");
    memcpy(reason, g->reasons[s].text, POL_REASON);
    pthread_mutex_unlock(&g->lock);
}
