/* edgert eval: perplexity of points, or of a schedule of points, on a text. */
#include <math.h>
#include <stdlib.h>

#include "cli/options.h"
#include "cli/point_list.h"
#include "cli/progress.h"
#include "cli/workbench.h"
#include "variants/variants.h"

enum { TEXT_LIMIT = 1 << 30 };

struct evaluation {
    struct workbench bench;
    struct var_eval_config config;
    struct rt_pack *reference;
    char *text;
    json_t *results;
    bool json;
};

static json_t *number_or_null(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

static json_t *describe(const struct evaluation *e, const char *name, const struct rt_point *point,
                        const struct var_eval_result *r)
{
    const struct rt_pack *pack = e->bench.pack;
    json_t *bytes = json_null(), *resident = json_null();
    if (point) {
        bytes =
            json_integer((json_int_t)rt_pack_bytes_per_token(pack, point->variant, point->tier));
        resident =
            json_integer((json_int_t)rt_pack_resident_bytes(pack, point->variant, point->tier));
    }
    return json_pack(
        "{s:s, s:I, s:i, s:f, s:f, s:f, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "point", name,
        "tokens", (json_int_t)r->tokens, "windows", (int)r->windows, "ppl", r->ppl, "ppl_error",
        r->ppl_error, "nll", r->nll, "kld", number_or_null(r->kld), "kld_error",
        number_or_null(r->kld_error), "top1", number_or_null(r->top1), "top1_error",
        number_or_null(r->top1_error), "ppl_ratio", number_or_null(r->ppl_ratio), "ppl_ratio_error",
        number_or_null(r->ppl_ratio_error), "bytes_per_token", bytes, "resident_bytes", resident);
}

/* point: what was measured, NULL for a schedule. */
static void record(struct evaluation *e, const char *name, const struct rt_point *point,
                   const struct var_eval_result *r)
{
    json_array_append_new(e->results, describe(e, name, point, r));
    if (e->json)
        return;
    if (json_array_size(e->results) == 1)
        printf("%-16s %8s %10s %8s %8s %9s %7s\n", "point", "tokens", "perplexity", "+-", "nll",
               "KL", "top-1");
    printf("%-16s %8llu %10.4f %8.4f %8.4f", name, (unsigned long long)r->tokens, r->ppl,
           r->ppl_error, r->nll);
    if (isnan(r->kld))
        printf(" %9s %7s\n", "-", "-");
    else
        printf(" %9.5f %6.2f%%\n", r->kld, 100 * r->top1);
    fflush(stdout);
}

static int measure(struct evaluation *e, const struct var_schedule *schedules, size_t n,
                   struct var_eval_result *results, struct ert_error *err)
{
    struct progress_bar bar;
    e->config.progress = progress_open(&bar);
    int rc = var_eval(e->bench.pack, e->bench.team, &e->config, schedules, n, results, err);
    progress_close(&bar);
    return rc;
}

/* All points side by side, so that the text and the reference are read once. */
static int measure_list(struct evaluation *e, const struct point_list *list, struct ert_error *err)
{
    struct var_schedule_entry *entries = calloc(list->n, sizeof *entries);
    struct var_schedule *schedules = calloc(list->n, sizeof *schedules);
    struct var_eval_result *results = calloc(list->n, sizeof *results);
    int rc = 0;
    if (!entries || !schedules || !results)
        rc = ert_fail(err, ERT_E_NOMEM, "out of memory");
    for (size_t i = 0; !rc && i < list->n; i++) {
        entries[i].point = list->points[i];
        schedules[i] = (struct var_schedule){&entries[i], 1};
    }
    if (!rc)
        rc = measure(e, schedules, list->n, results, err);
    for (size_t i = 0; !rc && i < list->n; i++)
        record(e, list->points[i].name, &list->points[i], &results[i]);
    free(entries);
    free(schedules);
    free(results);
    return rc;
}

static int measure_points(struct evaluation *e, const struct option_list *names,
                          struct ert_error *err)
{
    struct point_list list;
    int rc = point_list_make(&list, e->bench.pack, names, err);
    if (!rc)
        rc = measure_list(e, &list, err);
    free(list.points);
    return rc;
}

static int measure_schedule(struct evaluation *e, const char *path, struct ert_error *err)
{
    struct var_schedule schedule;
    struct var_eval_result result;
    int rc = var_schedule_read(path, e->bench.pack, &schedule, err);
    if (!rc)
        rc = measure(e, &schedule, 1, &result, err);
    if (!rc)
        record(e, "schedule", NULL, &result);
    var_schedule_release(&schedule);
    return rc;
}

static int evaluate(struct evaluation *e, const struct option_list *points, const char *schedule)
{
    struct ert_error err;
    e->results = json_array();
    int rc = schedule ? measure_schedule(e, schedule, &err) : measure_points(e, points, &err);
    if (rc) {
        json_decref(e->results);
        return cli_fail_error(&err);
    }
    json_t *all = json_pack("{s:o}", "results", e->results);
    if (e->json)
        return cli_print_json(all, JSON_COMPACT);
    json_decref(all);
    return cli_finish_output();
}

int command_eval(int argc, char **argv)
{
    struct evaluation e = {0};
    struct option_list points = {0};
    const char *text = NULL, *schedule = NULL, *reference = NULL;
    uint32_t threads = 0;
    const struct option_row rows[] = {
        {"text", 0, "FILE", "the text (needed)", OPTION_TEXT, &text, 0, 0},
        {"point", 0, "POINT", "a point; may be repeated (all of the pack)", OPTION_LIST, &points, 0,
         0},
        {"schedule", 0, "FILE", "lines TOKEN POINT, or a run's journal", OPTION_TEXT, &schedule, 0,
         0},
        {"reference", 0, "PACK", "f32 pack of the same source, for the KL", OPTION_TEXT, &reference,
         0, 0},
        {"windows", 0, "N", "at most so many windows (all)", OPTION_COUNT, &e.config.max_windows, 1,
         1e9},
        {"window", 0, "N", "tokens of a window (512)", OPTION_COUNT, &e.config.window, 4, 1e6},
        {"threads", 't', "N", "threads (all CPUs)", OPTION_COUNT, &threads, 1, 256},
        {"json", 0, NULL, "as JSON (docs/json.md)", OPTION_FLAG, &e.json, 0, 0},
        OPTION_HELP,
    };
    struct command_line line = {
        .usage = "edgert eval [OPTION]... [PACK] --text FILE",
        .about = "Measures perplexity: windows one after the other, scored on their second halves.",
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
        .max_arguments = 1,
    };
    struct ert_error err;
    int status = options_parse(&line, argc, argv);
    if (status >= 0)
        goto out;
    if (!text) {
        status = cli_usage("which text? --text FILE is missing");
        goto out;
    }
    status = CLI_OK;
    if (workbench_open(&e.bench, line.n_arguments ? line.arguments[0] : NULL, threads, &err) ||
        ert_read_text(text, TEXT_LIMIT, &e.text, &e.config.n_text, &err) ||
        (reference && rt_pack_open(&e.reference, reference, &err)))
        status = cli_fail_error(&err);
    e.config.text = e.text;
    e.config.reference = e.reference;
    if (status == CLI_OK)
        status = evaluate(&e, &points, schedule);
    free(e.text);
    rt_pack_free(e.reference);
    workbench_close(&e.bench);
out:
    options_release(&line);
    return status;
}
