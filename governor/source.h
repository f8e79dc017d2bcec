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
    GOV_MAX_BUSES = 4,
    GOV_POWERCAP_ZONES = 4,
    GOV_CLOCKS = 16,
    GOV_STALLS = 32, /* samples of a stall's total time */
};

struct gov_bus;
struct gov_bus_service;
struct gov_worklog;
struct gov_events;

/* What the sources of one governor share. Not owned by the sources. */
struct gov_machine {
    const char *root; /* prefix of /sys and /proc, "" = the real ones */
    size_t n_buses;
    struct gov_bus *buses[GOV_MAX_BUSES]; /* the services that some sensor asks for */
    struct gov_worklog *work;             /* what the engine is at, NULL = there is none */
    const struct dev_trace *trace;        /* NULL = live */
    uint64_t origin_ns;                   /* the decision clock's time of the trace's first row */
};

struct gov_source;

struct gov_source_kind {
    /* Finds the thing that source->address names. False: absent, and source->why says why. */
    bool (*probe)(struct gov_source *source, const struct gov_machine *machine);
    /* A value, or a reason with its sentence in source->why. now_ns is the decision clock's. */
    struct dev_reading (*read)(struct gov_source *source, const struct gov_machine *machine,
                               uint64_t now_ns);
    void (*close)(struct gov_source *source); /* NULL = nothing to close */
    /* Has an event end the wait when the value may have come past the threshold (of a trip on this
     * sensor). Where that is not allowed the poll has to do. NULL = there is no such event. */
    void (*arm)(struct gov_source *source, const struct gov_machine *machine,
                struct gov_events *events, double threshold);
    const struct gov_bus_service *service; /* to start for it, NULL = none */
};

/* Energy counters that count as one. */
struct gov_powercap {
    size_t n;
    struct gov_powercap_zone {
        char folder[GOV_PATH], name[32];
        bool has_last;
        double range_uj, last_uj, sum_uj; /* range 0 = unknown */
    } zones[GOV_POWERCAP_ZONES];
};

/* How long tasks had stalled in all at a time. */
struct gov_stall {
    uint64_t time_ns;
    double total_us;
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
            const void *chip; /* libsensors' sensors_chip_name, of this generation */
            int subfeature;
            unsigned generation; /* of the library's list of chips */
            bool library_open;
        } hwmon;
        struct {
            struct gov_bus *bus;
            unsigned item;
        } bus;
        struct {
            unsigned item, n_folders;
            char folders[GOV_MAX_BATTERIES][GOV_PATH]; /* of batteries or of what feeds them */
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
            double window_s;                        /* of our own; 0 = the kernel's average */
            struct gov_stall stalls[GOV_STALLS], now;
            size_t n_stalls; /* taken so far */
            double told;     /* percent that a trigger has just told of, 0 = none did */
        } psi;
        struct {
            struct gov_powercap counters;
            uint64_t since_ns, watts_ns; /* 0 = none yet */
            double joules, watts;        /* at since_ns; of the last interval */
        } powercap;
        struct {
            unsigned item;
            bool in_cpus; /* the clocks are told in each CPU's folder, not in one of policies */
            size_t n;
            struct gov_clock {
                unsigned policy;
                int fd; /* of what is read of it, -1 = not open */
                double max_khz;
            } policies[GOV_CLOCKS];
        } cpufreq;
        struct {
            unsigned item;
            char folder[GOV_PATH], line[8], window[16];
            const struct gov_hierarchy *hierarchy;
            size_t base;       /* length of the hierarchy's own folder */
            uint64_t since_ns; /* of count, 0 = none yet */
            double count, rate;
        } cgroup;
        struct {
            unsigned item;
            uint64_t since_ns, share_ns; /* of the last look, of the share; 0 = none yet */
            uint64_t spent_ns;           /* at since_ns */
            double share;                /* percent, between the last two looks */
        } work;
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
/* The service that "KIND:ADDRESS" needs, NULL = none. */
const struct gov_bus_service *gov_source_service(const char *name);

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

/* Reads at most size - 1 bytes of dir/name and puts a NUL behind them. 0 or -errno. */
int gov_file_bytes(const char *dir, const char *name, char *bytes, size_t size, size_t *n);
/* The same as text, without its trailing newline. */
int gov_file_text(const char *dir, const char *name, char *text, size_t size);
/* The same, as a whole number; -EINVAL if it is none ("N/A"). */
int gov_file_number(const char *dir, const char *name, long long *value);
/* For files of which there are many: opening one takes longer than reading it. A descriptor of
 * dir/name, the caller's to close, or -errno; and the number in it now. */
int gov_file_open(const char *dir, const char *name);
int gov_file_number_again(int fd, long long *value);

/* A number such as "some avg10" of a pressure file. False: there is none, and s->why says why. */
bool gov_pressure_number(struct gov_source *s, const char *folder, const char *file,
                         const char *line, const char *key, double *number);

/* ---- services ------------------------------------------------------------------------------ */

/* Starts a service that "KIND:ADDRESS" needs, unless it runs. */
int gov_machine_ask(struct gov_machine *machine, const char *source_name, const char *bus_address,
                    void (*changed)(void *ctx), void *ctx, struct ert_error *err);
/* Waits until each service has answered once or cannot, at most a second each. */
void gov_machine_wait(struct gov_machine *machine);
void gov_machine_release(struct gov_machine *machine);

/* ---- what this machine has ----------------------------------------------------------------- */

/* Calls found with the name of every libsensors temperature / every thermal zone; found must not
 * call into the source. */
typedef void gov_found(void *ctx, const char *source_name);
void gov_hwmon_list(const struct gov_machine *machine, gov_found *found, void *ctx);
void gov_thermal_list(const struct gov_machine *machine, gov_found *found, void *ctx);

#endif
