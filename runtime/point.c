/* point: names of operating points, and the immutable table of them. */
#include "runtime/point.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/pack.h"

const struct rt_variant_info rt_variants[RT_N_VARIANTS] = {
#define V(id, name, weight_bits, act_bits) {name, weight_bits, act_bits},
#include "runtime/variants.def"
#undef V
};

/* The variants that a kind of pack offers, best first; filled up with RT_N_VARIANTS. */
enum { MOST_OFFERED = 3 };
static const enum rt_variant offered[][MOST_OFFERED] = {
    [RT_PACK_NESTED] = {RT_W8A8, RT_W4A16, RT_W4A8},
    [RT_PACK_H_ONLY] = {RT_W4A16, RT_W4A8, RT_N_VARIANTS},
    [RT_PACK_F32] = {RT_F32, RT_N_VARIANTS, RT_N_VARIANTS},
};

static const char pause_name[] = "pause";

static bool offers(const struct rt_pack *pack, enum rt_variant v)
{
    bool found = !pack;
    for (unsigned i = 0; i < MOST_OFFERED && !found; i++)
        found = offered[pack->kind][i] == v;
    return found;
}

static void name_point(char *name, size_t room, enum rt_variant v, const struct rt_tier *tier)
{
    if (tier)
        snprintf(name, room, "%s-r%u", rt_variants[v].name, tier->rank_percent);
    else
        snprintf(name, room, "%s", rt_variants[v].name);
}

/* All points of a pack as "w8a8, w8a8-r90, ..., pause". */
static void list_points(const struct rt_pack *pack, char *list, size_t room)
{
    size_t n = 0;
    char name[48];
    list[0] = '\0';
    for (unsigned i = 0; i < MOST_OFFERED; i++) {
        enum rt_variant v = offered[pack->kind][i];
        for (uint32_t t = 0; v != RT_N_VARIANTS && t < pack->n_tiers && n < room; t++) {
            name_point(name, sizeof name, v, t ? &pack->tiers[t] : NULL);
            n += (size_t)snprintf(list + n, room - n, "%s, ", name);
        }
    }
    if (n < room)
        snprintf(list + n, room - n, "%s", pause_name);
}

static int fail_unknown(const char *text, const struct rt_pack *pack, struct ert_error *err)
{
    if (!pack)
        return ert_fail(err, ERT_E_FORMAT,
                        "point \"%.40s\" is not known: expected w8a8, w4a16, w4a8 or f32, with a "
                        "tier such as -r80 behind it or not, or pause",
                        text);
    char list[384];
    list_points(pack, list, sizeof list);
    return ert_fail(err, ERT_E_MISSING, "point \"%.40s\" is not in the pack, which has %s", text,
                    list);
}

/* The variant whose name text begins with; *rest is what follows it. */
static enum rt_variant find_variant(const char *text, const char **rest)
{
    for (unsigned v = 0; v < RT_N_VARIANTS; v++) {
        size_t n = strlen(rt_variants[v].name);
        if (strncmp(text, rt_variants[v].name, n) == 0 && (text[n] == '\0' || text[n] == '-')) {
            *rest = text + n;
            return (enum rt_variant)v;
        }
    }
    return RT_N_VARIANTS;
}

/* "" or "-r80": the share of the rank in percent, 0 if it is neither. */
static uint32_t parse_rank(const char *suffix)
{
    long percent = 100;
    if (*suffix == '\0')
        return 100;
    if (strncmp(suffix, "-r", 2) != 0 || suffix[2] < '0' || suffix[2] > '9' ||
        ert_parse_int(suffix + 2, 1, 100, &percent, NULL))
        return 0;
    return (uint32_t)percent;
}

/* The tier of that share; the widest is meant by 100 whatever it is called. n_tiers if none. */
static uint32_t find_tier(const struct rt_pack *pack, uint32_t percent)
{
    uint32_t t = 0;
    if (percent == 100)
        return 0;
    while (t < pack->n_tiers && pack->tiers[t].rank_percent != percent)
        t++;
    return t;
}

