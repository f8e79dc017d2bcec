/* edgert.h: the public interface of libedgert. A language model that stays inside a device's heat,
 * energy and memory limits while it talks.
 *
 * A model is an opened pack. An engine runs a model under a policy (a governor thread reads sensors
 * and moves the operating point) or at one fixed point. A conversation is one KV cache on an
 * engine.
 *
 *     struct ert_failure why;
 *     struct ert_model *model;
 *     struct ert_engine *engine;
 *     struct ert_conversation *talk;
 *     struct ert_engine_options options = {0};          (policy "balanced", the device's sensors)
 *     if (ert_model_open(&model, NULL, &why) || ert_engine_open(&engine, model, &options, &why) ||
 *         ert_conversation_open(&talk, engine, NULL, &why))
 *         fprintf(stderr, "%s\n", why.text);
 *     ert_say(talk, "Why is the sky blue?", 200, &callbacks, &answer, &why);
 *
 * Calls return 0 or a negative number, -ERT_FAILED_...; then *why (which may be NULL) holds the
 * sentence for a person and no object was made. Strings passed in are copied unless stated. Objects
 * are freed in the reverse order of opening. Nothing here prints or exits. Different engines may be
 * used from different threads; the calls of one engine and its conversations come from one thread,
 * except where stated. */
#ifndef EDGERT_H
#define EDGERT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- failures ------------------------------------------------------------------------------ */

enum ert_failure_code {
    ERT_FAILED_NOMEM = 1,   /* out of memory */
    ERT_FAILED_IO,          /* reading or writing failed */
    ERT_FAILED_MISSING,     /* no such file, policy or point */
    ERT_FAILED_FORMAT,      /* damaged or malformed data */
    ERT_FAILED_UNSUPPORTED, /* valid, but not supported here */
    ERT_FAILED_RANGE,       /* a value out of its range */
    ERT_FAILED_USAGE,       /* wrong arguments */
    ERT_FAILED_CHECK,       /* a check did not hold */
    ERT_FAILED_CANCELLED,   /* stopped on request */
    ERT_FAILED_FULL         /* no room left in the context */
};

/* What went wrong, where, what was expected and what to do. The caller's. */
struct ert_failure {
    int code; /* enum ert_failure_code */
    char text[512];
};

/* ---- model --------------------------------------------------------------------------------- */

struct ert_model;

/* Opens a pack. name: the path of a file; or a word without '/' looked up as NAME or NAME.edgert in
 * $XDG_DATA_HOME/edgert/models and /usr/share/edgert/models; NULL is "default". */
int ert_model_open(struct ert_model **out, const char *name, struct ert_failure *why);
/* No engine may use it any more. NULL is fine. */
void ert_model_free(struct ert_model *model);
/* The model's name and the pack's path, valid as long as the model. */
const char *ert_model_name(const struct ert_model *model);
const char *ert_model_path(const struct ert_model *model);

/* ---- engine -------------------------------------------------------------------------------- */

struct ert_engine;

/* All fields may be left zero. */
struct ert_engine_options {
    const char *policy;      /* name or alias of a policy, NULL = "balanced" */
    const char *policy_file; /* a YAML file laid over the installed ones, NULL = none */
    const char *point;       /* one fixed point ("w4a16-r80") and no governor: excludes policy,
                                policy_file, sensors and journal */
    const char *sensors;  /* NULL or "live" = the device's; "replay:FILE" or "replay:FILE@SPEED" =
                             a recorded trace, SPEED times as fast */
    const char *journal;  /* path of the JSON-lines journal to write, NULL = none */
    uint32_t journal_mib; /* past these it becomes JOURNAL.1 and a new one begins, 0 = 32 */
    const char *sensor_root; /* prefix of /sys and /proc, NULL = none */
    uint32_t threads;        /* 0 = one for each CPU this process may use */
    /* The most bytes that the process may keep resident, mapped pages of the model included; 0 = no
     * ceiling. Given up for it, in this order, and told by on_notice: positions of a conversation
     * that asks for no number, down to 512; points that read the L planes, in whose place the
     * ladder's next one below runs. What the process has already is measured, so the program should
     * have what it needs before. */
    uint64_t memory;
    uint32_t n_ctx;      /* positions of the conversation that must fit below memory, 0 = 512 */
    uint32_t cache_bits; /* of that conversation's keys and values */
};

