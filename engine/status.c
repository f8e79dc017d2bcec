#include "engine/engine.h"

#include <math.h>
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
        if (!strcmp(e->policy->sensors[i].name, "battery.power") &&
            status.readings[i].why == DEV_PRESENT && status.readings[i].value >= 0)
            return status.readings[i].value;
    return NAN;
}

void use_add(struct ert_engine *e, uint64_t from_ns, uint64_t to_ns, uint64_t tokens, bool prefill)
{
    double seconds = (double)(to_ns - from_ns) * S_PER_NS;
    if (e->power_ns == 0 || to_ns - e->power_ns > POWER_INTERVAL_NS) {
        e->power_w = look_at_power(e);
        e->power_ns = to_ns;
    }
    pthread_mutex_lock(&e->lock);
    struct ert_point_use *use = &e->use[e->index];
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
    size_t n = rt_point_table_size(e->table);
    pthread_mutex_lock(&e->lock);
    memcpy(use, e->use, (n < room ? n : room) * sizeof *use);
    pthread_mutex_unlock(&e->lock);
    return n;
}

static void sensor_status(const struct ert_engine *e, struct ert_status *status)
{
    struct gov_status gov;
    gov_get_status(e->governor, &gov);
    status->decisions = gov.decisions;
    status->replay_ended = gov.replay_ended;
    status->replay_s = gov.replay_s;
    status->n_sensors = gov.n_sensors < ERT_STATUS_SENSORS ? gov.n_sensors : ERT_STATUS_SENSORS;
    for (size_t i = 0; i < status->n_sensors; i++) {
        const struct pol_sensor *sensor = &e->policy->sensors[i];
        const struct dev_reading *reading = &gov.readings[i];
        snprintf(status->sensors[i].name, sizeof status->sensors[i].name, "%s", sensor->name);
        snprintf(status->sensors[i].unit, sizeof status->sensors[i].unit, "%s",
                 sensor->signal ? ert_unit_name(sensor->signal->unit) : "");
        status->sensors[i].present = reading->why == DEV_PRESENT;
        status->sensors[i].value = reading->value;
        status->sensors[i].why = dev_absence_text(reading->why);
    }
}

void ert_get_status(struct ert_engine *e, struct ert_status *status)
{
    *status = (struct ert_status){0};
    if (e->governor) {
        snprintf(status->policy, sizeof status->policy, "%s", e->policy->name);
        sensor_status(e, status);
    }
    pthread_mutex_lock(&e->lock);
    snprintf(status->point, sizeof status->point, "%s", rt_point_at(e->table, e->index)->name);
    snprintf(status->reason, sizeof status->reason, "%s", e->reason);
    status->state = e->index;
    status->failsafe = e->failsafe;
    status->switches = e->switches;
    pthread_mutex_unlock(&e->lock);
}
