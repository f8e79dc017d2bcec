/* What a policy that compiles may still get wrong: one function for each row of lints.def. */
#include "policies/file.h"
#include "policies/inner.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* A policy under the eyes of a lint. */
struct linter {
    const struct pol_policy *policy;
    const struct pol_entry *entry; /* where it and its trips were written; in the same order */
    const char *lint;
    void (*found)(void *ctx, const struct pol_finding *finding);
    void *ctx;
};

__attribute__((format(printf, 3, 4))) static void tell(const struct linter *l,
                                                       struct pol_where where, const char *fmt, ...)
{
    struct pol_finding finding = {.lint = l->lint,
                                  .policy = l->policy->name,
                                  .file = where.file,
                                  .line = where.line,
                                  .column = where.column};
    va_list args;
    va_start(args, fmt);
    vsnprintf(finding.text, sizeof finding.text, fmt, args);
    va_end(args);
    l->found(l->ctx, &finding);
}

/* ---- one trip ------------------------------------------------------------------------------ */

static const struct dev_signal *signal_of(const struct linter *l, const struct pol_trip *trip)
{
    return l->policy->sensors[trip->sensor].signal;
}

static const char *unit_of(const struct linter *l, const struct pol_trip *trip)
{
    return ert_unit_name(signal_of(l, trip)->unit);
}

static const char *side(const struct pol_trip *trip)
{
    return trip->above ? "above" : "below";
}

static void lint_never_trips(const struct linter *l)
{
    for (size_t i = 0; i < l->policy->n_trips; i++) {
        const struct pol_trip *trip = &l->policy->trips[i];
        const struct dev_signal *signal = signal_of(l, trip);
        double limit = trip->above ? signal->max : signal->min;
        if (!trip->kernel && !pol_is_tripped(trip, limit))
            tell(l, l->entry->trips[i].where,
                 "trip '%s' never acts: no plausible reading of %s lies %s %g%s", trip->name,
                 l->policy->sensors[trip->sensor].name, side(trip), trip->threshold,
                 unit_of(l, trip));
    }
}

/* What acts while discharging is over when the device is plugged in. */
static void lint_never_clears(const struct linter *l)
{
    for (size_t i = 0; i < l->policy->n_trips; i++) {
        const struct pol_trip *trip = &l->policy->trips[i];
        const struct dev_signal *signal = signal_of(l, trip);
        double limit = trip->above ? signal->min : signal->max;
        if (!trip->when_discharging && !pol_is_clear(trip, limit))
            tell(l, l->entry->trips[i].where,
                 "trip '%s' is never over once it acts: %s does not come to %g%s, where its "
                 "hysteresis ends",
                 trip->name, l->policy->sensors[trip->sensor].name, pol_clear_bound(trip),
                 unit_of(l, trip));
    }
}

/* On and off, or a few levels: these do not tremble as a measured quantity does. */
static bool has_levels(const struct dev_signal *signal)
{
    return signal->unit == ERT_UNIT_NONE && signal->max - signal->min <= 3;
}

/* A `for` of a poll or more takes its place: one reading past the threshold does nothing. */
static void lint_no_hysteresis(const struct linter *l)
{
    for (size_t i = 0; i < l->policy->n_trips; i++) {
        const struct pol_trip *trip = &l->policy->trips[i];
        bool waits = trip->for_s > 0 && trip->for_s >= l->policy->poll_s;
        if (trip->hysteresis <= 0 && !waits && !has_levels(signal_of(l, trip)))
            tell(l, l->entry->trips[i].where,
                 "trip '%s' has no hysteresis: a reading that trembles about %g%s turns it on and "
                 "off",
                 trip->name, trip->threshold, unit_of(l, trip));
    }
}

