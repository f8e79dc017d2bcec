/* edgert sim: recorded traces, or a live run's journal, through a policy. */
#include <stdlib.h>

#include "cli/options.h"
#include "cli/policy_source.h"
#include "engine/layers.h"
#include "sim/sim.h"

struct simulation {
    const char *policy_name, *policy_file, *golden, *write_to, *journal;
    bool json;
    struct pol_policy *policy;
};

static int write_golden(const char *path, const char *text, struct ert_error *err)
{
    struct ert_output out;
    int rc = ert_output_open(&out, path, err);
    if (rc)
        return rc;
    if (fputs(text, out.file) < 0) {
        ert_output_abort(&out);
        return ert_fail(err, ERT_E_IO, "%s: writing failed", path);
    }
    return ert_output_commit(&out, err);
}

static int print_result(const struct sim_result *result, const char *text, bool json)
{
    if (json)
        return cli_print_json(sim_summary_json(result), JSON_COMPACT);
    fputs(text, stdout);
    return cli_finish_output();
}

/* Prints, writes and checks one summary. */
static int deliver(const struct simulation *s, const struct sim_result *result)
{
    char *text = NULL;
    struct ert_error err;
    int rc = sim_summary_text(result, &text, &err), status = CLI_OK;
    if (!rc && s->write_to)
        rc = write_golden(s->write_to, text, &err);
    if (!rc)
        status = print_result(result, text, s->json);
    if (!rc && s->golden)
        rc = sim_check_golden(result, s->golden, &err);
    if (!rc)
        rc = sim_check_guarantees(result, &err);
    free(text);
    return rc ? cli_fail_error(&err) : status;
}

static int replay_trace(const struct simulation *s, const char *path)
{
    struct dev_trace *trace;
    struct sim_result result;
    struct ert_error err;
    if (dev_trace_read(&trace, path, &err))
        return cli_fail_error(&err);
    int rc = sim_replay(trace, s->policy, &result, &err);
    dev_trace_free(trace);
    if (rc)
        return cli_fail_error(&err);
    int status = deliver(s, &result);
    sim_result_release(&result);
    return status;
}

static int replay_journal(const struct simulation *s)
{
    struct sim_result result;
    struct ert_error err;
    if (sim_replay_journal(s->journal, &result, &err))
        return cli_fail_error(&err);
    int status = deliver(s, &result);
    sim_result_release(&result);
    return status;
}

static int replay_traces(struct simulation *s, char **paths, size_t n)
{
    struct pol_file *file = NULL;
    struct ert_error err;
    int worst = CLI_OK;
    s->policy = malloc(sizeof *s->policy);
    int rc = s->policy ? 0 : ert_fail(&err, ERT_E_NOMEM, "out of memory");
    if (!rc)
        rc = layers_load_policies(NULL, s->policy_file, &file, &err);
    if (!rc)
        rc = policy_source_compile(file, s->policy_name, s->policy, &err);
    if (rc)
        worst = cli_fail_error(&err);
    for (size_t i = 0; !rc && i < n; i++) {
        int status = replay_trace(s, paths[i]);
        worst = status > worst ? status : worst;
    }
    if (file)
        pol_file_free(file);
    free(s->policy);
    return worst;
}

int command_sim(int argc, char **argv)
{
    struct simulation s = {.policy_name = "balanced"};
    const struct option_row rows[] = {
        {"policy", 'p', "NAME", "policy to decide by (balanced)", OPTION_TEXT, &s.policy_name, 0,
         0},
        {"policy-file", 0, "FILE", "policies over the installed ones", OPTION_TEXT, &s.policy_file,
         0, 0},
        {"check", 0, "GOLDEN", "compare the summary, status 3 if it differs", OPTION_TEXT,
         &s.golden, 0, 0},
        {"write", 0, "GOLDEN", "write the summary there", OPTION_TEXT, &s.write_to, 0, 0},
        {"journal", 0, "FILE", "replay a live run's inputs, compare decisions", OPTION_TEXT,
         &s.journal, 0, 0},
        {"json", 0, NULL, "one JSON object a trace (docs/json.md)", OPTION_FLAG, &s.json, 0, 0},
        OPTION_HELP,
    };
    struct command_line line = {
        .usage = "edgert sim [OPTION]... TRACE... | --journal FILE",
        .about =
            "Replays recorded traces through a policy on a virtual clock, with the decision code\n"
            "that the live governor runs.",
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
        .max_arguments = 1000,
    };
    int status = options_parse(&line, argc, argv);
    if (status >= 0)
        return status;
    if (s.journal && line.n_arguments)
        return cli_usage("a journal brings its own inputs: leave the traces out");
    if (!s.journal && line.n_arguments == 0)
        return cli_usage("which trace? edgert sim TRACE.csv, or --journal FILE");
    if ((s.golden || s.write_to) && line.n_arguments > 1)
        return cli_usage("a golden file belongs to one trace");
    return s.journal ? replay_journal(&s) : replay_traces(&s, line.arguments, line.n_arguments);
}
