#include "policies/file.h"
#include "policies/inner.h"
#include "policies/stl_run.h"

#include <stdlib.h>
#include <string.h>

/* A policy being compiled from an entry. */
struct compile {
    const struct pol_file *file;
    const struct pol_entry *entry;
    struct pol_policy *policy;
    struct ert_error *err;
    unsigned depth; /* of sensors made of others */
};

#define FAIL_AT(where, err, code, fmt, ...)                                                        \
    ert_fail(err, code, "%.200s:%zu:%zu: " fmt, (where).file, (where).line, (where).column,        \
             __VA_ARGS__)

const void *pol_named(void *const *entries, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (!strcmp(entries[i], name))
            return entries[i];
    return NULL;
}

static const char *nearest(void *const *entries, size_t n, const char *name)
{
    const char *names[POL_MAX_ENTRIES];
    for (size_t i = 0; i < n; i++)
        names[i] = entries[i];
    return ert_nearest_name(name, names, n);
}

/* ---- sensors ------------------------------------------------------------------------------- */

static const struct {
    const char *signal, *source;
} default_sources[] = {
#define D(signal, source) {signal, source},
#include "policies/sources_default.def"
#undef D
};

static void use_default_sources(struct pol_sensor *sensor)
{
    for (size_t i = 0; i < sizeof default_sources / sizeof *default_sources; i++)
        if (!strcmp(default_sources[i].signal, sensor->name) && sensor->n_sources < POL_MAX_SOURCES)
            memcpy(sensor->sources[sensor->n_sources++], default_sources[i].source,
                   strlen(default_sources[i].source) + 1);
}

static int find_sensor(const struct pol_policy *policy, const char *name)
{
    for (size_t i = 0; i < policy->n_sensors; i++)
        if (!strcmp(policy->sensors[i].name, name))
            return (int)i;
    return -1;
}

static int want_sensor(struct compile *c, const char *name, struct pol_where where, int *index);

/* The sensors that one is made of come before it; those above it that wait for theirs are marked by
 * depth. */
static int want_parts(struct compile *c, struct pol_sensor *sensor, struct pol_where where)
{
    int rc = 0;
    if (c->depth == POL_MAX_PARTS)
        return FAIL_AT(where, c->err, ERT_E_FORMAT, "sensor '%s' is made of itself in the end",
                       sensor->name);
    c->depth++;
    for (size_t i = 0; !rc && i < sensor->n_parts; i++) {
        int part;
        rc = want_sensor(c, sensor->parts[i].name, where, &part);
        sensor->parts[i].sensor = rc ? 0 : (unsigned)part;
    }
    c->depth--;
    return rc;
}

/* Index of the sensor in the policy, where it is added if it is not there yet. */
static int want_sensor(struct compile *c, const char *name, struct pol_where where, int *index)
{
    struct pol_policy *p = c->policy;
    struct pol_sensor sensor;
    memset(&sensor, 0, sizeof sensor); /* padding too */
    *index = find_sensor(p, name);
    if (*index >= 0)
        return 0;
    const struct pol_sensor_entry *given = pol_named(c->file->sensors, c->file->n_sensors, name);
    if (given) {
        memcpy(&sensor, &given->sensor, sizeof sensor);
    } else {
        snprintf(sensor.name, sizeof sensor.name, "%s", name);
        sensor.signal = dev_signal_find(name);
        sensor.stale_s = sensor.signal->stale_s;
        sensor.missing_state = -1;
        use_default_sources(&sensor);
    }
    int rc = want_parts(c, &sensor, where);
    if (rc)
        return rc;
    if (p->n_sensors == POL_MAX_SENSORS)
        return FAIL_AT(where, c->err, ERT_E_RANGE, "policy '%s' needs more than %d sensors",
                       p->name, POL_MAX_SENSORS);
    memcpy(&p->sensors[p->n_sensors], &sensor, sizeof sensor);
    *index = (int)p->n_sensors++;
    return 0;
}

