/* A journal's inputs through the decision code again: docs/journal.md has the lines. */
#include "sim/inner.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { LONGEST_LINE = 1 << 20 };

struct sim_journal {
    const char *path;
    unsigned line;
    struct pol_policy *policy; /* NULL before the start line */
    struct sim_run run;
    struct pol_decision decision; /* the last one */
    bool decided;
    struct dev_reading raw[POL_MAX_SENSORS]; /* each as the last line that named it had it */
    bool fresh[POL_MAX_SENSORS];             /* and taken at that line's time */
    struct sim_result *result;
    struct ert_error *err;
};

#define FAIL_AT(r, code, fmt, ...)                                                                 \
    ert_fail((r)->err, code, "%s:%u: " fmt, (r)->path, (r)->line, __VA_ARGS__)

static int compile(struct sim_journal *r, const char *name, const char *yaml)
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

/* Nothing was read yet; the next input line has every sensor. */
static void forget_readings(struct sim_journal *r)
{
    for (size_t i = 0; i < r->policy->n_sensors; i++)
        r->raw[i] = (struct dev_reading){.why = DEV_NO_SOURCE};
    memset(r->fresh, 0, sizeof r->fresh);
}

static int take_start(struct sim_journal *r, const json_t *line)
{
    const char *policy = json_string_value(json_object_get(line, "policy"));
    const char *yaml = json_string_value(json_object_get(line, "policy_yaml"));
    const char *memory = json_string_value(json_object_get(line, "memory"));
    json_int_t version = json_integer_value(json_object_get(line, "version"));
    if (r->policy)
        return FAIL_AT(r, ERT_E_FORMAT, "%s", "a second start, expected one journal a file");
    if (version != 2)
        return FAIL_AT(r, ERT_E_UNSUPPORTED, "journal version %lld, expected 2",
                       (long long)version);
    if (!policy || !yaml)
        return FAIL_AT(r, ERT_E_FORMAT, "%s", "start without policy and policy_yaml");
    int rc = compile(r, policy, yaml);
    if (rc)
        return rc;
    rc = sim_run_init(&r->run, r->path, r->policy, r->result, r->err);
    forget_readings(r);
    if (!rc && memory) {
        rc = pol_state_read(r->policy, memory, &r->run.state, r->err);
        rc = rc ? ert_fail_in(r->err, "%s:%u", r->path, r->line) : 0;
    }
    return rc;
}

/* Another policy takes over in mid-run. */
static int take_policy(struct sim_journal *r, const json_t *line)
{
    const char *policy = json_string_value(json_object_get(line, "policy"));
    const char *yaml = json_string_value(json_object_get(line, "policy_yaml"));
    struct pol_policy *before = r->policy;
    if (!before)
        return FAIL_AT(r, ERT_E_FORMAT, "%s", "policy before start");
    if (!policy || !yaml)
        return FAIL_AT(r, ERT_E_FORMAT, "%s", "policy without policy and policy_yaml");
    r->policy = NULL;
    int rc = compile(r, policy, yaml);
    if (!rc)
        rc = sim_run_reload(&r->run, r->policy, r->err);
    if (rc) {
        free(r->policy);
        r->policy = before; /* which the run still has */
        return rc;
    }
    free(before);
    forget_readings(r);
    return 0;
}

static bool is_time(const json_t *value)
{
    return json_is_integer(value) && json_integer_value(value) >= 0;
}

/* 71.2 or "STALE", of the decision's time now_ns; [71.2, TIME] or ["STALE", TIME] of another. */
static bool read_reading(const json_t *said, uint64_t now_ns, struct dev_reading *reading)
{
    const json_t *value = json_is_array(said) ? json_array_get(said, 0) : said;
    const json_t *time = json_is_array(said) ? json_array_get(said, 1) : NULL;
    memset(reading, 0, sizeof *reading);
    if (json_is_array(said) && !is_time(time))
        return false;
    reading->time_ns = time ? (uint64_t)json_integer_value(time) : now_ns;
    if (json_is_string(value))
        return dev_absence_find(json_string_value(value), &reading->why) &&
               reading->why != DEV_PRESENT;
    reading->value = json_number_value(value);
    return json_is_number(value);
}

/* Sensors that the line leaves out read as before; a sample that was taken at its decision, at this
 * one again. */
