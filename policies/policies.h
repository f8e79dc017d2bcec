/* policies: pure decisions. A policy file becomes a struct pol_policy; a decision is a pure
 * function of (policy, state, readings, time): no I/O, no clock, no allocation in a step. Live
 * governor and simulator both call pol_decide and nothing else to decide. */
#ifndef POL_POLICIES_H
#define POL_POLICIES_H

#include "device/device.h"
#include "device/plant.h"
#include "policies/pid.h"

enum {
    POL_NAME = 48,
    POL_MAX_SENSORS = 32,
    POL_MAX_TRIPS = 32,
    POL_MAX_STATES = 32,
    POL_MAX_SOURCES = 8,
    POL_MAX_PARTS = 8,
    POL_REASON = 160,
    POL_MAX_GUARANTEES = 16,
    POL_FORMULA = 256,
    POL_LOOKS_AHEAD = 8,
};

/* When guesses of the tokens to come are computed along with a token. */
enum pol_speculation {
#define S(id, name) POL_SPECULATION_##id,
#include "policies/speculation.def"
#undef S
    POL_N_SPECULATIONS
};
const char *pol_speculation_name(enum pol_speculation when); /* "auto" */
/* ERT_E_USAGE lists the words. */
int pol_speculation_parse(const char *text, enum pol_speculation *when, struct ert_error *err);

/* A rung of a ladder as the file has it; engine/ resolves it against a pack. */
struct pol_point {
    char name[POL_NAME];    /* unique in the ladder: "w4a16", "w4a16@1t", "w4a16-r90@1t,4tok/s" */
    char point[POL_NAME];   /* "w8a8", "w4a16-r80", "pause" */
    char prefill[POL_NAME]; /* variant for prefill, "" = the point's own */
    unsigned threads;       /* 0 = all */
    unsigned prefill_chunk; /* most tokens of a prompt at a time; 0 = the session's own */
    bool efficient;         /* on the efficient cores, where the machine has such */
    enum pol_speculation speculation;
    double tokens_per_second;        /* 0 = unpaced */
    double power_w, prefill_power_w; /* while generating, while reading a prompt; 0 = not known */
    bool pause;
};

/* A sensor that the policy's trips or guarantees name, and where its value comes from, in order of
 * preference. */
struct pol_sensor {
    char name[DEV_NAME];
    const struct dev_signal *signal;
    size_t n_sources;
    char sources[POL_MAX_SOURCES][128]; /* "hwmon:k10temp/Tdie", "upower:percentage", ... */
    int missing_state;                  /* state requested while there is no value; -1 = ignore */
    double stale_s;                     /* older than this is stale */
    double stuck_s;                     /* unchanged for longer is stuck; 0 = never */
    bool median;                        /* the value is the median of the last three samples */
    /* Made of others where no source gives a value. */
    enum pol_blend { POL_NO_BLEND, POL_MAX, POL_MEAN, POL_SUM } blend;
    size_t n_parts;
    struct pol_part {
        char name[DEV_NAME];
        unsigned sensor; /* index, lower than this one's own */
        double weight;   /* of a sum */
    } parts[POL_MAX_PARTS];
    double offset; /* added to any of the three, in the unit's base */
};

enum pol_governor {
#define G(id, name, kind, what) POL_##id,
#include "policies/governors.def"
#undef G
    POL_N_GOVERNORS
};
const char *pol_governor_name(enum pol_governor g);
enum pol_governor_kind { POL_TRIP, POL_POWER };

/* Those who share the power. */
enum { POL_DECODE, POL_PREFILL, POL_ACTORS };

/* Trips of the kernel's thermal zones, by type
 * (https://docs.kernel.org/driver-api/thermal/sysfs-api.html). */
enum pol_kernel_trip {
    POL_NO_KERNEL_TRIP,
#define K(id, name) POL_KERNEL_##id,
#include "policies/kernel_trips.def"
#undef K
    POL_N_KERNEL_TRIPS
};
const char *pol_kernel_trip_name(enum pol_kernel_trip type); /* "passive" */

struct pol_trip {
    char name[POL_NAME];
    unsigned sensor;              /* index into sensors */
    bool above;                   /* true: value > threshold trips; false: value < threshold */
    double threshold, hysteresis; /* in the unit's base; hysteresis is a delta on the safe side */
    double for_s;                 /* must hold this long first */
    bool when_discharging;        /* only counts while running from the battery */
    enum pol_kernel_trip kernel;  /* such a trip of the sensor's zone counts, if it is lower */
    double kernel_margin;         /* by so much earlier, in C */
    enum pol_governor governor;
    unsigned lowest, highest; /* range of states it may request */
};

