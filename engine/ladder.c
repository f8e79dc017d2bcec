#include "engine/ladder.h"

#include <stdlib.h>
#include <string.h>

struct entry {
    const char *point;
    double ppl, bytes;
};

static int by_perplexity(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->ppl != y->ppl)
        return x->ppl < y->ppl ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

static size_t read_catalog(const struct rt_pack *pack, struct entry *entries, size_t room)
{
    size_t n = 0, i;
    json_t *row;
    json_array_foreach(json_object_get(pack->meta, "catalog"), i, row)
    {
        struct entry e = {json_string_value(json_object_get(row, "point")),
                          json_number_value(json_object_get(row, "ppl")),
                          json_number_value(json_object_get(row, "bytes_per_token"))};
        if (n < room && e.point && e.ppl > 0 && e.bytes > 0)
            entries[n++] = e;
    }
    return n;
}

size_t ladder_from_catalog(const struct rt_pack *pack, struct pol_point *rungs)
{
    struct entry entries[64];
    size_t n = read_catalog(pack, entries, sizeof entries / sizeof *entries), kept = 0;
    qsort(entries, n, sizeof *entries, by_perplexity);
    double fewest_bytes = 0;
    for (size_t i = 0; i < n && kept < POL_MAX_STATES; i++) {
        if (kept && entries[i].bytes >= fewest_bytes)
            continue;
        fewest_bytes = entries[i].bytes;
        struct pol_point *rung = &rungs[kept++];
        *rung = (struct pol_point){0};
        snprintf(rung->name, sizeof rung->name, "%s", entries[i].point);
        snprintf(rung->point, sizeof rung->point, "%s", entries[i].point);
    }
    return kept;
}

static int resolve_rung(const struct rt_pack *pack, const struct pol_point *rung,
                        unsigned n_threads, struct rt_point *point, struct ert_error *err)
{
    struct rt_point prefill;
    int rc = rt_point_parse(rung->pause ? "pause" : rung->point, pack, point, err);
    if (rc)
        return rc;
    if (rung->prefill[0]) {
        rc = rt_point_parse(rung->prefill, pack, &prefill, err);
        if (rc)
            return rc;
        point->prefill_variant = prefill.variant;
    }
    snprintf(point->name, sizeof point->name, "%s", rung->name);
    point->threads = rung->threads < n_threads ? rung->threads : n_threads;
    point->tokens_per_second = (float)rung->tokens_per_second;
    return 0;
}

int ladder_resolve(const struct rt_pack *pack, const struct pol_point *rungs, size_t n,
                   unsigned n_threads, struct rt_point_table **table, struct ert_error *err)
{
    struct rt_point points[POL_MAX_STATES];
    if (n == 0 || n > POL_MAX_STATES)
        return ert_fail(err, ERT_E_RANGE, "a ladder of %zu rungs, expected 1 to %d", n,
                        POL_MAX_STATES);
    for (size_t i = 0; i < n; i++) {
        int rc = resolve_rung(pack, &rungs[i], n_threads, &points[i], err);
        if (rc)
            return ert_fail_in(err, "rung %zu of the ladder (%s)", i, rungs[i].name);
    }
    return rt_point_table_create(table, points, (uint32_t)n, err);
}