/* Battery state for trips with `when: discharging`. */
static int want_discharging(struct compile *c)
{
    struct pol_policy *p = c->policy;
    p->discharging_sensor = p->power_sensor = -1;
    bool asked = false;
    for (size_t i = 0; i < p->n_trips; i++)
        asked = asked || p->trips[i].when_discharging;
    if (!asked)
        return 0;
    int rc = want_sensor(c, "battery.discharging", c->entry->where, &p->discharging_sensor);
    return rc ? rc : want_sensor(c, "battery.power", c->entry->where, &p->power_sensor);
}

static int compile_missing(struct compile *c)
{
    struct pol_policy *p = c->policy;
    if (c->entry->missing_default >= (int)p->n_states)
        return FAIL_AT(c->entry->missing_default_where, c->err, ERT_E_RANGE,
                       "on-missing: state %d, but the ladder ends at state %zu",
                       c->entry->missing_default, p->n_states - 1);
    for (size_t i = 0; i < p->n_trips; i++)
        p->sensors[p->trips[i].sensor].missing_state = c->entry->missing_default;
    if (p->power.on)
        p->sensors[p->power.sensor].missing_state = c->entry->missing_default;
    for (size_t i = 0; i < c->entry->n_missing; i++) {
        const struct pol_missing *missing = &c->entry->missing[i];
        int index = find_sensor(p, missing->sensor);
        if (missing->state < 0 && index < 0)
            continue;
        if (missing->state >= (int)p->n_states)
            return FAIL_AT(missing->where, c->err, ERT_E_RANGE,
                           "on-missing: state %d, but the ladder ends at state %zu", missing->state,
                           p->n_states - 1);
        int rc = want_sensor(c, missing->sensor, missing->where, &index);
        if (rc)
            return rc;
        p->sensors[index].missing_state = missing->state;
    }
    return 0;
}

/* ---- trips --------------------------------------------------------------------------------- */

static int compile_trip(struct compile *c, const struct pol_trip_entry *entry)
{
    struct pol_policy *p = c->policy;
    struct pol_trip *trip = &p->trips[p->n_trips];
    unsigned last = (unsigned)p->n_states - 1;
    int sensor;
    memcpy(trip, &entry->trip, sizeof *trip);
    if (entry->to_max)
        trip->highest = last;
    /* How long the catalog's ladder is, nobody knew when the policy was written. */
    if (!strcmp(c->entry->ladder, "auto")) {
        trip->lowest = trip->lowest < last ? trip->lowest : last;
        trip->highest = trip->highest < last ? trip->highest : last;
    }
    if (trip->lowest > last || trip->highest > last)
        return FAIL_AT(entry->where, c->err, ERT_E_RANGE,
                       "trip '%s' asks for state %u, but the ladder '%s' ends at state %u",
                       trip->name, trip->lowest > last ? trip->lowest : trip->highest,
                       c->entry->ladder, last);
    int rc = want_sensor(c, entry->sensor, entry->where, &sensor);
    if (rc)
        return rc;
    trip->sensor = (unsigned)sensor;
    p->n_trips++;
    return 0;
}

bool pol_take_kernel_trip(struct pol_policy *policy, size_t i, double at_c, double hysteresis_c)
{
    struct pol_trip *trip = &policy->trips[i];
    const struct dev_signal *signal = policy->sensors[trip->sensor].signal;
    double threshold = at_c - trip->kernel_margin;
    if (!trip->kernel || !(threshold >= signal->min) || threshold >= trip->threshold)
        return false;
    trip->threshold = threshold;
    if (trip->hysteresis <= 0 && hysteresis_c > 0 && hysteresis_c < threshold - signal->min)
        trip->hysteresis = hysteresis_c;
    return true;
}

/* ---- power --------------------------------------------------------------------------------- */

