/* edgert policy check|show|explain: is a file right, and what does a policy come to. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/explain.h"
#include "cli/options.h"
#include "cli/policy_source.h"
#include "engine/layers.h"

static json_t *describe(const struct pol_policy *p)
{
    json_t *states = json_array(), *sensors = json_array();
    for (size_t i = 0; i < p->n_states; i++)
        json_array_append_new(states, json_string(p->states[i].name));
    for (size_t i = 0; i < p->n_sensors; i++)
        json_array_append_new(sensors, json_string(p->sensors[i].name));
    return json_pack("{s:s, s:f, s:o, s:o, s:i}", "name", p->name, "poll_s", p->poll_s, "states",
                     states, "sensors", sensors, "trips", (int)p->n_trips);
}

/* What a check has to tell. */
struct check {
    bool json;
    json_t *policies, *warnings;
};

static void tell_finding(void *ctx, const struct pol_finding *finding)
{
    const struct check *c = ctx;
    if (c->json)
        json_array_append_new(c->warnings,
                              json_pack("{s:s, s:s, s:s, s:I, s:I, s:s}", "lint", finding->lint,
                                        "policy", finding->policy, "file", finding->file, "line",
                                        (json_int_t)finding->line, "column",
                                        (json_int_t)finding->column, "text", finding->text));
    else
        printf("%s:%zu:%zu: warning: %s [%s]\n", finding->file, finding->line, finding->column,
               finding->text, finding->lint);
}

static int check_policy(struct check *c, const struct pol_file *file, size_t i,
                        struct pol_policy *policy, struct ert_error *err)
{
    int rc = policy_source_compile(file, pol_file_name(file, i), policy, err);
    if (rc)
        return rc;
    if (c->json)
        json_array_append_new(c->policies, describe(policy));
    else
        printf("%s: ok, %zu states, %zu sensors, %zu trips\n", policy->name, policy->n_states,
               policy->n_sensors, policy->n_trips);
    return pol_lint(file, i, tell_finding, c, err);
}

/* Every policy of the files must compile. The JSON says ok or the first mistake; status 3 if any.
 * Warnings leave the status as it is. */
static int check(const char *path, bool json)
{
    struct pol_file *file = NULL;
    struct pol_policy *policy = malloc(sizeof *policy);
    struct ert_error err = {0};
    if (!policy)
        return cli_fail(ERT_E_NOMEM, "out of memory");
    struct check c = {json, json_array(), json_array()};
    int rc =
        path ? pol_file_load(&file, &path, 1, &err) : layers_load_policies(NULL, NULL, &file, &err);
    bool not_loaded = rc != 0;
    for (size_t i = 0; !rc && i < pol_file_count(file); i++)
        rc = check_policy(&c, file, i, policy, &err);
    if (file)
        pol_file_free(file);
    free(policy);
    int status = CLI_OK;
    json_t *error = rc ? json_string(err.text) : json_null();
    if (json)
        status = cli_print_json(json_pack("{s:b, s:o, s:o, s:o}", "ok", rc == 0, "policies",
                                          c.policies, "warnings", c.warnings, "error", error),
                                JSON_COMPACT);
    if (!json) {
        json_decref(c.policies);
        json_decref(c.warnings);
        json_decref(error);
        status = cli_finish_output();
    }
    if (!rc)
        return status;
    cli_fail_error(&err);
    /* A file that cannot be read was not checked; anything else is a mistake in it. */
    bool unread = not_loaded && (rc == -ERT_E_MISSING || rc == -ERT_E_IO || rc == -ERT_E_NOMEM);
    return unread ? CLI_FAILED : CLI_CHECK;
}

static void append_line(void *ctx, const struct pol_line *line)
{
    json_t *defaults = json_array(),
           *number = line->file ? json_integer((json_int_t)line->line) : json_null();
    for (const char *key = line->defaults; *key; key += strspn(key, ", ")) {
        size_t n = strcspn(key, ",");
        json_array_append_new(defaults, json_stringn(key, n));
        key += n;
    }
    json_array_append_new(ctx, json_pack("{s:s, s:s?, s:o, s:o}", "text", line->text, "file",
                                         line->file, "line", number, "defaults", defaults));
}

