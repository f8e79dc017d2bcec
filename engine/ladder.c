#include "engine/ladder.h"

#include <stdlib.h>
#include <string.h>

/* KL above the best point's from which a tier counts as deep: 5 % of perplexity. */
#define DEEP_KLD 0.05

/* How a point is run: threads (0 = all), tokens per second (0 = unpaced), and on which cores. */
struct gait {
    unsigned threads;
    double tokens_per_second;
    bool efficient;
};

/* What comes before the deep tiers, as in the ladder `handheld` of policies.yaml: at equal power
 * these cost no quality. */
static const struct gait slower[] = {{1, 0, false}, {1, 8, false}, {1, 5, true}};
static const struct gait unhurried = {0, 0, false}, slowest = {1, 3, true};

enum { N_SLOWER = sizeof slower / sizeof *slower };

/* Of the points that read less than `before` (NULL = of all) the one nearest to the source, NULL if
 * there is none. From the best point on this walks the frontier; a dominated one is never met. */
static const struct rt_catalog_row *next_best(const struct rt_pack *pack,
                                              const struct rt_catalog_row *before)
{
    const struct rt_catalog_row *best = NULL;
    for (size_t i = 0; i < pack->n_catalog; i++) {
        const struct rt_catalog_row *row = &pack->catalog[i];
        if (before && row->bytes_per_token >= before->bytes_per_token)
            continue;
        if (!best || row->kld < best->kld ||
            (row->kld == best->kld && row->bytes_per_token < best->bytes_per_token))
            best = row;
    }
    return best;
}

static bool is_deep(const struct rt_catalog_row *row, const struct rt_catalog_row *best)
{
    return row->point.tier > 0 && row->kld > best->kld + DEEP_KLD;
}

static void put_rung(struct pol_point *rung, const char *point, struct gait gait)
{
    char suffix[32] = "";
    if (gait.tokens_per_second > 0)
        snprintf(suffix, sizeof suffix, "@%ut,%gtok/s", gait.threads, gait.tokens_per_second);
    else if (gait.threads)
        snprintf(suffix, sizeof suffix, "@%ut", gait.threads);
    *rung = (struct pol_point){.threads = gait.threads,
                               .tokens_per_second = gait.tokens_per_second,
                               .efficient = gait.efficient};
    snprintf(rung->point, sizeof rung->point, "%s", point);
    snprintf(rung->name, sizeof rung->name, "%.*s%s", (int)(POL_NAME - sizeof suffix), point,
             suffix);
}

static void put_pause(struct pol_point *rung)
{
    put_rung(rung, "pause", unhurried);
    rung->pause = true;
}

size_t ladder_from_catalog(const struct rt_pack *pack, struct pol_point *rungs)
{
    const struct rt_catalog_row *best = next_best(pack, NULL), *last = best;
    const size_t room = POL_MAX_STATES - N_SLOWER - 1;
    size_t n = 0;
    if (!best)
        return 0;
    for (const struct rt_catalog_row *row = best; row && n < room; row = next_best(pack, row)) {
        if (is_deep(row, best))
            continue;
        put_rung(&rungs[n++], row->point.name, unhurried);
        last = row;
    }
    for (size_t i = 0; i < N_SLOWER; i++)
        put_rung(&rungs[n++], last->point.name, slower[i]);
    for (const struct rt_catalog_row *row = next_best(pack, last); row && n < room + N_SLOWER;
         row = next_best(pack, row))
        put_rung(&rungs[n++], row->point.name, slowest);
    put_pause(&rungs[n++]);
    return n;
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
    point->prefill_chunk = rung->prefill_chunk;
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
