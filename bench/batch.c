/* Decoding several texts at once, a step for each token of all: tokens per second of all together,
 * and how many times that of one. Counts are taken in turn, the best of several rounds. */
#include "runtime/runtime.h"

#include <stdlib.h>

#define NS_PER_S 1e9

enum { CONTEXT = 128, STEPS = 32, ROUNDS = 5, N_COUNTS = 4, MOST = 8 };
static const uint32_t counts[N_COUNTS] = {1, 2, 4, MOST};

struct bench {
    struct rt_pack *pack;
    struct rt_team *team;
    float *logits; /* [MOST][n_vocab] */
};

/* Seconds of a step in the mean, of STEPS behind as many that are not counted; negative: err. */
static double step_s(const struct bench *b, const struct rt_point *point, uint32_t n,
                     struct ert_error *err)
{
    struct rt_batch *batch;
    const struct rt_batch_config config = {.n_sequences = n, .n_ctx = CONTEXT, .point = *point};
    int32_t ids[MOST];
    uint64_t begin = 0;
    int rc = rt_batch_create(&batch, b->pack, b->team, &config, err);
    if (rc)
        return -1;
    for (uint32_t step = 0; step < 2 * STEPS && !rc; step++) {
        for (uint32_t i = 0; i < n; i++)
            ids[i] = (int32_t)((step * 7919 + i * 104729) % b->pack->model.n_vocab);
        if (step == STEPS)
            begin = ert_now_ns();
        rc = rt_batch_step(batch, ids, b->logits, err);
    }
    uint64_t end = ert_now_ns();
    rt_batch_free(batch);
    return rc ? -1 : (double)(end - begin) / NS_PER_S / STEPS;
}

static int measure(const struct bench *b, const char *name, struct ert_error *err)
{
    struct rt_point point;
    double best[N_COUNTS] = {0};
    int rc = rt_point_parse(name, b->pack, &point, err);
    for (int round = 0; round < ROUNDS && !rc; round++)
        for (unsigned i = 0; i < N_COUNTS && !rc; i++) {
            double s = step_s(b, &point, counts[i], err);
            rc = s < 0 ? -1 : 0;
            best[i] = best[i] == 0 || s < best[i] ? s : best[i];
        }
    for (unsigned i = 0; i < N_COUNTS && !rc; i++)
        printf("%-12s %u texts %8.1f tok/s  %.2f times one\n", name, counts[i], counts[i] / best[i],
               counts[i] * best[0] / best[i]);
    return rc;
}

static int open_bench(struct bench *b, const char *path, unsigned threads, struct ert_error *err)
{
    int rc = rt_pack_open(&b->pack, path, err);
    if (!rc)
        rc = rt_team_create(&b->team, threads, err);
    if (!rc && !(b->logits = malloc((size_t)MOST * b->pack->model.n_vocab * sizeof *b->logits)))
        rc = ert_fail(err, ERT_E_NOMEM, "no memory for logits");
    return rc;
}

int main(int argc, char **argv)
{
    struct bench b = {0};
    struct ert_error err;
    long threads;
    if (argc < 4 || ert_parse_int(argv[1], 1, 256, &threads, &err)) {
        fprintf(stderr, "usage: batch THREADS PACK POINT...\n");
        return 2;
    }
    int rc = open_bench(&b, argv[2], (unsigned)threads, &err);
    for (int i = 3; i < argc && !rc; i++)
        rc = measure(&b, argv[i], &err);
    if (rc)
        fprintf(stderr, "%s\n", err.text);
    free(b.logits);
    rt_team_free(b.team);
    rt_pack_free(b.pack);
    return rc ? 1 : 0;
}
