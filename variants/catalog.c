#include "variants/catalog.h"

#include <math.h>
#include <stdlib.h>

enum { MAX_POINTS = RT_N_VARIANTS * VAR_MAX_TIERS };

struct catalog {
    const struct rt_pack *pack;
    const struct var_windows *windows;
    size_t n;
    struct var_schedule_entry points[MAX_POINTS];
    struct var_measured measured[MAX_POINTS];
};

static void list_points(struct catalog *c)
{
    while (c->n < MAX_POINTS &&
           rt_point_to_measure(c->pack, (uint32_t)c->n, &c->points[c->n].point)) {
        c->measured[c->n] =
            (struct var_measured){.pack = c->pack, .schedule = {&c->points[c->n], 1}};
        c->n++;
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
    for (size_t k = 0; k < c->n; k++) {
        const struct var_stretch both = {c->measured[i].scores, c->measured[k].scores, 0,
                                         var_windows_scored(c->windows) - 1};
        struct var_mean more = var_mean_kld(c->windows, &both);
        if (k != i && bytes_of(c, k) <= bytes_of(c, i) && more.mean > 2 * more.error)
            return true;
    }
    return false;
}

/* A mean and its error under NAME and NAME_error. */
static int put_mean(json_t *row, const char *name, struct var_mean value)
{
    char error[32];
    snprintf(error, sizeof error, "%s_error", name);
    if (json_object_set_new(row, name, json_real(value.mean)))
        return -1;
    return isnan(value.error) ? 0 : json_object_set_new(row, error, json_real(value.error));
}

/* NULL where a mean is no number, which jansson does not take. */
static json_t *describe(const struct catalog *c, size_t i)
{
    const struct rt_point *p = &c->points[i].point;
    const struct var_eval_result r = var_summarise(c->measured[i].scores, c->windows, true);
    json_t *row = json_pack("{s:s, s:I, s:I, s:I, s:b}", "point", p->name, "bytes_per_token",
                            (json_int_t)bytes_of(c, i), "resident_bytes",
                            (json_int_t)rt_pack_resident_bytes(c->pack, p->variant, p->tier),
                            "tokens", (json_int_t)r.tokens, "dominated", is_dominated(c, i));
    if (put_mean(row, "ppl", r.ppl) || put_mean(row, "ppl_ratio", r.ppl_ratio) ||
        put_mean(row, "kld", r.kld) || put_mean(row, "top1", r.top1)) {
        json_decref(row);
        return NULL;
    }
    return row;
}

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