/* Starts the thread team and, with a policy, the governor's thread: its first decision has been
 * made on return. Policies come from /usr/share/edgert/policies.yaml (or the checkout's), then
 * /etc/edgert/policies.yaml and policies.d, $XDG_CONFIG_HOME/edgert/policies.yaml, policy_file;
 * later ones override. A rung of the ladder that the pack lacks is refused, with those it has.
 * ERT_FAILED_RANGE when the memory is not enough for the model: it says what would be.
 * Absent sensors are no failure: ert_get_status says what is missing and why. The model must
 * outlive the engine. */
int ert_engine_open(struct ert_engine **out, struct ert_model *model,
                    const struct ert_engine_options *options, struct ert_failure *why);
/* Stops the threads. Frees in any case; a negative return tells that the journal is incomplete. */
int ert_engine_close(struct ert_engine *engine, struct ert_failure *why);

/* Reads the policy files again, as happens when one of them changes. A mistake in them keeps the
 * policy that holds; on_notice tells either. Async-signal-safe; from any thread. */
void ert_reload(struct ert_engine *engine);

/* Where a figure of energy comes from, best first: the processor packages' counters, which leave
 * out screen and radio; the battery's power over time, which is all the device draws; the power
 * that the ladder gives for a point, over time. */
enum ert_energy_source { ERT_RAPL, ERT_BATTERY, ERT_MODEL, ERT_ENERGY_SOURCES };
/* "rapl", "battery", "model". */
const char *ert_energy_source_name(enum ert_energy_source source);

/* What some work took, by the source that told at the time. */
struct ert_energy {
    double joules[ERT_ENERGY_SOURCES], seconds[ERT_ENERGY_SOURCES];
    double unknown_s; /* seconds of which no source told */
};
/* Joules of all sources. 0 where nothing is known: ask ert_energy_known. */
double ert_energy_joules(const struct ert_energy *energy);
/* Share of the time of which the energy is known, 0 to 1. */
double ert_energy_known(const struct ert_energy *energy);
/* Joules of each of n pieces of the work, 0 = not known. What is unknown of the time counts as the
 * rest of it. */
double ert_energy_each(const struct ert_energy *energy, uint64_t n);
/* Pieces of each_j joules that one percent of a battery of full_wh watt-hours holds; 0 if either is
 * 0, which is: not known. */
double ert_energy_per_percent(double full_wh, double each_j);
/* Adds what to sum. */
void ert_energy_add(struct ert_energy *sum, const struct ert_energy *what);

/* What was done at one operating point, summed over the engine's conversations. */
struct ert_point_use {
    char point[48];         /* "w4a16@1t", as the ladder names it */
    uint64_t prompt_tokens; /* tokens prefilled */
    uint64_t tokens;        /* tokens decoded */
    uint64_t drafted;       /* guesses computed along with them, */
    uint64_t accepted;      /* of which so many were the token that was drawn */
    uint64_t entered;       /* switches to this point */
    double prefill_s;       /* seconds of prefill */
    double decode_s;        /* seconds of decoding, waiting for the pace and pausing included */
    struct ert_energy prefill_energy, decode_energy;
};
/* Copies at most room entries, in the ladder's order, to use; returns how many points there are.
 * May be called from any thread. */
size_t ert_get_use(struct ert_engine *engine, struct ert_point_use *use, size_t room);

enum { ERT_STATUS_SENSORS = 32, ERT_MAX_POINTS = 32 };

/* A consistent copy of where an engine stands. */
struct ert_status {
    char policy[48];    /* "" at a fixed point */
    char point[48];     /* the point of the next token */
    unsigned state;     /* its index in the ladder, 0 = best */
    bool failsafe;      /* no decision came in time: the policy's failsafe point runs */
    char reason[160];   /* why the last switch happened, "" before the first */
    uint64_t switches;  /* applied so far */
    uint64_t decisions; /* of the governor */
    bool replay_ended;
    double replay_s;   /* position in the replayed trace */
    double each_j;     /* joules of a token, of about the last second of decoding; 0 = not known */
    double battery_wh; /* how much fits into the battery, 0 = not known */
    char energy_why[400]; /* why no source told when it was so last, "" = one always did */
    size_t n_sensors;     /* the policy's sensors */
    struct {
        char name[48]; /* "temp.cpu" */
        char unit[8];  /* "C" */
        bool present;
        double value;    /* in unit, if present */
        const char *why; /* why there is no value; static */
    } sensors[ERT_STATUS_SENSORS];
};
/* May be called from any thread. */
void ert_get_status(struct ert_engine *engine, struct ert_status *status);

