#include "policies/load.h"

#include <string.h>

static int read_dwell(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    static const struct yaml_key keys[] = {{"down", false, false}, {"up", false, false}};
    const yaml_node_t *values[2];
    int rc = pol_read_keys(l, node, "dwell", keys, 2, values, &policy->dwell_places);
    if (!rc && values[0])
        rc = pol_read_seconds(l, values[0], "down", 0, &policy->dwell_down_s);
    if (!rc && values[1])
        rc = pol_read_seconds(l, values[1], "up", 0, &policy->dwell_up_s);
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
        if (policy->n_missing == POL_MAX_SENSORS)
            return yaml_fail(&l->tree, key, ERT_E_RANGE, "on-missing: more than %d sensors",
                             POL_MAX_SENSORS);
        struct pol_missing *missing = &policy->missing[policy->n_missing];
        missing->where = pol_where_is(l, key);
        rc = pol_refuse_repeated(l, node, i);
        if (!rc && yaml_is_text(key, "default")) {
            policy->missing_default_where = missing->where;
            rc = read_missing_state(l, value, &policy->missing_default);
            continue;
        }
        if (!rc)
            rc = pol_read_signal(l, key, "on-missing", missing->sensor, &signal);
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
        rc = pol_read_name(l, item, "aliases", policy->aliases[i]);
        policy->n_aliases += !rc;
    }
    return rc;
}

static int read_failsafe(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    policy->failsafe_where = pol_where_is(l, node);
    return pol_read_name(l, node, "failsafe", policy->failsafe);
}

static int read_poll(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    return yaml_read_quantity(&l->tree, node, "poll", ERT_UNIT_SECOND, 0.01, 3600, &policy->poll_s);
}

static int read_ladder_name(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    return pol_read_name(l, node, "ladder", policy->ladder);
}

/* The keys of a policy and who reads each; in the order of keys. */
static const struct yaml_key policy_keys[] = {
    {"aliases", false, false},    {"ladder", true, false},      {"poll", false, false},
    {"trips", false, false},      {"power", false, false},      {"dwell", false, false},
    {"on-missing", false, false}, {"guarantees", false, false}, {"failsafe", false, false},
};
enum { N_POLICY_KEYS = sizeof policy_keys / sizeof *policy_keys };
static int (*const policy_readers[])(struct load *, const yaml_node_t *, struct pol_entry *) = {
    read_aliases, read_ladder_name, read_poll,           pol_read_trips, pol_read_power,
    read_dwell,   read_on_missing,  pol_read_guarantees, read_failsafe,
};

int pol_read_policy(struct load *l, const yaml_node_t *key, const yaml_node_t *value)
{
    char name[POL_NAME];
    const yaml_node_t *values[N_POLICY_KEYS];
    struct pol_places places = {.n = 0};
    int rc = pol_read_name(l, key, "policies", name);
    if (!rc)
        rc = pol_read_keys(l, value, name, policy_keys, N_POLICY_KEYS, values, &places);
    if (rc)
        return rc;
    struct pol_entry *policy =
        pol_entry_of(l->file->entries, &l->file->n_entries, sizeof *policy, name);
    if (!policy)
        return pol_no_entry(l, key, "policies");
    policy->where = pol_where_is(l, key);
    policy->places = places;
    policy->poll_s = 0.5;
    policy->dwell_up_s = 10;
    policy->missing_default = -1;
    for (size_t i = 0; !rc && i < sizeof policy_readers / sizeof *policy_readers; i++)
        if (values[i])
            rc = policy_readers[i](l, values[i], policy);
    return rc;
}
