#include "cli/top_model.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "cli/top_history.h"
#include "sim/sim.h"

enum { SWAPS = 24, WORDS = 320, NAME_COLUMNS = 20, VALUE_COLUMNS = 10 };

/* What a run says of itself. */
struct top {
    const char *name;
    struct sim_journal *journal;
    struct top_history sensors[POL_MAX_SENSORS], tok_s, each_j, state;
    char labels[POL_MAX_SENSORS][DEV_NAME]; /* whose histories those are, "" = nobody's */
    double t_s;
    char reason[WORDS], event[WORDS], broken[WORDS];
    char swaps[SWAPS][WORDS]; /* a ring */
    size_t n_swaps;
    struct {
        char what[16], point[POL_NAME], source[16];
        uint64_t tokens, prompt_tokens;
        double decode_s, joules, tok_s, each_j; /* NaN = not known */
        bool any, fresh;                        /* fresh: since the last decision */
    } work;
};

int top_create(struct top **out, const char *name, struct ert_error *err)
{
    struct top *t = *out = calloc(1, sizeof *t);
    if (!t)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for %s", name);
    t->name = name;
    return 0;
}

void top_free(struct top *t)
{
    if (!t)
        return;
    sim_journal_free(t->journal);
    free(t);
}

/* ---- taking lines --------------------------------------------------------------------------- */

static const char *word(const json_t *line, const char *key)
{
    const char *text = json_string_value(json_object_get(line, key));
    return text ? text : "";
}

