/* edgert eval: how good a pack's points are, at a text, at questions, and across a switch. */
#include "cli/eval.h"

#include <math.h>
#include <stdlib.h>

enum { TEXT_LIMIT = 1 << 30, SWITCH_AT = 256 };

json_t *eval_number(double value)
{
    return isnan(value) ? json_null() : json_real(value);
}

json_t *eval_count(double value)
{
    return isnan(value) ? json_null() : json_integer((json_int_t)value);
}

/* What was asked for besides what all ways of measuring share. */
struct request {
    struct evaluation e;
    struct option_list switches;
    const char *text, *reference, *plot;
    uint32_t threads, at;
};

static int check_request(const struct request *r)
{
    if (!r->text)
        return cli_usage("which text? --text FILE is missing");
    if (r->switches.n && (r->e.points.n || r->e.schedule))
        return cli_usage("--switch says the points itself, without --point and --schedule");
    if ((r->plot || r->at) && !r->switches.n)
        return cli_usage("--at and --plot belong to --switch FROM:TO");
    return CLI_OK;
}

static int evaluate(struct request *r, const char *pack)
{
    struct evaluation *e = &r->e;
    struct rt_pack *reference = NULL;
    struct ert_error err;
    char *text = NULL;
    int status = CLI_OK;
    if (workbench_open(&e->bench, pack, r->threads, &err) ||
        ert_read_text(r->text, TEXT_LIMIT, &text, &e->config.n_text, &err) ||
        (r->reference && rt_pack_open(&reference, r->reference, &err)))
        status = cli_fail_error(&err);
    e->config.text = text;
    e->config.reference = reference;
    if (status == CLI_OK)
        status = r->switches.n ? eval_switches(e, &r->switches, r->at ? r->at : SWITCH_AT, r->plot)
                               : eval_text(e);
    free(text);
    rt_pack_free(reference);
    workbench_close(&e->bench);
    return status;
}

int command_eval(int argc, char **argv)
{
    struct request r = {0};
    const struct option_row rows[] = {
        {"text", 0, "FILE", "the text (needed)", OPTION_TEXT, &r.text, 0, 0},
        {"point", 0, "POINT", "a point; may be repeated (all of the pack)", OPTION_LIST,
         &r.e.points, 0, 0},
        {"schedule", 0, "FILE", "lines TOKEN POINT, or a run's journal", OPTION_TEXT, &r.e.schedule,
         0, 0},
        {"switch", 0, "FROM:TO", "what this switch does to the text after it; repeatable",
         OPTION_LIST, &r.switches, 0, 0},
        {"at", 0, "N", "token of each window at which to switch (256)", OPTION_COUNT, &r.at, 1,
         1e6},
        {"plot", 0, "FILE.svg", "the switches as a picture", OPTION_TEXT, &r.plot, 0, 0},
        {"reference", 0, "PACK", "f32 pack of the same source, for the KL", OPTION_TEXT,
         &r.reference, 0, 0},
        {"windows", 0, "N", "at most so many windows (all)", OPTION_COUNT, &r.e.config.max_windows,
         1, 1e9},
        {"window", 0, "N", "tokens of a window (512)", OPTION_COUNT, &r.e.config.window, 4, 1e6},
        {"threads", 't', "N", "threads (all CPUs)", OPTION_COUNT, &r.threads, 1, 256},
        {"json", 0, NULL, "as JSON (docs/json.md)", OPTION_FLAG, &r.e.json, 0, 0},
        OPTION_HELP,
    };
    struct command_line line = {
        .usage = "edgert eval [OPTION]... [PACK] --text FILE",
        .about = "Measures perplexity: windows one after the other, scored on their second halves.",
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
        .max_arguments = 1,
    };
    int status = options_parse(&line, argc, argv);
    if (status < 0) {
        status = check_request(&r);
        if (status == CLI_OK)
            status = evaluate(&r, line.n_arguments ? line.arguments[0] : NULL);
    }
    options_release(&line);
    return status;
}
