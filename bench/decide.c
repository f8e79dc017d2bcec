/* What a decision costs, and the watch over a policy's guarantees: each shipped policy, and one
 * with everything that a policy can have. usage: decide [POLICIES] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "policies/policies.h"

enum { DECISIONS = 20000, ROUNDS = 15 };

static const char everything[] =
    "edgert: 1\n"
    "ladders:\n"
    "  l: [w8a8, w4a16, {point: w4a16, threads: 2}, {point: w4a16, threads: 1}, pause]\n"
    "policies:\n"
    "  everything:\n"
    "    ladder: l\n"
    "    trips:\n"
    "      - {name: warm, sensor: temp.cpu, above: 70C, hysteresis: 3C, states: 1..3}\n"
    "      - {name: cells, sensor: temp.battery, above: 43C, hysteresis: 2C, states: 1..3}\n"
    "      - {name: low, sensor: battery.charge, below: 20%, when: discharging, states: 3}\n"
    "      - {name: memory, sensor: memory.available, below: 400MB, states: 1}\n"
    "      - {name: stall, sensor: psi.memory.some, above: 10%, for: 2s, states: 2}\n"
    "      - {name: user, sensor: cpu.load.others, above: 60%, for: 3s, states: 3}\n"
    "    power:\n"
    "      {governor: predictive, sensor: temp.skin, target: 42C, sustainable: 4500mW,\n"
    "       burst: 9W for 30s, draw: power.package, share: {decode: 1, prefill: 1},\n"
    "       plant: {chip: [4C/W, 6J/C], case: [7C/W, 90J/C], sensor-at: case, ambient: 25C}}\n"
    "    guarantees:\n"
    "      - always (temp.cpu < 95C)\n"
    "      - always (temp.cpu > 85C -> eventually[0:5s] (state >= 3))\n"
    "      - always (historically[0:30s] (temp.skin > 40C) -> once[0:60s] (state >= 2))\n"
    "      - always (state >= 1 until[0:60s] temp.skin < 42C)\n";

static double cpu_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* A walk inside each sensor's range, the same in every run. */
static void move(const struct pol_policy *policy, struct dev_reading *raw, uint64_t now_ns,
                 uint32_t *random)
{
    for (size_t i = 0; i < policy->n_sensors; i++) {
        const struct dev_signal *signal = policy->sensors[i].signal;
        double span = signal->unit == ERT_UNIT_CELSIUS ? 60 : signal->max - signal->min;
        double low = signal->unit == ERT_UNIT_CELSIUS ? 30 : signal->min;
        *random = *random * 1664525u + 1013904223u;
        raw[i] = (struct dev_reading){low + span * (*random >> 8) / (1 << 24), now_ns, DEV_PRESENT};
    }
}

/* The best of the rounds, in ns for each decision. */
static int measure(const struct pol_policy *policy, struct ert_error *err)
{
    double best_decide = 1e18, best_watch = 1e18;
    for (int round = 0; round < ROUNDS; round++) {
        struct pol_monitor *monitor;
        struct pol_state state;
        struct pol_decision decision;
        struct dev_reading raw[POL_MAX_SENSORS];
        uint32_t random = 1;
        double decide_ns = 0, watch_ns = 0;
        int rc = pol_monitor_create(&monitor, policy, err);
        if (rc)
            return rc;
        pol_state_init(&state, policy);
        for (uint64_t i = 0; i < DECISIONS; i++) {
            uint64_t now_ns = 3600000000000 + i * 500000000;
            move(policy, raw, now_ns, &random);
            double start = cpu_ns();
            pol_decide(policy, &state, now_ns, raw, &decision);
            double middle = cpu_ns();
            pol_monitor_step(monitor, &state);
            decide_ns += middle - start;
            watch_ns += cpu_ns() - middle;
        }
        pol_monitor_free(monitor);
        best_decide = decide_ns < best_decide ? decide_ns : best_decide;
        best_watch = watch_ns < best_watch ? watch_ns : best_watch;
    }
    double clock_ns = cpu_ns();
    for (int i = 0; i < DECISIONS; i++)
        cpu_ns();
    clock_ns = (cpu_ns() - clock_ns) / DECISIONS;
    printf("%-14s %9.0f %9.0f   %zu trips, %zu guarantees%s%s\n", policy->name,
           best_decide / DECISIONS - clock_ns, best_watch / DECISIONS - clock_ns, policy->n_trips,
           policy->n_guarantees, policy->power.on ? ", " : "",
           policy->power.on ? pol_governor_name(policy->power.governor) : "");
    return 0;
}

static int measure_file(struct pol_file *file, struct ert_error *err)
{
    static struct pol_policy policy;
    int rc = 0;
    for (size_t i = 0; !rc && i < pol_file_count(file); i++) {
        rc = pol_compile(file, pol_file_name(file, i), NULL, 0, &policy, err);
        if (!rc)
            rc = measure(&policy, err);
    }
    pol_file_free(file);
    return rc;
}

int main(int argc, char **argv)
{
    struct pol_file *file;
    struct ert_error err;
    const char *path = argc > 1 ? argv[1] : "policies.yaml";
    puts("policy         decide ns  watch ns");
    int rc = pol_file_load(&file, &path, 1, &err);
    if (!rc)
        rc = measure_file(file, &err);
    if (!rc)
        rc = pol_file_parse(&file, "everything", everything, sizeof everything - 1, &err);
    if (!rc)
        rc = measure_file(file, &err);
    if (rc)
        fprintf(stderr, "%s\n", err.text);
    return rc ? 1 : 0;
}
