#include "policies/load.h"

#include <stdlib.h>
#include <string.h>

enum { LONGEST_DELAY_S = 86400 };

struct pol_where pol_where_is(const struct load *l, const yaml_node_t *node)
{
    return (struct pol_where){l->name, node->start_mark.line + 1, node->start_mark.column + 1};
}

int pol_read_keys(struct load *l, const yaml_node_t *mapping, const char *what,
                  const struct yaml_key *keys, size_t n, const yaml_node_t **values,
                  struct pol_places *places)
{
    int rc = yaml_read_keys(&l->tree, mapping, what, keys, n, values);
    places->where = pol_where_is(l, mapping);
    for (size_t i = 0; !rc && i < n; i++) {
        const yaml_node_t *key = values[i] ? yaml_find_key(&l->tree, mapping, keys[i].name) : NULL;
        if (key && places->n < POL_MAX_KEYS)
            places->keys[places->n++] = (struct pol_place){keys[i].name, pol_where_is(l, key)};
    }
    return rc;
}

int pol_read_seconds(struct load *l, const yaml_node_t *node, const char *what, double min,
                     double *seconds)
{
    return yaml_read_quantity(&l->tree, node, what, ERT_UNIT_SECOND, min, LONGEST_DELAY_S, seconds);
}

int pol_read_name(struct load *l, const yaml_node_t *node, const char *what, char *name)
{
    int rc = yaml_read_text(&l->tree, node, what, name, POL_NAME);
    if (!rc && name[0] == ' ')
        rc = yaml_fail(&l->tree, node, ERT_E_FORMAT, "%s: '%s' begins with a space", what, name);
    return rc;
}

int pol_read_signal(struct load *l, const yaml_node_t *node, const char *what, char *name,
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

void *pol_entry_of(void **entries, size_t *n, size_t size, const char *name)
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

int pol_no_entry(struct load *l, const yaml_node_t *node, const char *what)
{
    return yaml_fail(&l->tree, node, ERT_E_RANGE, "no room for more than %d %s", POL_MAX_ENTRIES,
                     what);
}

const char *pol_unit_words(enum ert_unit unit)
{
    return unit == ERT_UNIT_NONE ? "no unit" : ert_unit_name(unit);
}

int pol_refuse_repeated(struct load *l, const yaml_node_t *mapping, size_t i)
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

/* ---- the file ------------------------------------------------------------------------------ */

static int read_entries(struct load *l, const yaml_node_t *node, const char *what,
                        int (*read)(struct load *, const yaml_node_t *, const yaml_node_t *))
{
    int rc = yaml_expect_mapping(&l->tree, node, what);
    const yaml_node_t *key, *value;
    for (size_t i = 0; !rc && (key = yaml_pair(&l->tree, node, i, &value)); i++) {
        if (i == POL_MAX_ENTRIES)
            return pol_no_entry(l, key, what);
        rc = pol_refuse_repeated(l, node, i);
        if (!rc)
            rc = read(l, key, value);
    }
    return rc;
}

static const struct yaml_key root_keys[] = {
    {"edgert", true, false},    {"sensors", false, false}, {"ladders", false, false},
    {"policies", false, false}, {"device", false, false},  {"match", false, false},
};
enum { VERSION, SENSORS, LADDERS, POLICIES, DEVICE, MATCH };
enum { N_ROOT_KEYS = sizeof root_keys / sizeof *root_keys };

static int read_root_keys(struct load *l, const yaml_node_t *root, const yaml_node_t **values)
{
    long version;
    int rc = yaml_read_keys(&l->tree, root, "policy file", root_keys, N_ROOT_KEYS, values);
    if (!rc)
        rc = yaml_read_int(&l->tree, values[VERSION], "edgert (the language's version)", 1, 1,
                           &version);
    if (!rc && !values[DEVICE] != !values[MATCH])
        rc = yaml_fail(&l->tree, root, ERT_E_FORMAT,
                       "device: (its name) and match: (how to know it) go together");
    return rc;
}

static int read_root(struct load *l, const yaml_node_t *root)
{
    static int (*const readers[])(struct load *, const yaml_node_t *, const yaml_node_t *) = {
        [SENSORS] = pol_read_sensor, [LADDERS] = pol_read_ladder, [POLICIES] = pol_read_policy};
    static const struct pol_identity nobody = {.n_compatible = 0};
    const yaml_node_t *values[N_ROOT_KEYS];
    bool matches;
    int rc = read_root_keys(l, root, values);
    for (size_t i = SENSORS; !rc && i <= POLICIES; i++)
        if (values[i])
            rc = read_entries(l, values[i], root_keys[i].name, readers[i]);
    if (!rc && values[DEVICE])
        rc = pol_read_name(l, values[DEVICE], "device", l->file->device);
    if (!rc && values[MATCH])
        rc = pol_read_match(l, values[MATCH], &nobody, &matches);
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

/* Only the keys at the top are read, so that a device's file may be passed over unread. */
static int read_matches(struct load *l, const struct pol_identity *machine, bool *matches)
{
    const yaml_node_t *values[N_ROOT_KEYS], *root = yaml_tree_root(&l->tree);
    if (!root)
        return ert_fail(l->tree.err, ERT_E_FORMAT, "%s:1:1: is empty, expected 'edgert: 1'",
                        l->name);
    int rc = read_root_keys(l, root, values);
    if (!rc && !values[MATCH])
        rc = yaml_fail(&l->tree, root, ERT_E_FORMAT, "expected device: and match:");
    return rc ? rc : pol_read_match(l, values[MATCH], machine, matches);
}

int pol_file_matches(const char *path, const struct pol_identity *machine, bool *matches,
                     struct ert_error *err)
{
    struct load l = {.name = path};
    char *text;
    size_t size;
    *matches = false;
    int rc = ert_read_text(path, YAML_MAX_BYTES, &text, &size, err);
    if (rc)
        return rc;
    rc = yaml_tree_init(&l.tree, path, text, size, err);
    if (!rc)
        rc = read_matches(&l, machine, matches);
    yaml_tree_release(&l.tree);
    free(text);
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

const char *pol_file_device(const struct pol_file *file)
{
    return file->device;
}

const struct pol_sensor *pol_file_sensor(const struct pol_file *file, size_t i)
{
    const struct pol_sensor_entry *entry = i < file->n_sensors ? file->sensors[i] : NULL;
    return entry ? &entry->sensor : NULL;
}
