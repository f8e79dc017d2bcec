/* Inside governor/: what a source of readings is. A source probes (and says in words why it is
 * absent), reads without waiting on another process, and closes. */
#ifndef GOV_SOURCE_H
#define GOV_SOURCE_H

#include "governor/governor.h"

enum {
    GOV_WHY = 160,  /* bytes of a sentence that says why there is no reading */
    GOV_PATH = 320, /* bytes of a path under the root */
    GOV_SOURCE_NAME = 128,
    GOV_MAX_BATTERIES = 4,
};

struct gov_upower;

/* What the sources of one governor share. Not owned by the sources. */
struct gov_machine {
    const char *root;              /* prefix of /sys and /proc, "" = the real ones */
    struct gov_upower *upower;     /* NULL = no sensor asks for it */
    const struct dev_trace *trace; /* NULL = live */
    uint64_t origin_ns;            /* the decision clock's time of the trace's first row */
};

struct gov_source;

struct gov_source_kind {
    /* Finds the thing that source->address names. False: absent, and source->why says why. */
    bool (*probe)(struct gov_source *source, const struct gov_machine *machine);
    /* A value, or a reason with its sentence in source->why. now_ns is the decision clock's. */
    struct dev_reading (*read)(struct gov_source *source, const struct gov_machine *machine,
                               uint64_t now_ns);
    void (*close)(struct gov_source *source); /* NULL = nothing to close */
};

struct gov_source {
    const struct gov_source_kind *kind; /* NULL = no such kind */
    char name[GOV_SOURCE_NAME];         /* "thermal:cpu-thermal" */
    const char *address;                /* the part of name behind the colon */
    bool serves;                        /* probed and found */
    char why[GOV_WHY];
    union {
        struct {
            char path[GOV_PATH]; /* of the zone's temp file */
        } thermal;
        struct {
            const void *chip; /* libsensors' sensors_chip_name, valid until the last close */
            int subfeature;
            bool library_open;
        } hwmon;
        struct {
            unsigned item;
        } upower;
        struct {
            unsigned item, n_batteries;
            char batteries[GOV_MAX_BATTERIES][GOV_PATH]; /* folders */
        } power_supply;
        struct {
            unsigned item;
            char key[64];              /* meminfo/KEY */
            uint64_t busy, total, own; /* ticks at the last sample */
            double load;               /* percent, of the last interval long enough to tell */
            uint64_t load_ns;          /* 0 = none yet */
        } procfs;
        struct {
            char resource[32], line[8], window[16]; /* "memory", "some", "avg10" */
        } psi;
        struct {
            int column;
        } replay;
    } u;
};

#define S(id) extern const struct gov_source_kind gov_source_##id;
#include "governor/sources.def"
#undef S

/* Takes "KIND:ADDRESS" apart and probes it. Never fails: an absent source says why. */
void gov_source_open(struct gov_source *source, const char *name,
                     const struct gov_machine *machine);
/* Probes again, for a source that was absent. */
void gov_source_probe(struct gov_source *source, const struct gov_machine *machine);
struct dev_reading gov_source_read(struct gov_source *source, const struct gov_machine *machine,
                                   uint64_t now_ns);
void gov_source_close(struct gov_source *source);
/* Whether "KIND:ADDRESS" is of that kind. */
bool gov_source_is(const char *name, const struct gov_source_kind *kind);

struct dev_reading gov_present(double value, uint64_t time_ns);
/* A reading without a value; the sentence goes to source->why. */
struct dev_reading gov_absent(struct gov_source *source, enum dev_absence why, uint64_t time_ns,
                              const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* For a probe: writes source->why and returns false. */
bool gov_not_here(struct gov_source *source, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Index of word in names[n], n if it is none of them. */
unsigned gov_item(const char *word, const char *const *names, unsigned n);

/* ---- small files of sysfs and procfs ------------------------------------------------------- */

/* Reads at most size - 1 bytes of dir/name, cuts a trailing newline. 0 or -errno. */
int gov_file_text(const char *dir, const char *name, char *text, size_t size);
/* The same, as a whole number; -EINVAL if it is none ("N/A"). */
int gov_file_number(const char *dir, const char *name, long long *value);

/* ---- UPower -------------------------------------------------------------------------------- */

/* Starts the thread that talks to UPower. It connects on its own; the call waits until the first
 * attempt has ended, at most a second. changed is called on that thread when a value changed. */
int gov_upower_start(struct gov_upower **upower, const char *bus, void (*changed)(void *ctx),
                     void *ctx, struct ert_error *err);
void gov_upower_stop(struct gov_upower *upower);

/* ---- what this machine has ----------------------------------------------------------------- */

/* Calls found with the name of every libsensors temperature / every thermal zone; found must not
 * call into the source. */
typedef void gov_found(void *ctx, const char *source_name);
void gov_hwmon_list(const struct gov_machine *machine, gov_found *found, void *ctx);
void gov_thermal_list(const struct gov_machine *machine, gov_found *found, void *ctx);

#endif