static void lint_short_for(const struct linter *l)
{
    for (size_t i = 0; i < l->policy->n_trips; i++) {
        const struct pol_trip *trip = &l->policy->trips[i];
        if (trip->for_s > 0 && trip->for_s < l->policy->poll_s)
            tell(l, l->entry->trips[i].where,
                 "trip '%s' waits for %gs, less than a poll of %gs: its second reading ends that "
                 "whatever was between",
                 trip->name, trip->for_s, l->policy->poll_s);
    }
}

/* ---- two trips of one sensor --------------------------------------------------------------- */

/* The least and the most that a trip asks for while it acts. */
static unsigned least_request(const struct pol_trip *trip)
{
    return trip->governor == POL_BANG_BANG ? trip->highest : trip->lowest;
}

/* Whether first's threshold is met before that of second, or both at once. */
static bool is_sooner(const struct pol_trip *first, const struct pol_trip *second)
{
    return first->above ? first->threshold <= second->threshold
                        : first->threshold >= second->threshold;
}

/* Whether trip a acts whenever b makes its request rise: a is met no later, waits no longer, is
 * over no sooner, and counts wherever b does. */
static bool acts_whenever(const struct pol_trip *a, const struct pol_trip *b)
{
    return a->above == b->above && is_sooner(a, b) && a->for_s <= b->for_s &&
           pol_is_clear(b, pol_clear_bound(a)) && (!a->when_discharging || b->when_discharging);
}

static bool makes_needless(const struct pol_trip *a, const struct pol_trip *b)
{
    /* The kernel's trip, which no file tells, may be what b is there for. */
    return !b->kernel && acts_whenever(a, b) && least_request(a) >= b->highest;
}

/* Calls look for each two trips of one sensor, both ways round. */
static void for_pairs(const struct linter *l,
                      void (*look)(const struct linter *, size_t first, size_t second))
{
    const struct pol_policy *p = l->policy;
    for (size_t a = 0; a < p->n_trips; a++)
        for (size_t b = 0; b < p->n_trips; b++)
            if (a != b && p->trips[a].sensor == p->trips[b].sensor)
                look(l, a, b);
}

static void look_contradiction(const struct linter *l, size_t first, size_t second)
{
    const struct pol_trip *a = &l->policy->trips[first], *b = &l->policy->trips[second];
    const char *unit = unit_of(l, a);
    if (a->above && !b->above && a->threshold <= b->threshold)
        tell(l, l->entry->trips[first > second ? first : second].where,
             "trips '%s' (above %g%s) and '%s' (below %g%s) leave no reading at which neither acts",
             a->name, a->threshold, unit, b->name, b->threshold, unit);
    if (a->above == b->above && is_sooner(a, b) && !is_sooner(b, a) &&
        least_request(a) > b->highest && !makes_needless(a, b))
        tell(l, l->entry->trips[second].where,
             "trip '%s' (%s %g%s) asks for a better state than '%s' does from %g%s on: %u at "
             "most, against %u at least",
             b->name, side(b), b->threshold, unit, a->name, a->threshold, unit, b->highest,
             least_request(a));
}

static void lint_contradiction(const struct linter *l)
{
    for_pairs(l, look_contradiction);
}

static void look_close(const struct linter *l, size_t first, size_t second)
{
    const struct pol_trip *a = &l->policy->trips[first], *b = &l->policy->trips[second];
    const char *unit = unit_of(l, a);
    bool apart = a->above ? a->threshold > b->threshold : a->threshold < b->threshold;
    if (a->above != b->above && apart && pol_is_tripped(b, pol_clear_bound(a)))
        tell(l, l->entry->trips[first].where,
             "trip '%s' is over at %g%s only, where '%s' (%s %g%s) acts already: a reading may go "
             "from one to the other and back",
             a->name, pol_clear_bound(a), unit, b->name, side(b), b->threshold, unit);
}

static void lint_close_trips(const struct linter *l)
{
    for_pairs(l, look_close);
}

