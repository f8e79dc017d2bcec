/* The loop against a policy in memory and a fake actuator: what gov_start promises, many threads at
 * once, and that every reported switch is journaled exactly once or counted as lost. */
#include "tests/tree.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>

#include "governor/governor.h"

static const char POLICIES[] =
    "edgert: 1\n"
    "sensors:\n"
    "  temp.cpu: ['thermal:cpu-thermal']\n"
    "  memory.available: ['procfs:meminfo/MemAvailable']\n"
    "  cpu.load: ['procfs:stat']\n"
    "ladders:\n"
    "  three: [w8a8, w4a16, pause]\n"
    "policies:\n"
    "  fast:\n"
    "    ladder: three\n"
    "    poll: 10ms\n"
    "    trips:\n"
    "      - {name: hot, sensor: temp.cpu, above: 70C, hysteresis: 5C, states: 1..max}\n"
    "      - {name: low, sensor: memory.available, below: 1MB, hysteresis: 1MB, states: 1..max}\n"
    "      - {name: busy, sensor: cpu.load, above: 99%, hysteresis: 1%, for: 1h, states: 1..max}\n"
    "    dwell: {down: 0s, up: 0s}\n"
    "    failsafe: w4a16\n"
    "  tight:\n"
    "    ladder: three\n"
    "    poll: 1h\n"
    "    trips:\n"
    "      - {name: hot, sensor: temp.cpu, above: 70C, hysteresis: 5C, states: 1}\n"
    "      - {name: low, sensor: memory.available, below: 100MB, hysteresis: 50MB, states: 1}\n"
    "    dwell: {down: 0s, up: 0s}\n"
    "    failsafe: w4a16\n"
    "  brisk:\n"
    "    ladder: three\n"
    "    poll: 100ms\n"
    "    trips:\n"
    "      - {name: hot, sensor: temp.cpu, above: 70C, hysteresis: 5C, states: 1}\n"
    "    failsafe: w4a16\n"
    "  slow:\n"
    "    ladder: three\n"
    "    poll: 1h\n"
    "    trips:\n"
    "      - {name: hot, sensor: temp.cpu, above: 70C, hysteresis: 5C, states: 1..max}\n"
    "    dwell: {down: 0s, up: 0s}\n"
    "    failsafe: w4a16\n";

static struct pol_policy compiled(const char *name)
{
    struct pol_file *file;
    struct pol_policy policy;
    struct ert_error err;
    if (pol_file_parse(&file, "test", POLICIES, sizeof POLICIES - 1, &err) != 0)
        fail_msg("%s", err.text);
    if (pol_compile(file, name, NULL, 0, &policy, &err) != 0)
        fail_msg("%s", err.text);
    pol_file_free(file);
    return policy;
}

/* A machine with one thermal zone, under a temporary folder. */
struct machine {
    char root[64], journal[80];
};

