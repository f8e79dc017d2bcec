/* Runs token ids through a pack and writes the logits after each. usage:
 *
 *   drive_forward [--threads N] [--chunk C] [--isa NAME] [--cache-bits B] PACK SCHEDULE IDS OUT
 *
 * SCHEDULE has lines "TOKEN POINT": from that token on, that point. A schedule of one line is fed
 * in chunks of C, a longer one token by token. OUT gets float32 [tokens][n_vocab]. Exit status 1
 * with the sentence of the error on stderr. */
#include <stdlib.h>
#include <string.h>

#include "runtime/runtime.h"

enum { MAX_ENTRIES = 65536 };

struct options {
    unsigned threads, chunk, cache_bits;
    const char *isa;
};

struct entry {
    uint32_t token;
    struct rt_point point;
};

static struct entry schedule[MAX_ENTRIES];
static int32_t ids[1 << 20];

static void stop(const struct ert_error *err)
{
    fprintf(stderr, "drive_forward: %s\n", err->text);
    exit(1);
}

static uint32_t read_schedule(const char *path, const struct rt_pack *pack, struct ert_error *err)
{
    FILE *f = fopen(path, "re");
    char name[64];
    uint32_t n = 0;
    if (!f)
        stop(err);
    while (n < MAX_ENTRIES && fscanf(f, "%u %63s", &schedule[n].token, name) == 2)
        if (rt_point_parse(name, pack, &schedule[n++].point, err))
            stop(err);
    fclose(f);
    return n;
}

static uint32_t read_ids(const char *path)
{
    FILE *f = fopen(path, "re");
    uint32_t n = 0;
    while (f && n < sizeof ids / sizeof ids[0] && fscanf(f, "%d", &ids[n]) == 1)
        n++;
    if (f)
        fclose(f);
    return n;
}

static const struct rt_kernels *find_isa(const char *name)
{
    const struct rt_kernels *k = NULL;
    for (unsigned i = 0; name && (k = rt_kernels_isa(i)); i++)
        if (strcmp(k->isa, name) == 0)
            return k;
    return rt_kernels_best();
}

static int run(struct rt_session *s, uint32_t n_entries, uint32_t n, size_t n_vocab, float *logits,
               struct ert_error *err)
{
    rt_session_set_point(s, &schedule[0].point);
    if (n_entries == 1)
        return rt_session_feed(s, ids, n, NULL, NULL, logits, err);
    int rc = 0;
    for (uint32_t i = 0, next = 0; !rc && i < n; i++) {
        while (next < n_entries && schedule[next].token <= i)
            rt_session_set_point(s, &schedule[next++].point);
        rc = rt_session_feed(s, &ids[i], 1, NULL, NULL, NULL, err);
        if (!rc)
            memcpy(logits + i * n_vocab, rt_session_logits(s), n_vocab * sizeof *logits);
    }
    return rc;
}

static int drive(const struct options *o, char **paths, struct ert_error *err)
{
    struct rt_pack *pack = NULL;
    struct rt_team *team = NULL;
    struct rt_session *s = NULL;
    struct rt_session_config config = {
        .chunk = o->chunk, .cache_bits = o->cache_bits, .kernels = find_isa(o->isa)};
    if (rt_pack_open(&pack, paths[0], err) || rt_team_create(&team, o->threads, err) ||
        rt_session_create(&s, pack, team, &config, err))
        stop(err);
    uint32_t entries = read_schedule(paths[1], pack, err), n = read_ids(paths[2]);
    size_t n_vocab = pack->model.n_vocab;
    float *logits = calloc(n + 1, n_vocab * sizeof *logits);
    FILE *out = fopen(paths[3], "we");
    if (!logits || !out || entries == 0 || run(s, entries, n, n_vocab, logits, err))
        stop(err);
    bool written = fwrite(logits, n_vocab * sizeof *logits, n, out) == n;
    written &= fclose(out) == 0;
    free(logits);
    rt_session_free(s);
    rt_team_free(team);
    rt_pack_free(pack);
    return written ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct options o = {.threads = 1};
    struct ert_error err = {.text = "a file cannot be opened, or the schedule is empty"};
    int i = 1;
    for (; i + 1 < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (strcmp(argv[i], "--threads") == 0)
            o.threads = (unsigned)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--chunk") == 0)
            o.chunk = (unsigned)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--cache-bits") == 0)
            o.cache_bits = (unsigned)atoi(argv[i + 1]);
        else if (strcmp(argv[i], "--isa") == 0)
            o.isa = argv[i + 1];
    }
    if (argc - i != 4) {
        fputs("usage: drive_forward [--threads N] [--chunk C] [--isa NAME] [--cache-bits B] PACK "
              "SCHEDULE IDS OUT\n",
              stderr);
        return 2;
    }
    return drive(&o, argv + i, &err);
}
