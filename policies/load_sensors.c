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
        rc = pol_read_seconds(l, values[STALE], "stale", 0.001, &sensor->stale_s);
    if (!rc && values[STUCK])
        rc = pol_read_seconds(l, values[STUCK], "stuck", 0, &sensor->stuck_s);
    return rc;
}

int pol_read_sensor(struct load *l, const yaml_node_t *key, const yaml_node_t *value)
{
    char name[DEV_NAME];
    const struct dev_signal *signal;
    int rc = pol_read_signal(l, key, "sensors", name, &signal);
    if (rc)
        return rc;
    struct pol_sensor *sensor =
        pol_entry_of(l->file->sensors, &l->file->n_sensors, sizeof *sensor, name);
    if (!sensor)
        return pol_no_entry(l, key, "sensors");
    sensor->signal = signal;
    sensor->stale_s = signal->stale_s;
    sensor->missing_state = -1;
    return value->type == YAML_MAPPING_NODE ? read_sensor_mapping(l, value, sensor)
                                            : read_sources(l, value, sensor);
}
