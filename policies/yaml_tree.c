#include "policies/yaml_tree.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* libyaml's own complaint, with its place. */
static int parser_failed(struct yaml_tree *tree, const yaml_parser_t *parser)
{
    if (parser->error == YAML_MEMORY_ERROR)
        return ert_fail(tree->err, ERT_E_NOMEM, "out of memory for %s", tree->name);
    yaml_mark_t mark = parser->problem_mark;
    return ert_fail(tree->err, ERT_E_FORMAT, "%s:%zu:%zu: not valid YAML: %s%s%s", tree->name,
                    mark.line + 1, mark.column + 1,
                    parser->problem ? parser->problem : "unreadable", parser->context ? " " : "",
                    parser->context ? parser->context : "");
}

/* libyaml's scanner takes time quadratic in the depth of nesting: what is deeper than the language
 * ever is, is refused before it is read whole. A text that is no YAML is left to the loader. */
static int refuse_deep(struct yaml_tree *tree, const char *text, size_t size)
{
    enum { DEEPEST = 32 };
    yaml_parser_t parser;
    yaml_event_t event;
    size_t depth = 0;
    int rc = 0;
    if (!yaml_parser_initialize(&parser))
        return ert_fail(tree->err, ERT_E_NOMEM, "out of memory for %s", tree->name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    for (bool end = false; !rc && !end && yaml_parser_parse(&parser, &event);) {
        yaml_event_type_t type = event.type;
        depth += type == YAML_SEQUENCE_START_EVENT || type == YAML_MAPPING_START_EVENT;
        depth -= type == YAML_SEQUENCE_END_EVENT || type == YAML_MAPPING_END_EVENT;
        end = type == YAML_STREAM_END_EVENT;
        if (depth > DEEPEST)
            rc = ert_fail(tree->err, ERT_E_RANGE, "%s:%zu:%zu: nested deeper than %d levels",
                          tree->name, event.start_mark.line + 1, event.start_mark.column + 1,
                          DEEPEST);
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return rc;
}

static int only_document(struct yaml_tree *tree, yaml_parser_t *parser)
{
    yaml_document_t second;
    if (!yaml_parser_load(parser, &second))
        return parser_failed(tree, parser);
    const yaml_node_t *root = yaml_document_get_root_node(&second);
    int rc = root ? yaml_fail(tree, root, ERT_E_FORMAT, "a second document, expected one") : 0;
    yaml_document_delete(&second);
    return rc;
}

int yaml_tree_init(struct yaml_tree *tree, const char *name, const char *text, size_t size,
                   struct ert_error *err)
{
    *tree = (struct yaml_tree){.name = name, .err = err};
    if (size > YAML_MAX_BYTES)
        return ert_fail(err, ERT_E_RANGE, "%s:1:1: %zu bytes, expected at most %d", name, size,
                        YAML_MAX_BYTES);
    int rc = refuse_deep(tree, text, size);
    if (rc)
        return rc;
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return ert_fail(err, ERT_E_NOMEM, "out of memory for %s", name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    if (!yaml_parser_load(&parser, &tree->document)) {
        rc = parser_failed(tree, &parser);
    } else {
        tree->loaded = true;
        if (yaml_document_get_root_node(&tree->document))
            rc = only_document(tree, &parser);
    }
    yaml_parser_delete(&parser);
    return rc;
}

void yaml_tree_release(struct yaml_tree *tree)
{
    if (tree->loaded)
        yaml_document_delete(&tree->document);
    tree->loaded = false;
}

const yaml_node_t *yaml_tree_root(struct yaml_tree *tree)
{
    return yaml_document_get_root_node(&tree->document);
}

int yaml_fail(const struct yaml_tree *tree, const yaml_node_t *node, enum ert_code code,
              const char *fmt, ...)
{
    char sentence[400];
    va_list args;
    va_start(args, fmt);
    vsnprintf(sentence, sizeof sentence, fmt, args);
    va_end(args);
    return ert_fail(tree->err, code, "%.200s:%zu:%zu: %s", tree->name, node->start_mark.line + 1,
                    node->start_mark.column + 1, sentence);
}

size_t yaml_length(const yaml_node_t *node)
{
    if (node->type == YAML_SEQUENCE_NODE)
        return (size_t)(node->data.sequence.items.top - node->data.sequence.items.start);
    if (node->type == YAML_MAPPING_NODE)
        return (size_t)(node->data.mapping.pairs.top - node->data.mapping.pairs.start);
    return 0;
}

const yaml_node_t *yaml_item(struct yaml_tree *tree, const yaml_node_t *sequence, size_t i)
{
    if (i >= yaml_length(sequence))
        return NULL;
    return yaml_document_get_node(&tree->document, sequence->data.sequence.items.start[i]);
}

const yaml_node_t *yaml_pair(struct yaml_tree *tree, const yaml_node_t *mapping, size_t i,
                             const yaml_node_t **value)
{
    if (i >= yaml_length(mapping))
        return NULL;
    const yaml_node_pair_t *pair = &mapping->data.mapping.pairs.start[i];
    *value = yaml_document_get_node(&tree->document, pair->value);
    return yaml_document_get_node(&tree->document, pair->key);
}

int yaml_expect_mapping(struct yaml_tree *tree, const yaml_node_t *node, const char *what)
{
    if (node->type == YAML_MAPPING_NODE)
        return 0;
    return yaml_fail(tree, node, ERT_E_FORMAT, "%s: expected a mapping (key: value)", what);
}

int yaml_expect_sequence(struct yaml_tree *tree, const yaml_node_t *node, const char *what)
{
    if (node->type == YAML_SEQUENCE_NODE)
        return 0;
    return yaml_fail(tree, node, ERT_E_FORMAT, "%s: expected a list [a, b]", what);
}

static int unknown_key(struct yaml_tree *tree, const yaml_node_t *node, const char *what,
                       const char *text, const struct yaml_key *keys, size_t n)
{
    const char *names[16];
    for (size_t i = 0; i < n && i < 16; i++)
        names[i] = keys[i].name;
    const char *near = ert_nearest_name(text, names, n < 16 ? n : 16);
    if (near)
        return yaml_fail(tree, node, ERT_E_FORMAT, "%s: unknown key '%s', did you mean '%s'?", what,
                         text, near);
    return yaml_fail(tree, node, ERT_E_FORMAT,
                     "%s: unknown key '%s'; docs/policy-language.md lists the known ones", what,
                     text);
}

static int take_pair(struct yaml_tree *tree, const yaml_node_t *key, const yaml_node_t *value,
                     const char *what, const struct yaml_key *keys, size_t n,
                     const yaml_node_t **values)
{
    char text[64];
    int rc = yaml_read_text(tree, key, what, text, sizeof text);
    if (rc)
        return rc;
    size_t i = 0;
    while (i < n && strcmp(keys[i].name, text) != 0)
        i++;
    if (i == n)
        return unknown_key(tree, key, what, text, keys, n);
    if (keys[i].later)
        return yaml_fail(tree, key, ERT_E_UNSUPPORTED,
                         "%s: '%s' is not supported yet; remove it from the file", what, text);
    if (values[i])
        return yaml_fail(tree, key, ERT_E_FORMAT, "%s: '%s' appears twice", what, text);
    values[i] = value;
    return 0;
}

int yaml_read_keys(struct yaml_tree *tree, const yaml_node_t *mapping, const char *what,
                   const struct yaml_key *keys, size_t n, const yaml_node_t **values)
{
    int rc = yaml_expect_mapping(tree, mapping, what);
    const yaml_node_t *key, *value;
    for (size_t i = 0; i < n; i++)
        values[i] = NULL;
    for (size_t i = 0; !rc && (key = yaml_pair(tree, mapping, i, &value)); i++)
        rc = take_pair(tree, key, value, what, keys, n, values);
    for (size_t i = 0; !rc && i < n; i++)
        if (keys[i].required && !values[i])
            rc = yaml_fail(tree, mapping, ERT_E_FORMAT, "%s: '%s:' is missing", what, keys[i].name);
    return rc;
}

const yaml_node_t *yaml_find_key(struct yaml_tree *tree, const yaml_node_t *mapping,
                                 const char *name)
{
    const yaml_node_t *key, *value;
    for (size_t i = 0; (key = yaml_pair(tree, mapping, i, &value)); i++)
        if (yaml_is_text(key, name))
            return key;
    return NULL;
}

bool yaml_is_printable(const char *text, size_t n)
{
    for (size_t i = 0, length; i < n; i += length) {
        length = ert_utf8_length(text + i, n - i);
        uint32_t c = length ? ert_utf8_decode(text + i, length) : 0;
        if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 || c == 0xfeff)
            return false;
    }
    return true;
}

bool yaml_is_text(const yaml_node_t *node, const char *text)
{
    size_t n = strlen(text);
    return node->type == YAML_SCALAR_NODE && node->data.scalar.length == n &&
           !memcmp(node->data.scalar.value, text, n);
}

int yaml_read_text(struct yaml_tree *tree, const yaml_node_t *node, const char *what, char *text,
                   size_t size)
{
    if (node->type != YAML_SCALAR_NODE)
        return yaml_fail(tree, node, ERT_E_FORMAT, "%s: expected a single value", what);
    const char *value = (const char *)node->data.scalar.value;
    size_t n = node->data.scalar.length;
    if (n == 0)
        return yaml_fail(tree, node, ERT_E_FORMAT, "%s: is empty", what);
    if (n >= size)
        return yaml_fail(tree, node, ERT_E_RANGE, "%s: longer than %zu bytes", what, size - 1);
    if (!yaml_is_printable(value, n))
        return yaml_fail(tree, node, ERT_E_FORMAT, "%s: expected printable text on one line", what);
    memcpy(text, value, n);
    text[n] = '\0';
    return 0;
}

int yaml_read_quantity(struct yaml_tree *tree, const yaml_node_t *node, const char *what,
                       enum ert_unit unit, double min, double max, double *value)
{
    char text[64];
    struct ert_error why = {0};
    int rc = yaml_read_text(tree, node, what, text, sizeof text);
    if (rc)
        return rc;
    if (ert_parse_quantity(text, unit, value, &why))
        return yaml_fail(tree, node, ERT_E_FORMAT, "%s: %s", what, why.text);
    if (!(*value >= min && *value <= max))
        return yaml_fail(tree, node, ERT_E_RANGE, "%s: %s is out of range, expected %g%s to %g%s",
                         what, text, min, ert_unit_name(unit), max, ert_unit_name(unit));
    return 0;
}

int yaml_read_int(struct yaml_tree *tree, const yaml_node_t *node, const char *what, long min,
                  long max, long *value)
{
    char text[64];
    struct ert_error why = {0};
    int rc = yaml_read_text(tree, node, what, text, sizeof text);
    if (!rc && ert_parse_int(text, min, max, value, &why))
        rc = yaml_fail(tree, node, ERT_E_FORMAT, "%s: %s", what, why.text);
    return rc;
}
