#include "cli/bench.h"

#include <stdlib.h>
#include <string.h>

enum { BUFFER_BYTES = 256 << 20, READINGS = 5, LINE = 8 /* words */ };
/* Words to prefetch ahead, as the kernels do: without, some CPUs read half as fast. */
enum { AHEAD = 4096 / sizeof(uint64_t) };

struct reading {
    const uint64_t *words;
    size_t n;
    uint64_t sums[256]; /* one for each worker: keeps the compiler from skipping the reads */
};

static void read_share(void *ctx, unsigned worker, unsigned n)
{
    struct reading *r = ctx;
    size_t from = r->n / n * worker, to = worker + 1 == n ? r->n : r->n / n * (worker + 1);
    uint64_t sum[LINE] = {0};
    for (size_t i = from; i + LINE <= to; i += LINE) {
        if (i + AHEAD < to)
            __builtin_prefetch(r->words + i + AHEAD);
        for (size_t j = 0; j < LINE; j++)
            sum[j] += r->words[i + j];
    }
    for (size_t j = 1; j < LINE; j++)
        sum[0] += sum[j];
    r->sums[worker] = sum[0];
}

double bench_bandwidth_gb_s(struct rt_team *team)
{
    struct reading r = {.n = BUFFER_BYTES / sizeof(uint64_t)};
    uint64_t *words = malloc(BUFFER_BYTES);
    double best = 0;
    if (!words)
        return 0;
    memset(words, 1, BUFFER_BYTES);
    r.words = words;
    for (int i = 0; i < READINGS; i++) {
        uint64_t begin = ert_now_ns();
        rt_team_run(team, rt_team_size(team), read_share, &r);
        double gb_s = (double)BUFFER_BYTES / (double)(ert_now_ns() - begin);
        best = gb_s > best ? gb_s : best;
    }
    free(words);
    return best;
}
