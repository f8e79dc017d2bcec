/* Inside policies/: what load*.c read from YAML and compile.c turns into struct pol_policy. */
#ifndef POL_FILE_H
#define POL_FILE_H

#include "policies/policies.h"

enum {
    POL_MAX_ALIASES = 8,
    POL_MAX_ENTRIES = 64, /* of sensors, of ladders and of policies in all files together */
    POL_MAX_FILES = 64,
    POL_MAX_KEYS = 16, /* of a mapping of the language */
};

/* Where something was written, for errors found after merging and for who asks. */
struct pol_where {
    const char *file; /* owned by the pol_file */
    size_t line, column;
};

/* Where a mapping was written, and each of the keys that it has; the others have their defaults. */
struct pol_places {
    struct pol_where where;
    size_t n;
    struct pol_place {
        const char *key; /* one of the language's */
        struct pol_where where;
    } keys[POL_MAX_KEYS];
};

struct pol_sensor_entry {
    struct pol_sensor sensor;
    struct pol_places places;
};

struct pol_ladder {
    char name[POL_NAME];
    struct pol_where where;
    size_t n;
    struct pol_point points[POL_MAX_STATES];
    struct pol_places places[POL_MAX_STATES]; /* of each point */
};

struct pol_trip_entry {
    struct pol_trip trip; /* sensor is not set yet */
    char sensor[DEV_NAME];
    bool to_max; /* states: a..max */
    struct pol_where where;
    struct pol_places places;
};

struct pol_missing {
    char sensor[DEV_NAME];
    int state; /* -1 = ignore */
    struct pol_where where;
};

struct pol_power_entry {
    struct pol_power power;                                   /* sensors are not set yet */
    char sensor[DEV_NAME], draw[DEV_NAME], ambient[DEV_NAME]; /* "" = none */
    bool has_switch_on, has_states, to_max, has_plant;
    struct pol_where where;
    struct pol_places places, plant_places;
};

struct pol_entry {
    char name[POL_NAME];
    struct pol_where where;
    struct pol_places places, dwell_places;
    size_t n_aliases, n_trips, n_missing;
    char aliases[POL_MAX_ALIASES][POL_NAME];
    char ladder[POL_NAME]; /* "auto" = from the catalog */
    double poll_s, dwell_down_s, dwell_up_s;
    struct pol_trip_entry trips[POL_MAX_TRIPS];
    struct pol_missing missing[POL_MAX_SENSORS];
    struct pol_power_entry power;
    size_t n_guarantees;
    struct pol_guarantee_entry {
        char text[POL_FORMULA];
        struct pol_where where;
    } guarantees[POL_MAX_GUARANTEES];
    int missing_default; /* of the other sensors of trips */
    struct pol_where missing_default_where;
    char failsafe[POL_NAME]; /* "" = the worst rung that still generates */
    struct pol_where failsafe_where;
};

/* Entries are on the heap; a later one replaces an earlier one of the same name, which is the first
 * field of each. */
struct pol_file {
    char *names[POL_MAX_FILES];
    char device[POL_NAME]; /* "" = no file is for a device */
    size_t n_names, n_sensors, n_ladders, n_entries;
    void *sensors[POL_MAX_ENTRIES]; /* struct pol_sensor_entry */
    void *ladders[POL_MAX_ENTRIES]; /* struct pol_ladder */
    void *entries[POL_MAX_ENTRIES]; /* struct pol_entry */
};

/* The entry of that name among n of them, NULL if there is none (compile.c). */
const void *pol_named(void *const *entries, size_t n, const char *name);
/* Reads one YAML text into file (load.c). */
int pol_load_text(struct pol_file *file, const char *name, const char *text, size_t size,
                  struct ert_error *err);
/* Compiles an entry without a model: `ladder: auto` has all the states there may be, and the point
 * that its failsafe names is not looked for (compile.c). */
int pol_compile_entry(const struct pol_file *file, const struct pol_entry *entry,
                      struct pol_policy *policy, struct ert_error *err);
/* Every reference of every policy leads somewhere (compile.c). */
int pol_file_check(const struct pol_file *file, struct ert_error *err);

#endif