static void write_text(const char *root, const char *path, const char *text)
{
    char full[256], fresh[264];
    snprintf(full, sizeof full, "%s/%s", root, path);
    snprintf(fresh, sizeof fresh, "%s.new", full);
    tree_make_folders(full);
    FILE *f = fopen(fresh, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    assert_int_equal(rename(fresh, full), 0);
}

static void heat(const struct machine *m, const char *temp_mc)
{
    write_text(m->root, "sys/class/thermal/thermal_zone0/temp", temp_mc);
}

static int make_machine(void **state)
{
    struct machine *m = calloc(1, sizeof *m);
    if (!m)
        return -1;
    strcpy(m->root, "/tmp/edgert-loop-XXXXXX");
    if (!mkdtemp(m->root)) {
        free(m);
        return -1;
    }
    snprintf(m->journal, sizeof m->journal, "%s/journal", m->root);
    write_text(m->root, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n");
    heat(m, "50000\n");
    *state = m;
    return 0;
}

static int drop_machine(void **state)
{
    static const char *const paths[] = {"journal",
                                        "proc/meminfo",
                                        "proc",
                                        "sys/class/thermal/thermal_zone0/type",
                                        "sys/class/thermal/thermal_zone0/temp",
                                        "sys/class/thermal/thermal_zone0",
                                        "sys/class/thermal",
                                        "sys/class",
                                        "sys",
                                        ""};
    struct machine *m = *state;
    char full[256];
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        snprintf(full, sizeof full, "%s/%s", m->root, paths[i]);
        remove(full);
    }
    free(m);
    return 0;
}

struct engine {
    atomic_uint applied, applications, releases, beats, dead_beats, late_beats;
    atomic_ullong deadline_ns; /* of the last beat, 0 before the first */
};

static void apply(void *ctx, const struct pol_decision *decision)
{
    struct engine *e = ctx;
    atomic_store(&e->applied, decision->state);
    atomic_fetch_add(&e->releases, decision->release_memory);
    atomic_fetch_add(&e->applications, 1);
}

static void beat(void *ctx, uint64_t deadline_ns)
{
    struct engine *e = ctx;
    atomic_fetch_add(&e->beats, 1);
    uint64_t now_ns = ert_now_ns(), promised = atomic_exchange(&e->deadline_ns, deadline_ns);
    atomic_fetch_add(&e->dead_beats, deadline_ns < now_ns);
    atomic_fetch_add(&e->late_beats, promised && promised < now_ns);
}

static struct gov_governor *started(const struct machine *m, const struct pol_policy *policy,
                                    struct engine *engine)
{
    struct gov_config config = {.policy = policy,
                                .sources = {.root = m->root},
                                .journal = m->journal,
                                .actuator = {engine, apply, beat}};
    struct gov_governor *g;
    struct ert_error err;
    if (gov_start(&g, &config, &err) != 0)
        fail_msg("%s", err.text);
    return g;
}

static void first_decision_is_made_on_return(void **state)
{
    struct pol_policy policy = compiled("slow");
    struct engine engine = {0};
    struct gov_status status;
    heat(*state, "90000\n");
    struct gov_governor *g = started(*state, &policy, &engine);
    gov_get_status(g, &status);
    assert_int_equal(status.decisions, 1);
    assert_int_equal(status.decision.state, 1);
    assert_true(status.readings[0].value == 90);
    char trip[POL_NAME], reason[POL_REASON];
    gov_reason(g, 1, trip, reason);
    assert_string_equal(trip, "hot");
    assert_non_null(strstr(reason, "temp.cpu"));
    /* With an hour to the next poll, a stop that waited for it would never come. */
    assert_int_equal(gov_stop(g, NULL), 0);
    assert_int_equal(atomic_load(&engine.applied), 1);
    assert_int_equal(atomic_load(&engine.beats), 1);
}

static void a_poke_decides_without_waiting_for_the_poll(void **state)
{
    struct pol_policy policy = compiled("slow");
    struct engine engine = {0};
    struct gov_governor *g = started(*state, &policy, &engine);
    assert_int_equal(atomic_load(&engine.applied), 0);
    heat(*state, "90000\n");
    gov_poke(g);
    while (atomic_load(&engine.applied) != 1)
        usleep(1000);
    gov_stop(g, NULL);
}

static void wait_for_applications(struct engine *engine, unsigned n)
{
    while (atomic_load(&engine->applications) < n)
        usleep(1000);
}

/* A replay at a fifth of the pace decides every half second, which is no reason for the failsafe.
 */
static void a_slow_replay_beats_in_time(void **state)
{
    const struct machine *m = *state;
    struct pol_policy policy = compiled("brisk");
    struct engine engine = {0};
    struct gov_governor *g;
    struct ert_error err;
    write_text(m->root, "journal", "time_s,temp.cpu_C\n0,50\n10,60\n");
    struct gov_config config = {.policy = &policy,
                                .sources = {.replay = m->journal, .replay_speed = 0.2},
                                .actuator = {&engine, apply, beat}};
    if (gov_start(&g, &config, &err) != 0)
        fail_msg("%s", err.text);
    while (atomic_load(&engine.beats) < 4)
        usleep(10000);
    gov_stop(g, NULL);
    assert_int_equal(atomic_load(&engine.late_beats), 0);
}

/* Already at the state that the memory trip asks for: the planes must go all the same. */
static void short_memory_is_told_at_the_same_state(void **state)
{
    const struct machine *m = *state;
    struct pol_policy policy = compiled("tight");
    struct engine engine = {0};
    heat(m, "90000\n");
    write_text(m->root, "proc/meminfo", "MemAvailable: 900000 kB\n");
    struct gov_governor *g = started(m, &policy, &engine);
    wait_for_applications(&engine, 1);
    assert_int_equal(atomic_load(&engine.releases), 0);
    write_text(m->root, "proc/meminfo", "MemAvailable: 50000 kB\n");
    gov_poke(g);
    wait_for_applications(&engine, 2);
    assert_int_equal(atomic_load(&engine.releases), 1);
    write_text(m->root, "proc/meminfo", "MemAvailable: 900000 kB\n");
    gov_poke(g);
    wait_for_applications(&engine, 3);
    assert_int_equal(atomic_load(&engine.releases), 1);
    assert_int_equal(atomic_load(&engine.applied), 1);
    gov_stop(g, NULL);
}

enum { REPORTERS = 3, REPORTS = 2000 };
struct busy {
    struct gov_governor *g;
    const struct machine *machine;
    unsigned number;
    atomic_bool *stop;
};

static void *report_switches(void *data)
{
    struct busy *b = data;
    struct gov_switch_event event = {.from = "w8a8", .to = "w4a16", .state = 1};
    for (unsigned i = 0; i < REPORTS; i++) {
        event.token = b->number * REPORTS + i;
        event.time_ns = ert_now_ns();
        event.cost_ns = event.token;
        gov_report_switch(b->g, &event);
        if (i % 64 == 0)
            gov_poke(b->g);
    }
    return NULL;
}

static void *watch_status(void *data)
{
    struct busy *b = data;
    struct gov_status status;
    char trip[POL_NAME], reason[POL_REASON];
    uint64_t last = 0;
    while (!atomic_load(b->stop)) {
        gov_get_status(b->g, &status);
        gov_reason(b->g, status.decision.state, trip, reason);
        if (status.decisions < last || !memchr(reason, '\0', sizeof reason))
            return data;
        last = status.decisions;
    }
    return NULL;
}

static void *change_heat(void *data)
{
    struct busy *b = data;
    for (unsigned i = 0; !atomic_load(b->stop); i++) {
        heat(b->machine, i % 2 ? "90000\n" : "50000\n");
        usleep(3000);
    }
    return NULL;
}

/* Each journaled switch once; how many there are. */
static unsigned count_switches(const char *journal)
{
    static bool seen[REPORTERS * REPORTS];
    char *text, *line, *rest;
    unsigned n = 0, token = 0, cost = 0;
    memset(seen, 0, sizeof seen);
    assert_int_equal(ert_read_text(journal, 1 << 28, &text, NULL, NULL), 0);
    for (line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        const char *tail = strstr(line, "\"cost_ns\":");
        if (sscanf(line, "{\"type\":\"switch\",\"token\":%u", &token) != 1)
            continue;
        assert_true(tail && sscanf(tail, "\"cost_ns\":%u}", &cost) == 1);
        assert_true(token < REPORTERS * REPORTS && token == cost && !seen[token]);
        seen[token] = true;
        n++;
    }
    free(text);
    return n;
}

static void many_threads_at_once(void **state)
{
    struct pol_policy policy = compiled("fast");
    struct engine engine = {0};
    struct gov_status status;
    atomic_bool stop = false;
    pthread_t reporters[REPORTERS], watcher, heater;
    struct busy busy[REPORTERS];
    const struct machine *m = *state;
    struct gov_governor *g = started(m, &policy, &engine);
    for (unsigned i = 0; i < REPORTERS; i++)
        busy[i] = (struct busy){g, m, i, &stop};
    pthread_create(&watcher, NULL, watch_status, &busy[0]);
    pthread_create(&heater, NULL, change_heat, &busy[0]);
    for (unsigned i = 0; i < REPORTERS; i++)
        pthread_create(&reporters[i], NULL, report_switches, &busy[i]);
    for (unsigned i = 0; i < REPORTERS; i++)
        pthread_join(reporters[i], NULL);
    do {
        usleep(1000);
        gov_get_status(g, &status);
    } while (status.transitions < 4);
    atomic_store(&stop, true);
    void *wrong;
    pthread_join(watcher, &wrong);
    pthread_join(heater, NULL);
    assert_null(wrong);
    gov_get_status(g, &status);
    assert_int_equal(gov_stop(g, NULL), 0);
    assert_int_equal(count_switches(m->journal) + status.switches_lost, REPORTERS * REPORTS);
}

static void start_and_stop_again_and_again(void **state)
{
    struct pol_policy policy = compiled("fast");
    for (unsigned i = 0; i < 50; i++) {
        struct engine engine = {0};
        gov_stop(started(*state, &policy, &engine), NULL);
        assert_true(atomic_load(&engine.beats) >= 1);
        assert_int_equal(atomic_load(&engine.dead_beats), 0);
    }
}

static void odd_sources_are_sentences(void **state)
{
    static const char *const odd[] = {"",
                                      "thermal",
                                      "thermal:",
                                      "hwmon:/",
                                      "nosuch:thing",
                                      "psi:///",
                                      "psi:memory/some/avg99999999999999999999",
                                      "psi:../../etc/passwd",
                                      "procfs:meminfo",
                                      "procfs:meminfo/",
                                      "procfs:stat/x",
                                      "power_supply:..",
                                      "replay:temp.cpu"};
    struct pol_policy policy = compiled("slow");
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        struct engine engine = {0};
        struct gov_status status;
        snprintf(policy.sensors[0].sources[0], sizeof policy.sensors[0].sources[0], "%s", odd[i]);
        struct gov_governor *g = started(*state, &policy, &engine);
        gov_get_status(g, &status);
        gov_stop(g, NULL);
        assert_int_equal(status.readings[0].why, DEV_NO_SOURCE);
        assert_true(strlen(status.why[0]) > 10);
    }
}

static void another_bus_than_the_systems_is_refused(void **state)
{
    const struct machine *m = *state;
    struct gov_sources sources = {.root = m->root, .bus = "unix:path=/nowhere"};
    struct gov_sensor_line *lines;
    struct ert_error err;
    size_t n;
    assert_int_equal(gov_sensor_report(&sources, NULL, &lines, &n, &err), -ERT_E_UNSUPPORTED);
    assert_non_null(strstr(err.text, "DBUS_SYSTEM_BUS_ADDRESS"));
    assert_null(lines);
}

#define ON_A_MACHINE(test) cmocka_unit_test_setup_teardown(test, make_machine, drop_machine)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_A_MACHINE(first_decision_is_made_on_return),
        ON_A_MACHINE(a_poke_decides_without_waiting_for_the_poll),
        ON_A_MACHINE(a_slow_replay_beats_in_time),
        ON_A_MACHINE(short_memory_is_told_at_the_same_state),
        ON_A_MACHINE(many_threads_at_once),
        ON_A_MACHINE(start_and_stop_again_and_again),
        ON_A_MACHINE(odd_sources_are_sentences),
        ON_A_MACHINE(another_bus_than_the_systems_is_refused),
    };
    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
