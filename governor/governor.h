/* governor: the live loop. Reads sensors, decides (policies/), publishes through an actuator,
 * journals. */
#ifndef GOV_GOVERNOR_H
#define GOV_GOVERNOR_H

#include "policies/policies.h"

/* What the governor drives; engine/ binds it to a runtime. Called on the governor's thread. */
struct gov_actuator {
    void *ctx;
    /* A new state of the ladder is wanted, or another one to read prompts at (prefill_state), or
     * memory became short or plentiful at the same one (release_memory); not called while the state
     * stays at 0, where the ladder starts, with memory to spare. Must not block; work goes
     * elsewhere. */
    void (*apply)(void *ctx, const struct pol_decision *decision);
    /* A decision was made (changed or not): alive until deadline_ns (ert_now_ns), which is three
     * of the policy's polls in real time, also while a trace is replayed faster. */
    void (*beat)(void *ctx, uint64_t deadline_ns);
    /* Reads the policy again into *policy and keeps ready what it needs for it; NULL = it cannot.
     * adopt: that policy holds, apply and beat mean its states from now on (apply follows at once).
     * Without an adopt after it, a reload has changed nothing. */
    int (*reload)(void *ctx, struct pol_policy *policy, struct ert_error *err);
    void (*adopt)(void *ctx);
    /* A sentence for the person, NULL = nobody listens: the policy was read again, or why not. */
    void (*notice)(void *ctx, const char *text);
};

/* Files of a folder whose change means that the policy is to be read again. */
struct gov_watch {
    char *folder, *pattern; /* "/etc/edgert/policies.d", "*.yaml" */
};

/* Where sensors come from. */
struct gov_sources {
    const char *root;    /* prefix for /sys and /proc, "" = the real ones */
    const char *replay;  /* a trace CSV instead of the machine's sensors, NULL = none */
    double replay_speed; /* 1 = real time, 0 = 1; at most one decision a millisecond is made */
    const char *bus;     /* NULL, or the address that DBUS_SYSTEM_BUS_ADDRESS names (UPower's
                            library takes no other); ERT_E_UNSUPPORTED if they differ */
};

struct gov_config {
    const struct pol_policy *policy; /* copied */
    struct gov_sources sources;
    const char *journal;    /* path of the JSON-lines journal, NULL = none */
    uint64_t journal_bytes; /* past these it becomes JOURNAL.1 and a new one begins; 0 = 32 MiB */
    struct gov_actuator actuator;
    const struct gov_watch *watched; /* copied; folders that are not there are not watched */
    size_t n_watched;
    const struct pol_policy *battery; /* copied: battery.power alone (pol_compile_sensor), for the
                                         energy meter; NULL = it goes without */
};

/* What a status line or table wants to know; a consistent copy. */
struct gov_status {
    struct pol_decision decision;
    char policy[POL_NAME];
    size_t n_sensors;
    char sensors[POL_MAX_SENSORS][DEV_NAME];
    struct dev_reading readings[POL_MAX_SENSORS]; /* as validated, in the policy's order */
    double replay_s;                              /* position in the trace, 0 if live */
    bool replay_ended;
    uint64_t decisions, transitions;
    uint64_t cpu_ns, running_ns; /* processor time of the governor's thread; since its start */
    char sources[POL_MAX_SENSORS][128]; /* which source serves each sensor, "" = none */
    char why[POL_MAX_SENSORS][160];     /* why there is none, in words */
    uint64_t switches_lost;             /* reported faster than the journal took them */
    char journal_failure[160];          /* "" = none; journaling ended there */
};

struct gov_governor;

/* Probes the sources and starts the thread; the first decision has been made on return. Sources
 * that are absent are no error: see gov_sensor_report. Errors: ERT_E_USAGE for a speed or poll that
 * is no positive number, what dev_trace_read says, ERT_E_IO etc. if the journal cannot be created.
 */
int gov_start(struct gov_governor **g, const struct gov_config *config, struct ert_error *err);
/* Stops the thread, closes the journal; *err tells if journaling had failed. */
int gov_stop(struct gov_governor *g, struct ert_error *err);
void gov_get_status(struct gov_governor *g, struct gov_status *status);
/* Wakes the loop for a decision now (tests, events); while replaying, for the next one. */
void gov_poke(struct gov_governor *g);
/* Reads the policy again before the next decision. Async-signal-safe; from any thread. */
void gov_reload(struct gov_governor *g);

/* What the engine is at, for the sensors load.decode and load.prefill: a change of it. */
enum gov_work { GOV_IDLE, GOV_DECODE, GOV_PREFILL, GOV_WORKS };
void gov_report_work(struct gov_governor *g, enum gov_work work);

