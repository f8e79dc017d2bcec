/* edgert eval --text: perplexity of points, or of a schedule of points. */
#include <math.h>
#include <stdlib.h>

#include "cli/course_list.h"
#include "cli/eval.h"
#include "cli/progress.h"

static json_t *describe(const struct rt_pack *pack, const char *name, const struct rt_point *point,
                        const struct var_eval_result *r)
{
    double bytes = NAN, resident = NAN;
    if (point) {
        bytes = (double)rt_pack_bytes_per_token(pack, point->variant, point->tier);
        resident = (double)rt_pack_resident_bytes(pack, point->variant, point->tier);
    }
    return json_pack("{s:s, s:I, s:i, s:f, s:f, s:f, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "point", name, "tokens", (json_int_t)r->tokens, "windows", (int)r->windows,
                     "ppl", r->ppl, "ppl_error", r->ppl_error, "nll", r->nll, "kld",
                     eval_number(r->kld), "kld_error", eval_number(r->kld_error), "top1",
                     eval_number(r->top1), "top1_error", eval_number(r->top1_error), "ppl_ratio",
                     eval_number(r->ppl_ratio), "ppl_ratio_error", eval_number(r->ppl_ratio_error),
                     "bytes_per_token", eval_count(bytes), "resident_bytes", eval_count(resident));
}

static int print_json(const struct rt_pack *pack, const struct course_list *list,
                      const struct var_eval_result *results)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < list->n; i++)
        json_array_append_new(
            rows, describe(pack, course_name(list, i), course_point(list, i), &results[i]));
    return cli_print_json(json_pack("{s:o}", "results", rows), JSON_COMPACT);
}

static void print_row(const char *name, const struct var_eval_result *r)
{
    printf("%-12s %8llu %9.4f %8.4f %8.4f", name, (unsigned long long)r->tokens, r->ppl,
           r->ppl_error, r->nll);
    if (isnan(r->kld))
        printf(" %9s %9s %8s %8s\n", "-", "-", "-", "-");
    else
        printf(" %9.5f %9.5f %8.4f %7.2f%%\n", r->kld, r->kld_error, r->ppl_ratio, 100 * r->top1);
}

static int print_table(const struct course_list *list, const struct var_eval_result *results)
{
    printf("%-12s %8s %9s %8s %8s %9s %9s %8s %8s\n", "point", "tokens", "ppl", "+-", "nll", "KL",
           "+-", "x source", "top-1");
    for (size_t i = 0; i < list->n; i++)
        print_row(course_name(list, i), &results[i]);
    return cli_finish_output();
}

static int measure(struct evaluation *e, const struct course_list *list,
                   struct var_eval_result **results, struct ert_error *err)
{
    struct progress_bar bar;
    *results = calloc(list->n, sizeof **results);
    if (!*results)
        return ert_fail(err, ERT_E_NOMEM, "out of memory");
    e->config.progress = progress_open(&bar);
    int rc =
        var_eval(e->bench.pack, e->bench.team, &e->config, list->schedules, list->n, *results, err);
    progress_close(&bar);
    return rc;
}

int eval_text(struct evaluation *e)
{
    struct ert_error err;
    struct course_list list;
    struct var_eval_result *results = NULL;
    int status;
    if (course_list_make(&list, e->bench.pack, &e->points, e->schedule, &err) ||
        measure(e, &list, &results, &err))
        status = cli_fail_error(&err);
    else
        status = e->json ? print_json(e->bench.pack, &list, results) : print_table(&list, results);
    free(results);
    course_list_release(&list);
    return status;
}