static int want_power_sensors(struct compile *c, const struct pol_power_entry *entry)
{
    static const char *const loads[POL_ACTORS] = {"load.decode", "load.prefill"};
    struct pol_power *power = &c->policy->power;
    int sensor = 0, rc = want_sensor(c, entry->sensor, entry->where, &sensor);
    power->sensor = (unsigned)sensor;
    power->draw_sensor = power->ambient_sensor = -1;
    if (!rc && *entry->draw)
        rc = want_sensor(c, entry->draw, entry->where, &power->draw_sensor);
    if (!rc && *entry->ambient)
        rc = want_sensor(c, entry->ambient, entry->where, &power->ambient_sensor);
    for (int i = 0; i < POL_ACTORS; i++) {
        power->load_sensors[i] = -1;
        if (!rc && power->shared)
            rc = want_sensor(c, loads[i], entry->where, &power->load_sensors[i]);
    }
    return rc;
}

/* By default all states that generate. */
static int compile_power_states(struct compile *c, const struct pol_power_entry *entry)
{
    struct pol_policy *p = c->policy;
    struct pol_power *power = &p->power;
    unsigned last = (unsigned)p->n_states - 1;
    if (!entry->has_states)
        power->highest = p->states[last].pause && last > 0 ? last - 1 : last;
    else if (entry->to_max)
        power->highest = last;
    if (!strcmp(c->entry->ladder, "auto")) {
        power->lowest = power->lowest < last ? power->lowest : last;
        power->highest = power->highest < last ? power->highest : last;
    }
    if (power->lowest > last || power->highest > last)
        return FAIL_AT(entry->where, c->err, ERT_E_RANGE,
                       "power asks for state %u, but the ladder '%s' ends at state %u",
                       power->lowest > last ? power->lowest : power->highest, c->entry->ladder,
                       last);
    return 0;
}

/* Of what was read, what does not fit together. */
static int check_power(struct compile *c, const struct pol_power_entry *entry)
{
    const struct pol_power *power = &c->policy->power;
    if (power->most_mw == 0)
        return FAIL_AT(entry->where, c->err, ERT_E_MISSING, "power: no power is known; %s",
                       "give sustainable:, or points of the ladder a power:");
    if (power->burst_mw > 0 && power->burst_mw <= power->gains.sustainable_mw)
        return FAIL_AT(entry->where, c->err, ERT_E_FORMAT,
                       "power: a burst of %gW is not above the sustainable %gW", power->burst_w,
                       (double)power->gains.sustainable_mw / 1000);
    return 0;
}

static int compile_power(struct compile *c)
{
    enum { DEFAULT_SPAN_C = 10, NO_SWITCH_ON_C = -50 };
    const struct pol_power_entry *entry = &c->entry->power;
    struct pol_power *power = &c->policy->power;
    memcpy(power, &entry->power, sizeof *power);
    if (!power->on)
        return 0;
    if (power->governor == POL_PREDICTIVE && !entry->has_plant)
        return FAIL_AT(entry->where, c->err, ERT_E_MISSING,
                       "power: governor '%s' needs a plant:", pol_governor_name(power->governor));
    if (!entry->has_switch_on)
        power->switch_on_c =
            power->governor == POL_PREDICTIVE ? NO_SWITCH_ON_C : power->target_c - DEFAULT_SPAN_C;
    if (power->switch_on_c >= power->target_c)
        return FAIL_AT(entry->where, c->err, ERT_E_FORMAT,
                       "power: switch-on %gC is not below the target %gC", power->switch_on_c,
                       power->target_c);
    int rc = compile_power_states(c, entry);
    if (!rc)
        rc = want_power_sensors(c, entry);
    if (!rc)
        pol_power_prepare(c->policy);
    return rc ? rc : check_power(c, entry);
}

/* ---- guarantees ---------------------------------------------------------------------------- */

static int compile_guarantee(struct compile *c, const struct pol_guarantee_entry *entry)
{
    struct pol_policy *p = c->policy;
    struct stl_formula formula;
    struct ert_error why;
    size_t at, bytes;
    int sensor, rc = stl_parse(&formula, entry->text, &at, &why);
    if (!rc)
        rc = stl_run_size(&formula, p->poll_s, &bytes, &why);
    if (rc)
        return FAIL_AT(entry->where, c->err, why.code, "guarantee '%s': %s", entry->text, why.text);
    for (size_t i = 0; !rc && i < formula.n_signals; i++)
        if (formula.signals[i].signal)
            rc = want_sensor(c, formula.signals[i].name, entry->where, &sensor);
    memcpy(p->guarantees[p->n_guarantees++], entry->text, sizeof entry->text);
    return rc;
}