/* What the engine has done so far, in all answers: for the journal, at most once a decision. */
struct gov_progress {
    char point[POL_NAME];           /* in effect */
    uint64_t prompt_tokens, tokens; /* read, generated */
    double prefill_s, decode_s;     /* spent with that; waiting for the pace counts, pauses do */
    double joules;                  /* as far as known */
    double each_j;                  /* of a token lately, 0 = not known */
    int source;                     /* enum gov_energy_source, -1 = none tells */
};
void gov_report_progress(struct gov_governor *g, const struct gov_progress *progress);

/* A switch as the engine applied it, for the journal. Copied into a preallocated ring; never
 * blocks. */
struct gov_switch_event {
    uint64_t token;            /* index of the first token at the new point */
    uint64_t time_ns, cost_ns; /* ert_now_ns at the switch; what it cost the token path */
    char from[POL_NAME], to[POL_NAME];
    unsigned state;
    char trip[POL_NAME];     /* that decided, "failsafe", or "" */
    char reason[POL_REASON]; /* in words */
};
void gov_report_switch(struct gov_governor *g, const struct gov_switch_event *event);
/* Trip and reason (words) of the last decision that changed to this state; both "" if none did. */
void gov_reason(struct gov_governor *g, unsigned state, char trip[POL_NAME],
                char reason[POL_REASON]);

/* ---- energy -------------------------------------------------------------------------------- */

enum { GOV_ENERGY_WHY = 400 };

/* Where a figure of energy comes from, best first. */
enum gov_energy_source {
#define E(id, name, what) GOV_##id,
#include "governor/energy.def"
#undef E
    GOV_ENERGY_SOURCES
};
const char *gov_energy_name(enum gov_energy_source source); /* "rapl" */

/* What a stretch of time took, by the source that told. */
struct gov_energy {
    double joules[GOV_ENERGY_SOURCES], seconds[GOV_ENERGY_SOURCES];
    double unknown_s; /* that none told of */
};

/* The battery as the last decision saw it. */
struct gov_battery {
    bool known;        /* watts are what the device draws: it runs from its battery */
    double watts;      /* 0 unless known */
    double full_wh;    /* how much fits in, 0 = not known */
    char why[160];     /* why watts are not known, "" if they are */
    uint64_t until_ns; /* ert_now_ns up to which that holds: three polls */
};
void gov_get_battery(struct gov_governor *g, struct gov_battery *battery);

/* Counts what is spent, on the thread that spends it: energy counters where there are some that may
 * be read (microseconds), else the battery's power, else the model's. Calls of one meter come one
 * at a time. */
struct gov_meter;

/* root: prefix of /sys, NULL = no counters (a replay stands for all of a machine's sensors). */
int gov_meter_create(struct gov_meter **out, const char *root, struct ert_error *err);
void gov_meter_free(struct gov_meter *m); /* NULL is fine */
/* What was spent until now counts for nobody. */
void gov_meter_begin(struct gov_meter *m);
/* Adds what was spent since the last take, or since begin. A time in which the machine slept does
 * not count. battery: as gov_get_battery has it, NULL = nobody reads one. model_w: power of the
 * point in effect, NaN = not known. */
void gov_meter_take(struct gov_meter *m, const struct gov_battery *battery, double model_w,
                    struct gov_energy *sum);
/* Why nothing told when it was so last, each source in its own words; "" = something always did. */
const char *gov_meter_why(const struct gov_meter *m);

/* ---- before the start ---------------------------------------------------------------------- */

/* The kernel's own trips under root, for the policy's trips that ask for one (`kernel:`): of the
 * first zone among the sensor's sources (thermal:TYPE) that has one of that type, the lowest. */
void gov_take_kernel_trips(const char *root, struct pol_policy *policy);

/* ---- sensors without a policy (edgert sensors) --------------------------------------------- */

/* What firmware calls the machine under root ("" or NULL = this one). */
void gov_identify(const char *root, struct pol_identity *machine);

struct gov_sensor_line {
    char signal[DEV_NAME], source[128];
    struct dev_reading reading;
    char why[160]; /* why the source is absent, "" if it serves */
};
/* Probes every source for every known signal once: those that file declares (may be NULL) in the
 * place of the usual ones. *lines is the caller's to free. */
int gov_sensor_report(const struct gov_sources *sources, const struct pol_file *file,
                      struct gov_sensor_line **lines, size_t *n, struct ert_error *err);

#endif