/* ---- conversation -------------------------------------------------------------------------- */

struct ert_conversation;

struct ert_conversation_options {
    float temperature;    /* 0 = always the likeliest token */
    uint32_t top_k;       /* 0 = off */
    float top_p;          /* 1 = off */
    float min_p;          /* 0 = off */
    float repeat_penalty; /* 1 = off */
    uint64_t seed;
    uint32_t n_ctx;      /* positions of the KV cache, 0 = the model's, but at most 4096 */
    uint32_t cache_bits; /* of a cached key or value: 16, 8, or 6 (keys 8, values 4); 0 = 16 */
    const char *system;  /* system message, NULL = the chat format's own */
    bool raw;            /* prompts are continued as they are, without a chat format */
    /* When tokens are guessed from what was said before and computed ahead: "auto" = where it pays,
     * "on" = wherever there is a guess, "off" = never; NULL = as the ladder's rungs say, which is
     * "auto" unless they say otherwise. It changes how fast, not what is said. */
    const char *speculation;
};
/* The values a conversation gets when its options are NULL. */
void ert_conversation_defaults(struct ert_conversation_options *options);

/* Allocates the KV cache. The engine must outlive the conversation; several may exist, one at a
 * time may answer. ERT_FAILED_RANGE names an option that is out of range, or says that the
 * cache does not fit below the engine's memory. */
int ert_conversation_open(struct ert_conversation **out, struct ert_engine *engine,
                          const struct ert_conversation_options *options, struct ert_failure *why);
void ert_conversation_free(struct ert_conversation *talk); /* NULL is fine */

/* One token of the answer. Pointers are valid during the callback. */
struct ert_token {
    int32_t id;
    uint64_t position; /* in the conversation, prompt included, from 0 */
    const char *text;  /* whole UTF-8 characters, `length` bytes, NUL-terminated; may be empty */
    size_t length;
    const char *point; /* where it was computed */
};

/* One change of point, as it was applied. */
struct ert_swap {
    uint64_t token; /* position of the first token computed at the new point */
    const char *from, *to;
    unsigned state;     /* index of `to` in the ladder */
    const char *trip;   /* name of the policy's trip that decided, "failsafe", "" if none did */
    const char *reason; /* in words: "temp.cpu 71.2C above 70C (warm)" */
    bool failsafe;      /* the engine chose it because no decision came */
    double t_s;         /* seconds since the engine was opened */
    uint64_t cost_ns;   /* spent in the token path */
};

/* Called on the thread that called ert_say, between tokens. Any may be NULL. */
struct ert_callbacks {
    void *ctx;
    void (*on_token)(void *ctx, const struct ert_token *token);
    void (*on_swap)(void *ctx, const struct ert_swap *swap);
    void (*on_hold)(void *ctx); /* every 20 ms or so while paused or waiting for the pace */
    void (*on_notice)(void *ctx, const char *text); /* the policy was read again, or why not; what
                                                       did not fit below the memory asked for */
};

enum ert_end {
    ERT_END_STOP,      /* the model ended its answer */
    ERT_END_LENGTH,    /* max_tokens reached */
    ERT_END_CANCELLED, /* ert_cancel */
    ERT_END_CONTEXT    /* the KV cache is full */
};

struct ert_answer {
    enum ert_end end;
    char reason[96];            /* the end in words: "context full: 2048 positions" */
    uint32_t prompt_tokens;     /* of this turn */
    uint32_t tokens;            /* of the answer */
    uint32_t drafted, accepted; /* as in struct ert_point_use */
    double prefill_s, decode_s;
    struct ert_energy prefill_energy, decode_energy;
    double each_j; /* joules of a decoded token, 0 = not known */
};

/* Says text (UTF-8) to the model and lets it answer with at most max_tokens tokens (0 = as many as
 * fit the context). The answer stays in the conversation's cache, a cancelled one as far as it
 * came. ERT_FAILED_FULL when the text does not fit the context: nothing was said. *answer is filled
 * on success. */
int ert_say(struct ert_conversation *talk, const char *text, uint32_t max_tokens,
            const struct ert_callbacks *callbacks, struct ert_answer *answer,
            struct ert_failure *why);

/* Ends the answer that runs, or the next one at its start. Async-signal-safe; from any thread. */
void ert_cancel(struct ert_conversation *talk);

#ifdef __cplusplus
}
#endif

#endif