/* ---- ladder -------------------------------------------------------------------------------- */

static int compile_ladder(struct compile *c, const struct pol_point *auto_ladder, size_t n_auto)
{
    struct pol_policy *p = c->policy;
    const char *name = c->entry->ladder;
    const struct pol_ladder *ladder = pol_named(c->file->ladders, c->file->n_ladders, name);
    if (!strcmp(name, "auto")) {
        if (n_auto == 0 || n_auto > POL_MAX_STATES)
            return FAIL_AT(
                c->entry->where, c->err, ERT_E_MISSING,
                "policy '%s' has 'ladder: auto', which needs a model whose catalog gives 1 "
                "to %d points (here %zu); name a ladder instead",
                p->name, POL_MAX_STATES, n_auto);
        memcpy(p->states, auto_ladder, n_auto * sizeof *auto_ladder);
        p->n_states = n_auto;
        return 0;
    }
    if (!ladder) {
        const char *near = nearest(c->file->ladders, c->file->n_ladders, name);
        return FAIL_AT(c->entry->where, c->err, ERT_E_MISSING, "policy '%s': no ladder '%s'%s%s%s",
                       p->name, name, near ? ", did you mean '" : "", near ? near : "",
                       near ? "'?" : "");
    }
    memcpy(p->states, ladder->points, ladder->n * sizeof *ladder->points);
    p->n_states = ladder->n;
    return 0;
}

/* A rung by its name, else the first of that point; -1 if there is none. */
static int find_rung(const struct pol_policy *p, const char *name)
{
    for (size_t i = 0; i < p->n_states; i++)
        if (!strcmp(p->states[i].name, name))
            return (int)i;
    for (size_t i = 0; i < p->n_states; i++)
        if (!strcmp(p->states[i].point, name))
            return (int)i;
    return -1;
}

static int compile_failsafe(struct compile *c)
{
    struct pol_policy *p = c->policy;
    const char *names[POL_MAX_STATES];
    for (size_t i = 0; i < p->n_states; i++) {
        names[i] = p->states[i].name;
        if (!p->states[i].pause)
            p->failsafe = (unsigned)i;
    }
    if (!*c->entry->failsafe)
        return 0;
    int state = find_rung(p, c->entry->failsafe);
    if (state < 0) {
        const char *near = ert_nearest_name(c->entry->failsafe, names, p->n_states);
        return FAIL_AT(c->entry->failsafe_where, c->err, ERT_E_MISSING,
                       "failsafe: no point '%s' in ladder '%s'%s%s%s", c->entry->failsafe,
                       c->entry->ladder, near ? ", did you mean '" : "", near ? near : "",
                       near ? "'?" : "");
    }
    p->failsafe = (unsigned)state;
    return 0;
}

/* ---- the policy ---------------------------------------------------------------------------- */

static int compile_all_but_failsafe(struct compile *c, const struct pol_point *auto_ladder,
                                    size_t n_auto)
{
    struct pol_policy *p = c->policy;
    memset(p, 0, sizeof *p); /* padding too: policies may be compared as bytes */
    memcpy(p->name, c->entry->name, sizeof p->name);
    p->poll_s = c->entry->poll_s;
    p->dwell_down_s = c->entry->dwell_down_s;
    p->dwell_up_s = c->entry->dwell_up_s;
    int rc = compile_ladder(c, auto_ladder, n_auto);
    for (size_t i = 0; !rc && i < c->entry->n_trips; i++)
        rc = compile_trip(c, &c->entry->trips[i]);
    if (!rc)
        rc = want_discharging(c);
    if (!rc)
        rc = compile_power(c);
    if (!rc)
        rc = compile_missing(c);
    for (size_t i = 0; !rc && i < c->entry->n_guarantees; i++)
        rc = compile_guarantee(c, &c->entry->guarantees[i]);
    return rc;
}

