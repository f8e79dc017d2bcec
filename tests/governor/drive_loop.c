/* A governor for a Python test to drive.
 *   drive_loop report [ROOT [POLICIES]]            one JSON object per line of gov_sensor_report
 *   drive_loop run POLICIES NAME [KEY=VALUE]...    keys: root, replay, speed, journal, limit
 * run reads commands from stdin, a word a line: status, poke, switch, cost, quit; each answers with
 * one JSON object. Start and stop print one as well. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "governor/governor.h"

static void print_json(json_t *object)
{
    json_dumpf(object, stdout, JSON_COMPACT);
    putchar('\n');
    fflush(stdout);
    json_decref(object);
}

static int fail(const struct ert_error *err)
{
    print_json(json_pack("{s:s}", "error", err->text));
    return 1;
}

static json_t *value_or_null(const struct dev_reading *r)
{
    return r->why == DEV_PRESENT ? json_real(r->value) : json_null();
}

static int report(const char *root, const char *policies)
{
    struct gov_sources sources = {.root = root};
    struct pol_file *file = NULL;
    struct gov_sensor_line *lines;
    struct ert_error err;
    size_t n;
    if (policies && pol_file_load(&file, &policies, 1, &err) != 0)
        return fail(&err);
    int rc = gov_sensor_report(&sources, file, &lines, &n, &err);
    if (file)
        pol_file_free(file);
    if (rc)
        return fail(&err);
    for (size_t i = 0; i < n; i++)
        print_json(json_pack("{s:s,s:s,s:o,s:s}", "signal", lines[i].signal, "source",
                             lines[i].source, "value", value_or_null(&lines[i].reading), "why",
                             lines[i].why));
    free(lines);
    return 0;
}

/* What the engine would be told. Written on the governor's thread, read after a status. */
struct told {
    struct gov_governor *g;
    unsigned applied, beats;
};

static void apply(void *ctx, const struct pol_decision *decision)
{
    struct told *told = ctx;
    __atomic_store_n(&told->applied, decision->state, __ATOMIC_RELAXED);
}

static void beat(void *ctx, uint64_t deadline_ns)
{
    struct told *told = ctx;
    __atomic_add_fetch(&told->beats, deadline_ns > ert_now_ns(), __ATOMIC_RELAXED);
}

static void print_status(struct told *told, const struct pol_policy *policy)
{
    struct gov_status s;
    gov_get_status(told->g, &s);
    json_t *sensors = json_object();
    for (size_t i = 0; i < s.n_sensors; i++)
        json_object_set_new(sensors, policy->sensors[i].name,
                            json_pack("{s:o,s:s,s:s,s:s}", "value", value_or_null(&s.readings[i]),
                                      "absence", dev_absence_id(s.readings[i].why), "source",
                                      s.sources[i], "why", s.why[i]));
    print_json(
        json_pack("{s:i,s:s,s:I,s:i,s:I,s:I,s:f,s:b,s:s,s:o}", "state", (int)s.decision.state,
                  "reason", s.decision.reason, "decisions", (json_int_t)s.decisions, "applied",
                  (int)__atomic_load_n(&told->applied, __ATOMIC_RELAXED), "beats",
                  (json_int_t)__atomic_load_n(&told->beats, __ATOMIC_RELAXED), "transitions",
                  (json_int_t)s.transitions, "replay_s", s.replay_s, "replay_ended",
                  (int)s.replay_ended, "journal_failure", s.journal_failure, "sensors", sensors));
}

static void report_switch(struct told *told)
{
    struct gov_switch_event event = {.token = 17,
                                     .time_ns = ert_now_ns(),
                                     .cost_ns = 900,
                                     .from = "w8a8",
                                     .to = "w4a16",
                                     .state = 1};
    gov_reason(told->g, event.state, event.trip, event.reason);
    gov_report_switch(told->g, &event);
    gov_poke(told->g);
    print_json(json_pack("{s:b}", "reported", 1));
}

static void print_cost(struct told *told)
{
    struct gov_status s;
    gov_get_status(told->g, &s);
    print_json(json_pack("{s:I,s:f,s:f}", "decisions", (json_int_t)s.decisions, "cpu_s",
                         (double)s.cpu_ns * 1e-9, "running_s", (double)s.running_ns * 1e-9));
}

static void take_commands(struct told *told, const struct pol_policy *policy)
{
    char word[64];
    while (fgets(word, sizeof word, stdin) && strcmp(word, "quit\n") != 0) {
        if (!strcmp(word, "status\n"))
            print_status(told, policy);
        else if (!strcmp(word, "switch\n"))
            report_switch(told);
        else if (!strcmp(word, "cost\n"))
            print_cost(told);
        else if (!strcmp(word, "poke\n")) {
            gov_poke(told->g);
            print_json(json_pack("{s:b}", "poked", 1));
        }
    }
}

static const char *option(int n, char **options, const char *key)
{
    for (int i = 0; i < n; i++)
        if (!strncmp(options[i], key, strlen(key)) && options[i][strlen(key)] == '=')
            return options[i] + strlen(key) + 1;
    return NULL;
}

static int load_policy(struct pol_policy *policy, const char *path, const char *name,
                       struct ert_error *err)
{
    struct pol_file *file;
    int rc = pol_file_load(&file, &path, 1, err);
    if (!rc) {
        rc = pol_compile(file, name, NULL, 0, policy, err);
        pol_file_free(file);
    }
    return rc;
}

static int run(const char *policies, const char *name, int n, char **options)
{
    static struct pol_policy policy;
    struct ert_error err;
    struct told told = {0};
    const char *speed = option(n, options, "speed"), *limit = option(n, options, "limit");
    struct gov_config config = {.policy = &policy,
                                .sources = {.root = option(n, options, "root"),
                                            .replay = option(n, options, "replay"),
                                            .replay_speed = speed ? atof(speed) : 1},
                                .journal = option(n, options, "journal"),
                                .journal_bytes = limit ? strtoull(limit, NULL, 10) : 0,
                                .actuator = {.ctx = &told, .apply = apply, .beat = beat}};
    if (load_policy(&policy, policies, name, &err) != 0 || gov_start(&told.g, &config, &err) != 0)
        return fail(&err);
    print_json(json_pack("{s:b}", "started", 1));
    take_commands(&told, &policy);
    if (gov_stop(told.g, &err) != 0)
        return fail(&err);
    print_json(json_pack("{s:b}", "stopped", 1));
    return 0;
}

int main(int argc, char **argv)
{
    if (argc >= 2 && !strcmp(argv[1], "report"))
        return report(argc > 2 ? argv[2] : NULL, argc > 3 ? argv[3] : NULL);
    if (argc >= 4 && !strcmp(argv[1], "run"))
        return run(argv[2], argv[3], argc - 4, argv + 4);
    fprintf(stderr,
            "usage: drive_loop report [ROOT [POLICIES]] | run POLICIES NAME [KEY=VALUE]...\n");
    return 2;
}
