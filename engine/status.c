#include "engine/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define METER_INTERVAL_NS 100000000ULL /* reading the meter costs microseconds */
#define S_PER_NS          1e-9
#define RECENT_S          1.0

struct ert_point_use *use_of(struct ert_engine *e, uint32_t code)
{
    return &e->use[e->ladders[rungs_ladder(code)]->use[rungs_state(code)]];
}

static size_t use_named(const struct ert_engine *e, const char *name)
{
    size_t i = 0;
    while (i < e->n_use && strcmp(e->use[i].point, name) != 0)
        i++;
    return i;
}

int use_add_rungs(struct ert_engine *e, struct rungs *rungs, struct ert_error *err)
{
    uint32_t n = rt_point_table_size(rungs->table);
    pthread_mutex_lock(&e->lock);
    struct ert_point_use *use = realloc(e->use, (e->n_use + n) * sizeof *use);
    e->use = use ? use : e->use;
    for (uint32_t i = 0; use && i < n; i++) {
        const char *name = rt_point_at(rungs->table, i)->name;
        rungs->use[i] = (uint32_t)use_named(e, name);
        if (rungs->use[i] < e->n_use)
            continue;
        use[e->n_use] = (struct ert_point_use){0};
        snprintf(use[e->n_use++].point, sizeof use->point, "%s", name);
    }
    pthread_mutex_unlock(&e->lock);
    return use ? 0 : ert_fail(err, ERT_E_NOMEM, "out of memory for %u points", n);
}

/* Watts that the ladder gives for the point in effect, NaN = it does not say. */
static double model_power(const struct ert_engine *e, bool prefill)
{
    const struct pol_policy *policy = e->ladders[rungs_ladder(e->code)]->policy;
    const struct pol_point *point = policy ? &policy->states[rungs_state(e->code)] : NULL;
    double watts = point ? (prefill ? point->prefill_power_w : point->power_w) : 0;
    return watts > 0 ? watts : NAN;
}

static void take_energy(struct ert_engine *e, const struct work *work, struct ert_energy *spent)
{
    struct gov_energy taken = {0};
    struct gov_battery battery;
    if (e->governor)
        gov_get_battery(e->governor, &battery);
    gov_meter_take(e->spending.meter, e->governor ? &battery : NULL, model_power(e, work->prefill),
                   &taken);
    memcpy(spent->joules, taken.joules, sizeof spent->joules);
    memcpy(spent->seconds, taken.seconds, sizeof spent->seconds);
    spent->unknown_s = taken.unknown_s;
    e->spending.taken_ns = work->to_ns;
}

/* What a token takes now, from stretches of decoding of a second or so. */
static void follow(struct spending *s, const struct ert_energy *spent)
{
    ert_energy_add(&s->recent, spent);
    double seconds = s->recent.unknown_s;
    for (int i = 0; i < ERT_ENERGY_SOURCES; i++)
        seconds += s->recent.seconds[i];
    if (seconds < RECENT_S || s->recent_tokens == 0)
        return;
    s->progress.each_j = ert_energy_each(&s->recent, s->recent_tokens);
    s->recent = (struct ert_energy){0};
    s->recent_tokens = 0;
}

void use_begin(struct ert_engine *e)
{
    struct spending *s = &e->spending;
    gov_meter_begin(s->meter);
    pthread_mutex_lock(&e->lock);
    s->taken_ns = ert_now_ns();
    s->prefill = s->decode = s->recent = (struct ert_energy){0};
    s->decoded = s->recent_tokens = 0;
    pthread_mutex_unlock(&e->lock);
}

/* Adds it all up, and which source told last. */
static void progress_by(struct gov_progress *p, const struct work *work,
                        const struct ert_energy *spent)
{
    double seconds = (double)(work->to_ns - work->from_ns) * S_PER_NS;
    *(work->prefill ? &p->prompt_tokens : &p->tokens) += work->tokens;
    *(work->prefill ? &p->prefill_s : &p->decode_s) += seconds;
    p->joules += ert_energy_joules(spent);
    p->source = spent->unknown_s > 0 ? -1 : p->source;
    for (int i = 0; i < ERT_ENERGY_SOURCES; i++)
        p->source = spent->seconds[i] > 0 ? i : p->source;
}

