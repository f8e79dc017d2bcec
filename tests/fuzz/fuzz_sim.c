/* A trace, and a journal: the same bytes are tried as both. */
#include "tests/fuzz/fuzz.h"

#include "sim/sim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[32];
    int fd = fuzz_file(data, size, path);
    struct dev_trace *trace;
    struct sim_result result;
    struct ert_error err;
    if (dev_trace_read(&trace, path, &err) == 0) {
        for (size_t c = 0; c < trace->n_columns; c++)
            dev_trace_at(trace, (int)c, dev_trace_duration_s(trace) / 2, 0);
        dev_trace_free(trace);
    }
    if (sim_replay_journal(path, &result, &err) == 0)
        sim_result_release(&result);
    close(fd);
    return 0;
}
