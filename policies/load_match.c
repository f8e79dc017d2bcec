/* Whether a file of devices.d is for this machine. */
#include "policies/load.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

enum { COMPATIBLE = POL_N_IDENTITIES, N_KEYS };

static const struct yaml_key match_keys[N_KEYS] = {
#define I(name, where) {#name, false, false},
#include "policies/identity.def"
#undef I
    {"compatible", false, false},
};

/* The pattern may have * and ? as file names do. */
static bool fits(const char *pattern, const struct pol_identity *machine, int key)
{
    bool any = false;
    if (key != COMPATIBLE)
        return fnmatch(pattern, machine->text[key], 0) == 0;
    for (size_t i = 0; i < machine->n_compatible; i++)
        any = any || fnmatch(pattern, machine->compatible[i], 0) == 0;
    return any;
}

/* All keys of a mapping must fit. */
static int read_alternative(struct load *l, const yaml_node_t *node,
                            const struct pol_identity *machine, bool *matches)
{
    const yaml_node_t *values[N_KEYS];
    char pattern[POL_IDENTITY];
    bool all = true;
    int keys = 0, rc = yaml_read_keys(&l->tree, node, "match", match_keys, N_KEYS, values);
    for (int key = 0; !rc && key < N_KEYS; key++) {
        if (!values[key])
            continue;
        rc = yaml_read_text(&l->tree, values[key], match_keys[key].name, pattern, sizeof pattern);
        all = all && !rc && fits(pattern, machine, key);
        keys++;
    }
    if (!rc && keys == 0)
        rc = yaml_fail(&l->tree, node, ERT_E_FORMAT, "match: expected what it is to match");
    *matches = *matches || (!rc && all);
    return rc;
}

int pol_read_match(struct load *l, const yaml_node_t *node, const struct pol_identity *machine,
                   bool *matches)
{
    *matches = false;
    if (node->type == YAML_MAPPING_NODE)
        return read_alternative(l, node, machine, matches);
    int rc = yaml_expect_sequence(&l->tree, node, "match");
    const yaml_node_t *item;
    for (size_t i = 0; !rc && (item = yaml_item(&l->tree, node, i)); i++)
        rc = read_alternative(l, item, machine, matches);
    return rc;
}