static double number(const json_t *line, const char *key)
{
    const json_t *value = json_object_get(line, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static uint64_t count(const json_t *line, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(line, key));
    return value > 0 ? (uint64_t)value : 0;
}

/* Another policy: what is known of sensors of the same name goes on. */
static void name_histories(struct top *t)
{
    const struct pol_policy *policy = sim_journal_policy(t->journal);
    struct top_history *before = malloc(sizeof t->sensors);
    char labels[POL_MAX_SENSORS][DEV_NAME];
    if (before)
        memcpy(before, t->sensors, sizeof t->sensors);
    memcpy(labels, t->labels, sizeof labels);
    memset(t->sensors, 0, sizeof t->sensors);
    memset(t->labels, 0, sizeof t->labels);
    for (size_t i = 0; policy && i < policy->n_sensors; i++) {
        memcpy(t->labels[i], policy->sensors[i].name, DEV_NAME);
        for (size_t k = 0; before && k < POL_MAX_SENSORS; k++)
            if (!strcmp(labels[k], t->labels[i]))
                t->sensors[i] = before[k];
    }
    free(before);
}

static int take_start(struct top *t, const json_t *line, struct ert_error *err)
{
    struct sim_journal *fresh;
    int rc = sim_journal_follow(&fresh, t->name, err);
    if (rc)
        return rc;
    sim_journal_free(t->journal);
    const char *name = t->name;
    if (count(line, "segment") == 0)
        memset(t, 0, sizeof *t);
    t->name = name;
    t->journal = fresh;
    rc = sim_journal_take(t->journal, line, err);
    name_histories(t);
    return rc;
}

static int take_policy(struct top *t, const json_t *line, struct ert_error *err)
{
    int rc = sim_journal_take(t->journal, line, err);
    name_histories(t);
    return rc;
}

static int take_input(struct top *t, const json_t *line, struct ert_error *err)
{
    int rc = sim_journal_take(t->journal, line, err);
    if (rc)
        return rc;
    const struct pol_policy *policy = sim_journal_policy(t->journal);
    const struct pol_state *state = sim_journal_state(t->journal);
    for (unsigned i = 0; i < policy->n_sensors; i++) {
        struct dev_reading r = pol_validated(policy, state, i);
        top_history_put(&t->sensors[i], r.why == DEV_PRESENT ? r.value : NAN);
    }
    top_history_put(&t->state, state->state);
    top_history_put(&t->tok_s, t->work.fresh ? t->work.tok_s : NAN);
    top_history_put(&t->each_j, t->work.fresh ? t->work.each_j : NAN);
    t->work.fresh = false;
    t->t_s = (double)state->now_ns * 1e-9 - 3600; /* docs/journal.md, the decision clock */
    return 0;
}

static int take_decision(struct top *t, const json_t *line, struct ert_error *err)
{
    (void)err;
    snprintf(t->reason, sizeof t->reason, "%s", word(line, "reason"));
    return 0;
}

static int take_switch(struct top *t, const json_t *line, struct ert_error *err)
{
    (void)err;
    snprintf(t->swaps[t->n_swaps++ % SWAPS], WORDS, "%8.1f s  token %-6llu %s -> %s: %s",
             number(line, "t_s"), (unsigned long long)count(line, "token"), word(line, "from"),
             word(line, "to"), word(line, "reason"));
    return 0;
}

static int take_work(struct top *t, const json_t *line, struct ert_error *err)
{
    (void)err;
    double decode_s = number(line, "decode_s");
    uint64_t tokens = count(line, "tokens");
    double passed_s = decode_s - (t->work.any ? t->work.decode_s : 0);
    uint64_t before = t->work.any ? t->work.tokens : 0;
    t->work.tok_s = passed_s > 0 && tokens > before ? (double)(tokens - before) / passed_s : NAN;
    t->work.tokens = tokens;
    t->work.decode_s = decode_s;
    t->work.prompt_tokens = count(line, "prompt_tokens");
    t->work.joules = number(line, "energy_j");
    t->work.each_j = number(line, "j_per_token");
    t->work.any = t->work.fresh = true;
    snprintf(t->work.what, sizeof t->work.what, "%s", word(line, "what"));
    snprintf(t->work.point, sizeof t->work.point, "%s", word(line, "point"));
    snprintf(t->work.source, sizeof t->work.source, "%s", word(line, "source"));
    return 0;
}

static int take_event(struct top *t, const json_t *line, struct ert_error *err)
{
    (void)err;
    snprintf(t->event, sizeof t->event, "%.1f s: %s", number(line, "t_s"), word(line, "what"));
    return 0;
}

static int take_source(struct top *t, const json_t *line, struct ert_error *err)
{
    (void)err;
    const char *to = word(line, "to");
    snprintf(t->event, sizeof t->event, "%.1f s: %s now from %s (%s)", number(line, "t_s"),
             word(line, "sensor"), *to ? to : "nowhere", word(line, "why"));
    return 0;
}

static int take_guarantee(struct top *t, const json_t *line, struct ert_error *err)
{
    (void)err;
    snprintf(t->broken, sizeof t->broken, "%.1f s: %s", number(line, "t_s"), word(line, "text"));
    return 0;
}

static const struct {
    const char *type;
    int (*take)(struct top *, const json_t *, struct ert_error *);
} kinds[] = {
    {"start", take_start},       {"policy", take_policy}, {"input", take_input},
    {"decision", take_decision}, {"switch", take_switch}, {"work", take_work},
    {"event", take_event},       {"source", take_source}, {"guarantee", take_guarantee},
};

int top_take(struct top *t, const char *text, size_t n, struct ert_error *err)
{
    json_error_t why;
    int rc = 0;
    json_t *line = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (!line)
        return ert_fail(err, ERT_E_FORMAT, "%s is no journal: a line is not valid JSON", t->name);
    const char *type = word(line, "type");
    if (!t->journal && strcmp(type, "start") != 0)
        rc = ert_fail(err, ERT_E_FORMAT, "%s: no start line, is this a journal?", t->name);
    for (size_t i = 0; !rc && i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].type, type))
            rc = kinds[i].take(t, line, err);
    json_decref(line);
    return rc;
}

/* ---- the page ------------------------------------------------------------------------------- */

struct page {
    const struct top *top;
    const struct top_screen *screen;
    struct top_row *rows;
    size_t n, room;
};

