/* The energy meter: what was spent between two calls, by the best source that tells. */
#include "governor/energy.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define S_PER_NS 1e-9

/* Counters move about once a millisecond; over a stretch as long as this one that does not move
 * stands still. */
static const double LEAST_INTERVAL_S = 0.02;
/* No package draws more. A step of the counter may belong to a stretch as long as SLACK_S before.
 */
static const double MOST_W = 2000, SLACK_S = 0.1;
/* Shorter gaps between the clocks are those of reading them one after the other. */
static const double LEAST_SLEEP_S = 0.5;

static const char *const names[GOV_ENERGY_SOURCES] = {
#define E(id, name, what) [GOV_##id] = name,
#include "governor/energy.def"
#undef E
};

const char *gov_energy_name(enum gov_energy_source source)
{
    return names[source];
}

struct gov_meter {
    char *root; /* NULL = no counter is read */
    struct gov_powercap counters;
    bool has_counters, has_joules; /* some were found; the last count went well */
    bool moves;                    /* they were seen to count: in virtual machines they stand */
    double joules;                 /* as last counted */
    struct gov_clocks last;
    char counter_why[GOV_WHY], why[GOV_ENERGY_WHY];
};

int gov_meter_create(struct gov_meter **out, const char *root, struct ert_error *err)
{
    struct gov_meter *m = *out = calloc(1, sizeof *m);
    if (!m)
        return ert_fail(err, ERT_E_NOMEM, "no memory for the energy meter");
    m->root = root ? strdup(root) : NULL;
    if (root && !m->root) {
        gov_meter_free(m);
        *out = NULL;
        return ert_fail(err, ERT_E_NOMEM, "no memory for the energy meter");
    }
    if (!root)
        snprintf(m->counter_why, sizeof m->counter_why, "a trace is replayed");
    gov_meter_begin(m);
    return 0;
}

void gov_meter_free(struct gov_meter *m)
{
    if (!m)
        return;
    free(m->root);
    free(m);
}

/* ---- the counters --------------------------------------------------------------------------- */

static bool find_counters(struct gov_meter *m)
{
    struct gov_machine machine = {.root = m->root};
    if (m->root && !m->has_counters)
        m->has_counters = gov_powercap_open(&m->counters, &machine, "package", m->counter_why);
    return m->has_counters;
}

static double slept_s(struct gov_clocks before, struct gov_clocks now)
{
    double passed_ns = (double)(now.boottime_ns - before.boottime_ns);
    return (passed_ns - (double)(now.monotonic_ns - before.monotonic_ns)) * S_PER_NS;
}

/* What makes a difference of the counter no energy of this stretch; NULL = nothing. A machine that
 * slept may have counted on, or begun anew. */
static const char *objection(const struct gov_meter *m, double spent, double seconds, double slept)
{
    if (slept >= LEAST_SLEEP_S)
        return "the machine slept";
    if (spent > MOST_W * (seconds + SLACK_S))
        return "the counter was set back";
    if (spent == 0 && (!m->moves || seconds >= LEAST_INTERVAL_S))
        return "the counter stands still";
    return NULL;
}

/* Joules since the last count, if they are those of this stretch. */
static bool count(struct gov_meter *m, double seconds, double slept, double *spent)
{
    double before = m->joules;
    bool had = m->has_joules;
    m->has_joules = m->has_counters && gov_powercap_count(&m->counters, &m->joules, m->counter_why);
    if (!m->has_joules)
        return false;
    *spent = m->joules - before;
    const char *why = had ? objection(m, *spent, seconds, slept) : "the counter was away";
    m->moves |= had && *spent > 0;
    if (why)
        snprintf(m->counter_why, sizeof m->counter_why, "%s", why);
    return !why;
}

/* ---- all sources ---------------------------------------------------------------------------- */

static void say_unknown(struct gov_meter *m, const char *battery_why)
{
    snprintf(m->why, sizeof m->why,
             "rapl: %.150s; battery: %.150s; model: no power of the point is known", m->counter_why,
             battery_why);
}

/* Why the battery's power does not tell now; NULL = it does. */
static const char *battery_objection(const struct gov_battery *battery, uint64_t now_ns)
{
    if (!battery)
        return "nobody reads it";
    if (now_ns > battery->until_ns)
        return "it was not read for three polls";
    return battery->known ? NULL : battery->why;
}

void gov_meter_begin_at(struct gov_meter *m, struct gov_clocks now)
{
    double spent;
    find_counters(m);
    count(m, 0, 0, &spent);
    m->last = now;
}

void gov_meter_take_at(struct gov_meter *m, struct gov_clocks now,
                       const struct gov_battery *battery, double model_w, struct gov_energy *sum)
{
    double spent, seconds = (double)(now.monotonic_ns - m->last.monotonic_ns) * S_PER_NS;
    enum gov_energy_source source = GOV_RAPL;
    if (!count(m, seconds, slept_s(m->last, now), &spent)) {
        const char *why = battery_objection(battery, now.monotonic_ns);
        source = why ? GOV_MODEL : GOV_BATTERY;
        spent = (why ? model_w : battery->watts) * seconds;
        if (isnan(spent))
            say_unknown(m, why);
    }
    m->last = now;
    if (isnan(spent)) {
        sum->unknown_s += seconds;
        return;
    }
    sum->joules[source] += spent;
    sum->seconds[source] += seconds;
}

void gov_meter_begin(struct gov_meter *m)
{
    gov_meter_begin_at(m, gov_clocks_now());
}

void gov_meter_take(struct gov_meter *m, const struct gov_battery *battery, double model_w,
                    struct gov_energy *sum)
{
    gov_meter_take_at(m, gov_clocks_now(), battery, model_w, sum);
}

const char *gov_meter_why(const struct gov_meter *m)
{
    return m->why;
}
