/* edgert eval --mcq: multiple-choice questions. */
#include <stdlib.h>
#include <string.h>

#include "cli/course_list.h"
#include "cli/eval.h"
#include "cli/progress.h"

/* ---- JSON ---------------------------------------------------------------------------------- */

static json_t *describe_answers(const struct var_exam_result *r, bool norm)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < r->questions; i++)
        json_array_append_new(
            list, json_integer(norm ? r->answers[i].choice_norm : r->answers[i].choice));
    return list;
}

static json_t *describe(const char *name, const struct var_exam_result *r)
{
    return json_pack("{s:s, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:o}", "point", name,
                     "questions", r->questions, "acc", r->acc.share, "acc_low", r->acc.low,
                     "acc_high", r->acc.high, "acc_norm", r->acc_norm.share, "acc_norm_low",
                     r->acc_norm.low, "acc_norm_high", r->acc_norm.high, "answers",
                     describe_answers(r, false), "answers_norm", describe_answers(r, true));
}

static json_t *describe_file(const char *path, const struct course_list *list,
                             const struct var_exam_result *results)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < list->n; i++)
        json_array_append_new(rows, describe(course_name(list, i), &results[i]));
    return json_pack("{s:s, s:o}", "file", path, "results", rows);
}

/* ---- the table ----------------------------------------------------------------------------- */

/* Questions that a course got right and the first course did not, or the other way. */
static unsigned count_turned(const struct var_exam_result *first, const struct var_exam_result *r,
                             bool now_right)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < r->questions; i++)
        n += r->answers[i].right_norm == now_right && first->answers[i].right_norm != now_right;
    return n;
}

static void print_share(struct var_share s)
{
    printf("  %5.1f%% (%4.1f-%4.1f)", 100 * s.share, 100 * s.low, 100 * s.high);
}

static void print_file(const char *path, const struct course_list *list,
                       const struct var_exam_result *results)
{
    const char *base = strrchr(path, '/');
    printf("%s: %u questions, 95 %% intervals\n", base ? base + 1 : path, results[0].questions);
    printf("%-12s  %18s  %18s  %s\n", "point", "acc", "acc_norm", "turned right, wrong");
    for (size_t i = 0; i < list->n; i++) {
        printf("%-12s", course_name(list, i));
        print_share(results[i].acc);
        print_share(results[i].acc_norm);
        if (i > 0)
            printf("  %6u, %u", count_turned(&results[0], &results[i], true),
                   count_turned(&results[0], &results[i], false));
        putchar('\n');
    }
    putchar('\n');
    fflush(stdout);
}

/* ---- all of it ----------------------------------------------------------------------------- */

static int ask(const struct evaluation *e, const char *path, uint32_t max_questions,
               const struct course_list *list, struct var_exam_result *results,
               struct ert_error *err)
{
    struct progress_bar bar;
    struct var_exam exam = {
        .path = path, .max_questions = max_questions, .cache_bits = e->config.cache_bits};
    exam.progress = progress_open(&bar);
    int rc = var_eval_questions(e->bench.pack, e->bench.team, &exam, list->schedules, list->n,
                                results, err);
    progress_close(&bar);
    return rc;
}

static int ask_files(const struct evaluation *e, const struct option_list *files,
                     uint32_t max_questions, const struct course_list *list, json_t *all,
                     struct ert_error *err)
{
    struct var_exam_result *results = calloc(list->n, sizeof *results);
    int rc = 0;
    if (!results)
        return ert_fail(err, ERT_E_NOMEM, "out of memory");
    for (size_t f = 0; f < files->n && !rc; f++) {
        rc = ask(e, files->items[f], max_questions, list, results, err);
        if (!rc && e->json)
            json_array_append_new(all, describe_file(files->items[f], list, results));
        if (!rc && !e->json)
            print_file(files->items[f], list, results);
        for (size_t i = 0; i < list->n; i++)
            var_exam_result_release(&results[i]);
    }
    free(results);
    return rc;
}

int eval_questions(struct evaluation *e, const struct option_list *files, uint32_t max_questions)
{
    struct ert_error err;
    struct course_list list;
    json_t *all = json_array();
    int rc = course_list_make(&list, e->bench.pack, &e->points, e->schedule, &err);
    if (!rc)
        rc = ask_files(e, files, max_questions, &list, all, &err);
    course_list_release(&list);
    json_t *document = json_pack("{s:o}", "questions", all);
    if (!rc && e->json)
        return cli_print_json(document, JSON_COMPACT);
    json_decref(document);
    return rc ? cli_fail_error(&err) : cli_finish_output();
}
