/* A journal's inputs through the decision code again: docs/journal.md has the lines. */
#include "sim/inner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_LINE = 1 << 20 };

struct replay {
    const char *path;
    unsigned line;
    struct pol_policy *policy; /* NULL before the start line */
    struct sim_run run;
    struct dev_reading raw[POL_MAX_SENSORS]; /* each as the last line that named it had it */
    struct sim_result *result;
    struct ert_error *err;
};

#define FAIL_AT(r, code, fmt, ...)                                                                 \
    ert_fail((r)->err, code, "%s:%u: " fmt, (r)->path, (r)->line, __VA_ARGS__)

static int compile(struct replay *r, const char *name, const char *yaml)
{
    struct pol_file *file;
    char what[64];
    snprintf(what, sizeof what, "policy_yaml of line %u", r->line);
    int rc = pol_file_parse(&file, what, yaml, strlen(yaml), r->err);
    if (rc)
        return ert_fail_in(r->err, "%s", r->path);
    r->policy = malloc(sizeof *r->policy);
    rc = r->policy ? pol_compile(file, name, NULL, 0, r->policy, r->err)
                   : ert_fail(r->err, ERT_E_NOMEM, "out of memory for a policy");
    pol_file_free(file);
    return rc ? ert_fail_in(r->err, "%s:%u", r->path, r->line) : 0;
}

static int take_start(struct replay *r, const json_t *line)
{
    const char *policy = json_string_value(json_object_get(line, "policy"));
    const char *yaml = json_string_value(json_object_get(line, "policy_yaml"));
    json_int_t version = json_integer_value(json_object_get(line, "version"));
    if (r->policy)
        return FAIL_AT(r, ERT_E_FORMAT, "%s", "a second start, expected one journal a file");
    if (version != 1)
        return FAIL_AT(r, ERT_E_UNSUPPORTED, "journal version %lld, expected 1",
                       (long long)version);
    if (!policy || !yaml)
        return FAIL_AT(r, ERT_E_FORMAT, "%s", "start without policy and policy_yaml");
    int rc = compile(r, policy, yaml);
    if (rc)
        return rc;
    rc = sim_run_init(&r->run, r->path, r->policy, r->result, r->err);
    for (size_t i = 0; i < r->policy->n_sensors; i++)
        r->raw[i] = (struct dev_reading){.why = DEV_NO_SOURCE};
    return rc;
}

static bool is_time(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 0;
}

/* [71.2, TIME] or [null, "STALE", TIME]. */
static bool read_reading(const json_t *list, struct dev_reading *reading)
{
    const json_t *value = json_array_get(list, 0), *second = json_array_get(list, 1);
    const json_t *time = json_is_null(value) ? json_array_get(list, 2) : second;
    memset(reading, 0, sizeof *reading);
    if (!is_time(time))
        return false;
    reading->time_ns = (uint64_t)json_integer_value(time);
    if (json_is_null(value))
        return json_is_string(second) &&
               dev_absence_find(json_string_value(second), &reading->why) &&
               reading->why != DEV_PRESENT;
    reading->value = json_number_value(value);
    return json_is_number(value);
}

static int take_readings(struct replay *r, json_t *readings)
{
    const char *name;
    json_t *list;
    if (!json_is_object(readings))
        return FAIL_AT(r, ERT_E_FORMAT, "%s", "input without readings");
    json_object_foreach(readings, name, list)
    {
        size_t i = 0;
        while (i < r->policy->n_sensors && strcmp(r->policy->sensors[i].name, name) != 0)
            i++;
        if (i == r->policy->n_sensors)
            return FAIL_AT(r, ERT_E_FORMAT, "a reading of %s, which the policy does not name",
                           dev_signal_find(name) ? name : "an unknown sensor");
        if (!read_reading(list, &r->raw[i]))
            return FAIL_AT(r, ERT_E_FORMAT,
                           "reading of '%s': expected [value, time] or [null, reason, time]", name);
    }
    return 0;
}

static int take_input(struct replay *r, const json_t *line)
{
    const json_t *time = json_object_get(line, "t_ns"), *state = json_object_get(line, "state");
    struct pol_decision decision;
    if (!r->policy)
        return FAIL_AT(r, ERT_E_FORMAT, "%s", "input before start");
    if (!is_time(time) || !is_time(state))
        return FAIL_AT(r, ERT_E_FORMAT, "%s", "input without t_ns and state");
    int rc = take_readings(r, json_object_get(line, "readings"));
    if (!rc)
        rc = sim_run_decide(&r->run, (uint64_t)json_integer_value(time), r->raw, &decision, r->err);
    if (!rc && decision.state != (uint64_t)json_integer_value(state))
        rc = FAIL_AT(r, ERT_E_CHECK, "journaled state %lld, replayed state %u: %s",
                     (long long)json_integer_value(state), decision.state, decision.reason);
    return rc;
}

static int take_object(struct replay *r, const json_t *line)
{
    static const struct {
        const char *type;
        int (*take)(struct replay *, const json_t *);
    } kinds[] = {{"start", take_start}, {"input", take_input}};
    const char *type = json_string_value(json_object_get(line, "type"));
    if (!type)
        return FAIL_AT(r, ERT_E_FORMAT, "%s", "no type, expected an object such as {\"type\":...}");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].type, type))
            return kinds[i].take(r, line);
    return 0;
}

/* A line without its newline is what a killed run leaves behind: it counts only if it is whole. */
static int take_line(struct replay *r, const char *text, size_t n)
{
    json_error_t why;
    bool whole = n && text[n - 1] == '\n';
    if (n > LONGEST_LINE)
        return FAIL_AT(r, ERT_E_RANGE, "line longer than %d bytes", LONGEST_LINE);
    json_t *line = json_loadb(text, n, JSON_REJECT_DUPLICATES, &why);
    if (!line && !whole) {
        r->result->truncated = true;
        return 0;
    }
    if (!line)
        return FAIL_AT(r, ERT_E_FORMAT, "not valid JSON at column %d", why.column);
    int rc = take_object(r, line);
    json_decref(line);
    return rc;
}

static int take_lines(struct replay *r, FILE *file)
{
    char *text = NULL;
    size_t room = 0;
    ssize_t n;
    int rc = 0;
    while (!rc && (n = getline(&text, &room, file)) > 0) {
        r->line++;
        rc = take_line(r, text, (size_t)n);
    }
    if (!rc && ferror(file))
        rc = FAIL_AT(r, ERT_E_IO, "reading failed: %s", strerror(errno));
    free(text);
    if (!rc && !r->policy)
        rc = FAIL_AT(r, ERT_E_FORMAT, "%s", "no start line, is this a journal?");
    return rc;
}

int sim_replay_journal(const char *journal_path, struct sim_result *result, struct ert_error *err)
{
    memset(result, 0, sizeof *result);
    struct replay *r = calloc(1, sizeof *r);
    if (!r)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for %s", journal_path);
    r->path = journal_path;
    r->result = result;
    r->err = err;
    FILE *file = fopen(journal_path, "re");
    int rc = file ? take_lines(r, file)
                  : ert_fail(err, ERT_E_IO, "%s: cannot open: %s", journal_path, strerror(errno));
    if (file)
        fclose(file);
    if (r->run.result)
        sim_run_finish(&r->run, r->run.last_ns);
    free(r->policy);
    free(r);
    if (rc)
        sim_result_release(result);
    return rc;
}
