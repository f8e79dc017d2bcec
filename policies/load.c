#include "policies/file.h"

#include <stdlib.h>
#include <string.h>

#include "policies/yaml_tree.h"

enum { LONGEST_DELAY_S = 86400 };

static const char *const governor_names[POL_N_GOVERNORS] = {
#define G(id, name, what) name,
#include "policies/governors.def"
#undef G
};

const char *pol_governor_name(enum pol_governor g)
{
    return governor_names[g];
}

/* A text being read into a file. */
struct load {
    struct pol_file *file;
    struct yaml_tree tree;
    const char *name; /* the text's, owned by the file */
};

static struct pol_where where_is(const struct load *l, const yaml_node_t *node)
{
    return (struct pol_where){l->name, node->start_mark.line + 1, node->start_mark.column + 1};
}

static int read_seconds(struct load *l, const yaml_node_t *node, const char *what, double min,
                        double *seconds)
{
    return yaml_read_quantity(&l->tree, node, what, ERT_UNIT_SECOND, min, LONGEST_DELAY_S, seconds);
}

/* A name that other parts of the file, the command line and journals refer to. */
static int read_name(struct load *l, const yaml_node_t *node, const char *what, char *name)
{
    int rc = yaml_read_text(&l->tree, node, what, name, POL_NAME);
    if (!rc && name[0] == ' ')
        rc = yaml_fail(&l->tree, node, ERT_E_FORMAT, "%s: '%s' begins with a space", what, name);
    return rc;
}