/* `power:`, a budget of power for a target temperature, and a bucket of energy above it. 0 = the
 * file does not say, where 0 would mean nothing. */
struct pol_power {
    bool on;
    enum pol_governor governor;
    unsigned sensor;
    double target_c, switch_on_c; /* below switch_on all power is free, but for the burst's limit */
    double sustainable_w, burst_w, burst_s;
    double k_po, k_pu, k_i, k_d; /* W per C, as the kernel's; below 0: estimated */
    double integral_cutoff_c;
    unsigned lowest, highest; /* range of states it may request */
    int draw_sensor;          /* what is spent, as measured; -1 = by the table below */
    bool shared;              /* the budget is split by need and weight[] */
    double weight[POL_ACTORS];
    int load_sensors[POL_ACTORS]; /* share of time that each is at work; -1 = all of it */
    double horizon_s;             /* of `predictive`, with what heats up */
    struct dev_thermal plant;
    bool at_case; /* the sensor sits on the case, else on the chip */
    double ambient_c;
    int ambient_sensor; /* takes the place of ambient_c while it has a value; -1 = none */

    /* What follows from the above and the ladder (pol_set_powers does it again). */
    struct pol_pid_gains gains;
    int64_t burst_mw, most_mw, bucket_nj;
    int64_t state_mw[POL_ACTORS][POL_MAX_STATES];
    struct dev_thermal_step ahead[POL_LOOKS_AHEAD]; /* to equal parts of the horizon */
};

/* Immutable once loaded; flat, so that it may be copied and compared. */
struct pol_policy {
    char name[POL_NAME];
    double poll_s, dwell_down_s, dwell_up_s;
    size_t n_states, n_sensors, n_trips, n_guarantees;
    struct pol_point states[POL_MAX_STATES]; /* the ladder, 0 = best */
    struct pol_sensor sensors[POL_MAX_SENSORS];
    struct pol_trip trips[POL_MAX_TRIPS];
    struct pol_power power;
    int discharging_sensor; /* index of battery.discharging, -1 = no trip asks for it */
    int power_sensor;  /* index of battery.power, whose sign tells when the former has no value */
    unsigned failsafe; /* state */
    char guarantees[POL_MAX_GUARANTEES][POL_FORMULA]; /* what must hold, in Signal Temporal Logic */
};

/* ---- loading ------------------------------------------------------------------------------- */

struct pol_file; /* the merged policies of one or more files */

enum {
#define I(name, where) POL_IDENTITY_##name,
#include "policies/identity.def"
#undef I
    POL_N_IDENTITIES,
    POL_IDENTITY = 128, /* bytes of each */
    POL_COMPATIBLES = 8,
};

/* What firmware calls the machine: DMI, or a devicetree's strings. "" = it does not tell. */
struct pol_identity {
    char text[POL_N_IDENTITIES][POL_IDENTITY];
    size_t n_compatible;
    char compatible[POL_COMPATIBLES][POL_IDENTITY];
};

/* Whether the file at path (of devices.d) is for that machine, by its `match:`. */
int pol_file_matches(const char *path, const struct pol_identity *machine, bool *matches,
                     struct ert_error *err);

/* Reads and merges files, later ones override earlier ones by name. Errors: file:line:column, what
 * was expected, the nearest known name. */
int pol_file_load(struct pol_file **file, const char *const *paths, size_t n,
                  struct ert_error *err);
/* The same from memory; name is what errors call it. */
int pol_file_parse(struct pol_file **file, const char *name, const char *text, size_t size,
                   struct ert_error *err);
void pol_file_free(struct pol_file *file);
size_t pol_file_count(const struct pol_file *file);
const char *pol_file_name(const struct pol_file *file, size_t i);
/* The last `device:` of the files, "" = none. */
const char *pol_file_device(const struct pol_file *file);
/* The i-th sensor that `sensors:` declares, NULL past the end. */
const struct pol_sensor *pol_file_sensor(const struct pol_file *file, size_t i);
/* A policy of one sensor, and of those that it is made of, without any trip: to read it. */
int pol_compile_sensor(const struct pol_file *file, const char *name, struct pol_policy *policy,
                       struct ert_error *err);
/* Compiles one policy by name or alias into *policy. "ladder: auto" takes the states in auto_ladder
 * (n_auto of them, best first; 0 = refused with what to do). Unknown names list the known ones. */
