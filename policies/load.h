/* Inside policies/: how a YAML text becomes a struct pol_file. load.c reads the file,
 * load_sensors.c, load_ladders.c and load_policies.c the entries of its three mappings,
 * load_trips.c, load_power.c and load_guarantees.c the trips, the power and the guarantees of a
 * policy, load_match.c which machine a file is for. Each reader returns 0, or fails with the place
 * of the node.
 */
#ifndef POL_LOAD_H
#define POL_LOAD_H

#include "policies/file.h"
#include "policies/yaml_tree.h"

/* A text being read into a file. */
struct load {
    struct pol_file *file;
    struct yaml_tree tree;
    const char *name; /* the text's, owned by the file */
};

/* ---- values (load.c) ----------------------------------------------------------------------- */

struct pol_where pol_where_is(const struct load *l, const yaml_node_t *node);
/* As yaml_read_keys, and the places of what is there. */
int pol_read_keys(struct load *l, const yaml_node_t *mapping, const char *what,
                  const struct yaml_key *keys, size_t n, const yaml_node_t **values,
                  struct pol_places *places);
/* A time of min to a day. */
int pol_read_seconds(struct load *l, const yaml_node_t *node, const char *what, double min,
                     double *seconds);
/* A name that other parts of the file, the command line and journals refer to. name has POL_NAME
 * bytes. */
int pol_read_name(struct load *l, const yaml_node_t *node, const char *what, char *name);
/* A known sensor's name, of DEV_NAME bytes. */
int pol_read_signal(struct load *l, const yaml_node_t *node, const char *what, char *name,
                    const struct dev_signal **signal);
/* "C", or "no unit": behind "is in". */
const char *pol_unit_words(enum ert_unit unit);
/* A name may appear once in a mapping, though later files may define it again: fails if the i-th
 * key of the mapping is an earlier one. */
int pol_refuse_repeated(struct load *l, const yaml_node_t *mapping, size_t i);

/* ---- entries ------------------------------------------------------------------------------- */

/* A zeroed entry of that name, in place of the earlier one or at the end; NULL when full or out of
 * memory. The file owns it. */
void *pol_entry_of(void **entries, size_t *n, size_t size, const char *name);
/* What to say when there was none. */
int pol_no_entry(struct load *l, const yaml_node_t *node, const char *what);

/* One entry of sensors:, ladders:, policies:. */
int pol_read_sensor(struct load *l, const yaml_node_t *key, const yaml_node_t *value);
int pol_read_ladder(struct load *l, const yaml_node_t *key, const yaml_node_t *value);
int pol_read_policy(struct load *l, const yaml_node_t *key, const yaml_node_t *value);

/* match: of a file of devices.d; *matches if one of its alternatives fits the machine. */
int pol_read_match(struct load *l, const yaml_node_t *node, const struct pol_identity *machine,
                   bool *matches);
/* "3", "1..3" or "4..max" (to_max: highest is not set). */
int pol_read_states(struct load *l, const yaml_node_t *node, unsigned *lowest, unsigned *highest,
                    bool *to_max);
/* The name of a governor of that kind. */
int pol_read_governor(struct load *l, const yaml_node_t *node, enum pol_governor_kind kind,
                      enum pol_governor *governor);

/* The trips:, guarantees: and power: of a policy. */
int pol_read_trips(struct load *l, const yaml_node_t *node, struct pol_entry *policy);
int pol_read_power(struct load *l, const yaml_node_t *node, struct pol_entry *policy);
int pol_read_guarantees(struct load *l, const yaml_node_t *node, struct pol_entry *policy);

#endif
