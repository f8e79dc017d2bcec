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
    return json_pack("{s:s, s:I, s:i, s:f, s:f, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
                     "point", name, "tokens", (json_int_t)r->tokens, "windows", (int)r->windows,
                     "nll", r->nll, "ppl", r->ppl.mean, "ppl_error", eval_number(r->ppl.error),
                     "kld", eval_number(r->kld.mean), "kld_error", eval_number(r->kld.error),
                     "top1", eval_number(r->top1.mean), "top1_error", eval_number(r->top1.error),
                     "ppl_ratio", eval_number(r->ppl_ratio.mean), "ppl_ratio_error",
                     eval_number(r->ppl_ratio.error), "bytes_per_token", eval_count(bytes),
                     "resident_bytes", eval_count(resident));
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

static void print_mean(int width, int digits, struct var_mean m)
{
    char text[48] = "-";
    if (!isnan(m.error))
        snprintf(text, sizeof text, "%.*f +-%.*f", digits, m.mean, digits, m.error);
    else if (!isnan(m.mean))
        snprintf(text, sizeof text, "%.*f", digits, m.mean);
    printf(" %*s", width, text);
}

static int print_table(const struct course_list *list, const struct var_eval_result *results)
{
    printf("%-11s %7s %16s %16s %18s %6s\n", "point", "tokens", "perplexity", "x source", "KL",
           "top-1");
    for (size_t i = 0; i < list->n; i++) {
        const struct var_eval_result *r = &results[i];
        printf("%-11s %7llu", course_name(list, i), (unsigned long long)r->tokens);
        print_mean(16, 3, r->ppl);
        print_mean(16, 4, r->ppl_ratio);
        print_mean(18, 5, r->kld);
        print_mean(6, 4, (struct var_mean){r->top1.mean, NAN});
        putchar('\n');
    }
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
