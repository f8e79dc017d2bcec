#include "governor/sensors.h"

#include <math.h>
#include <stdlib.h>

/* ---- open and close ------------------------------------------------------------------------- */

int gov_sensors_ask(const struct pol_policy *policy, struct gov_machine *machine, const char *bus,
                    void (*changed)(void *ctx), void *ctx, struct ert_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < policy->n_sensors; i++)
        for (size_t k = 0; !rc && k < policy->sensors[i].n_sources; k++)
            rc = gov_machine_ask(machine, policy->sensors[i].sources[k], bus, changed, ctx, err);
    if (!rc)
        gov_machine_wait(machine);
    return rc;
}

static int open_sensor(struct gov_sensor *s, const struct pol_sensor *named,
                       const struct gov_machine *machine, struct ert_error *err)
{
    char replayed[GOV_SOURCE_NAME];
    size_t n = machine->trace ? 1 : named->n_sources;
    s->active = -1;
    s->sources = calloc(n ? n : 1, sizeof *s->sources);
    if (!s->sources)
        return ert_fail(err, ERT_E_NOMEM, "no memory for the sources of %s", named->name);
    snprintf(replayed, sizeof replayed, "replay:%s", named->name);
    for (; s->n_sources < n; s->n_sources++)
        gov_source_open(&s->sources[s->n_sources],
                        machine->trace ? replayed : named->sources[s->n_sources], machine);
    return 0;
}

int gov_sensors_open(struct gov_sensors *sensors, const struct pol_policy *policy,
                     const struct gov_machine *machine, struct ert_error *err)
{
    int rc = 0;
    *sensors = (struct gov_sensors){.policy = policy};
    for (size_t i = 0; !rc && i < policy->n_sensors; i++)
        rc = open_sensor(&sensors->sensors[i], &policy->sensors[i], machine, err);
    if (rc)
        gov_sensors_close(sensors);
    return rc;
}

void gov_sensors_close(struct gov_sensors *sensors)
{
    for (size_t i = 0; i < POL_MAX_SENSORS; i++) {
        struct gov_sensor *s = &sensors->sensors[i];
        for (size_t k = 0; k < s->n_sources; k++)
            gov_source_close(&s->sources[k]);
        free(s->sources);
        *s = (struct gov_sensor){.active = -1};
    }
}

/* By the best source of sensor i that has events. A lower threshold than that of all trips would
 * only wake for nothing. */
static void arm_sensor(struct gov_sensor *s, double threshold, const struct gov_machine *machine,
                       struct gov_events *events)
{
    for (size_t k = 0; k < s->n_sources; k++) {
        struct gov_source *source = &s->sources[k];
        if (!source->serves || !source->kind->arm)
            continue;
        source->kind->arm(source, machine, events, threshold);
        return;
    }
}

void gov_sensors_arm(struct gov_sensors *sensors, const struct gov_machine *machine,
                     struct gov_events *events)
{
    const struct pol_policy *policy = sensors->policy;
    for (size_t i = 0; i < policy->n_sensors; i++) {
        double lowest = HUGE_VAL;
        for (size_t t = 0; t < policy->n_trips; t++)
            if (policy->trips[t].sensor == i && policy->trips[t].threshold < lowest)
                lowest = policy->trips[t].threshold;
        if (lowest < HUGE_VAL)
            arm_sensor(&sensors->sensors[i], lowest, machine, events);
    }
}

void gov_sensors_probe_again(struct gov_sensors *sensors, const struct gov_machine *machine)
{
    for (size_t i = 0; i < sensors->policy->n_sensors; i++) {
        const struct gov_sensor *s = &sensors->sensors[i];
        size_t n = s->active < 0 ? s->n_sources : (size_t)s->active;
        for (size_t k = 0; k < n; k++)
            if (s->sources[k].why[0])
                gov_source_probe(&s->sources[k], machine);
    }
}

/* ---- readings ------------------------------------------------------------------------------- */

/* Good enough not to ask the next source. Whether it counts is for pol_decide to say. */
static bool believable(const struct pol_sensor *sensor, const struct dev_reading *r)
{
    return r->why == DEV_PRESENT && (!sensor->signal || (r->value >= sensor->signal->min &&
                                                         r->value <= sensor->signal->max));
}

struct dev_reading gov_sensors_read(struct gov_sensors *sensors, size_t i,
                                    const struct gov_machine *machine, uint64_t now_ns)
{
    struct gov_sensor *s = &sensors->sensors[i];
    struct dev_reading best = {.time_ns = now_ns, .why = DEV_NO_SOURCE};
    s->active = -1;
    for (size_t k = 0; k < s->n_sources; k++) {
        struct gov_source *source = &s->sources[k];
        struct dev_reading r = gov_source_read(source, machine, now_ns);
        if (r.why == DEV_PRESENT && !isfinite(r.value))
            r = gov_absent(source, DEV_READ_FAILED, now_ns, "%s gave no number", source->name);
        if (believable(&sensors->policy->sensors[i], &r)) {
            s->active = (int)k;
            return r;
        }
        if (best.why == DEV_NO_SOURCE)
            best = r;
    }
    return best;
}

const char *gov_sensors_source(const struct gov_sensors *sensors, size_t i)
{
    const struct gov_sensor *s = &sensors->sensors[i];
    return s->active < 0 ? "" : s->sources[s->active].name;
}

const char *gov_sensors_why(const struct gov_sensors *sensors, size_t i)
{
    const struct gov_sensor *s = &sensors->sensors[i];
    if (s->active == 0)
        return "it serves";
    if (s->n_sources == 0)
        return sensors->policy->sensors[i].blend == POL_NO_BLEND
                   ? "the policy names no source"
                   : "no sensor that it is made of has a value";
    return s->sources[0].why[0] ? s->sources[0].why : "its value is out of range";
}

void gov_sensors_blend(const struct pol_sensor *sensor, char *text, size_t size)
{
    static const char *const words[] = {
        [POL_NO_BLEND] = "", [POL_MAX] = "max of", [POL_MEAN] = "mean of", [POL_SUM] = "sum of"};
    size_t n = (size_t)snprintf(text, size, "%s", words[sensor->blend]);
    for (size_t i = 0; i < sensor->n_parts && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s %s", i ? "," : "", sensor->parts[i].name);
}