static int read_signal(struct load *l, const yaml_node_t *node, const char *what, char *name,
                       const struct dev_signal **signal)
{
    int rc = yaml_read_text(&l->tree, node, what, name, DEV_NAME);
    if (rc)
        return rc;
    *signal = dev_signal_find(name);
    if (*signal)
        return 0;
    const char *near = dev_signal_nearest(name);
    return yaml_fail(&l->tree, node, ERT_E_FORMAT, "%s: unknown sensor '%s'%s%s%s", what, name,
                     near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
}

/* ---- sensors ------------------------------------------------------------------------------- */

static int read_source(struct load *l, const yaml_node_t *node, struct pol_sensor *sensor)
{
    if (sensor->n_sources == POL_MAX_SOURCES)
        return yaml_fail(&l->tree, node, ERT_E_RANGE, "sensor '%s' has more than %d sources",
                         sensor->name, POL_MAX_SOURCES);
    char *source = sensor->sources[sensor->n_sources];
    int rc = yaml_read_text(&l->tree, node, sensor->name, source, sizeof sensor->sources[0]);
    if (rc)
        return rc;
    const char *colon = strchr(source, ':');
    if (!colon || colon == source || !colon[1])
        return yaml_fail(&l->tree, node, ERT_E_FORMAT,
                         "sensor '%s': '%s' is no source, expected KIND:NAME such as "
                         "thermal:cpu-thermal",
                         sensor->name, source);
    sensor->n_sources++;
    return 0;
}

/* One source or a list of them. */
static int read_sources(struct load *l, const yaml_node_t *node, struct pol_sensor *sensor)
{
    if (node->type == YAML_SCALAR_NODE)
        return read_source(l, node, sensor);
    int rc = yaml_expect_sequence(&l->tree, node, sensor->name);
    const yaml_node_t *item;
    for (size_t i = 0; !rc && (item = yaml_item(&l->tree, node, i)); i++)
        rc = read_source(l, item, sensor);
    if (!rc && sensor->n_sources == 0)
        rc = yaml_fail(&l->tree, node, ERT_E_FORMAT, "sensor '%s' has no source", sensor->name);
    return rc;
}

/* {sources: [...], stale: 10s, stuck: 5min}; max, mean and sum of others come later. */
static int read_sensor_mapping(struct load *l, const yaml_node_t *node, struct pol_sensor *sensor)
{
    static const struct yaml_key keys[] = {
        {"sources", true, false}, {"stale", false, false}, {"stuck", false, false},
        {"max", false, true},     {"mean", false, true},   {"sum", false, true},
    };
    enum { SOURCES, STALE, STUCK, N = sizeof keys / sizeof *keys };
    const yaml_node_t *values[N];
    int rc = yaml_read_keys(&l->tree, node, sensor->name, keys, N, values);
    if (!rc)
        rc = read_sources(l, values[SOURCES], sensor);
    if (!rc && values[STALE])
        rc = read_seconds(l, values[STALE], "stale", 0.001, &sensor->stale_s);
    if (!rc && values[STUCK])
        rc = read_seconds(l, values[STUCK], "stuck", 0, &sensor->stuck_s);
    return rc;
}

/* A zeroed entry of that name, in place of the earlier one or at the end; NULL when full or out of
 * memory. */
static void *entry_of(void **entries, size_t *n, size_t size, const char *name)
{
    size_t i = 0;
    while (i < *n && strcmp(entries[i], name) != 0)
        i++;
    if (i == POL_MAX_ENTRIES)
        return NULL;
    void *entry = calloc(1, size);
    if (!entry)
        return NULL;
    free(i < *n ? entries[i] : NULL);
    entries[i] = entry;
    *n += i == *n;
    memcpy(entry, name, strlen(name) + 1);
    return entry;
}

static int no_entry(struct load *l, const yaml_node_t *node, const char *what)
{
    return yaml_fail(&l->tree, node, ERT_E_RANGE, "no room for more than %d %s", POL_MAX_ENTRIES,
                     what);
}

/* A name may appear once in a mapping, though later files may define it again. */
static int refuse_repeated(struct load *l, const yaml_node_t *mapping, size_t i)
{
    const yaml_node_t *value, *key = yaml_pair(&l->tree, mapping, i, &value);
    for (size_t k = 0; k < i; k++) {
        const yaml_node_t *before = yaml_pair(&l->tree, mapping, k, &value);
        if (before->type == YAML_SCALAR_NODE && key->type == YAML_SCALAR_NODE &&
            !strcmp((char *)before->data.scalar.value, (char *)key->data.scalar.value))
            return yaml_fail(&l->tree, key, ERT_E_FORMAT,
                             "a name that appears twice; it is above already");
    }
    return 0;
}

static int read_sensor(struct load *l, const yaml_node_t *key, const yaml_node_t *value)
{
    char name[DEV_NAME];
    const struct dev_signal *signal;
    int rc = read_signal(l, key, "sensors", name, &signal);
    if (rc)
        return rc;
    struct pol_sensor *sensor =
        entry_of(l->file->sensors, &l->file->n_sensors, sizeof *sensor, name);
    if (!sensor)
        return no_entry(l, key, "sensors");
    sensor->signal = signal;
    sensor->stale_s = signal->stale_s;
    sensor->missing_state = -1;
    return value->type == YAML_MAPPING_NODE ? read_sensor_mapping(l, value, sensor)
                                            : read_sources(l, value, sensor);
}

/* ---- ladders ------------------------------------------------------------------------------- */

/* "w4a16@1t,6tok/s": the point and whatever sets this rung apart from others of the same point. */
static void name_rung(struct pol_point *p)
{
    char threads[16] = "", pace[32] = "", prefill[POL_NAME + 8] = "", name[256];
    if (p->threads)
        snprintf(threads, sizeof threads, ",%ut", p->threads);
    if (p->tokens_per_second > 0)
        snprintf(pace, sizeof pace, ",%gtok/s", p->tokens_per_second);
    if (*p->prefill)
        snprintf(prefill, sizeof prefill, ",prefill-%s", p->prefill);
    int start = snprintf(name, sizeof name, "%s%s%s%s", p->point, threads, pace, prefill);
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

static int read_rung_mapping(struct load *l, const yaml_node_t *node, struct pol_point *p)
{
    static const struct yaml_key keys[] = {
        {"point", true, false},    {"threads", false, false}, {"tokens-per-second", false, false},
        {"prefill", false, false}, {"name", false, false},
    };
    enum { POINT, THREADS, PACE, PREFILL, NAME, N = sizeof keys / sizeof *keys };
    const yaml_node_t *values[N];
    long threads = 0;
    int rc = yaml_read_keys(&l->tree, node, "point", keys, N, values);
    if (!rc)
        rc = read_point_name(l, values[POINT], "point", p->point);
    if (!rc && values[THREADS])
        rc = yaml_read_int(&l->tree, values[THREADS], "threads", 1, 1024, &threads);
    if (!rc && values[PACE])
        rc = yaml_read_quantity(&l->tree, values[PACE], "tokens-per-second", ERT_UNIT_NONE, 0.01,
                                1e6, &p->tokens_per_second);
    if (!rc && values[PREFILL])
        rc = read_point_name(l, values[PREFILL], "prefill", p->prefill);
    p->threads = (unsigned)threads;
    if (!rc && values[NAME])
        rc = read_name(l, values[NAME], "name", p->name);
    return rc;
}

static int read_rung(struct load *l, const yaml_node_t *node, struct pol_ladder *ladder)
{
    if (ladder->n == POL_MAX_STATES)
        return yaml_fail(&l->tree, node, ERT_E_RANGE, "ladder '%s' has more than %d points",
                         ladder->name, POL_MAX_STATES);
    struct pol_point *p = &ladder->points[ladder->n];
    int rc = node->type == YAML_MAPPING_NODE ? read_rung_mapping(l, node, p)
                                             : read_point_name(l, node, "point", p->point);
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

static int read_ladder(struct load *l, const yaml_node_t *key, const yaml_node_t *value)
{
    char name[POL_NAME];
    int rc = read_name(l, key, "ladders", name);
    if (!rc && !strcmp(name, "auto"))
        rc = yaml_fail(&l->tree, key, ERT_E_FORMAT,
                       "'auto' is the catalog's ladder, choose another "
                       "name");
    if (!rc)
        rc = yaml_expect_sequence(&l->tree, value, name);
    if (rc)
        return rc;
    struct pol_ladder *ladder =
        entry_of(l->file->ladders, &l->file->n_ladders, sizeof *ladder, name);
    if (!ladder)
        return no_entry(l, key, "ladders");
    ladder->where = where_is(l, key);
    const yaml_node_t *item;
    for (size_t i = 0; !rc && (item = yaml_item(&l->tree, value, i)); i++)
        rc = read_rung(l, item, ladder);
    if (!rc && (ladder->n == 0 || ladder->points[0].pause))
        rc = yaml_fail(&l->tree, value, ERT_E_FORMAT,
                       "ladder '%s' must begin with a point that generates", ladder->name);
    return rc;
}

/* ---- policies ------------------------------------------------------------------------------ */

/* "3", "1..3" or "4..max". */
static int read_states(struct load *l, const yaml_node_t *node, struct pol_trip_entry *entry)
{
    char text[32], *dots;
    long low, high;
    int rc = yaml_read_text(&l->tree, node, "states", text, sizeof text);
    if (rc)
        return rc;
    if ((dots = strstr(text, "..")))
        *dots = '\0';
    const char *end = dots ? dots + 2 : text;
    entry->to_max = !strcmp(end, "max");
    bool bad = ert_parse_int(text, 0, POL_MAX_STATES - 1, &low, NULL) ||
               (!entry->to_max && ert_parse_int(end, 0, POL_MAX_STATES - 1, &high, NULL));
    if (bad || (!entry->to_max && high < low))
        return yaml_fail(&l->tree, node, ERT_E_FORMAT,
                         "states: expected a state such as 3, or a range such as 1..3 or 4..max");
    entry->trip.lowest = (unsigned)low;
    entry->trip.highest = entry->to_max ? 0 : (unsigned)high;
    return 0;
}

static int read_governor(struct load *l, const yaml_node_t *node, enum pol_governor *governor)
{
    char text[64];
    int rc = yaml_read_text(&l->tree, node, "governor", text, sizeof text);
    if (rc)
        return rc;
    for (int g = 0; g < POL_N_GOVERNORS; g++)
        if (!strcmp(governor_names[g], text)) {
            *governor = (enum pol_governor)g;
            return 0;
        }
    if (!strcmp(text, "power_allocator"))
        return yaml_fail(&l->tree, node, ERT_E_UNSUPPORTED,
                         "governor 'power_allocator' is not supported yet; use step_wise");
    const char *near = ert_nearest_name(text, governor_names, POL_N_GOVERNORS);
    return yaml_fail(&l->tree, node, ERT_E_FORMAT, "unknown governor '%s', did you mean '%s'?",
                     text, near ? near : governor_names[0]);
}

static int read_when(struct load *l, const yaml_node_t *node, bool *when_discharging)
{
    char text[32];
    int rc = yaml_read_text(&l->tree, node, "when", text, sizeof text);
    if (!rc && strcmp(text, "discharging") != 0)
        rc = yaml_fail(&l->tree, node, ERT_E_FORMAT, "when: '%s', expected 'discharging'", text);
    *when_discharging = true;
    return rc;
}

static const struct yaml_key trip_keys[] = {
    {"name", true, false},   {"sensor", true, false},      {"above", false, false},
    {"below", false, false}, {"hysteresis", false, false}, {"for", false, false},
    {"when", false, false},  {"governor", false, false},   {"states", true, false},
};
enum { NAME, SENSOR, ABOVE, BELOW, HYSTERESIS, FOR, WHEN, GOVERNOR, STATES };
enum { N_TRIP_KEYS = sizeof trip_keys / sizeof *trip_keys };

static int read_threshold(struct load *l, const yaml_node_t *node, const yaml_node_t **values,
                          const struct dev_signal *signal, struct pol_trip *trip)
{
    if (!values[ABOVE] == !values[BELOW])
        return yaml_fail(&l->tree, node, ERT_E_FORMAT,
                         "trip '%s': expected one of above: and below:", trip->name);
    trip->above = values[ABOVE] != NULL;
    int rc = yaml_read_quantity(&l->tree, values[trip->above ? ABOVE : BELOW],
                                trip->above ? "above" : "below", signal->unit, signal->min,
                                signal->max, &trip->threshold);
    if (!rc && values[HYSTERESIS])
        rc = yaml_read_quantity(&l->tree, values[HYSTERESIS], "hysteresis", signal->unit, 0,
                                signal->max - signal->min, &trip->hysteresis);
    return rc;
}

static int read_trip(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    if (policy->n_trips == POL_MAX_TRIPS)
        return yaml_fail(&l->tree, node, ERT_E_RANGE, "policy '%s' has more than %d trips",
                         policy->name, POL_MAX_TRIPS);
    struct pol_trip_entry *entry = &policy->trips[policy->n_trips];
    struct pol_trip *trip = &entry->trip;
    const struct dev_signal *signal = NULL;
    const yaml_node_t *values[N_TRIP_KEYS];
    entry->where = where_is(l, node);
    trip->governor = POL_STEP_WISE;
    int rc = yaml_read_keys(&l->tree, node, "trip", trip_keys, N_TRIP_KEYS, values);
    if (!rc)
        rc = read_name(l, values[NAME], "name", trip->name);
    if (!rc)
        rc = read_signal(l, values[SENSOR], "sensor", entry->sensor, &signal);
    if (!rc)
        rc = read_threshold(l, node, values, signal, trip);
    if (!rc && values[FOR])
        rc = read_seconds(l, values[FOR], "for", 0, &trip->for_s);
    if (!rc && values[WHEN])
        rc = read_when(l, values[WHEN], &trip->when_discharging);
    if (!rc && values[GOVERNOR])
        rc = read_governor(l, values[GOVERNOR], &trip->governor);
    if (!rc)
        rc = read_states(l, values[STATES], entry);
    for (size_t i = 0; !rc && i < policy->n_trips; i++)
        if (!strcmp(policy->trips[i].trip.name, trip->name))
            rc = yaml_fail(&l->tree, node, ERT_E_FORMAT, "policy '%s' has two trips named '%s'",
                           policy->name, trip->name);
    policy->n_trips += !rc;
    return rc;
}

static int read_trips(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    int rc = yaml_expect_sequence(&l->tree, node, "trips");
    const yaml_node_t *item;
    for (size_t i = 0; !rc && (item = yaml_item(&l->tree, node, i)); i++)
        rc = read_trip(l, item, policy);
    return rc;
}

static int read_dwell(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    static const struct yaml_key keys[] = {{"down", false, false}, {"up", false, false}};
    const yaml_node_t *values[2];
    int rc = yaml_read_keys(&l->tree, node, "dwell", keys, 2, values);
    if (!rc && values[0])
        rc = read_seconds(l, values[0], "down", 0, &policy->dwell_down_s);
    if (!rc && values[1])
        rc = read_seconds(l, values[1], "up", 0, &policy->dwell_up_s);
    return rc;
}

/* "state 2" or "ignore". */
static int read_missing_state(struct load *l, const yaml_node_t *node, int *state)
{
    char text[32];
    long n = -1;
    int rc = yaml_read_text(&l->tree, node, "on-missing", text, sizeof text);
    if (rc)
        return rc;
    if (strcmp(text, "ignore") != 0 &&
        (strncmp(text, "state ", 6) != 0 ||
         ert_parse_int(text + 6, 0, POL_MAX_STATES - 1, &n, NULL) != 0))
        return yaml_fail(&l->tree, node, ERT_E_FORMAT,
                         "on-missing: '%s', expected 'ignore' or a state such as 'state 2'", text);
    *state = (int)n;
    return 0;
}

static int read_on_missing(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    int rc = yaml_expect_mapping(&l->tree, node, "on-missing");
    const yaml_node_t *key, *value;
    const struct dev_signal *signal;
    for (size_t i = 0; !rc && (key = yaml_pair(&l->tree, node, i, &value)); i++) {
        if (i == POL_MAX_SENSORS)
            return yaml_fail(&l->tree, key, ERT_E_RANGE, "on-missing: more than %d sensors",
                             POL_MAX_SENSORS);
        struct pol_missing *missing = &policy->missing[i];
        missing->where = where_is(l, key);
        rc = refuse_repeated(l, node, i);
        if (!rc)
            rc = read_signal(l, key, "on-missing", missing->sensor, &signal);
        if (!rc)
            rc = read_missing_state(l, value, &missing->state);
        policy->n_missing += !rc;
    }
    return rc;
}

static int read_aliases(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    int rc = yaml_expect_sequence(&l->tree, node, "aliases");
    const yaml_node_t *item;
    for (size_t i = 0; !rc && (item = yaml_item(&l->tree, node, i)); i++) {
        if (i == POL_MAX_ALIASES)
            return yaml_fail(&l->tree, item, ERT_E_RANGE, "more than %d aliases", POL_MAX_ALIASES);
        rc = read_name(l, item, "aliases", policy->aliases[i]);
        policy->n_aliases += !rc;
    }
    return rc;
}

static int read_failsafe(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    policy->failsafe_where = where_is(l, node);
    return read_name(l, node, "failsafe", policy->failsafe);
}

static int read_poll(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    return yaml_read_quantity(&l->tree, node, "poll", ERT_UNIT_SECOND, 0.01, 3600, &policy->poll_s);
}

static int read_ladder_name(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    return read_name(l, node, "ladder", policy->ladder);
}

/* The keys of a policy and who reads each; in the order of keys. */
static const struct yaml_key policy_keys[] = {
    {"aliases", false, false},  {"ladder", true, false}, {"poll", false, false},
    {"trips", false, false},    {"dwell", false, false}, {"on-missing", false, false},
    {"failsafe", false, false}, {"power", false, true},  {"guarantees", false, true},
};
enum { N_POLICY_KEYS = sizeof policy_keys / sizeof *policy_keys };
static int (*const policy_readers[])(struct load *, const yaml_node_t *, struct pol_entry *) = {
    read_aliases, read_ladder_name, read_poll,     read_trips,
    read_dwell,   read_on_missing,  read_failsafe,
};

static int read_policy(struct load *l, const yaml_node_t *key, const yaml_node_t *value)
{
    char name[POL_NAME];
    const yaml_node_t *values[N_POLICY_KEYS];
    int rc = read_name(l, key, "policies", name);
    if (!rc)
        rc = yaml_read_keys(&l->tree, value, name, policy_keys, N_POLICY_KEYS, values);
    if (rc)
        return rc;
    struct pol_entry *policy =
        entry_of(l->file->entries, &l->file->n_entries, sizeof *policy, name);
    if (!policy)
        return no_entry(l, key, "policies");
    policy->where = where_is(l, key);
    policy->poll_s = 0.5;
    policy->dwell_up_s = 10;
    for (size_t i = 0; !rc && i < sizeof policy_readers / sizeof *policy_readers; i++)
        if (values[i])
            rc = policy_readers[i](l, values[i], policy);
    return rc;
}

/* ---- the file ------------------------------------------------------------------------------ */

static int read_entries(struct load *l, const yaml_node_t *node, const char *what,
                        int (*read)(struct load *, const yaml_node_t *, const yaml_node_t *))
{
    int rc = yaml_expect_mapping(&l->tree, node, what);
    const yaml_node_t *key, *value;
    for (size_t i = 0; !rc && (key = yaml_pair(&l->tree, node, i, &value)); i++) {
        if (i == POL_MAX_ENTRIES)
            return no_entry(l, key, what);
        rc = refuse_repeated(l, node, i);
        if (!rc)
            rc = read(l, key, value);
    }
    return rc;
}

static int read_root(struct load *l, const yaml_node_t *root)
{
    static const struct yaml_key keys[] = {
        {"edgert", true, false},
        {"sensors", false, false},
        {"ladders", false, false},
        {"policies", false, false},
    };
    static int (*const readers[])(struct load *, const yaml_node_t *, const yaml_node_t *) = {
        NULL, read_sensor, read_ladder, read_policy};
    const yaml_node_t *values[4];
    long version;
    int rc = yaml_read_keys(&l->tree, root, "policy file", keys, 4, values);
    if (!rc)
        rc = yaml_read_int(&l->tree, values[0], "edgert (the language's version)", 1, 1, &version);
    for (size_t i = 1; !rc && i < 4; i++)
        if (values[i])
            rc = read_entries(l, values[i], keys[i].name, readers[i]);
    return rc;
}

int pol_load_text(struct pol_file *file, const char *name, const char *text, size_t size,
                  struct ert_error *err)
{
    if (file->n_names == POL_MAX_FILES)
        return ert_fail(err, ERT_E_RANGE, "%s: more than %d policy files", name, POL_MAX_FILES);
    char *copy = strdup(name);
    if (!copy)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for %s", name);
    file->names[file->n_names++] = copy;
    struct load l = {.file = file, .name = copy};
    int rc = yaml_tree_init(&l.tree, copy, text, size, err);
    if (!rc) {
        const yaml_node_t *root = yaml_tree_root(&l.tree);
        rc = root ? read_root(&l, root)
                  : ert_fail(err, ERT_E_FORMAT, "%s:1:1: is empty, expected 'edgert: 1'", name);
    }
    yaml_tree_release(&l.tree);
    return rc;
}

int pol_file_parse(struct pol_file **file, const char *name, const char *text, size_t size,
                   struct ert_error *err)
{
    *file = NULL;
    struct pol_file *f = calloc(1, sizeof *f);
    if (!f)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for %s", name);
    int rc = pol_load_text(f, name, text, size, err);
    if (!rc)
        rc = pol_file_check(f, err);
    if (rc)
        pol_file_free(f);
    else
        *file = f;
    return rc;
}

static int load_path(struct pol_file *file, const char *path, struct ert_error *err)
{
    char *text;
    size_t size;
    int rc = ert_read_text(path, YAML_MAX_BYTES, &text, &size, err);
    if (rc)
        return rc;
    rc = pol_load_text(file, path, text, size, err);
    free(text);
    return rc;
}

int pol_file_load(struct pol_file **file, const char *const *paths, size_t n, struct ert_error *err)
{
    *file = NULL;
    struct pol_file *f = calloc(1, sizeof *f);
    if (!f)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for policy files");
    int rc = 0;
    for (size_t i = 0; !rc && i < n; i++)
        rc = load_path(f, paths[i], err);
    if (!rc)
        rc = pol_file_check(f, err);
    if (rc)
        pol_file_free(f);
    else
        *file = f;
    return rc;
}

void pol_file_free(struct pol_file *file)
{
    if (!file)
        return;
    for (size_t i = 0; i < file->n_names; i++)
        free(file->names[i]);
    for (size_t i = 0; i < file->n_sensors; i++)
        free(file->sensors[i]);
    for (size_t i = 0; i < file->n_ladders; i++)
        free(file->ladders[i]);
    for (size_t i = 0; i < file->n_entries; i++)
        free(file->entries[i]);
    free(file);
}

size_t pol_file_count(const struct pol_file *file)
{
    return file->n_entries;
}

const char *pol_file_name(const struct pol_file *file, size_t i)
{
    const struct pol_entry *entry = i < file->n_entries ? file->entries[i] : NULL;
    return entry ? entry->name : NULL;
}