static const struct pol_entry *find_entry(const struct pol_file *file, const char *name)
{
    const struct pol_entry *entry = pol_named(file->entries, file->n_entries, name);
    for (size_t i = 0; !entry && i < file->n_entries; i++) {
        const struct pol_entry *e = file->entries[i];
        for (size_t a = 0; a < e->n_aliases; a++)
            if (!strcmp(e->aliases[a], name))
                entry = e;
    }
    return entry;
}

/* "performance, balanced, power-saver (battery-saver)" */
static void list_entries(const struct pol_file *file, char *text, size_t size)
{
    size_t n = 0;
    text[0] = '\0';
    for (size_t i = 0; i < file->n_entries && n < size; i++) {
        const struct pol_entry *e = file->entries[i];
        n += (size_t)snprintf(text + n, size - n, "%s%s", i ? ", " : "", e->name);
        for (size_t a = 0; a < e->n_aliases && n < size; a++)
            n += (size_t)snprintf(text + n, size - n, " (%s)", e->aliases[a]);
    }
}

int pol_compile(const struct pol_file *file, const char *name, const struct pol_point *auto_ladder,
                size_t n_auto, struct pol_policy *policy, struct ert_error *err)
{
    struct compile c = {file, find_entry(file, name), policy, err, 0};
    if (!c.entry) {
        char known[300];
        list_entries(file, known, sizeof known);
        return ert_fail(err, ERT_E_MISSING, "no policy '%.60s'; known are: %s", name,
                        *known ? known : "none");
    }
    int rc = compile_all_but_failsafe(&c, auto_ladder, n_auto);
    return rc ? rc : compile_failsafe(&c);
}

int pol_compile_sensor(const struct pol_file *file, const char *name, struct pol_policy *policy,
                       struct ert_error *err)
{
    struct compile c = {file, NULL, policy, err, 0};
    int index;
    memset(policy, 0, sizeof *policy);
    snprintf(policy->name, sizeof policy->name, "%.*s", POL_NAME - 1, name);
    policy->poll_s = 1;
    policy->n_states = 1;
    policy->discharging_sensor = policy->power_sensor = -1;
    if (!dev_signal_find(name))
        return ert_fail(err, ERT_E_MISSING, "no sensor is called '%.60s'", name);
    return want_sensor(&c, name, (struct pol_where){pol_file_device(file), 0, 0}, &index);
}

/* Stands in for a catalog's ladder while a file is checked without a model. */
static const struct pol_point some_ladder[POL_MAX_STATES] = {{.name = "w8a8", .point = "w8a8"}};

int pol_compile_entry(const struct pol_file *file, const struct pol_entry *entry,
                      struct pol_policy *policy, struct ert_error *err)
{
    struct compile c = {file, entry, policy, err, 0};
    int rc = compile_all_but_failsafe(&c, some_ladder, POL_MAX_STATES);
    return rc || !strcmp(entry->ladder, "auto") ? rc : compile_failsafe(&c);
}

static int check_aliases(const struct pol_file *file, const struct pol_entry *entry,
                         struct ert_error *err)
{
    for (size_t a = 0; a < entry->n_aliases; a++) {
        const struct pol_entry *other = find_entry(file, entry->aliases[a]);
        if (other != entry)
            return FAIL_AT(entry->where, err, ERT_E_FORMAT,
                           "policy '%s': its alias '%s' already means policy '%s'", entry->name,
                           entry->aliases[a], other->name);
    }
    return 0;
}

int pol_file_check(const struct pol_file *file, struct ert_error *err)
{
    struct pol_policy *policy = malloc(sizeof *policy);
    if (!policy)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for a policy");
    int rc = 0;
    for (size_t i = 0; !rc && i < file->n_entries; i++) {
        rc = check_aliases(file, file->entries[i], err);
        if (!rc)
            rc = pol_compile_entry(file, file->entries[i], policy, err);
    }
    free(policy);
    return rc;
}