int pol_compile(const struct pol_file *file, const char *name, const struct pol_point *auto_ladder,
                size_t n_auto, struct pol_policy *policy, struct ert_error *err);

/* What a policy gets wrong though it compiles, by a row of lints.def. */
struct pol_finding {
    const char *lint, *policy; /* names */
    const char *file;          /* the pol_file's */
    size_t line, column;
    char text[256]; /* for a person, without the place */
};
/* Looks at the i-th policy of the file, i < pol_file_count, and calls found for each finding, which
 * lasts as long as the call. */
int pol_lint(const struct pol_file *file, size_t i,
             void (*found)(void *ctx, const struct pol_finding *finding), void *ctx,
             struct ert_error *err);

/* The kernel's own trip for trips[i], which has a `kernel`: at_c C, hysteresis_c below it. The
 * trip's threshold becomes that less its margin, if it is lower and plausible; where the trip has
 * no hysteresis, the kernel's. True if it became so. */
bool pol_take_kernel_trip(struct pol_policy *policy, size_t i, double at_c, double hysteresis_c);

/* Powers of the states as this device was measured: decode_w[state] and prefill_w[state], 0 = not
 * known, where the file says none (prefill_w may be NULL). What is not known after that is
 * estimated from the bytes that the points read. Without `power:` it changes nothing but the
 * points. */
void pol_set_powers(struct pol_policy *policy, const double *decode_w, const double *prefill_w);
/* One line of the compiled policy as YAML, and where it comes from. */
struct pol_line {
    const char *text;     /* without its end */
    const char *file;     /* the pol_file's; NULL = written nowhere: a heading, or defaults alone */
    size_t line;          /* in file, from 1 */
    const char *defaults; /* keys on the line that no file has: "hysteresis, governor"; "" = none */
};
/* Calls tell for each line in turn, which lasts as long as the call. file: what the policy was
 * compiled from; NULL = without places. */
int pol_show_lines(const struct pol_policy *policy, const struct pol_file *file,
                   void (*tell)(void *ctx, const struct pol_line *line), void *ctx,
                   struct ert_error *err);
/* The same as one text that a person can read, and that loads again as the same policy; places are
 * comments at the end of lines. *text is the caller's to free. */
int pol_show(const struct pol_policy *policy, const struct pol_file *file, char **text,
             struct ert_error *err);

/* ---- deciding ------------------------------------------------------------------------------ */

/* Everything a decision remembers. Zero it with pol_state_init. Plain data. */
struct pol_state {
    unsigned state;      /* current state of the ladder */
    uint64_t changed_ns; /* when it last changed */
    bool has_changed;    /* dwell counts from changed_ns only once this is set */
    int trip;            /* the trip that decided the current state, -1 = none */
    bool by_power;       /* power decided it */
    uint64_t now_ns;     /* time of the last decision */
    uint64_t decisions;
    struct pol_trip_state {
        bool active;       /* tripped, with hysteresis */
        bool held;         /* condition true now, waiting for for_s */
        uint64_t since_ns; /* start of held */
        unsigned request;  /* state it asks for while active */
    } trips[POL_MAX_TRIPS];
    struct pol_power_state {
        bool active;         /* less than all power may be spent */
        bool limited;        /* by a spent bucket, not by the temperature */
        bool stepped, spent; /* has made a step; the bucket is below half after it ran out */
        unsigned request[POL_ACTORS]; /* states asked for while active */
        struct pol_pid pid;
        int64_t granted_mw, bucket_nj;
        uint64_t step_ns, spend_ns; /* of the last step, and of the last look at what was spent */
        struct dev_heat heat; /* of `predictive`: what the plant's nodes are thought to have */
    } power;
    struct pol_sensor_state {
        struct dev_reading last; /* last valid reading */
        double last_raw;         /* for the stuck test */
        uint64_t raw_since_ns;   /* since when the raw value has been the same */
        double samples[3];       /* the last accepted ones, for the median */
        uint64_t n_samples;      /* accepted since there was none */
        bool has_last, has_raw;
        enum dev_absence why; /* as the last decision judged it */
        bool fresh, falling;  /* the last sample was new; it lay below the one before */
        bool rising;          /* above the one before */
    } sensors[POL_MAX_SENSORS];
};
void pol_state_init(struct pol_state *state, const struct pol_policy *policy);
/* The memory of policy `to` that takes over from policy `from`, whose memory old is: the state of
 * the same name, else of the same number; what is known of sensors and trips of the same name. Not
 * in place. */
void pol_state_carry(struct pol_state *state, const struct pol_policy *to,
                     const struct pol_state *old, const struct pol_policy *from);