int rt_point_parse(const char *text, const struct rt_pack *pack, struct rt_point *point,
                   struct ert_error *err)
{
    *point = (struct rt_point){0};
    if (strcmp(text, pause_name) == 0) {
        point->variant = point->prefill_variant = pack ? offered[pack->kind][0] : RT_W4A16;
        point->pause = true;
        snprintf(point->name, sizeof point->name, "%s", pause_name);
        return 0;
    }
    const char *rest = NULL;
    enum rt_variant v = find_variant(text, &rest);
    uint32_t percent = v == RT_N_VARIANTS ? 0 : parse_rank(rest);
    if (percent == 0 || !offers(pack, v))
        return fail_unknown(text, pack, err);
    point->tier = pack ? find_tier(pack, percent) : 0;
    if (pack && point->tier == pack->n_tiers)
        return fail_unknown(text, pack, err);
    point->variant = point->prefill_variant = v;
    if (percent == 100 || (pack && point->tier == 0))
        name_point(point->name, sizeof point->name, v, NULL);
    else
        snprintf(point->name, sizeof point->name, "%s-r%u", rt_variants[v].name, percent);
    return 0;
}

/* An earlier variant of the pack reads the same weights. */
static bool repeats_weights(const struct rt_pack *pack, unsigned i)
{
    const enum rt_variant *v = offered[pack->kind];
    bool repeats = false;
    for (unsigned k = 0; k < i; k++)
        repeats = repeats || rt_variants[v[k]].weight_bits == rt_variants[v[i]].weight_bits;
    return repeats;
}

bool rt_point_to_measure(const struct rt_pack *pack, uint32_t i, struct rt_point *point)
{
    for (unsigned k = 0; k < MOST_OFFERED && offered[pack->kind][k] != RT_N_VARIANTS; k++) {
        enum rt_variant v = offered[pack->kind][k];
        uint32_t n = repeats_weights(pack, k) ? 1 : pack->n_tiers;
        if (i < n) {
            *point = (struct rt_point){.variant = v, .prefill_variant = v, .tier = i};
            name_point(point->name, sizeof point->name, v, i ? &pack->tiers[i] : NULL);
            return true;
        }
        i -= n;
    }
    return false;
}

bool rt_point_needs_l(const struct rt_point *point)
{
    return !point->pause && (rt_variants[point->variant].weight_bits == 8 ||
                             rt_variants[point->prefill_variant].weight_bits == 8);
}

/* ---- the table ----------------------------------------------------------------------------- */

struct rt_point_table {
    _Atomic uint32_t references;
    uint32_t n;
    struct rt_point points[];
};

enum { MAX_POINTS = 1 << 16 }; /* what the switch's 16 bits of index can name */

int rt_point_table_create(struct rt_point_table **table, const struct rt_point *points, uint32_t n,
                          struct ert_error *err)
{
    *table = NULL;
    if (n == 0 || n > MAX_POINTS)
        return ert_fail(err, ERT_E_RANGE, "a table of %u points: expected 1 to %d", n, MAX_POINTS);
    struct rt_point_table *t = calloc(1, sizeof *t + n * sizeof *points);
    if (!t)
        return ert_fail(err, ERT_E_NOMEM, "no memory for a table of %u points", n);
    atomic_init(&t->references, 1);
    t->n = n;
    memcpy(t->points, points, n * sizeof *points);
    *table = t;
    return 0;
}

struct rt_point_table *rt_point_table_ref(struct rt_point_table *table)
{
    atomic_fetch_add_explicit(&table->references, 1, memory_order_relaxed);
    return table;
}

void rt_point_table_unref(struct rt_point_table *table)
{
    /* acq_rel: whoever frees must have seen the last use of every other holder. */
    if (table && atomic_fetch_sub_explicit(&table->references, 1, memory_order_acq_rel) == 1)
        free(table);
}

uint32_t rt_point_table_size(const struct rt_point_table *table)
{
    return table->n;
}

const struct rt_point *rt_point_at(const struct rt_point_table *table, uint32_t index)
{
    return index < table->n ? &table->points[index] : NULL;
}