static void look_no_effect(const struct linter *l, size_t first, size_t second)
{
    const struct pol_trip *a = &l->policy->trips[first], *b = &l->policy->trips[second];
    bool both = makes_needless(b, a);
    if (b->highest > 0 && makes_needless(a, b) && !(both && second < first))
        tell(l, l->entry->trips[second].where,
             "trip '%s' changes nothing: '%s' acts whenever it does, and asks for state %u or "
             "worse",
             b->name, a->name, least_request(a));
}

static void lint_no_effect(const struct linter *l)
{
    for (size_t i = 0; i < l->policy->n_trips; i++)
        if (l->policy->trips[i].highest == 0)
            tell(l, l->entry->trips[i].where,
                 "trip '%s' changes nothing: state 0 is what there is without it",
                 l->policy->trips[i].name);
    for_pairs(l, look_no_effect);
}

/* ---- the policy ---------------------------------------------------------------------------- */

static void mark(bool *asked, unsigned lowest, unsigned highest)
{
    for (unsigned i = lowest; i <= highest; i++)
        asked[i] = true;
}

/* The states that something asks for. */
static void mark_asked(const struct pol_policy *p, bool *asked)
{
    asked[0] = asked[p->failsafe] = true;
    for (size_t i = 0; i < p->n_trips; i++)
        mark(asked, least_request(&p->trips[i]), p->trips[i].highest);
    for (size_t i = 0; i < p->n_sensors; i++)
        if (p->sensors[i].missing_state >= 0)
            asked[p->sensors[i].missing_state] = true;
    if (p->power.on)
        mark(asked, p->power.lowest, p->power.highest);
}

/* A pause at the end is there for the policies of a ladder that want one; and how long the
 * catalog's ladder is, nobody knows. */
static void lint_unreachable(const struct linter *l)
{
    const struct pol_policy *p = l->policy;
    bool asked[POL_MAX_STATES] = {false};
    size_t end = p->states[p->n_states - 1].pause ? p->n_states - 1 : p->n_states;
    if (!strcmp(l->entry->ladder, "auto"))
        return;
    mark_asked(p, asked);
    for (size_t i = 0; i < end; i++)
        if (!asked[i])
            tell(l, l->entry->where,
                 "policy '%s': nothing asks for state %zu of ladder '%s' (%s): no trip, no power, "
                 "no missing reading",
                 p->name, i, l->entry->ladder, p->states[i].name);
}

static void lint_short_dwell(const struct linter *l)
{
    const struct pol_policy *p = l->policy;
    struct pol_where where =
        l->entry->dwell_places.where.file ? l->entry->dwell_places.where : l->entry->where;
    if (p->n_trips == 0 && !p->power.on)
        return;
    if (p->dwell_up_s < p->poll_s)
        tell(l, where,
             "policy '%s': a dwell of %gs before a better state is less than a poll of %gs: the "
             "state may change at every poll",
             p->name, p->dwell_up_s, p->poll_s);
    if (p->dwell_down_s > 0 && p->dwell_down_s < p->poll_s)
        tell(l, where,
             "policy '%s': a dwell of %gs before a worse state is less than a poll of %gs and "
             "holds nothing back",
             p->name, p->dwell_down_s, p->poll_s);
}

/* ---- all of them --------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*look)(const struct linter *);
} lints[] = {
#define L(id, name, what) {name, lint_##id},
#include "policies/lints.def"
#undef L
};

int pol_lint(const struct pol_file *file, size_t i,
             void (*found)(void *ctx, const struct pol_finding *finding), void *ctx,
             struct ert_error *err)
{
    struct pol_policy *policy = malloc(sizeof *policy);
    if (!policy)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for a policy");
    struct linter l = {policy, file->entries[i], NULL, found, ctx};
    int rc = pol_compile_entry(file, l.entry, policy, err);
    for (size_t k = 0; !rc && k < sizeof lints / sizeof *lints; k++) {
        l.lint = lints[k].name;
        lints[k].look(&l);
    }
    free(policy);
    return rc;
}