/* All of it as one line of text, the caller's to free, and back: ERT_E_FORMAT if it is damaged or
 * of another version. */
int pol_state_write(const struct pol_policy *policy, const struct pol_state *state, char **text,
                    struct ert_error *err);
int pol_state_read(const struct pol_policy *policy, const char *text, struct pol_state *state,
                   struct ert_error *err);

struct pol_decision {
    unsigned state, previous;
    bool changed;
    int trip;                /* index of the trip that decided, -1 = none */
    unsigned prefill_state;  /* for reading prompts, where the power is shared; else as state */
    double granted_w;        /* that power: allows to spend, 0 = it does not limit */
    bool release_memory;     /* a memory trip is active: the L planes may be dropped */
    char reason[POL_REASON]; /* in words: "temp.cpu 71.2C above 70C (warm)" */
};

/* One decision. raw[i] is the reading of policy->sensors[i] as the source gave it; validation
 * (range, freshness, stuck, rate) happens here, purely. now_ns must not fall; if it does it counts
 * as equal to the last. */
void pol_decide(const struct pol_policy *policy, struct pol_state *state, uint64_t now_ns,
                const struct dev_reading *raw, struct pol_decision *decision);

/* ---- what if ------------------------------------------------------------------------------- */

/* The reading of one sensor, nearest to its own on one side, at which the state becomes another
 * while the others stay as they are. */
struct pol_turn {
    bool there;
    bool included; /* at value itself; else past it */
    double value;  /* in the unit's base, to 4 digits after the point */
    unsigned state;
    bool settled; /* false: it goes on to change */
    char reason[POL_REASON];
};

/* What comes of readings that stay as they are, by decisions from a policy's start on. */
struct pol_what_if {
    unsigned first, state; /* by the first decision; when nothing moves any more */
    double after_s;        /* from the first decision to the last change */
    bool settled;          /* false: the state still changed when the look ended */
    char first_reason[POL_REASON], reason[POL_REASON]; /* reason: of the last change, if any */
    struct pol_what_if_sensor {
        struct dev_reading reading;   /* as judged in the end */
        struct pol_turn below, above; /* of one without a reading: from the ends of its range;
                                         none if the state does not settle */
    } sensors[POL_MAX_SENSORS];
};

/* readings[i] is that of policy->sensors[i]; its time does not count. Asks pol_decide for all of
 * it, with every plausible value believed at once: without rate and stuck. Errors: out of memory.
 */
int pol_what_if(const struct pol_policy *policy, const struct dev_reading *readings,
                struct pol_what_if *what_if, struct ert_error *err);

/* ---- guarantees ---------------------------------------------------------------------------- */

/* Watches a policy's guarantees. Signals hold their last accepted value from one decision to the
 * next; a guarantee is about the time from the first decision on at which each of its sensors has
 * had one. */
struct pol_monitor;

enum pol_verdict { POL_UNDECIDED, POL_TRUE, POL_FALSE };
const char *pol_verdict_name(enum pol_verdict verdict);

struct pol_guarantee_status {
    enum pol_verdict verdict;
    bool started, decided; /* decided: whatever comes, the verdict stays */
    uint64_t since_ns, decided_ns;
    /* Robustness: how far the values may move before the verdict changes, below 0 if it is false;
     * what it can still become. Equal once it is known; infinite where no value counts. */
    double lower, upper;
    int waits_for;     /* a sensor without any value so far, -1 = none */
    unsigned restarts; /* times that too many decisions at once made the watch begin anew */
};

/* The caller frees *monitor; the policy must outlive it. */
int pol_monitor_create(struct pol_monitor **monitor, const struct pol_policy *policy,
                       struct ert_error *err);
void pol_monitor_free(struct pol_monitor *monitor);
/* After each decision. Bit i is set if guarantee i is false from this decision on. O(1) amortized;
 * allocates nothing. */
uint32_t pol_monitor_step(struct pol_monitor *monitor, const struct pol_state *state);
/* The end of the run: its last values count as holding forever, so that no verdict stays open but
 * of guarantees that never started. Bits as above. */
uint32_t pol_monitor_finish(struct pol_monitor *monitor);
/* NULL past the last guarantee; the monitor's. */
const struct pol_guarantee_status *pol_monitor_status(const struct pol_monitor *monitor, size_t i);

/* ---- readings ------------------------------------------------------------------------------ */

/* The reading as the last decision judged it (value or reason). */
struct dev_reading pol_validated(const struct pol_policy *policy, const struct pol_state *state,
                                 unsigned sensor);

#endif