/* What check tells of it, and the lines of show. */
static int print_lines(const struct pol_policy *policy, const struct pol_file *file,
                       struct ert_error *err)
{
    json_t *lines = json_array(), *object = describe(policy);
    int rc = pol_show_lines(policy, file, append_line, lines, err);
    json_object_set_new(object, "lines", lines);
    if (!rc)
        return cli_print_json(object, JSON_COMPACT);
    json_decref(object);
    return cli_fail_error(err);
}

/* One policy as YAML, all layers merged, with the place of each line. */
static int show(const char *name, const char *policy_file, bool json)
{
    struct pol_file *file = NULL;
    struct pol_policy *policy = malloc(sizeof *policy);
    char *text = NULL;
    struct ert_error err;
    int status = CLI_OK;
    if (!policy)
        return cli_fail(ERT_E_NOMEM, "out of memory");
    int rc = layers_load_policies(NULL, policy_file, &file, &err);
    if (!rc)
        rc = policy_source_compile(file, name, policy, &err);
    if (!rc && !json)
        rc = pol_show(policy, file, &text, &err);
    if (rc) {
        status = cli_fail_error(&err);
    } else if (json) {
        status = print_lines(policy, file, &err);
    } else {
        fputs(text, stdout);
        status = cli_finish_output();
    }
    free(text);
    if (file)
        pol_file_free(file);
    free(policy);
    return status;
}

/* The verb and its argument, as the line has them. */
static int obey(const struct command_line *line, const char *policy_file, const char *model,
                const struct option_list *readings, bool json)
{
    const char *verb = line->arguments[0],
               *what = line->n_arguments > 1 ? line->arguments[1] : NULL;
    if (readings->n && strcmp(verb, "explain") != 0)
        return cli_usage("--reading goes with policy explain");
    if (!strcmp(verb, "check"))
        return check(what, json);
    if (!strcmp(verb, "explain"))
        return explain_policy(what, policy_file, model, readings, json);
    if (strcmp(verb, "show") != 0)
        return cli_usage("policy %s? expected check, show or explain", verb);
    return show(what ? what : "balanced", policy_file, json);
}

int command_policy(int argc, char **argv)
{
    bool json = false;
    const char *policy_file = NULL, *model = NULL;
    struct option_list readings = {NULL, 0};
    const struct option_row rows[] = {
        {"policy-file", 0, "FILE", "policies over the installed ones (show, explain)", OPTION_TEXT,
         &policy_file, 0, 0},
        {"model", 'm', "PACK", "whose catalog tells the costs (explain)", OPTION_TEXT, &model, 0,
         0},
        {"reading", 0, "SENSOR=VALUE",
         "what it comes to, and what would change that (explain); repeatable", OPTION_LIST,
         &readings, 0, 0},
        {"json", 0, NULL, "as JSON (docs/json.md)", OPTION_FLAG, &json, 0, 0},
        OPTION_HELP,
    };
    struct command_line line = {
        .usage =
            "edgert policy check [FILE] | show NAME | explain NAME [--reading SENSOR=VALUE]...",
        .about =
            "check: every policy of FILE (or of the installed layers) is read and compiled;\n"
            "       a mistake is told with line and column, and status 3. What compiles and is\n"
            "       likely wrong all the same is told as a warning.\n"
            "show:  a policy by name, as it comes out of all layers, with the file and line of\n"
            "       each of its lines. It can be read again.\n"
            "explain: its states, what each costs in quality, and what asks for it; with\n"
            "       --reading temp.cpu=80C also which of them that is, and what reading would\n"
            "       change it. Sensors that are not named have no reading.",
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
        .min_arguments = 1,
        .max_arguments = 2,
    };
    int status = options_parse(&line, argc, argv);
    if (status < 0)
        status = obey(&line, policy_file, model, &readings, json);
    options_release(&line);
    return status;
}
