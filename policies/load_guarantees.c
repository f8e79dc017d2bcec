#include "policies/load.h"
#include "policies/stl_formula.h"

/* Where in the file the formula's byte at lies; at its beginning if it is folded or has escapes. */
static int fail_at(struct load *l, const yaml_node_t *node, size_t at, const struct ert_error *why)
{
    yaml_node_t place = *node;
    size_t written = node->end_mark.column - node->start_mark.column;
    size_t quotes = written - node->data.scalar.length;
    if (node->start_mark.line == node->end_mark.line && (quotes == 0 || quotes == 2))
        place.start_mark.column += at + quotes / 2;
    return yaml_fail(&l->tree, &place, why->code, "%s", why->text);
}

static int read_guarantee(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    struct stl_formula formula;
    struct ert_error why;
    size_t at;
    if (policy->n_guarantees == POL_MAX_GUARANTEES)
        return yaml_fail(&l->tree, node, ERT_E_RANGE, "policy '%s' has more than %d guarantees",
                         policy->name, POL_MAX_GUARANTEES);
    struct pol_guarantee_entry *entry = &policy->guarantees[policy->n_guarantees];
    entry->where = pol_where_is(l, node);
    int rc = yaml_read_text(&l->tree, node, "guarantees", entry->text, sizeof entry->text);
    if (rc)
        return rc;
    if (stl_parse(&formula, entry->text, &at, &why))
        return fail_at(l, node, at, &why);
    policy->n_guarantees++;
    return 0;
}

int pol_read_guarantees(struct load *l, const yaml_node_t *node, struct pol_entry *policy)
{
    int rc = yaml_expect_sequence(&l->tree, node, "guarantees");
    const yaml_node_t *item;
    for (size_t i = 0; !rc && (item = yaml_item(&l->tree, node, i)); i++)
        rc = read_guarantee(l, item, policy);
    return rc;
}
