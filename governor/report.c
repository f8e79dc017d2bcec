/* What `edgert sensors` shows: every known signal at each of its usual sources, and what else the
 * machine has. */
#include "governor/source.h"

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

enum { MAX_FOUND = 256, N_USUAL = sizeof usual / sizeof *usual };

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
    for (size_t i = 0; i < r->n; i++)
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

int gov_sensor_report(const struct gov_sources *sources, struct gov_sensor_line **lines, size_t *n,
                      struct ert_error *err)
{
    struct report r = {.machine.root = sources->root ? sources->root : "",
                       .room = N_USUAL + MAX_FOUND};
    *lines = NULL;
    *n = 0;
    r.sources = calloc(r.room, sizeof *r.sources);
    r.lines = calloc(r.room, sizeof *r.lines);
    int rc = r.sources && r.lines ? 0 : ert_fail(err, ERT_E_NOMEM, "no memory for the sensors");
    for (size_t i = 0; !rc && i < N_USUAL; i++) {
        add_line(&r, usual[i].signal, usual[i].source);
        rc = gov_machine_ask(&r.machine, usual[i].source, sources->bus, ignore_change, NULL, err);
    }
    if (rc)
        goto out;
    gov_machine_wait(&r.machine);
    gov_hwmon_list(&r.machine, add_found, &r);
    gov_thermal_list(&r.machine, add_found, &r);
    for (size_t i = 0; i < r.n; i++) {
        gov_source_open(&r.sources[i], r.lines[i].source, &r.machine);
        read_line(&r, i, ert_now_ns());
    }
    if (any_waits(&r))
        ert_sleep_until_ns(ert_now_ns() + BETWEEN_SAMPLES_NS);
    for (size_t i = 0; i < r.n; i++)
        if (waits_for_sample(&r, i))
            read_line(&r, i, ert_now_ns());
    for (size_t i = 0; i < r.n; i++)
        gov_source_close(&r.sources[i]);
    *lines = r.lines;
    *n = r.n;
    r.lines = NULL;
out:
    gov_machine_release(&r.machine);
    free(r.lines);
    free(r.sources);
    return rc;
}
