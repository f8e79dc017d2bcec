/* What the Python tests drive. usage:
 *   drive_replay decide POLICIES NAME      one decision a line of stdin: T_NS {SENSOR VALUE|REASON
 * TIME_NS}... drive_replay replay POLICIES NAME TRACE    the summary as JSON drive_replay text
 * POLICIES NAME TRACE      the summary as text drive_replay golden POLICIES NAME TRACE GOLDEN
 *   drive_replay journal FILE...     drive_replay policies FILE...     drive_replay traces FILE...
 * The last three say "ok" or "code sentence" for each file. */
#include <stdlib.h>
#include <string.h>

#include "sim/sim.h"

static int say(int rc, const struct ert_error *err)
{
    if (rc)
        printf("%d %s\n", -rc, err->text);
    else
        puts("ok");
    return 0;
}

static int load(const char *path, const char *name, struct pol_policy *policy)
{
    struct ert_error err = {0};
    struct pol_file *file;
    int rc = pol_file_load(&file, &path, 1, &err);
    if (!rc) {
        rc = pol_compile(file, name, NULL, 0, policy, &err);
        pol_file_free(file);
    }
    if (rc)
        fprintf(stderr, "%s\n", err.text);
    return rc;
}

static void parse_reading(const struct pol_policy *policy, struct dev_reading *raw,
                          const char *name, const char *value, const char *time)
{
    for (size_t i = 0; i < policy->n_sensors; i++) {
        if (strcmp(policy->sensors[i].name, name) != 0)
            continue;
        raw[i].time_ns = strtoull(time, NULL, 10);
        if (!dev_absence_find(value, &raw[i].why)) {
            raw[i].why = DEV_PRESENT;
            raw[i].value = strtod(value, NULL);
        }
    }
}

static int decide(const char *path, const char *name)
{
    static struct pol_policy policy;
    struct pol_state state;
    struct dev_reading raw[POL_MAX_SENSORS];
    struct pol_decision decision;
    char *line = NULL, *rest;
    size_t room = 0;
    if (load(path, name, &policy))
        return 1;
    pol_state_init(&state, &policy);
    while (getline(&line, &room, stdin) > 0) {
        uint64_t now = strtoull(strtok_r(line, " \n", &rest), NULL, 10);
        char *sensor;
        for (size_t i = 0; i < policy.n_sensors; i++)
            raw[i] = (struct dev_reading){.why = DEV_NO_SOURCE};
        while ((sensor = strtok_r(NULL, " \n", &rest))) {
            const char *value = strtok_r(NULL, " \n", &rest), *time = strtok_r(NULL, " \n", &rest);
            parse_reading(&policy, raw, sensor, value, time);
        }
        pol_decide(&policy, &state, now, raw, &decision);
        printf("%u %d %d %u %s\n", decision.state, decision.changed, decision.release_memory,
               decision.prefill_state, decision.reason);
    }
    free(line);
    return 0;
}

static int print_summary(const struct sim_result *result, bool json, struct ert_error *err)
{
    char *text = NULL;
    json_t *object = json ? sim_summary_json(result) : NULL;
    int rc = 0;
    if (object)
        text = json_dumps(object, JSON_REAL_PRECISION(17));
    else
        rc = sim_summary_text(result, &text, err);
    if (!rc)
        fputs(text, stdout);
    json_decref(object);
    free(text);
    return rc;
}

static int replay(const char *mode, char **argv, const char *golden)
{
    static struct pol_policy policy;
    struct dev_trace *trace;
    struct sim_result result;
    struct ert_error err = {0};
    if (load(argv[0], argv[1], &policy))
        return 1;
    int rc = dev_trace_read(&trace, argv[2], &err);
    if (!rc) {
        rc = sim_replay(trace, &policy, &result, &err);
        if (!rc && golden)
            rc = sim_check_golden(&result, golden, &err);
        else if (!rc)
            rc = print_summary(&result, !strcmp(mode, "replay"), &err);
        sim_result_release(&result);
        dev_trace_free(trace);
    }
    if (rc)
        fprintf(stderr, "%s\n", err.text);
    return rc ? 1 : 0;
}

static int journal(const char *path)
{
    struct sim_result result;
    struct ert_error err = {0};
    int rc = sim_replay_journal(path, &result, &err);
    if (!rc)
        printf("%llu decisions, %llu changes%s ", (unsigned long long)result.decisions,
               (unsigned long long)result.total_trans, result.truncated ? ", truncated" : "");
    sim_result_release(&result);
    return say(rc, &err);
}

static int policies(const char *path)
{
    static struct pol_policy policy;
    struct ert_error err = {0};
    struct pol_file *file;
    int rc = pol_file_load(&file, &path, 1, &err);
    for (size_t i = 0; !rc && i < pol_file_count(file); i++)
        rc = pol_compile(file, pol_file_name(file, i), NULL, 0, &policy, &err);
    pol_file_free(file);
    return say(rc, &err);
}

static int traces(const char *path)
{
    struct ert_error err = {0};
    struct dev_trace *trace;
    int rc = dev_trace_read(&trace, path, &err);
    dev_trace_free(trace);
    return say(rc, &err);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(const char *path);
    } checks[] = {{"journal", journal}, {"policies", policies}, {"traces", traces}};
    const char *mode = argc > 1 ? argv[1] : "";
    for (size_t c = 0; c < sizeof checks / sizeof *checks; c++)
        if (!strcmp(mode, checks[c].name)) {
            for (int i = 2; i < argc; i++)
                checks[c].run(argv[i]);
            return 0;
        }
    if (argc == 4 && !strcmp(mode, "decide"))
        return decide(argv[2], argv[3]);
    if (argc == 5 || argc == 6)
        return replay(mode, argv + 2, argc == 6 ? argv[5] : NULL);
    return 2;
}
