#include "policies/load.h"

#include <string.h>

static const struct {
    const char *name;
    enum pol_governor_kind kind;
} governors[POL_N_GOVERNORS] = {
#define G(id, name, kind, what) {name, POL_##kind},
#include "policies/governors.def"
#undef G
};

const char *pol_governor_name(enum pol_governor g)
{
    return governors[g].name;
}

static const char *const kernel_trips[POL_N_KERNEL_TRIPS] = {
    "none",
#define K(id, name) name,
#include "policies/kernel_trips.def"
#undef K
};

const char *pol_kernel_trip_name(enum pol_kernel_trip type)
{
    return kernel_trips[type];
}

int pol_read_states(struct load *l, const yaml_node_t *node, unsigned *lowest, unsigned *highest,
                    bool *to_max)
{
    char text[32], *dots;
    long low, high;
    int rc = yaml_read_text(&l->tree, node, "states", text, sizeof text);
    if (rc)
        return rc;
    if ((dots = strstr(text, "..")))
        *dots = '\0';
    const char *end = dots ? dots + 2 : text;
    *to_max = !strcmp(end, "max");
    bool bad = ert_parse_int(text, 0, POL_MAX_STATES - 1, &low, NULL) ||
               (!*to_max && ert_parse_int(end, 0, POL_MAX_STATES - 1, &high, NULL));
    if (bad || (!*to_max && high < low))
        return yaml_fail(&l->tree, node, ERT_E_FORMAT,
                         "states: expected a state such as 3, or a range such as 1..3 or 4..max");
    *lowest = (unsigned)low;
    *highest = *to_max ? 0 : (unsigned)high;
    return 0;
}

int pol_read_governor(struct load *l, const yaml_node_t *node, enum pol_governor_kind kind,
                      enum pol_governor *governor)
{
    char text[64];
    const char *names[POL_N_GOVERNORS];
    size_t n = 0;
    int rc = yaml_read_text(&l->tree, node, "governor", text, sizeof text);
    for (int g = 0; !rc && g < POL_N_GOVERNORS; g++) {
        if (governors[g].kind == kind)
            names[n++] = governors[g].name;
        if (strcmp(governors[g].name, text) != 0)
            continue;
        *governor = (enum pol_governor)g;
        if (governors[g].kind == kind)
            return 0;
        return yaml_fail(&l->tree, node, ERT_E_FORMAT,
                         kind == POL_TRIP ? "governor '%s' belongs into power:, not into a trip"
                                          : "governor '%s' belongs into a trip, not into power:",
                         text);
    }
    if (rc)
        return rc;
    const char *near = ert_nearest_name(text, names, n);
    return yaml_fail(&l->tree, node, ERT_E_FORMAT, "unknown governor '%s', did you mean '%s'?",
                     text, near ? near : names[0]);
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
    {"name", true, false},    {"sensor", true, false},      {"above", false, false},
    {"below", false, false},  {"hysteresis", false, false}, {"for", false, false},
    {"when", false, false},   {"governor", false, false},   {"states", true, false},
    {"kernel", false, false}, {"margin", false, false},
};
enum { NAME, SENSOR, ABOVE, BELOW, HYSTERESIS, FOR, WHEN, GOVERNOR, STATES, KERNEL, MARGIN };
enum { N_TRIP_KEYS = sizeof trip_keys / sizeof *trip_keys };

/* kernel: passive, of a temperature that trips above. */
static int read_kernel_trip(struct load *l, const yaml_node_t **values,
                            const struct dev_signal *signal, struct pol_trip *trip)
{
    char text[32];
    const yaml_node_t *node = values[KERNEL] ? values[KERNEL] : values[MARGIN];
    if (!node)
        return 0;
    if (!values[KERNEL])
        return yaml_fail(&l->tree, node, ERT_E_FORMAT, "margin: it goes with kernel:");
    if (signal->unit != ERT_UNIT_CELSIUS || values[BELOW])
        return yaml_fail(&l->tree, node, ERT_E_FORMAT,
                         "kernel: only a temperature that trips above has a trip of the kernel's");
    int rc = yaml_read_text(&l->tree, node, "kernel", text, sizeof text);
    if (rc)
        return rc;
    unsigned type = POL_NO_KERNEL_TRIP + 1;
    while (type < POL_N_KERNEL_TRIPS && strcmp(text, kernel_trips[type]) != 0)
        type++;
    if (type == POL_N_KERNEL_TRIPS)
        return yaml_fail(&l->tree, node, ERT_E_FORMAT,
                         "kernel: '%s', expected active, passive, hot or critical", text);
    trip->kernel = (enum pol_kernel_trip)type;
    return values[MARGIN] ? yaml_read_quantity(&l->tree, values[MARGIN], "margin", ERT_UNIT_CELSIUS,
                                               0, 50, &trip->kernel_margin)
                          : 0;
}

/* Without `above:` a trip of the kernel's is all there is, and without one of those no reading
 * passes. */
static int read_threshold(struct load *l, const yaml_node_t *node, const yaml_node_t **values,
                          const struct dev_signal *signal, struct pol_trip *trip)
{
    bool told = values[ABOVE] || values[BELOW];
    if ((values[ABOVE] && values[BELOW]) || (!told && !values[KERNEL]))
        return yaml_fail(&l->tree, node, ERT_E_FORMAT,
                         "trip '%s': expected one of above: and below:", trip->name);
    trip->above = values[BELOW] == NULL;
    trip->threshold = signal->max;
    int rc = read_kernel_trip(l, values, signal, trip);
    if (!rc && told)
        rc = yaml_read_quantity(&l->tree, values[trip->above ? ABOVE : BELOW],
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
    entry->where = pol_where_is(l, node);
    trip->governor = POL_STEP_WISE;
    int rc = pol_read_keys(l, node, "trip", trip_keys, N_TRIP_KEYS, values, &entry->places);
    if (!rc)
        rc = pol_read_name(l, values[NAME], "name", trip->name);
    if (!rc)
        rc = pol_read_signal(l, values[SENSOR], "sensor", entry->sensor, &signal);
    if (!rc)
        rc = read_threshold(l, node, values, signal, trip);
    if (!rc && values[FOR])
        rc = pol_read_seconds(l, values[FOR], "for", 0, &trip->for_s);
    if (!rc && values[WHEN])
        rc = read_when(l, values[WHEN], &trip->when_discharging);
    if (!rc && values[GOVERNOR])
        rc = pol_read_governor(l, values[GOVERNOR], POL_TRIP, &trip->governor);
    if (!rc)
        rc = pol_read_states(l, values[STATES], &trip->lowest, &trip->highest, &entry->to_max);
    for (size_t i = 0; !rc && i < policy->n_trips; i++)
        if (!strcmp(policy->trips[i].trip.name, trip->name))
            rc = yaml_fail(&l->tree, node, ERT_E_FORMAT, "policy '%s' has two trips named '%s'",
                           policy->name, trip->name);
    policy->n_trips += !rc;
    return rc;
}

int pol_read_trips(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    int rc = yaml_expect_sequence(&l->tree, node, "trips");
    const yaml_node_t *item;
    for (size_t i = 0; !rc && (item = yaml_item(&l->tree, node, i)); i++)
        rc = read_trip(l, item, policy);
    return rc;
}
