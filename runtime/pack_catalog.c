/* pack_catalog: META's catalog, what the build measured of each point. */
#include "runtime/pack_read.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 256 };
#define EXACT 9007199254740992.0 /* 2^53: integers up to here are doubles */

/* A number of a row and where it goes; what a pack need not say is NaN without it. */
struct column {
    const char *name;
    size_t offset; /* of a double */
    double min, max;
    bool needed;
};

#define COLUMN(member, min, max, needed)                                                           \
    {                                                                                              \
#member, offsetof(struct rt_catalog_row, member), min, max, needed                         \
    }

static const struct column columns[] = {
    COLUMN(bytes_per_token, 1, EXACT, true),  COLUMN(resident_bytes, 1, EXACT, false),
    COLUMN(tokens, 1, EXACT, true),           COLUMN(ppl, 1, 1e300, true),
    COLUMN(ppl_error, 0, 1e300, false),       COLUMN(ppl_ratio, 0, 1e300, false),
    COLUMN(ppl_ratio_error, 0, 1e300, false), COLUMN(kld, 0, 1e300, true),
    COLUMN(kld_error, 0, 1e300, false),       COLUMN(top1, 0, 1, false),
    COLUMN(top1_error, 0, 1, false),
};

static int read_column(const struct rt_pack *pack, const json_t *object, const struct column *c,
                       struct rt_catalog_row *row, struct ert_error *err)
{
    const json_t *value = json_object_get(object, c->name);
    double number = value ? json_number_value(value) : NAN;
    if (value ? json_is_number(value) && number >= c->min && number <= c->max : !c->needed) {
        memcpy((char *)row + c->offset, &number, sizeof number);
        return 0;
    }
    return ert_fail(err, ERT_E_FORMAT,
                    "%s: section META, %s of point %s in the catalog is %s, expected a number in "
                    "%.10g to %.10g; %s",
                    pack->path, c->name, row->point.name, value ? "not usable" : "missing", c->min,
                    c->max, PACK_REMEDY);
}

/* The point of row i, which must be one of the pack's and in no row before. */
static int read_point(const struct rt_pack *pack, const json_t *object, size_t i,
                      struct rt_catalog_row *row, struct ert_error *err)
{
    const char *name = json_string_value(json_object_get(object, "point"));
    struct ert_error why = {.text = "it names no point"};
    if (!name || rt_point_parse(name, pack, &row->point, &why) || row->point.pause)
        return ert_fail(err, ERT_E_FORMAT, "%s: section META, catalog[%zu]: %.300s; %s", pack->path,
                        i, why.text, PACK_REMEDY);
    for (size_t k = 0; k < i; k++)
        if (!strcmp(pack->catalog[k].point.name, row->point.name))
            return ert_fail(err, ERT_E_FORMAT,
                            "%s: section META, catalog[%zu] is point %s once more; %s", pack->path,
                            i, row->point.name, PACK_REMEDY);
    return 0;
}

static int read_row(const struct rt_pack *pack, const json_t *object, size_t i,
                    struct rt_catalog_row *row, struct ert_error *err)
{
    int rc = read_point(pack, object, i, row, err);
    for (size_t c = 0; c < sizeof columns / sizeof *columns && !rc; c++)
        rc = read_column(pack, object, &columns[c], row, err);
    const json_t *dominated = json_object_get(object, "dominated");
    if (!rc && dominated && !json_is_boolean(dominated))
        rc = ert_fail(err, ERT_E_FORMAT,
                      "%s: section META, dominated of point %s in the catalog is not true or "
                      "false; %s",
                      pack->path, row->point.name, PACK_REMEDY);
    row->dominated = json_is_true(dominated);
    return rc;
}

int rt_pack_read_catalog(struct rt_pack *pack, struct ert_error *err)
{
    const json_t *list = json_object_get(pack->meta, "catalog");
    size_t n = json_array_size(list);
    if (!list)
        return 0;
    if (!json_is_array(list) || n > MAX_ROWS)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: section META, catalog is no list of at most %d points; %s", pack->path,
                        MAX_ROWS, PACK_REMEDY);
    if (n == 0)
        return 0;
    pack->catalog = calloc(n, sizeof *pack->catalog);
    if (!pack->catalog)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for a catalog of %zu points", pack->path,
                        n);
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++)
        rc = read_row(pack, json_array_get(list, i), i, &pack->catalog[i], err);
    pack->n_catalog = n;
    return rc;
}

const struct rt_catalog_row *rt_pack_catalog_row(const struct rt_pack *pack,
                                                 enum rt_variant variant, uint32_t tier)
{
    for (size_t i = 0; i < pack->n_catalog; i++)
        if (pack->catalog[i].point.variant == variant && pack->catalog[i].point.tier == tier)
            return &pack->catalog[i];
    return NULL;
}
