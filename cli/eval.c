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
    struct option_list switches, mcq;
    const char *text, *reference, *plot;
    uint32_t threads, at, max_questions;
};

static int check_request(const struct request *r)
{
    if (!r->text && !r->mcq.n)
        return cli_usage("which text or questions? --text FILE or --mcq FILE is missing");
    if (r->text && r->mcq.n)
        return cli_usage("--text and --mcq are measured one at a time");
    if (r->mcq.n &&
        (r->switches.n || r->reference || r->e.config.window || r->e.config.max_windows))
        return cli_usage("--switch, --reference, --window and --windows belong to --text");
    if (r->switches.n && (r->e.points.n || r->e.schedule))
        return cli_usage("--switch says the points itself, without --point and --schedule");
    if ((r->plot || r->at) && !r->switches.n)
        return cli_usage("--at and --plot belong to --switch FROM:TO");
    if (r->max_questions && !r->mcq.n)
        return cli_usage("--questions belongs to --mcq FILE");
    return CLI_OK;
}

static int measure(struct request *r)
{
    if (r->mcq.n)
        return eval_questions(&r->e, &r->mcq, r->max_questions);
    if (r->switches.n)
        return eval_switches(&r->e, &r->switches, r->at ? r->at : SWITCH_AT, r->plot);
    return eval_text(&r->e);
}

static int evaluate(struct request *r, const char *pack)
{
    struct evaluation *e = &r->e;
    struct rt_pack *reference = NULL;
    struct ert_error err;
    char *text = NULL;
    int status = CLI_OK;
    if (workbench_open(&e->bench, pack, r->threads, &err) ||
        (r->text && ert_read_text(r->text, TEXT_LIMIT, &text, &e->config.n_text, &err)) ||
        (r->reference && rt_pack_open(&reference, r->reference, &err)))
        status = cli_fail_error(&err);
    e->config.text = text;
    e->config.reference = reference;
    if (status == CLI_OK)
        status = measure(r);
    free(text);
    rt_pack_free(reference);
    workbench_close(&e->bench);
    return status;
}

int command_eval(int argc, char **argv)
{
    struct request r = {0};
    const struct option_row rows[] = {
        {"text", 0, "FILE", "how well this text is predicted", OPTION_TEXT, &r.text, 0, 0},
        {"mcq", 0, "FILE", "multiple-choice questions (docs/quality.md); repeatable", OPTION_LIST,
         &r.mcq, 0, 0},
        {"questions", 0, "N", "at most so many of each file (all)", OPTION_COUNT, &r.max_questions,
         1, 1e9},
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
        {"cache-bits", 0, "N", "of a cached key or value: 16, 8 or 6 (16)", OPTION_COUNT,
         &r.e.config.cache_bits, 6, 16},
        {"threads", 't', "N", "threads (all CPUs)", OPTION_COUNT, &r.threads, 1, 256},
        {"json", 0, NULL, "as JSON (docs/json.md)", OPTION_FLAG, &r.e.json, 0, 0},
        OPTION_HELP,
    };
    struct command_line line = {
        .usage = "edgert eval [OPTION]... [PACK] --text FILE | --mcq FILE",
        .about =
            "Measures how good points are: the perplexity of a text in windows, scored on their\n"
            "second halves; what a switch does to the text after it; or questions answered.",
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
