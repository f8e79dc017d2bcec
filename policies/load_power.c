#include "policies/load.h"

#include <string.h>

/* Powers up to this are plausible for a device that a governor of this kind steers. */
enum { MOST_W = 2000 };

static int read_watts(struct load *l, const yaml_node_t *node, const char *what, double *watts)
{
    return yaml_read_quantity(&l->tree, node, what, ERT_UNIT_WATT, 0.001, MOST_W, watts);
}

static int read_power_governor(struct load *l, const yaml_node_t *node,
                               struct pol_power_entry *power)
{
    return pol_read_governor(l, node, POL_POWER, &power->power.governor);
}

static int read_sensor_name(struct load *l, const yaml_node_t *node, const char *what,
                            enum ert_unit unit, char *name)
{
    const struct dev_signal *signal = NULL;
    int rc = pol_read_signal(l, node, what, name, &signal);
    if (!rc && signal->unit != unit)
        rc = yaml_fail(&l->tree, node, ERT_E_FORMAT, "%s: '%s' is in %s, expected a sensor in %s",
                       what, name, pol_unit_words(signal->unit), pol_unit_words(unit));
    return rc;
}

static int read_power_sensor(struct load *l, const yaml_node_t *node, struct pol_power_entry *power)
{
    return read_sensor_name(l, node, "sensor", ERT_UNIT_CELSIUS, power->sensor);
}

static int read_draw(struct load *l, const yaml_node_t *node, struct pol_power_entry *power)
{
    return read_sensor_name(l, node, "draw", ERT_UNIT_WATT, power->draw);
}

static int read_target(struct load *l, const yaml_node_t *node, struct pol_power_entry *power)
{
    return yaml_read_quantity(&l->tree, node, "target", ERT_UNIT_CELSIUS, 1, 125,
                              &power->power.target_c);
}

static int read_switch_on(struct load *l, const yaml_node_t *node, struct pol_power_entry *power)
{
    power->has_switch_on = true;
    return yaml_read_quantity(&l->tree, node, "switch-on", ERT_UNIT_CELSIUS, -50, 125,
                              &power->power.switch_on_c);
}

static int read_sustainable(struct load *l, const yaml_node_t *node, struct pol_power_entry *power)
{
    return read_watts(l, node, "sustainable", &power->power.sustainable_w);
}

/* "9W for 30s". */
static int read_burst(struct load *l, const yaml_node_t *node, struct pol_power_entry *power)
{
    char text[64], *time;
    struct ert_error why;
    int rc = yaml_read_text(&l->tree, node, "burst", text, sizeof text);
    if (rc)
        return rc;
    time = strstr(text, " for ");
    if (!time)
        return yaml_fail(&l->tree, node, ERT_E_FORMAT,
                         "burst: '%s', expected a power and how long, such as 9W for 30s", text);
    *time = '\0';
    if (ert_parse_quantity(text, ERT_UNIT_WATT, &power->power.burst_w, &why) ||
        ert_parse_quantity(time + 5, ERT_UNIT_SECOND, &power->power.burst_s, &why))
        return yaml_fail(&l->tree, node, ERT_E_FORMAT, "burst: %s", why.text);
    if (!(power->power.burst_w > 0 && power->power.burst_w <= MOST_W && power->power.burst_s > 0 &&
          power->power.burst_s <= 86400))
        return yaml_fail(&l->tree, node, ERT_E_RANGE,
                         "burst: out of range, expected up to %dW for up to 24h", MOST_W);
    return 0;
}

static int read_power_states(struct load *l, const yaml_node_t *node, struct pol_power_entry *power)
{
    power->has_states = true;
    return pol_read_states(l, node, &power->power.lowest, &power->power.highest, &power->to_max);
}

/* Watts per degree of error. */
static int read_gain(struct load *l, const yaml_node_t *node, const char *what, double *gain)
{
    return yaml_read_quantity(&l->tree, node, what, ERT_UNIT_WATT, 0, MOST_W, gain);
}

static int read_k_po(struct load *l, const yaml_node_t *node, struct pol_power_entry *power)
{
    return read_gain(l, node, "k_po", &power->power.k_po);
}

static int read_k_pu(struct load *l, const yaml_node_t *node, struct pol_power_entry *power)
{
    return read_gain(l, node, "k_pu", &power->power.k_pu);
}

static int read_k_i(struct load *l, const yaml_node_t *node, struct pol_power_entry *power)
{
    return read_gain(l, node, "k_i", &power->power.k_i);
}

static int read_k_d(struct load *l, const yaml_node_t *node, struct pol_power_entry *power)
{
    return read_gain(l, node, "k_d", &power->power.k_d);
}

static int read_cutoff(struct load *l, const yaml_node_t *node, struct pol_power_entry *power)
{
    return yaml_read_quantity(&l->tree, node, "integral_cutoff", ERT_UNIT_CELSIUS, -125, 125,
                              &power->power.integral_cutoff_c);
}

