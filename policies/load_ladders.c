#include "policies/load.h"

#include <string.h>

static const char *const speculations[POL_N_SPECULATIONS] = {
#define S(id, name) name,
#include "policies/speculation.def"
#undef S
};

const char *pol_speculation_name(enum pol_speculation when)
{
    return speculations[when];
}

int pol_speculation_parse(const char *text, enum pol_speculation *when, struct ert_error *err)
{
    unsigned i = 0;
    while (i < POL_N_SPECULATIONS && strcmp(text, speculations[i]) != 0)
        i++;
    if (i == POL_N_SPECULATIONS)
        return ert_fail(err, ERT_E_USAGE, "speculation: '%s', expected auto, on or off", text);
    *when = (enum pol_speculation)i;
    return 0;
}

/* "w4a16@1t,6tok/s": the point and whatever sets this rung apart from others of the same point. */
static void name_rung(struct pol_point *p)
{
    char threads[16] = "", pace[32] = "", prefill[POL_NAME + 8] = "", chunk[24] = "",
         guesses[32] = "";
    char name[256];
    if (p->threads)
        snprintf(threads, sizeof threads, ",%ut", p->threads);
    if (p->tokens_per_second > 0)
        snprintf(pace, sizeof pace, ",%gtok/s", p->tokens_per_second);
    if (*p->prefill)
        snprintf(prefill, sizeof prefill, ",prefill-%s", p->prefill);
    if (p->prefill_chunk)
        snprintf(chunk, sizeof chunk, ",chunk-%u", p->prefill_chunk);
    if (p->speculation != POL_SPECULATION_AUTO)
        snprintf(guesses, sizeof guesses, ",speculation-%s", speculations[p->speculation]);
    int start = snprintf(name, sizeof name, "%s%s%s%s%s%s", p->point, threads, pace, prefill, chunk,
                         guesses);
    size_t n = strlen(p->point);
    if ((size_t)start > n)
        name[n] = '@';
    snprintf(p->name, sizeof p->name, "%.*s", POL_NAME - 1, name);
}

