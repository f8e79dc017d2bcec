/* edgert eval --switch: what a switch does to the text after it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/chart.h"
#include "cli/eval.h"
#include "cli/progress.h"

struct study {
    struct evaluation *e;
    uint32_t at;
    size_t n;
    struct var_switch *switches;       /* [n] */
    struct var_switch_result *results; /* [n] */
};

/* The measures of a stretch by name; KL is there if a reference is. */
static const struct metric {
    const char *name, *title;
    size_t offset; /* of the measure in a stretch */
} metrics[] = {
    {"nll", "loss, nats per token", offsetof(struct var_switch_stretch, nll)},
    {"kld", "KL to the source, nats per token", offsetof(struct var_switch_stretch, kld)},
};

static const struct var_switch_measure *measure_of(const struct var_switch_stretch *s,
                                                   const struct metric *metric)
{
    return (const void *)((const char *)s + metric->offset);
}

static bool is_measured(const struct study *s, const struct metric *metric)
{
    return !isnan(measure_of(&s->results[0].all, metric)->to.mean);
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static json_t *describe_measure(const struct var_switch_measure *m)
{
    if (isnan(m->to.mean))
        return json_null();
    return json_pack("{s:f, s:f, s:f, s:f, s:o, s:f, s:o}", "from", m->from.mean, "to", m->to.mean,
                     "switched", m->switched.mean, "over_to", m->over_to.mean, "over_to_error",
                     eval_number(m->over_to.error), "over_from", m->over_from.mean,
                     "over_from_error", eval_number(m->over_from.error));
}

static json_t *describe_stretch(const struct var_switch_stretch *s)
{
    return json_pack("{s:i, s:i, s:o, s:o}", "first", s->first, "last", s->last, "nll",
                     describe_measure(&s->nll), "kld", describe_measure(&s->kld));
}

static json_t *describe(const struct study *s, size_t i)
{
    const struct var_switch_result *r = &s->results[i];
    json_t *stretches = json_array();
    for (size_t k = 0; k < r->n_stretches; k++)
        json_array_append_new(stretches, describe_stretch(&r->stretches[k]));
    return json_pack("{s:s, s:s, s:i, s:i, s:o, s:o}", "from", s->switches[i].from.name, "to",
                     s->switches[i].to.name, "at", s->at, "windows", r->windows, "stretches",
                     stretches, "all", describe_stretch(&r->all));
}

static int print_json(const struct study *s)
{
    json_t *list = json_array();
    for (size_t i = 0; i < s->n; i++)
        json_array_append_new(list, describe(s, i));
    return cli_print_json(json_pack("{s:o}", "switches", list), JSON_COMPACT);
}

/* ---- tables -------------------------------------------------------------------------------- */

static void print_difference(struct var_mean d)
{
    printf(" %+10.4f", d.mean);
    if (isnan(d.error))
        printf(" %8s", "");
    else
        printf(" +-%.4f", d.error);
}

static void print_stretch(const struct var_switch_stretch *s, const struct metric *metric, bool all)
{
    const struct var_switch_measure *m = measure_of(s, metric);
    char tokens[32];
    snprintf(tokens, sizeof tokens, s->first == s->last ? "%u" : "%u-%u", s->first, s->last);
    printf("%-10s %10.4f %10.4f %10.4f", all ? "all" : tokens, m->from.mean, m->to.mean,
           m->switched.mean);
    print_difference(m->over_to);
    print_difference(m->over_from);
    putchar('\n');
}

static void print_table(const struct study *s, size_t i, const struct metric *metric)
{
    const struct var_switch_result *r = &s->results[i];
    const struct var_switch *sw = &s->switches[i];
    printf("%s -> %s at token %u, %u windows: %s\n", sw->from.name, sw->to.name, s->at, r->windows,
           metric->title);
    printf("%-10s %10s %10s %10s %20s %20s\n", "tokens", "stayed", "was there", "switched",
           "switched - was there", "switched - stayed");
    for (size_t k = 0; k < r->n_stretches; k++)
        print_stretch(&r->stretches[k], metric, false);
    print_stretch(&r->all, metric, true);
    putchar('\n');
}

/* ---- the chart ----------------------------------------------------------------------------- */

struct picture {
    struct chart chart;
    struct chart_series *series;                        /* [n] */
    struct chart_point (*points)[VAR_SWITCH_STRETCHES]; /* [n] */
    char (*names)[128];                                 /* [n] */
    char title[96], y_title[96];
};

static void release_picture(struct picture *p)
{
    free(p->series);
    free(p->points);
    free(p->names);
}

static void lay_series(struct picture *p, const struct study *s, size_t i,
                       const struct metric *metric)
{
    const struct var_switch_result *r = &s->results[i];
    snprintf(p->names[i], sizeof p->names[i], "%s -> %s", s->switches[i].from.name,
             s->switches[i].to.name);
    for (size_t k = 0; k < r->n_stretches; k++) {
        const struct var_switch_stretch *stretch = &r->stretches[k];
        struct var_mean over = measure_of(stretch, metric)->over_to;
        /* In the middle of its tokens, counted from 1; side by side where several would meet. */
        double middle = sqrt((stretch->first + 1.0) * (stretch->last + 1.0));
        p->points[i][k] = (struct chart_point){.x = middle * pow(1.06, (double)i),
                                               .y = over.mean,
                                               .error = isnan(over.error) ? 0 : over.error};
    }
    p->series[i] = (struct chart_series){
        .name = p->names[i], .points = p->points[i], .n = r->n_stretches, .line = CHART_STRAIGHT};
}

/* How much worse the switched text is than if it had been there all along. Release in any case. */
static int lay_picture(struct picture *p, const struct study *s, const struct metric *metric,
                       struct ert_error *err)
{
    *p = (struct picture){0};
    p->series = calloc(s->n, sizeof *p->series);
    p->points = calloc(s->n, sizeof *p->points);
    p->names = calloc(s->n, sizeof *p->names);
    if (!p->series || !p->points || !p->names)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for a chart");
    for (size_t i = 0; i < s->n; i++)
        lay_series(p, s, i, metric);
    snprintf(p->title, sizeof p->title, "after a switch at token %u, %u windows", s->at,
             s->results[0].windows);
    snprintf(p->y_title, sizeof p->y_title, "%s: switched - was there", metric->title);
    p->chart = (struct chart){
        .title = p->title,
        .x = {"tokens since the switch (log)", true},
        .y = {p->y_title, false},
        .series = p->series,
        .n_series = s->n,
        .zero_line = true,
        .letters = true,
    };
    return 0;
}

/* ---- all of it ----------------------------------------------------------------------------- */

static int parse_switch(const struct rt_pack *pack, const char *text, struct var_switch *out,
                        struct ert_error *err)
{
    const char *colon = strchr(text, ':');
    char from[64];
    if (!colon || (size_t)(colon - text) >= sizeof from)
        return ert_fail(err, ERT_E_USAGE, "--switch %s: expected FROM:TO, such as w4a16:w8a8",
                        text);
    snprintf(from, sizeof from, "%.*s", (int)(colon - text), text);
    int rc = rt_point_parse(from, pack, &out->from, err);
    return rc ? rc : rt_point_parse(colon + 1, pack, &out->to, err);
}

static int measure(struct study *s, const struct option_list *pairs, struct ert_error *err)
{
    struct evaluation *e = s->e;
    struct progress_bar bar;
    int rc = 0;
    s->n = pairs->n;
    s->switches = calloc(s->n, sizeof *s->switches);
    s->results = calloc(s->n, sizeof *s->results);
    if (!s->switches || !s->results)
        return ert_fail(err, ERT_E_NOMEM, "out of memory");
    for (size_t i = 0; i < s->n && !rc; i++)
        rc = parse_switch(e->bench.pack, pairs->items[i], &s->switches[i], err);
    if (rc)
        return rc;
    e->config.progress = progress_open(&bar);
    rc = var_eval_switches(e->bench.pack, e->bench.team, &e->config, s->at, s->switches, s->n,
                           s->results, err);
    progress_close(&bar);
    return rc;
}

static int print(const struct study *s, const struct picture *picture, struct ert_error *err)
{
    const struct chart_terminal terminal = chart_stdout();
    for (size_t i = 0; i < s->n; i++)
        for (size_t m = 0; m < sizeof metrics / sizeof *metrics; m++)
            if (is_measured(s, &metrics[m]))
                print_table(s, i, &metrics[m]);
    if (chart_print(&picture->chart, &terminal, err))
        return cli_fail_error(err);
    return cli_finish_output();
}

static int show(const struct study *s, const char *plot, struct ert_error *err)
{
    struct picture picture;
    const struct metric *metric = is_measured(s, &metrics[1]) ? &metrics[1] : &metrics[0];
    int status = CLI_OK;
    if (lay_picture(&picture, s, metric, err) ||
        (plot && chart_write_svg(&picture.chart, plot, err)))
        status = cli_fail_error(err);
    if (status == CLI_OK)
        status = s->e->json ? print_json(s) : print(s, &picture, err);
    release_picture(&picture);
    return status;
}

int eval_switches(struct evaluation *e, const struct option_list *pairs, uint32_t at,
                  const char *plot)
{
    struct study s = {.e = e, .at = at};
    struct ert_error err;
    int rc = measure(&s, pairs, &err);
    int status = rc ? cli_fail_error(&err) : show(&s, plot, &err);
    free(s.switches);
    free(s.results);
    return status;
}
