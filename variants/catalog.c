#include "variants/catalog.h"

#include <stdlib.h>

enum { MAX_POINTS = (RT_N_VARIANTS - 1) * VAR_MAX_TIERS };

struct catalog {
    const struct rt_pack *pack;
    const struct var_windows *windows;
    size_t n;
    struct var_schedule_entry points[MAX_POINTS];
    struct var_measured measured[MAX_POINTS];
};

/* The points of a pack: each variant it has at each tier. */
static void list_points(struct catalog *c)
{
    for (enum rt_variant v = 0; v < RT_N_VARIANTS; v++)
        for (uint32_t t = 0; t < c->pack->n_tiers && c->n < MAX_POINTS; t++) {
            char name[48];
            struct var_schedule_entry *entry = &c->points[c->n];
            snprintf(name, sizeof name, t ? "%s-%s" : "%s", rt_variants[v].name,
                     c->pack->tiers[t].name);
            if (rt_point_parse(name, c->pack, &entry->point, NULL))
                continue; /* a variant that this kind of pack has not */
            c->measured[c->n++] = (struct var_measured){c->pack, {entry, 1}, NULL};
        }
}

static uint64_t bytes_of(const struct catalog *c, size_t i)
{
    const struct rt_point *p = &c->points[i].point;
    return rt_pack_bytes_per_token(c->pack, p->variant, p->tier);
}

/* Whether another point reads no more and comes nearer to the source, beyond noise: both are
 * measured on the same tokens, so it is their differences that have to be told from 0. */
static bool is_dominated(const struct catalog *c, size_t i)
{
    size_t n = var_windows_scores(c->windows);
    for (size_t k = 0; k < c->n; k++) {
        struct var_difference more =
            var_compare_kld(c->measured[i].scores, c->measured[k].scores, n);
        if (k != i && bytes_of(c, k) <= bytes_of(c, i) && more.mean > 2 * more.error)
            return true;
    }
    return false;
}

static json_t *describe(const struct catalog *c, size_t i)
{
    const struct rt_point *p = &c->points[i].point;
    struct var_eval_result r = var_summarise(c->measured[i].scores, c->windows, true);
    return json_pack("{s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:b}", "point",
                     p->name, "bytes_per_token", (json_int_t)bytes_of(c, i), "resident_bytes",
                     (json_int_t)rt_pack_resident_bytes(c->pack, p->variant, p->tier), "tokens",
                     (json_int_t)r.tokens, "ppl", r.ppl, "ppl_error", r.ppl_error, "ppl_ratio",
                     r.ppl_ratio, "ppl_ratio_error", r.ppl_ratio_error, "kld", r.kld, "kld_error",
                     r.kld_error, "top1", r.top1, "top1_error", r.top1_error, "dominated",
                     is_dominated(c, i));
}

/* json_pack makes no number of what is not finite. */
static int describe_all(const struct catalog *c, json_t *list, struct ert_error *err)
{
    for (size_t i = 0; i < c->n; i++)
        if (json_array_append_new(list, describe(c, i)))
            return ert_fail(err, ERT_E_CHECK,
                            "point %s gives no finite perplexity; the source is broken or not "
                            "supported",
                            c->points[i].point.name);
    return 0;
}

int var_catalog_measure(json_t **catalog, const struct rt_pack *pack,
                        const struct var_windows *windows, const struct var_reference *reference,
                        struct rt_team *team, const struct ert_progress *progress,
                        struct ert_error *err)
{
    struct catalog *c = calloc(1, sizeof *c);
    *catalog = NULL;
    json_t *list = json_array();
    int rc = 0;
    if (!c || !list) {
        rc = ert_fail(err, ERT_E_NOMEM, "no memory for a catalog");
        goto out;
    }
    c->pack = pack;
    c->windows = windows;
    list_points(c);
    rc = var_measure(c->measured, c->n, windows, reference, team, progress, err);
    if (!rc)
        rc = describe_all(c, list, err);
    for (size_t i = 0; i < c->n; i++)
        free(c->measured[i].scores);
    if (!rc)
        *catalog = json_incref(list);
out:
    json_decref(list);
    free(c);
    return rc;
}
