/* What `edgert sensors` shows: every known signal at each of its usual sources, and what else the
 * machine has. */
#include "governor/sensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *signal, *source;
} usual[] = {
#define D(signal, source) {signal, source},
#include "policies/sources_default.def"
#undef D
};

enum { MAX_FOUND = 256, MAX_DECLARED = 512, N_USUAL = sizeof usual / sizeof *usual };

/* Loads and powers need two samples; this far apart they tell. */
static const uint64_t BETWEEN_SAMPLES_NS = 200000000;

struct report {
    struct gov_machine machine;
    struct gov_source *sources;
    struct gov_sensor_line *lines;
    size_t n, room;
};

static void add_line(struct report *r, const char *signal, const char *source)
{
    for (size_t i = 0; i < r->n && r->lines; i++)
        if (!*signal && !strcmp(r->lines[i].source, source))
            return; /* found, but in the list already */
    if (r->n == r->room)
        return;
    snprintf(r->lines[r->n].signal, sizeof r->lines->signal, "%s", signal);
    snprintf(r->lines[r->n].source, sizeof r->lines->source, "%s", source);
    r->n++;
}

static void add_found(void *ctx, const char *source)
{
    add_line(ctx, "", source);
}

static void read_line(struct report *r, size_t i, uint64_t now_ns)
{
    struct gov_sensor_line *line = &r->lines[i];
    struct gov_source *source = &r->sources[i];
    const struct dev_signal *signal = dev_signal_find(*line->signal ? line->signal : "temp.found");
    line->reading = gov_source_read(source, &r->machine, now_ns);
    double value = line->reading.value;
    bool present = line->reading.why == DEV_PRESENT;
    if (present && !(isfinite(value) && signal && value >= signal->min && value <= signal->max))
        line->reading =
            gov_absent(source, DEV_OUT_OF_RANGE, now_ns, "reads %g, which is not plausible", value);
    snprintf(line->why, sizeof line->why, "%s", line->reading.why ? source->why : "");
}

/* Loads, powers and the stalls of a window want two samples; a bus has said all it will. */
static bool waits_for_sample(const struct report *r, size_t i)
{
    return r->lines[i].reading.why == DEV_NO_SAMPLE && r->sources[i].kind &&
           !r->sources[i].kind->service;
}

static bool any_waits(const struct report *r)
{
    for (size_t i = 0; i < r->n; i++)
        if (waits_for_sample(r, i))
            return true;
    return false;
}

static void ignore_change(void *ctx)
{
    (void)ctx;
}

static bool is_declared(const struct pol_file *file, const char *signal)
{
    const struct pol_sensor *sensor;
    for (size_t i = 0; file && (sensor = pol_file_sensor(file, i)); i++)
        if (!strcmp(sensor->name, signal))
            return true;
    return false;
}

/* What the file declares, and for other signals the usual sources. */
static void list_sources(struct report *r, const struct pol_file *file)
{
    const struct pol_sensor *sensor;
    for (size_t i = 0; file && (sensor = pol_file_sensor(file, i)); i++)
        for (size_t k = 0; k < sensor->n_sources; k++)
            add_line(r, sensor->name, sensor->sources[k]);
    for (size_t i = 0; i < N_USUAL; i++)
        if (!is_declared(file, usual[i].signal))
            add_line(r, usual[i].signal, usual[i].source);
}

static int ask_services(struct report *r, const char *bus, struct ert_error *err)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < r->n; i++)
        rc = gov_machine_ask(&r->machine, r->lines[i].source, bus, ignore_change, NULL, err);
    if (!rc)
        gov_machine_wait(&r->machine);
    return rc;
}

static void read_lines(struct report *r)
{
    for (size_t i = 0; i < r->n; i++) {
        gov_source_open(&r->sources[i], r->lines[i].source, &r->machine);
        read_line(r, i, ert_now_ns());
    }
    if (any_waits(r))
        ert_sleep_until_ns(ert_now_ns() + BETWEEN_SAMPLES_NS);
    for (size_t i = 0; i < r->n; i++)
        if (waits_for_sample(r, i))
            read_line(r, i, ert_now_ns());
    for (size_t i = 0; i < r->n; i++)
        gov_source_close(&r->sources[i]);
}

/* ---- sensors made of others ----------------------------------------------------------------- */

/* As a policy that has nothing but this sensor would see it. */
static int read_blend(struct report *r, const struct pol_policy *policy, struct ert_error *err)
{
    struct gov_sensors sensors;
    struct pol_state state;
    struct pol_decision decision;
    struct dev_reading raw[POL_MAX_SENSORS];
    unsigned last = (unsigned)policy->n_sensors - 1;
    struct gov_sensor_line *line = &r->lines[r->n++];
    int rc = gov_sensors_open(&sensors, policy, &r->machine, err);
    if (rc)
        return rc;
    uint64_t now_ns = ert_now_ns();
    for (size_t i = 0; i < policy->n_sensors; i++)
        raw[i] = gov_sensors_read(&sensors, i, &r->machine, now_ns);
    raw[last].why = DEV_NO_SOURCE; /* its own sources have lines of their own */
    pol_state_init(&state, policy);
    pol_decide(policy, &state, now_ns, raw, &decision);
    line->reading = pol_validated(policy, &state, last);
    snprintf(line->signal, sizeof line->signal, "%s", policy->sensors[last].name);
    gov_sensors_blend(&policy->sensors[last], line->source, sizeof line->source);
    if (line->reading.why != DEV_PRESENT)
        snprintf(line->why, sizeof line->why, "%s", dev_absence_text(line->reading.why));
    gov_sensors_close(&sensors);
    return 0;
}

static int read_blends(struct report *r, const struct pol_file *file, struct ert_error *err)
{
    const struct pol_sensor *sensor;
    int rc = 0;
    struct pol_policy *policy = malloc(sizeof *policy);
    if (!policy)
        return ert_fail(err, ERT_E_NOMEM, "no memory for the sensors");
    for (size_t i = 0; !rc && file && (sensor = pol_file_sensor(file, i)); i++) {
        if (sensor->blend == POL_NO_BLEND || r->n == r->room)
            continue;
        rc = pol_compile_sensor(file, sensor->name, policy, err);
        if (!rc)
            rc = read_blend(r, policy, err);
    }
    free(policy);
    return rc;
}

int gov_sensor_report(const struct gov_sources *sources, const struct pol_file *file,
                      struct gov_sensor_line **lines, size_t *n, struct ert_error *err)
{
    struct report r = {.machine.root = sources->root ? sources->root : "",
                       .room = N_USUAL + MAX_DECLARED + MAX_FOUND};
    *lines = NULL;
    *n = 0;
    r.sources = calloc(r.room, sizeof *r.sources);
    r.lines = calloc(r.room, sizeof *r.lines);
    int rc = r.sources && r.lines ? 0 : ert_fail(err, ERT_E_NOMEM, "no memory for the sensors");
    if (!rc) {
        list_sources(&r, file);
        rc = ask_services(&r, sources->bus, err);
    }
    if (!rc) {
        gov_hwmon_list(&r.machine, add_found, &r);
        gov_thermal_list(&r.machine, add_found, &r);
        read_lines(&r);
        rc = read_blends(&r, file, err);
    }
    if (!rc) {
        *lines = r.lines;
        *n = r.n;
        r.lines = NULL;
    }
    gov_machine_release(&r.machine);
    free(r.lines);
    free(r.sources);
    return rc;
}
