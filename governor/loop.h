/* Inside governor/: what the governor is, for the files that make it. governor.c starts it and
 * speaks with other threads, loop.c reads and decides, adopt.c takes a policy into use. */
#ifndef GOV_LOOP_H
#define GOV_LOOP_H

#include <locale.h>
#include <pthread.h>

#include "governor/energy.h"
#include "governor/events.h"
#include "governor/journal.h"
#include "governor/ring.h"
#include "governor/sensors.h"
#include "governor/timekeeping.h"
#include "governor/work.h"

#define GOV_NS_PER_S       1000000000ULL
#define GOV_ORIGIN_NS      (3600 * GOV_NS_PER_S) /* so that a reading may be older than the start */
#define GOV_PROBE_AGAIN_NS (5 * GOV_NS_PER_S)

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

static inline double gov_seconds_since_start(uint64_t decision_ns)
{
    return (double)(decision_ns - GOV_ORIGIN_NS) / 1e9;
}

/* A real time as seconds since the start on the decision clock, through the last decision. */
static inline double gov_decision_seconds(const struct gov_governor *g, uint64_t real_ns)
{
    double passed_s = ((double)real_ns - (double)g->decision_real_ns) / 1e9;
    double t_s = gov_seconds_since_start(g->decision_ns) + passed_s * g->speed;
    return t_s > 0 ? t_s : 0;
}

/* What a service on the bus calls with the governor when it has something new: a decision at once.
 */
static inline void gov_changed(void *governor)
{
    gov_poke(governor);
}

/* The thread, of loop.c: decides until g->stop. data: the governor. */
void *gov_loop(void *data);

/* Of adopt.c. The policy's rhythm at the replay's speed, g->speed; ERT_E_USAGE where nobody can
 * keep it. */
int gov_set_poll(struct gov_governor *g, const struct pol_policy *policy, struct ert_error *err);
/* What the policy calls its sensors. Called with the lock held, or before there are threads. */
void gov_name_sensors(struct gov_governor *g);
/* Has the actuator read the policy again, and takes over what is another one. A bad one changes
 * nothing; a person is told. On the governor's thread. */
void gov_read_policy_again(struct gov_governor *g);

#endif
