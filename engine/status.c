#include "engine/engine.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define POWER_INTERVAL_NS 100000000ULL /* battery gauges are slower than this */
#define S_PER_NS          1e-9

/* Watts drawn from the battery, NaN while unknown or charging. */
static double look_at_power(struct ert_engine *e)
{
    struct gov_status status;
    if (!e->governor)
        return NAN;
    gov_get_status(e->governor, &status);
    for (size_t i = 0; i < status.n_sensors; i++)
        if (!strcmp(status.sensors[i], "battery.power") && status.readings[i].why == DEV_PRESENT &&
            status.readings[i].value >= 0)
            return status.readings[i].value;
    return NAN;
}

struct ert_point_use *use_of(struct ert_engine *e, uint32_t code)
{
    return &e->use[e->ladders[code >> RUNGS_STATE_BITS]->use[rungs_state(code)]];
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

void use_add(struct ert_engine *e, uint64_t from_ns, uint64_t to_ns, uint64_t tokens, bool prefill)
{
    double seconds = (double)(to_ns - from_ns) * S_PER_NS;
    if (e->power_ns == 0 || to_ns - e->power_ns > POWER_INTERVAL_NS) {
        e->power_w = look_at_power(e);
        e->power_ns = to_ns;
    }
    pthread_mutex_lock(&e->lock);
    struct ert_point_use *use = use_of(e, e->code);
    *(prefill ? &use->prompt_tokens : &use->tokens) += tokens;
    *(prefill ? &use->prefill_s : &use->decode_s) += seconds;
    if (!isnan(e->power_w)) {
        use->energy_j += e->power_w * seconds;
        use->measured_s += seconds;
    }
    pthread_mutex_unlock(&e->lock);
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
    *status = (struct ert_status){0};
    if (e->governor)
        sensor_status(e, status);
    pthread_mutex_lock(&e->lock);
    snprintf(status->point, sizeof status->point, "%s", engine_point(e, e->code)->name);
    snprintf(status->reason, sizeof status->reason, "%s", e->reason);
    status->state = rungs_state(e->code);
    status->failsafe = e->failsafe;
    status->switches = e->switches;
    pthread_mutex_unlock(&e->lock);
}