/* Appends what fits of the text to row: whole characters, no controls. */
static void clip(const struct page *p, const char *text, char *row)
{
    int columns = p->screen->columns < TOP_COLUMNS ? p->screen->columns : TOP_COLUMNS;
    size_t left = strlen(text), used = 0;
    for (int column = 0; left > 0;) {
        size_t n = ert_utf8_length(text, left);
        uint32_t c = n ? ert_utf8_decode(text, n) : '?';
        int width = n > 1 && p->screen->unicode ? wcwidth((wchar_t)c) : 1;
        bool shown = c >= 0x20 && c != 0x7f && width >= 0 && (n <= 1 || p->screen->unicode);
        if (column + (shown ? width : 1) > columns)
            break;
        used += shown ? ert_utf8_encode(c, row + used) : ert_utf8_encode('?', row + used);
        column += shown ? width : 1;
        text += n ? n : 1;
        left -= n ? n : 1;
    }
    row[used] = '\0';
}

static void put_row(struct page *p, enum top_tone tone, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void put_row(struct page *p, enum top_tone tone, const char *fmt, ...)
{
    char text[4 * TOP_COLUMNS + 1];
    va_list ap;
    if (p->n == p->room)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    p->rows[p->n].tone = tone;
    clip(p, text, p->rows[p->n++].text);
}

/* Cells of a history, by the width of the screen; 0 = there is no room for one. */
static size_t spark_cells(const struct page *p)
{
    int room = p->screen->columns - NAME_COLUMNS - VALUE_COLUMNS - 4;
    return room < 8 ? 0 : room < 24 ? 8 : (size_t)room * 2 / 5;
}

/* "temp.cpu   71.2C  ____---***  [warm > 70C]" */
static void put_quantity(struct page *p, bool strong, const char *name, const char *value,
                         const struct top_history *history, const char *more)
{
    char spark[4 * TOP_COLUMNS] = "";
    size_t cells = spark_cells(p);
    top_history_draw(history, cells, p->screen->unicode, spark, sizeof spark);
    put_row(p, strong ? TOP_STRONG : TOP_PLAIN, "%-*s %*s  %s  %s", NAME_COLUMNS, name,
            VALUE_COLUMNS, value, spark, more);
}

static void append(char text[WORDS], const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void append(char text[WORDS], const char *fmt, ...)
{
    size_t used = strlen(text);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text + used, WORDS - used, fmt, ap);
    va_end(ap);
}

/* The trips on a sensor; in brackets those that are active, with the state that they ask for, and
 * in parentheses those that wait for their time. True if one is active. */
static bool tell_trips(const struct top *t, unsigned sensor, const char *unit, char text[WORDS])
{
    const struct pol_policy *policy = sim_journal_policy(t->journal);
    const struct pol_state *state = sim_journal_state(t->journal);
    bool active = false;
    for (size_t i = 0; i < policy->n_trips; i++) {
        const struct pol_trip *trip = &policy->trips[i];
        const struct pol_trip_state *s = &state->trips[i];
        if (trip->sensor != sensor)
            continue;
        char asks[32] = "";
        if (s->active)
            snprintf(asks, sizeof asks, ": state %u", s->request);
        append(text, "%s%s %s %g%s%s%s  ",
               s->active ? "["
               : s->held ? "("
                         : "",
               trip->name, trip->above ? ">" : "<", trip->threshold, unit, asks,
               s->active ? "]"
               : s->held ? ")"
                         : "");
        active |= s->active;
    }
    return active;
}

static void put_sensor(struct page *p, unsigned i)
{
    const struct top *t = p->top;
    const struct pol_policy *policy = sim_journal_policy(t->journal);
    const struct pol_sensor *sensor = &policy->sensors[i];
    struct dev_reading r = pol_validated(policy, sim_journal_state(t->journal), i);
    const char *unit = sensor->signal ? ert_unit_name(sensor->signal->unit) : "";
    char value[32] = "-", more[WORDS] = "";
    if (r.why == DEV_PRESENT)
        snprintf(value, sizeof value, "%.1f%s", r.value, unit);
    bool active = tell_trips(t, i, unit, more);
    if (r.why != DEV_PRESENT)
        append(more, "%s", dev_absence_text(r.why));
    put_quantity(p, active, sensor->name, value, &t->sensors[i], more);
}

static void put_title(struct page *p)
{
    const struct pol_policy *policy = sim_journal_policy(p->top->journal);
    char quiet[64] = "live";
    if (p->screen->quiet_s > 3 * policy->poll_s + 1)
        snprintf(quiet, sizeof quiet, "no line for %.0f s", p->screen->quiet_s);
    put_row(p, TOP_TITLE, "edgert top  %s  policy %s  %.1f s  %s", p->top->name, policy->name,
            p->top->t_s, quiet);
}

static void put_point(struct page *p)
{
    const struct top *t = p->top;
    const struct pol_policy *policy = sim_journal_policy(t->journal);
    const struct pol_decision *decision = sim_journal_decision(t->journal);
    unsigned state = sim_journal_state(t->journal)->state;
    bool at_work = t->work.any && t->work.point[0];
    char text[WORDS] = "";
    append(text, "%s  %s", at_work ? t->work.point : policy->states[state].name,
           t->work.any ? t->work.what : "nothing said yet");
    if (t->work.any)
        append(text, "  %llu tokens, %llu of prompts", (unsigned long long)t->work.tokens,
               (unsigned long long)t->work.prompt_tokens);
    if (t->work.any && !isnan(t->work.joules))
        append(text, "  %.1f J", t->work.joules);
    if (t->work.source[0])
        append(text, " by %s", t->work.source);
    put_row(p, TOP_STRONG, "%s", text);
    put_row(p, TOP_PLAIN, "%s", t->reason[0] ? t->reason : "no change of state yet");
    if (decision && decision->granted_w > 0)
        put_row(p, TOP_STRONG, "power is limited to %.2f W", decision->granted_w);
}

static void put_rates(struct page *p)
{
    const struct top *t = p->top;
    const struct pol_policy *policy = sim_journal_policy(t->journal);
    unsigned state = sim_journal_state(t->journal)->state;
    char text[64] = "-";
    if (t->work.any && !isnan(t->work.tok_s))
        snprintf(text, sizeof text, "%.1f", t->work.tok_s);
    put_quantity(p, false, "tokens per second", text, &t->tok_s, "");
    snprintf(text, sizeof text, "-");
    if (t->work.any && !isnan(t->work.each_j))
        snprintf(text, sizeof text, "%.3g", t->work.each_j);
    put_quantity(p, false, "joules per token", text, &t->each_j, "");
    snprintf(text, sizeof text, "%u of 0-%zu", state, policy->n_states - 1);
    put_quantity(p, false, "state", text, &t->state, policy->states[state].name);
}

static void put_swaps(struct page *p)
{
    const struct top *t = p->top;
    size_t kept = t->n_swaps < SWAPS ? t->n_swaps : SWAPS;
    if (t->event[0])
        put_row(p, TOP_FAINT, "%s", t->event);
    put_row(p, TOP_FAINT, "%zu switches%s", t->n_swaps, kept ? ", the last first:" : "");
    for (size_t i = 1; i <= kept; i++)
        put_row(p, TOP_PLAIN, "%s", t->swaps[(t->n_swaps - i) % SWAPS]);
}

size_t top_page(const struct top *t, const struct top_screen *screen, struct top_row *rows)
{
    struct page p = {.top = t,
                     .screen = screen,
                     .rows = rows,
                     .room = screen->rows < 0          ? 0
                             : screen->rows < TOP_ROWS ? (size_t)screen->rows
                                                       : TOP_ROWS};
    const struct pol_policy *policy = t->journal ? sim_journal_policy(t->journal) : NULL;
    if (!policy || !sim_journal_decision(t->journal)) {
        put_row(&p, TOP_TITLE, "edgert top  %s  waiting for its first decision", t->name);
        return p.n;
    }
    put_title(&p);
    put_point(&p);
    if (t->broken[0])
        put_row(&p, TOP_STRONG, "guarantee broken at %s", t->broken);
    put_row(&p, TOP_PLAIN, "%s", "");
    put_rates(&p);
    put_row(&p, TOP_PLAIN, "%s", "");
    for (unsigned i = 0; i < policy->n_sensors; i++)
        put_sensor(&p, i);
    put_row(&p, TOP_PLAIN, "%s", "");
    put_swaps(&p);
    return p.n;
}
