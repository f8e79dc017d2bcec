/* A reading's way: source -> pol_decide -> status, journal, actuator. One thread, one decision a
 * poll. */
#include "governor/energy.h"
#include "governor/events.h"
#include "governor/journal.h"
#include "governor/ring.h"
#include "governor/sensors.h"
#include "governor/timekeeping.h"
#include "governor/work.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NS_PER_S  1000000000ULL
#define ORIGIN_NS (3600 * NS_PER_S) /* so that a reading may be older than the start */

enum { POLLS_UNTIL_DEAD = 3 };
static const uint64_t PROBE_AGAIN_NS = 5 * NS_PER_S;
static const uint64_t SHORTEST_WAIT_NS = NS_PER_S / 1000;

struct gov_governor {
    struct pol_policy *policy;
    struct gov_actuator actuator;
    struct gov_machine machine;
    char *root, *bus_address;
    struct dev_trace *trace;
    double speed;              /* of a replay; 1 live */
    uint64_t poll_ns, wait_ns; /* on the decision clock; in real time */
    pthread_t thread;
    locale_t c_locale;

    /* Of the thread. */
    struct gov_sensors sensors;
    struct gov_gauge gauge;
    struct pol_state state;
    struct pol_monitor *monitor;
    unsigned prefill_state; /* as the actuator knows it */
    bool releasing;         /* the actuator knows that memory is short */
    bool adopted;           /* another policy holds, and the actuator does not know its state yet */
    struct gov_journal journal;
    uint64_t start_real_ns, probe_at_ns, decision_ns, decision_real_ns;

    struct gov_ring ring;
    struct gov_worklog work;

    struct gov_events events;
    struct gov_timekeeping timekeeping; /* of the thread */

    pthread_mutex_t lock;
    pthread_cond_t first;
    /* Under lock. */
    bool stop;
    struct gov_status status;
    struct gov_battery battery;
    struct gov_progress progress;
    bool progressed; /* since it was journaled */
    struct {
        char text[POL_REASON];
        int trip;
    } reasons[POL_MAX_STATES]; /* of the last change to that state; "" = none yet */
};

/* ---- readings ------------------------------------------------------------------------------- */

/* Sources that did not answer are looked for again now and then: batteries and zones come. */
static void probe_again(struct gov_governor *g, uint64_t real_ns)
{
    if (g->trace || real_ns < g->probe_at_ns)
        return;
    g->probe_at_ns = real_ns + PROBE_AGAIN_NS;
    gov_sensors_probe_again(&g->sensors, &g->machine);
    gov_gauge_probe_again(&g->gauge, &g->machine);
}

static double seconds_since_start(uint64_t decision_ns)
{
    return (double)(decision_ns - ORIGIN_NS) / 1e9;
}

static void read_sensors(struct gov_governor *g, uint64_t now_ns, struct dev_reading *raw)
{
    for (size_t i = 0; i < g->policy->n_sensors; i++) {
        const char *before = gov_sensors_source(&g->sensors, i);
        raw[i] = gov_sensors_read(&g->sensors, i, &g->machine, now_ns);
        const char *now = gov_sensors_source(&g->sensors, i);
        if (now != before)
            gov_journal_source(&g->journal, seconds_since_start(now_ns), g->policy->sensors[i].name,
                               before, now, gov_sensors_why(&g->sensors, i));
    }
}

/* ---- one decision --------------------------------------------------------------------------- */

/* Live, the clock runs with the machine's. A replay moves one poll of trace time per decision,
 * whatever real time does, so that at any speed it decides at the simulator's times. */
static uint64_t decision_time(const struct gov_governor *g, uint64_t real_ns)
{
    if (!g->trace)
        return ORIGIN_NS + (real_ns - g->start_real_ns);
    return g->state.decisions ? g->decision_ns + g->poll_ns : ORIGIN_NS;
}

/* What the policy calls its sensors. Called with the lock held, or before there are threads. */
static void name_sensors(struct gov_governor *g)
{
    snprintf(g->status.policy, sizeof g->status.policy, "%s", g->policy->name);
    g->status.n_sensors = g->policy->n_sensors;
    for (size_t i = 0; i < g->policy->n_sensors; i++) {
        memcpy(g->status.sensors[i], g->policy->sensors[i].name, DEV_NAME);
        g->status.readings[i] = (struct dev_reading){.why = DEV_NO_SAMPLE};
        g->status.sources[i][0] = g->status.why[i][0] = '\0';
    }
}

