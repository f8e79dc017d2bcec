#include "policies/load.h"

#include <string.h>

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

/* ---- sensors made of others ---------------------------------------------------------------- */

static int read_part(struct load *l, const yaml_node_t *node, struct pol_sensor *sensor)
{
    const struct dev_signal *signal;
    if (sensor->n_parts == POL_MAX_PARTS)
        return yaml_fail(&l->tree, node, ERT_E_RANGE, "sensor '%s' is made of more than %d others",
                         sensor->name, POL_MAX_PARTS);
    struct pol_part *part = &sensor->parts[sensor->n_parts];
    int rc = pol_read_signal(l, node, sensor->name, part->name, &signal);
    if (!rc && signal->unit != sensor->signal->unit)
        rc = yaml_fail(&l->tree, node, ERT_E_FORMAT,
                       "sensor '%s' is in %s and cannot be made of '%s', which is in %s",
                       sensor->name, pol_unit_words(sensor->signal->unit), part->name,
                       pol_unit_words(signal->unit));
    part->weight = 1;
    sensor->n_parts += !rc;
    return rc;
}

/* [temp.battery, temp.cpu] */
static int read_parts(struct load *l, const yaml_node_t *node, struct pol_sensor *sensor)
{
    int rc = yaml_expect_sequence(&l->tree, node, sensor->name);
    const yaml_node_t *item;
    for (size_t i = 0; !rc && (item = yaml_item(&l->tree, node, i)); i++)
        rc = read_part(l, item, sensor);
    return rc;
}

/* {temp.battery: 0.7, temp.cpu: 0.2} */
static int read_weights(struct load *l, const yaml_node_t *node, struct pol_sensor *sensor)
{
    enum { MOST = 1000 };
    int rc = yaml_expect_mapping(&l->tree, node, sensor->name);
    const yaml_node_t *key, *value;
    for (size_t i = 0; !rc && (key = yaml_pair(&l->tree, node, i, &value)); i++) {
        rc = pol_refuse_repeated(l, node, i);
        if (!rc)
            rc = read_part(l, key, sensor);
        if (!rc)
            rc = yaml_read_quantity(&l->tree, value, "weight", ERT_UNIT_NONE, -MOST, MOST,
                                    &sensor->parts[i].weight);
    }
    return rc;
}

static const struct yaml_key sensor_keys[] = {
    {"sources", false, false}, {"max", false, false},    {"mean", false, false},
    {"sum", false, false},     {"offset", false, false}, {"stale", false, false},
    {"stuck", false, false},   {"median", false, false},
};
enum { SOURCES, MAX, MEAN, SUM, OFFSET, STALE, STUCK, MEDIAN };
enum { N_SENSOR_KEYS = sizeof sensor_keys / sizeof *sensor_keys };

static int read_blend(struct load *l, const yaml_node_t *node, const yaml_node_t **values,
                      struct pol_sensor *sensor)
{
    static const enum pol_blend blends[] = {[MAX] = POL_MAX, [MEAN] = POL_MEAN, [SUM] = POL_SUM};
    double span = sensor->signal->max - sensor->signal->min;
    int rc = 0;
    for (int key = MAX; !rc && key <= SUM; key++) {
        if (!values[key])
            continue;
        if (sensor->blend != POL_NO_BLEND)
            return yaml_fail(&l->tree, node, ERT_E_FORMAT,
                             "sensor '%s': expected one of max:, mean: and sum:", sensor->name);
        sensor->blend = blends[key];
        rc = key == SUM ? read_weights(l, values[key], sensor) : read_parts(l, values[key], sensor);
        if (!rc && sensor->n_parts == 0)
            rc = yaml_fail(&l->tree, values[key], ERT_E_FORMAT, "sensor '%s' is made of nothing",
                           sensor->name);
    }
    if (!rc && values[OFFSET] && sensor->blend == POL_NO_BLEND)
        rc = yaml_fail(&l->tree, values[OFFSET], ERT_E_FORMAT,
                       "sensor '%s': offset: goes with max:, mean: or sum:", sensor->name);
    if (!rc && values[OFFSET])
        rc = yaml_read_quantity(&l->tree, values[OFFSET], "offset", sensor->signal->unit, -span,
                                span, &sensor->offset);
    return rc;
}

/* 3, or 1 for the samples as they come. */
static int read_median(struct load *l, const yaml_node_t *node, struct pol_sensor *sensor)
{
    long n = 1;
    int rc = yaml_read_int(&l->tree, node, "median", 1, 3, &n);
    if (!rc && n == 2)
        rc =
            yaml_fail(&l->tree, node, ERT_E_FORMAT, "median: 2, expected 3 samples, or 1 for none");
    sensor->median = n == 3;
    return rc;
}

static int read_sources_alone(struct load *l, const yaml_node_t *node,
                              struct pol_sensor_entry *entry)
{
    entry->places.keys[entry->places.n++] = (struct pol_place){"sources", pol_where_is(l, node)};
    return read_sources(l, node, &entry->sensor);
}

/* {sources: [...], max: [...], stale: 10s, stuck: 5min, median: 3} */
static int read_sensor_mapping(struct load *l, const yaml_node_t *node,
                               struct pol_sensor_entry *entry)
{
    struct pol_sensor *sensor = &entry->sensor;
    const yaml_node_t *values[N_SENSOR_KEYS];
    int rc =
        pol_read_keys(l, node, sensor->name, sensor_keys, N_SENSOR_KEYS, values, &entry->places);
    if (!rc && values[SOURCES])
        rc = read_sources(l, values[SOURCES], sensor);
    if (!rc)
        rc = read_blend(l, node, values, sensor);
    if (!rc && sensor->n_sources == 0 && sensor->blend == POL_NO_BLEND)
        rc = yaml_fail(&l->tree, node, ERT_E_FORMAT,
                       "sensor '%s': expected sources:, max:, mean: or sum:", sensor->name);
    if (!rc && values[STALE])
        rc = pol_read_seconds(l, values[STALE], "stale", 0.001, &sensor->stale_s);
    if (!rc && values[STUCK])
        rc = pol_read_seconds(l, values[STUCK], "stuck", 0, &sensor->stuck_s);
    if (!rc && values[MEDIAN])
        rc = read_median(l, values[MEDIAN], sensor);
    return rc;
}

int pol_read_sensor(struct load *l, const yaml_node_t *key, const yaml_node_t *value)
{
    char name[DEV_NAME];
    const struct dev_signal *signal;
    int rc = pol_read_signal(l, key, "sensors", name, &signal);
    if (rc)
        return rc;
    struct pol_sensor_entry *entry =
        pol_entry_of(l->file->sensors, &l->file->n_sensors, sizeof *entry, name);
    if (!entry)
        return pol_no_entry(l, key, "sensors");
    entry->sensor.signal = signal;
    entry->sensor.stale_s = signal->stale_s;
    entry->sensor.missing_state = -1;
    rc = value->type == YAML_MAPPING_NODE ? read_sensor_mapping(l, value, entry)
                                          : read_sources_alone(l, value, entry);
    entry->places.where = pol_where_is(l, key);
    return rc;
}
