/* A journal: its policies compiled, its memory read back, its inputs decided again. */
#include "tests/fuzz/fuzz.h"

#include "sim/sim.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct sim_result result;
    struct ert_error err;
    char path[32];
    int fd = fuzz_file(data, size, path);
    if (sim_replay_journal(path, &result, &err) == 0) {
        char *text;
        if (sim_summary_text(&result, &text, &err))
            abort();
        free(text);
        sim_result_release(&result);
    }
    close(fd);
    return 0;
}