static uint64_t thread_cpu_ns(void)
{
    struct timespec t = {0};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
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
        status->replay_s = seconds_since_start(g->decision_ns);
        status->replay_ended = status->replay_s >= dev_trace_duration_s(g->trace);
    }
    status->switches_lost = atomic_load_explicit(&g->ring.lost, memory_order_relaxed);
    memcpy(status->journal_failure, g->journal.failure, sizeof status->journal_failure);
    pthread_mutex_unlock(&g->lock);
}

/* A real time as seconds since the start on the decision clock, through the last decision. */
static double decision_seconds(const struct gov_governor *g, uint64_t real_ns)
{
    double passed_s = ((double)real_ns - (double)g->decision_real_ns) / 1e9;
    double t_s = seconds_since_start(g->decision_ns) + passed_s * g->speed;
    return t_s > 0 ? t_s : 0;
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
            gov_journal_guarantee(&g->journal, g->policy, seconds_since_start(g->decision_ns), i,
                                  pol_monitor_status(g->monitor, i), g->state.state, readings);
}

static void journal_switches(struct gov_governor *g)
{
    struct gov_switch_event event;
    struct dev_reading readings[POL_MAX_SENSORS];
    validated_readings(g, readings);
    while (gov_ring_take(&g->ring, &event)) {
        gov_journal_switch(&g->journal, g->policy, decision_seconds(g, event.time_ns), &event,
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
        gov_journal_progress(&g->journal, seconds_since_start(g->decision_ns),
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
        gov_journal_decision(&g->journal, g->policy, seconds_since_start(g->decision_ns),
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

/* ---- another policy ------------------------------------------------------------------------- */

static void poke(void *ctx)
{
    gov_poke(ctx);
}

/* The policies' rhythm at the replay's speed. */
static int set_poll(struct gov_governor *g, const struct pol_policy *policy, struct ert_error *err)
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
    name_sensors(g);
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
    int rc = g->trace ? 0 : gov_sensors_ask(s->policy, &g->machine, g->bus_address, poke, g, err);
    if (!rc)
        rc = pol_monitor_create(&s->monitor, s->policy, err);
    if (!rc)
        rc = gov_sensors_open(&s->sensors, s->policy, &g->machine, err);
    if (!rc && (rc = set_poll(g, s->policy, err)))
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
    rc = gov_journal_policy(&g->journal, decision_seconds(g, ert_now_ns()), s->policy, g->poll_ns,
                            err);
    if (rc)
        gov_journal_fail(&g->journal, err->text);
    take_over(g, s);
    return 0;
}

static void tell_person(struct gov_governor *g, const char *text)
{
    gov_journal_event(&g->journal, decision_seconds(g, ert_now_ns()), text);
    if (g->actuator.notice)
        g->actuator.notice(g->actuator.ctx, text);
}

/* A policy is flat and its padding zero (policies.h), so that bytes tell. */
static bool same_policy(const void *a, const void *b)
{
    return memcmp(a, b, sizeof(struct pol_policy)) == 0;
}

/* A bad new file keeps the policy that holds, and says so. */
static void read_policy_again(struct gov_governor *g)
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

/* ---- the thread ----------------------------------------------------------------------------- */

/* What happened since the last decision, for the journal: a person wants to know why one came
 * early, or late. */
static void tell_events(struct gov_governor *g, unsigned events, uint64_t deadline_ns)
{
    double t_s = decision_seconds(g, ert_now_ns());
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
        read_policy_again(g);
    pthread_mutex_lock(&g->lock);
    bool stop = g->stop;
    pthread_mutex_unlock(&g->lock);
    return !stop;
}

static void *governor_thread(void *data)
{
    struct gov_governor *g = data;
    locale_t before = uselocale(g->c_locale); /* numbers in the journal have points */
    uint64_t deadline_ns = ert_now_ns();
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
        .root = g->root, .work = &g->work, .trace = g->trace, .origin_ns = ORIGIN_NS};
    if (!rc)
        rc = gov_events_open(&g->events, !g->trace && !g->root[0], err);
    if (!rc && !g->trace)
        rc = gov_sensors_ask(g->policy, &g->machine, sources->bus, poke, g, err);
    if (!rc)
        rc = gov_sensors_open(&g->sensors, g->policy, &g->machine, err);
    if (!rc)
        gov_sensors_arm(&g->sensors, &g->machine, &g->events);
    if (!rc)
        rc = gov_gauge_open(&g->gauge, config->battery, &g->machine, sources->bus, poke, g, err);
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
    return set_poll(g, g->policy, err);
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
    g->probe_at_ns = g->start_real_ns + PROBE_AGAIN_NS;
    int rc = pthread_create(&g->thread, NULL, governor_thread, g);
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
    name_sensors(g);
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
    gov_worklog_set(&g->work, work, ORIGIN_NS + (ert_now_ns() - g->start_real_ns));
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
