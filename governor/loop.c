/* A reading's way: source -> pol_decide -> status, journal, actuator. One thread, one decision a
 * poll. */
#include "governor/loop.h"

#include <string.h>
#include <time.h>

enum { POLLS_UNTIL_DEAD = 3 };

/* ---- readings ------------------------------------------------------------------------------- */

/* Sources that did not answer are looked for again now and then: batteries and zones come. */
static void probe_again(struct gov_governor *g, uint64_t real_ns)
{
    if (g->trace || real_ns < g->probe_at_ns)
        return;
    g->probe_at_ns = real_ns + GOV_PROBE_AGAIN_NS;
    gov_sensors_probe_again(&g->sensors, &g->machine);
    gov_gauge_probe_again(&g->gauge, &g->machine);
}

static void read_sensors(struct gov_governor *g, uint64_t now_ns, struct dev_reading *raw)
{
    for (size_t i = 0; i < g->policy->n_sensors; i++) {
        const char *before = gov_sensors_source(&g->sensors, i);
        raw[i] = gov_sensors_read(&g->sensors, i, &g->machine, now_ns);
        const char *now = gov_sensors_source(&g->sensors, i);
        if (now != before)
            gov_journal_source(&g->journal, gov_seconds_since_start(now_ns),
                               g->policy->sensors[i].name, before, now,
                               gov_sensors_why(&g->sensors, i));
    }
}

/* ---- one decision --------------------------------------------------------------------------- */

/* Live, the clock runs with the machine's. A replay moves one poll of trace time per decision,
 * whatever real time does, so that at any speed it decides at the simulator's times. */
static uint64_t decision_time(const struct gov_governor *g, uint64_t real_ns)
{
    if (!g->trace)
        return GOV_ORIGIN_NS + (real_ns - g->start_real_ns);
    return g->state.decisions ? g->decision_ns + g->poll_ns : GOV_ORIGIN_NS;
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * GOV_NS_PER_S + (uint64_t)t.tv_nsec;
}

/* Which source serves a sensor, or the sensors that it is made of; else why there is none. */
static void tell_source(const struct gov_governor *g, size_t i, struct gov_status *status)
{
    const char *source = gov_sensors_source(&g->sensors, i);
    bool made = !*source && status->readings[i].why == DEV_PRESENT;
    snprintf(status->sources[i], sizeof status->sources[i], "%s", source);
    status->why[i][0] = '\0';
    if (made)
        gov_sensors_blend(&g->policy->sensors[i], status->sources[i], sizeof status->sources[i]);
    else if (!*source)
        snprintf(status->why[i], sizeof status->why[i], "%s", gov_sensors_why(&g->sensors, i));
}

/* Between two decisions, in real time: a slow replay waits longer than the policy's poll. */
static uint64_t longest_wait(const struct gov_governor *g)
{
    return g->wait_ns > g->poll_ns ? g->wait_ns : g->poll_ns;
}

static void publish_status(struct gov_governor *g, const struct pol_decision *decision)
{
    struct gov_status *status = &g->status;
    struct gov_battery battery = gov_gauge_read(&g->gauge, &g->machine, g->decision_ns);
    battery.until_ns = ert_now_ns() + POLLS_UNTIL_DEAD * longest_wait(g);
    pthread_mutex_lock(&g->lock);
    g->battery = battery;
    status->decision = *decision;
    status->decisions++;
    status->cpu_ns = thread_cpu_ns();
    status->running_ns = g->decision_real_ns - g->start_real_ns;
    status->transitions += decision->changed;
    if (decision->changed) {
        memcpy(g->reasons[decision->state].text, decision->reason, POL_REASON);
        g->reasons[decision->state].trip = decision->trip;
    }
    for (size_t i = 0; i < g->policy->n_sensors; i++) {
        status->readings[i] = pol_validated(g->policy, &g->state, (unsigned)i);
        tell_source(g, i, status);
    }
    if (g->trace) {
        status->replay_s = gov_seconds_since_start(g->decision_ns);
        status->replay_ended = status->replay_s >= dev_trace_duration_s(g->trace);
    }
    status->switches_lost = atomic_load_explicit(&g->ring.lost, memory_order_relaxed);
    memcpy(status->journal_failure, g->journal.failure, sizeof status->journal_failure);
    pthread_mutex_unlock(&g->lock);
}

static void validated_readings(const struct gov_governor *g, struct dev_reading *readings)
{
    for (size_t i = 0; i < g->policy->n_sensors; i++)
        readings[i] = pol_validated(g->policy, &g->state, (unsigned)i);
}

/* Guarantees that are false from this decision on, with the readings that broke them. */
static void watch_guarantees(struct gov_governor *g)
{
    struct dev_reading readings[POL_MAX_SENSORS];
    uint32_t broken = pol_monitor_step(g->monitor, &g->state);
    if (broken)
        validated_readings(g, readings);
    for (unsigned i = 0; broken >> i; i++)
        if (broken >> i & 1)
            gov_journal_guarantee(&g->journal, g->policy, gov_seconds_since_start(g->decision_ns),
                                  i, pol_monitor_status(g->monitor, i), g->state.state, readings);
}