static void book(struct ert_engine *e, const struct work *work, const struct ert_energy *spent)
{
    double seconds = (double)(work->to_ns - work->from_ns) * S_PER_NS;
    struct spending *s = &e->spending;
    struct ert_point_use *use = use_of(e, e->code);
    *(work->prefill ? &use->prompt_tokens : &use->tokens) += work->tokens;
    use->drafted += work->drafted;
    use->accepted += work->accepted;
    *(work->prefill ? &use->prefill_s : &use->decode_s) += seconds;
    ert_energy_add(work->prefill ? &use->prefill_energy : &use->decode_energy, spent);
    ert_energy_add(work->prefill ? &s->prefill : &s->decode, spent);
    progress_by(&s->progress, work, spent);
    if (!work->prefill) {
        s->decoded += work->tokens;
        s->recent_tokens += work->tokens;
        follow(s, spent);
    }
    memcpy(s->why, gov_meter_why(s->meter), sizeof s->why);
}

void use_add(struct ert_engine *e, const struct work *work)
{
    struct spending *s = &e->spending;
    struct ert_energy spent = {0};
    bool due = work->ends || work->to_ns - s->taken_ns > METER_INTERVAL_NS;
    if (due)
        take_energy(e, work, &spent);
    pthread_mutex_lock(&e->lock);
    book(e, work, &spent);
    pthread_mutex_unlock(&e->lock);
    if (!due || !e->planes || !e->governor)
        return;
    snprintf(s->progress.point, sizeof s->progress.point, "%s", engine_point(e, e->code)->name);
    gov_report_progress(e->governor, &s->progress);
}

size_t ert_get_use(struct ert_engine *e, struct ert_point_use *use, size_t room)
{
    pthread_mutex_lock(&e->lock);
    size_t n = e->n_use;
    memcpy(use, e->use, (n < room ? n : room) * sizeof *use);
    pthread_mutex_unlock(&e->lock);
    return n;
}

static void sensor_status(const struct ert_engine *e, struct ert_status *status)
{
    struct gov_status gov;
    gov_get_status(e->governor, &gov);
    snprintf(status->policy, sizeof status->policy, "%s", gov.policy);
    status->decisions = gov.decisions;
    status->replay_ended = gov.replay_ended;
    status->replay_s = gov.replay_s;
    status->n_sensors = gov.n_sensors < ERT_STATUS_SENSORS ? gov.n_sensors : ERT_STATUS_SENSORS;
    for (size_t i = 0; i < status->n_sensors; i++) {
        const struct dev_signal *signal = dev_signal_find(gov.sensors[i]);
        const struct dev_reading *reading = &gov.readings[i];
        snprintf(status->sensors[i].name, sizeof status->sensors[i].name, "%s", gov.sensors[i]);
        snprintf(status->sensors[i].unit, sizeof status->sensors[i].unit, "%s",
                 signal ? ert_unit_name(signal->unit) : "");
        status->sensors[i].present = reading->why == DEV_PRESENT;
        status->sensors[i].value = reading->value;
        status->sensors[i].why = dev_absence_text(reading->why);
    }
}

void ert_get_status(struct ert_engine *e, struct ert_status *status)
{
    struct gov_battery battery = {0};
    *status = (struct ert_status){0};
    if (e->governor && e->planes)
        sensor_status(e, status);
    if (e->governor)
        gov_get_battery(e->governor, &battery);
    status->battery_wh = battery.full_wh;
    pthread_mutex_lock(&e->lock);
    snprintf(status->point, sizeof status->point, "%s", engine_point(e, e->code)->name);
    snprintf(status->reason, sizeof status->reason, "%s", e->reason);
    status->state = rungs_state(e->code);
    status->failsafe = e->failsafe;
    status->switches = e->switches;
    status->each_j = e->spending.progress.each_j;
    snprintf(status->energy_why, sizeof status->energy_why, "%s", e->spending.why);
    pthread_mutex_unlock(&e->lock);
}
