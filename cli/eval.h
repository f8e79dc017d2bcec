/* eval: what the ways of measuring a pack share. */
#ifndef ERT_CLI_EVAL_H
#define ERT_CLI_EVAL_H

#include "cli/options.h"
#include "cli/workbench.h"
#include "variants/variants.h"

struct evaluation {
    struct workbench bench;
    struct var_eval_config config;
    struct option_list points;
    const char *schedule; /* a file, NULL = none */
    bool json;
};

/* A number, or a whole one; null for NaN. */
json_t *eval_number(double value);
json_t *eval_count(double value);

/* Points, or one schedule, on the text: the table, or {"results": [...]}. Exit status. */
int eval_text(struct evaluation *e);

/* Points, or one schedule, at files of multiple-choice questions, at most max_questions of each (0
 * = all): a table a file, or {"questions": [...]}. Exit status. */
int eval_questions(struct evaluation *e, const struct option_list *files, uint32_t max_questions);

/* Switches "FROM:TO" at token `at` of every window: tables and a chart, or {"switches": [...]};
 * plot (NULL = none) is an SVG file to write. Exit status. */
int eval_switches(struct evaluation *e, const struct option_list *pairs, uint32_t at,
                  const char *plot);

#endif