static int read_point_name(struct load *l, const yaml_node_t *node, const char *what, char *name)
{
    static const char allowed[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
    int rc = yaml_read_text(&l->tree, node, what, name, POL_NAME);
    if (!rc && name[strspn(name, allowed)])
        rc = yaml_fail(&l->tree, node, ERT_E_FORMAT,
                       "%s: '%s' is no operating point, expected one such as w4a16-r90 or pause",
                       what, name);
    return rc;
}

static int read_cores(struct load *l, const yaml_node_t *node, bool *efficient)
{
    char text[32];
    int rc = yaml_read_text(&l->tree, node, "cores", text, sizeof text);
    *efficient = !rc && !strcmp(text, "efficient");
    if (!rc && !*efficient && strcmp(text, "any") != 0)
        rc = yaml_fail(&l->tree, node, ERT_E_FORMAT, "cores: '%s', expected 'efficient' or 'any'",
                       text);
    return rc;
}

static int read_speculation(struct load *l, const yaml_node_t *node, enum pol_speculation *when)
{
    char text[32];
    struct ert_error err;
    int rc = yaml_read_text(&l->tree, node, "speculation", text, sizeof text);
    if (!rc && pol_speculation_parse(text, when, &err))
        rc = yaml_fail(&l->tree, node, ERT_E_FORMAT, "%s", err.text);
    return rc;
}

static int read_rung_mapping(struct load *l, const yaml_node_t *node, struct pol_point *p,
                             struct pol_places *places)
{
    static const struct yaml_key keys[] = {
        {"point", true, false},
        {"threads", false, false},
        {"tokens-per-second", false, false},
        {"prefill", false, false},
        {"name", false, false},
        {"power", false, false},
        {"prefill-power", false, false},
        {"cores", false, false},
        {"prefill-chunk", false, false},
        {"speculation", false, false},
    };
    enum {
        POINT,
        THREADS,
        PACE,
        PREFILL,
        NAME,
        POWER,
        PREFILL_POWER,
        CORES,
        PREFILL_CHUNK,
        SPECULATION,
        N = sizeof keys / sizeof *keys
    };
    const yaml_node_t *values[N];
    long threads = 0, chunk = 0;
    int rc = pol_read_keys(l, node, "point", keys, N, values, places);
    if (!rc)
        rc = read_point_name(l, values[POINT], "point", p->point);
    if (!rc && values[THREADS])
        rc = yaml_read_int(&l->tree, values[THREADS], "threads", 1, 1024, &threads);
    if (!rc && values[PACE])
        rc = yaml_read_quantity(&l->tree, values[PACE], "tokens-per-second", ERT_UNIT_NONE, 0.01,
                                1e6, &p->tokens_per_second);
    if (!rc && values[PREFILL])
        rc = read_point_name(l, values[PREFILL], "prefill", p->prefill);
    if (!rc && values[POWER])
        rc = yaml_read_quantity(&l->tree, values[POWER], "power", ERT_UNIT_WATT, 0.001, 2000,
                                &p->power_w);
    if (!rc && values[PREFILL_POWER])
        rc = yaml_read_quantity(&l->tree, values[PREFILL_POWER], "prefill-power", ERT_UNIT_WATT,
                                0.001, 2000, &p->prefill_power_w);
    if (!rc && values[CORES])
        rc = read_cores(l, values[CORES], &p->efficient);
    if (!rc && values[PREFILL_CHUNK])
        rc = yaml_read_int(&l->tree, values[PREFILL_CHUNK], "prefill-chunk", 1, 512, &chunk);
    if (!rc && values[SPECULATION])
        rc = read_speculation(l, values[SPECULATION], &p->speculation);
    p->threads = (unsigned)threads;
    p->prefill_chunk = (unsigned)chunk;
    if (!rc && values[NAME])
        rc = pol_read_name(l, values[NAME], "name", p->name);
    return rc;
}

static int read_point_alone(struct load *l, const yaml_node_t *node, struct pol_point *p,
                            struct pol_places *places)
{
    places->where = pol_where_is(l, node);
    places->keys[places->n++] = (struct pol_place){"point", places->where};
    return read_point_name(l, node, "point", p->point);
}

static int read_rung(struct load *l, const yaml_node_t *node, struct pol_ladder *ladder)
{
    if (ladder->n == POL_MAX_STATES)
        return yaml_fail(&l->tree, node, ERT_E_RANGE, "ladder '%s' has more than %d points",
                         ladder->name, POL_MAX_STATES);
    struct pol_point *p = &ladder->points[ladder->n];
    struct pol_places *places = &ladder->places[ladder->n];
    int rc = node->type == YAML_MAPPING_NODE ? read_rung_mapping(l, node, p, places)
                                             : read_point_alone(l, node, p, places);
    if (rc)
        return rc;
    p->pause = !strcmp(p->point, "pause");
    if (!*p->name)
        name_rung(p);
    for (size_t i = 0; i < ladder->n; i++)
        if (!strcmp(ladder->points[i].name, p->name))
            return yaml_fail(
                &l->tree, node, ERT_E_FORMAT,
                "ladder '%s' has two points named '%s'; give one a name:", ladder->name, p->name);
    ladder->n++;
    return 0;
}

int pol_read_ladder(struct load *l, const yaml_node_t *key, const yaml_node_t *value)
{
    char name[POL_NAME];
    int rc = pol_read_name(l, key, "ladders", name);
    if (!rc && !strcmp(name, "auto"))
        rc = yaml_fail(&l->tree, key, ERT_E_FORMAT,
                       "'auto' is the catalog's ladder, choose another "
                       "name");
    if (!rc)
        rc = yaml_expect_sequence(&l->tree, value, name);
    if (rc)
        return rc;
    struct pol_ladder *ladder =
        pol_entry_of(l->file->ladders, &l->file->n_ladders, sizeof *ladder, name);
    if (!ladder)
        return pol_no_entry(l, key, "ladders");
    ladder->where = pol_where_is(l, key);
    const yaml_node_t *item;
    for (size_t i = 0; !rc && (item = yaml_item(&l->tree, value, i)); i++)
        rc = read_rung(l, item, ladder);
    if (!rc && (ladder->n == 0 || ladder->points[0].pause))
        rc = yaml_fail(&l->tree, value, ERT_E_FORMAT,
                       "ladder '%s' must begin with a point that generates", ladder->name);
    return rc;
}
