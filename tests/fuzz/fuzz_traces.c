/* A trace: read, looked up, replayed through a policy, and written again as the same trace. */
#include "tests/fuzz/fuzz.h"

#include <math.h>

#include "sim/sim.h"

static const char YAML[] =
    "edgert: 1\n"
    "ladders: {l: [w8a8, w4a16, {point: w4a16, threads: 1}, pause]}\n"
    "policies:\n"
    "  p:\n"
    "    ladder: l\n"
    "    trips:\n"
    "      - {name: warm, sensor: temp.cpu, above: 70C, hysteresis: 3C, states: 1..2}\n"
    "      - {name: low, sensor: battery.charge, below: 20%, when: discharging, states: 2..max}\n"
    "    power: {governor: power_allocator, sensor: temp.skin, target: 42C, sustainable: 4W,\n"
    "            burst: 9W for 30s, draw: battery.power}\n"
    "    guarantees: ['always (temp.cpu > 85C -> eventually[0:5s] (state >= 1))']\n";

static void replay(const struct dev_trace *trace)
{
    static struct pol_policy policy;
    static struct sim_result result;
    struct pol_file *file;
    struct ert_error err;
    if (dev_trace_duration_s(trace) > 3600)
        return;
    if (!policy.n_states) {
        if (pol_file_parse(&file, "fuzz.yaml", YAML, sizeof YAML - 1, &err) ||
            pol_compile(file, "p", NULL, 0, &policy, &err))
            abort();
        pol_file_free(file);
    }
    if (sim_replay(trace, &policy, &result, &err))
        abort();
    sim_result_release(&result);
}

/* What is written reads back as the same numbers. */
static void write_again(const struct dev_trace *trace)
{
    char path[64];
    struct dev_trace *again;
    struct ert_error err;
    snprintf(path, sizeof path, "/dev/shm/edgert-fuzz-%d.csv", (int)getpid());
    if (dev_trace_write(trace, path, &err) || dev_trace_read(&again, path, &err))
        abort();
    unlink(path);
    if (again->n_rows != trace->n_rows || again->n_columns != trace->n_columns)
        abort();
    for (size_t i = 0; i < trace->n_rows * trace->n_columns; i++)
        if (trace->values[i] != again->values[i] &&
            !(isnan(trace->values[i]) && isnan(again->values[i])))
            abort();
    dev_trace_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32];
    int fd = fuzz_file(data, size, path);
    struct dev_trace *trace;
    struct ert_error err;
    if (dev_trace_read(&trace, path, &err) == 0) {
        for (size_t c = 0; c < trace->n_columns; c++)
            dev_trace_at(trace, (int)c, dev_trace_duration_s(trace) / 2, 0);
        replay(trace);
        write_again(trace);
        dev_trace_free(trace);
    }
    close(fd);
    return 0;
}