static void journal_switches(struct gov_governor *g)
{
    struct gov_switch_event event;
    struct dev_reading readings[POL_MAX_SENSORS];
    validated_readings(g, readings);
    while (gov_ring_take(&g->ring, &event)) {
        gov_journal_switch(&g->journal, g->policy, gov_decision_seconds(g, event.time_ns), &event,
                           readings);
    }
}

static void journal_progress(struct gov_governor *g)
{
    pthread_mutex_lock(&g->lock);
    struct gov_progress progress = g->progress;
    bool news = g->progressed;
    g->progressed = false;
    pthread_mutex_unlock(&g->lock);
    if (news)
        gov_journal_progress(&g->journal, gov_seconds_since_start(g->decision_ns),
                             gov_worklog_now(&g->work), &progress);
}

static void decide_once(struct gov_governor *g)
{
    struct dev_reading raw[POL_MAX_SENSORS];
    struct pol_decision decision;
    uint64_t real_ns = ert_now_ns();
    g->decision_ns = decision_time(g, real_ns);
    g->decision_real_ns = real_ns;
    probe_again(g, real_ns);
    read_sensors(g, g->decision_ns, raw);
    pol_decide(g->policy, &g->state, g->decision_ns, raw, &decision);
    gov_journal_input(&g->journal, g->policy, g->decision_ns, raw, decision.state);
    if (decision.changed)
        gov_journal_decision(&g->journal, g->policy, gov_seconds_since_start(g->decision_ns),
                             &decision);
    watch_guarantees(g);
    publish_status(g, &decision);
    if (g->actuator.beat)
        g->actuator.beat(g->actuator.ctx, ert_now_ns() + POLLS_UNTIL_DEAD * longest_wait(g));
    bool news = decision.changed || decision.release_memory != g->releasing || g->adopted ||
                decision.prefill_state != g->prefill_state;
    if (news && g->actuator.apply)
        g->actuator.apply(g->actuator.ctx, &decision);
    g->releasing = decision.release_memory;
    g->prefill_state = decision.prefill_state;
    g->adopted = false;
    journal_switches(g);
    journal_progress(g);
    gov_journal_flush(&g->journal);
    gov_journal_rotate(&g->journal, g->policy, g->poll_ns, &g->state);
}

/* ---- the thread ----------------------------------------------------------------------------- */

/* What happened since the last decision, for the journal: a person wants to know why one came
 * early, or late. */
static void tell_events(struct gov_governor *g, unsigned events, uint64_t deadline_ns)
{
    double t_s = gov_decision_seconds(g, ert_now_ns());
    char words[GOV_EVENT_WORDS];
    if (events & ~(unsigned)GOV_EVENT_POKE)
        gov_journal_event(&g->journal, t_s, g->events.what);
    if (!g->trace && gov_timekeeping_note(&g->timekeeping, gov_clocks_now(), deadline_ns,
                                          longest_wait(g), words, sizeof words))
        gov_journal_event(&g->journal, t_s, words);
}

/* Waits for the next decision's time, or what comes before; true to go on. */
static bool wait_for_turn(struct gov_governor *g, uint64_t deadline_ns)
{
    unsigned events = gov_events_wait(&g->events, deadline_ns);
    tell_events(g, events, deadline_ns);
    if (events & GOV_EVENT_HOTPLUG)
        g->probe_at_ns = 0; /* what came is looked for at once */
    if ((events & GOV_EVENT_POLICY) && g->actuator.reload)
        gov_read_policy_again(g);
    pthread_mutex_lock(&g->lock);
    bool stop = g->stop;
    pthread_mutex_unlock(&g->lock);
    return !stop;
}

void *gov_loop(void *data)
{
    struct gov_governor *g = data;
    locale_t before = uselocale(g->c_locale); /* numbers in the journal have points */
    uint64_t deadline_ns = ert_now_ns();
    ert_take_short_turns();
    gov_timekeeping_init(&g->timekeeping, gov_clocks_now());
    do {
        decide_once(g);
        uint64_t now_ns = ert_now_ns();
        /* After a hold-up the rhythm starts anew instead of catching up. */
        if (now_ns >= deadline_ns)
            deadline_ns =
                now_ns - deadline_ns < g->wait_ns ? deadline_ns + g->wait_ns : now_ns + g->wait_ns;
        pthread_mutex_lock(&g->lock);
        pthread_cond_broadcast(&g->first);
        pthread_mutex_unlock(&g->lock);
    } while (wait_for_turn(g, deadline_ns));
    journal_switches(g);
    journal_progress(g);
    uselocale(before);
    return NULL;
}