static void hold_readings(struct sim_journal *r, uint64_t now_ns)
{
    for (size_t i = 0; i < r->policy->n_sensors; i++)
        if (r->fresh[i])
            r->raw[i].time_ns = now_ns;
}

static int take_readings(struct sim_journal *r, json_t *readings, uint64_t now_ns)
{
    const char *name;
    json_t *said;
    if (!json_is_object(readings))
        return FAIL_AT(r, ERT_E_FORMAT, "%s", "input without readings");
    json_object_foreach(readings, name, said)
    {
        size_t i = 0;
        while (i < r->policy->n_sensors && strcmp(r->policy->sensors[i].name, name) != 0)
            i++;
        if (i == r->policy->n_sensors)
            return FAIL_AT(r, ERT_E_FORMAT, "a reading of %s, which the policy does not name",
                           dev_signal_find(name) ? name : "an unknown sensor");
        if (!read_reading(said, now_ns, &r->raw[i]))
            return FAIL_AT(r, ERT_E_FORMAT,
                           "reading of '%s': expected a value or a reason, or one with its time",
                           name);
        r->fresh[i] = r->raw[i].time_ns == now_ns;
    }
    return 0;
}

static int take_input(struct sim_journal *r, const json_t *line)
{
    const json_t *time = json_object_get(line, "t_ns"), *state = json_object_get(line, "state");
    if (!r->policy)
        return FAIL_AT(r, ERT_E_FORMAT, "%s", "input before start");
    if (!is_time(time) || !is_time(state))
        return FAIL_AT(r, ERT_E_FORMAT, "%s", "input without t_ns and state");
    uint64_t now_ns = (uint64_t)json_integer_value(time);
    hold_readings(r, now_ns);
    int rc = take_readings(r, json_object_get(line, "readings"), now_ns);
    if (!rc)
        rc = sim_run_decide(&r->run, now_ns, r->raw, &r->decision, r->err);
    r->decided = r->decided || !rc;
    if (!rc && r->decision.state != (uint64_t)json_integer_value(state))
        rc = FAIL_AT(r, ERT_E_CHECK, "journaled state %lld, replayed state %u: %s",
                     (long long)json_integer_value(state), r->decision.state, r->decision.reason);
    return rc;
}

static int take_object(struct sim_journal *r, const json_t *line)
{
    static const struct {
        const char *type;
        int (*take)(struct sim_journal *, const json_t *);
    } kinds[] = {{"start", take_start}, {"policy", take_policy}, {"input", take_input}};
    const char *type = json_string_value(json_object_get(line, "type"));
    if (!type)
        return FAIL_AT(r, ERT_E_FORMAT, "%s", "no type, expected an object such as {\"type\":...}");
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (!strcmp(kinds[i].type, type))
            return kinds[i].take(r, line);
    return 0;
}

/* A line without its newline is what a killed run leaves behind: it counts only if it is whole. */
static int take_line(struct sim_journal *r, const char *text, size_t n)
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

static int take_lines(struct sim_journal *r, FILE *file)
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

/* ---- line after line ------------------------------------------------------------------------ */

int sim_journal_follow(struct sim_journal **out, const char *name, struct ert_error *err)
{
    struct sim_journal *r = *out = calloc(1, sizeof *r);
    if (r)
        r->result = calloc(1, sizeof *r->result);
    if (!r || !r->result) {
        free(r);
        *out = NULL;
        return ert_fail(err, ERT_E_NOMEM, "out of memory for %s", name);
    }
    r->path = name;
    return 0;
}

int sim_journal_take(struct sim_journal *r, const json_t *line, struct ert_error *err)
{
    r->err = err;
    r->line++;
    return take_object(r, line);
}

void sim_journal_free(struct sim_journal *r)
{
    if (!r)
        return;
    if (r->run.result)
        sim_run_finish(&r->run, r->run.last_ns);
    sim_result_release(r->result);
    free(r->result);
    free(r->policy);
    free(r);
}

const struct pol_policy *sim_journal_policy(const struct sim_journal *r)
{
    return r->policy;
}

const struct pol_state *sim_journal_state(const struct sim_journal *r)
{
    return &r->run.state;
}

const struct pol_decision *sim_journal_decision(const struct sim_journal *r)
{
    return r->decided ? &r->decision : NULL;
}

int sim_replay_journal(const char *journal_path, struct sim_result *result, struct ert_error *err)
{
    memset(result, 0, sizeof *result);
    struct sim_journal *r = calloc(1, sizeof *r);
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