static int read_share(struct load *l, const yaml_node_t *node, struct pol_power_entry *power)
{
    static const struct yaml_key keys[] = {{"decode", true, false}, {"prefill", true, false}};
    const yaml_node_t *values[POL_ACTORS];
    power->power.shared = true;
    int rc = yaml_read_keys(&l->tree, node, "share", keys, POL_ACTORS, values);
    for (int i = 0; !rc && i < POL_ACTORS; i++)
        rc = yaml_read_quantity(&l->tree, values[i], keys[i].name, ERT_UNIT_NONE, 0.01, 100,
                                &power->power.weight[i]);
    return rc;
}

static int read_horizon(struct load *l, const yaml_node_t *node, struct pol_power_entry *power)
{
    return yaml_read_quantity(&l->tree, node, "horizon", ERT_UNIT_SECOND, 1, 86400,
                              &power->power.horizon_s);
}

/* [4C/W, 6J/C]: a node's resistance to the next, and its capacity. */
static int read_thermal_node(struct load *l, const yaml_node_t *node, const char *what,
                             double *resistance, double *capacity)
{
    int rc = yaml_expect_sequence(&l->tree, node, what);
    if (!rc && yaml_length(node) != 2)
        rc = yaml_fail(&l->tree, node, ERT_E_FORMAT,
                       "%s: expected its resistance and its capacity, such as [4C/W, 6J/C]", what);
    if (!rc)
        rc = yaml_read_quantity(&l->tree, yaml_item(&l->tree, node, 0), what, ERT_UNIT_C_PER_W,
                                0.001, 10000, resistance);
    if (!rc)
        rc = yaml_read_quantity(&l->tree, yaml_item(&l->tree, node, 1), what, ERT_UNIT_J_PER_C,
                                0.001, 1e6, capacity);
    return rc;
}

static int read_at(struct load *l, const yaml_node_t *node, bool *at_case)
{
    char text[32];
    int rc = yaml_read_text(&l->tree, node, "sensor-at", text, sizeof text);
    *at_case = !rc && !strcmp(text, "case");
    if (!rc && !*at_case && strcmp(text, "chip") != 0)
        rc =
            yaml_fail(&l->tree, node, ERT_E_FORMAT, "sensor-at: '%s', expected chip or case", text);
    return rc;
}

static int read_plant(struct load *l, const yaml_node_t *node, struct pol_power_entry *entry)
{
    static const struct yaml_key keys[] = {
        {"chip", true, false},
        {"case", true, false},
        {"sensor-at", true, false},
        {"ambient", true, false},
        {"ambient-sensor", false, false},
    };
    enum { CHIP, CASE, AT, AMBIENT, AMBIENT_SENSOR, N = sizeof keys / sizeof *keys };
    struct pol_power *power = &entry->power;
    const yaml_node_t *values[N];
    int rc = pol_read_keys(l, node, "plant", keys, N, values, &entry->plant_places);
    if (!rc)
        rc = read_thermal_node(l, values[CHIP], "chip", &power->plant.r_chip, &power->plant.c_chip);
    if (!rc)
        rc = read_thermal_node(l, values[CASE], "case", &power->plant.r_case, &power->plant.c_case);
    if (!rc)
        rc = read_at(l, values[AT], &power->at_case);
    if (!rc)
        rc = yaml_read_quantity(&l->tree, values[AMBIENT], "ambient", ERT_UNIT_CELSIUS, -50, 80,
                                &power->ambient_c);
    if (!rc && values[AMBIENT_SENSOR])
        rc = read_sensor_name(l, values[AMBIENT_SENSOR], "ambient-sensor", ERT_UNIT_CELSIUS,
                              entry->ambient);
    entry->has_plant = true;
    return rc;
}

/* The keys of power: and who reads each; in the order of keys. */
static const struct yaml_key power_keys[] = {
    {"governor", true, false},
    {"sensor", true, false},
    {"target", true, false},
    {"switch-on", false, false},
    {"sustainable", false, false},
    {"burst", false, false},
    {"draw", false, false},
    {"states", false, false},
    {"k_po", false, false},
    {"k_pu", false, false},
    {"k_i", false, false},
    {"k_d", false, false},
    {"integral_cutoff", false, false},
    {"share", false, false},
    {"horizon", false, false},
    {"plant", false, false},
};
enum { N_POWER_KEYS = sizeof power_keys / sizeof *power_keys };
static int (*const power_readers[])(struct load *, const yaml_node_t *,
                                    struct pol_power_entry *) = {
    read_power_governor, read_power_sensor, read_target,  read_switch_on,
    read_sustainable,    read_burst,        read_draw,    read_power_states,
    read_k_po,           read_k_pu,         read_k_i,     read_k_d,
    read_cutoff,         read_share,        read_horizon, read_plant,
};

int pol_read_power(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    struct pol_power_entry *entry = &policy->power;
    struct pol_power *power = &entry->power;
    const yaml_node_t *values[N_POWER_KEYS];
    entry->where = pol_where_is(l, node);
    power->on = true;
    power->k_po = power->k_pu = power->k_i = power->k_d = -1;
    power->horizon_s = 60;
    int rc = pol_read_keys(l, node, "power", power_keys, N_POWER_KEYS, values, &entry->places);
    for (size_t i = 0; !rc && i < N_POWER_KEYS; i++)
        if (values[i])
            rc = power_readers[i](l, values[i], entry);
    return rc;
}
