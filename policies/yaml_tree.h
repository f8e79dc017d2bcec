/* A YAML text as nodes with places: the edge between libyaml and the policy language. */
#ifndef POL_YAML_TREE_H
#define POL_YAML_TREE_H

#include <yaml.h>

#include "base/base.h"

struct yaml_tree {
    const char *name; /* what errors call the text */
    yaml_document_t document;
    bool loaded;
    struct ert_error *err;
};

/* One key that a mapping may have. */
struct yaml_key {
    const char *name;
    bool required;
    bool later; /* known to the language, not to this version */
};

enum { YAML_MAX_BYTES = 256 << 10 };

/* Parses text of one YAML document. release it in either case. */
int yaml_tree_init(struct yaml_tree *tree, const char *name, const char *text, size_t size,
                   struct ert_error *err);
void yaml_tree_release(struct yaml_tree *tree);
/* The document's root, NULL if it is empty. */
const yaml_node_t *yaml_tree_root(struct yaml_tree *tree);

/* "name:line:column: sentence" at a node; returns -code. */
int yaml_fail(const struct yaml_tree *tree, const yaml_node_t *node, enum ert_code code,
              const char *fmt, ...) __attribute__((format(printf, 4, 5)));

/* Children of a sequence or mapping; NULL past the end. */
const yaml_node_t *yaml_item(struct yaml_tree *tree, const yaml_node_t *sequence, size_t i);
const yaml_node_t *yaml_pair(struct yaml_tree *tree, const yaml_node_t *mapping, size_t i,
                             const yaml_node_t **value);
size_t yaml_length(const yaml_node_t *node);

/* The node must be of that kind; what names it in the error ("the ladders"). */
int yaml_expect_mapping(struct yaml_tree *tree, const yaml_node_t *node, const char *what);
int yaml_expect_sequence(struct yaml_tree *tree, const yaml_node_t *node, const char *what);

/* Sorts a mapping's values into values[i] by keys[i] (NULL where absent). Refuses duplicate and
 * unknown keys (with the nearest), those of later versions, and absent required ones. */
int yaml_read_keys(struct yaml_tree *tree, const yaml_node_t *mapping, const char *what,
                   const struct yaml_key *keys, size_t n, const yaml_node_t **values);
/* The mapping's key of that name itself; NULL if it has none. */
const yaml_node_t *yaml_find_key(struct yaml_tree *tree, const yaml_node_t *mapping,
                                 const char *name);

/* Errors, journals and pol_show repeat texts of policies: no control characters, no broken UTF-8,
 * none of Unicode's line breaks (YAML 1.1 folds them). */
bool yaml_is_printable(const char *text, size_t n);
/* Whether the node is that very scalar. */
bool yaml_is_text(const yaml_node_t *node, const char *text);
/* The scalar's text, of at most size - 1 bytes of printable UTF-8 and not empty. */
int yaml_read_text(struct yaml_tree *tree, const yaml_node_t *node, const char *what, char *text,
                   size_t size);
int yaml_read_quantity(struct yaml_tree *tree, const yaml_node_t *node, const char *what,
                       enum ert_unit unit, double min, double max, double *value);
int yaml_read_int(struct yaml_tree *tree, const yaml_node_t *node, const char *what, long min,
                  long max, long *value);

#endif
