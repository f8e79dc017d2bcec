/* variants: making a pack out of a model file, and measuring what its points cost. */
#ifndef VAR_VARIANTS_H
#define VAR_VARIANTS_H

#include "runtime/runtime.h"

/* ---- building ------------------------------------------------------------------------------ */

enum { VAR_MAX_TIERS = 8, VAR_CALIB_TOKENS = 16384 };

/* What w4a16 takes where nothing else is asked for (rt_pack_bits_per_weight). */
#define VAR_BITS_PER_WEIGHT 4.85f

/* What a build has to say that is no error; say may be NULL. */
struct var_notice {
    void (*say)(void *ctx, const char *sentence);
    void *ctx;
};

/* Whatever shows in the pack goes into the work folder's key (build.c). */
struct var_build_options {
    const char *source;    /* a GGUF v3 file, a Hugging Face folder, a llama2.c .bin */
    const char *tokenizer; /* llama2.c's tokenizer .bin; NULL for GGUF */
    const char *output;    /* the pack; appears only when complete */
    bool f32;              /* an f32 pack (reference) instead of a nested one */
    bool h_only;           /* nested without L planes: w4a16 only */
    bool no_catalog;       /* skip the measuring pass */
    bool nearest;          /* each weight to the nearest level, uncalibrated */
    unsigned n_tiers;      /* 0 = the default 100, 90, 80, 70 % */
    unsigned rank_percent[VAR_MAX_TIERS]; /* first must be 100, strictly falling */
    bool truncate_attention; /* deeper tiers also narrow qk and vo (fixtures; costs quality) */
    unsigned comp_rank;      /* what the rank of a layer's compensator grows by at each tier that
                                loses more of it; 0 = the standard ranks, where they pay */
    bool outliers;           /* an outlier group also where none is known to pay */
    float bits_per_weight;   /* of all that w4a16 reads or keeps; 0 = VAR_BITS_PER_WEIGHT, or what
                                the source's 4-bit grid and other types say */
    const char *calib;       /* text to watch the model on; NULL: the model writes its own */
    unsigned calib_tokens;   /* to calibrate on, a quarter more to measure on; 0 =
                                VAR_CALIB_TOKENS */
    unsigned threads;        /* 0 = all cores; the result does not depend on it */
    uint64_t seed;
    struct ert_progress progress; /* over the whole build */
    struct var_notice notice;
};

/* Builds the pack. What the stages made lies in OUTPUT.build meanwhile: after a failure, a stop, or
 * an end of the process at any moment the same call goes on from there, and gives the same bytes as
 * one that was never stopped. Nothing incomplete ever bears the output's name. (An f32 pack, and
 * one with neither calibration, tiers nor catalog, is made in one go and leaves nothing.) Errors
 * name the source file, tensor and offset, what was expected and what to do. OpenBLAS is told to
 * compute on its callers' threads, in the whole process. */
int var_build(const struct var_build_options *options, struct ert_error *err);

/* Whether such a build leaves its stages in OUTPUT.build when it is stopped. */
bool var_build_resumes(const struct var_build_options *options);

/* ---- evaluation ---------------------------------------------------------------------------- */

/* From token index `token` of a window on, run at this point. */
struct var_schedule_entry {
    uint32_t token;
    struct rt_point point;
};

/* Points by token: at least one entry, the first at token 0, tokens rising. */
struct var_schedule {
    struct var_schedule_entry *entries; /* [n] */
    size_t n;
};

struct var_eval_config {
    const char *text;
    size_t n_text;                   /* bytes */
    uint32_t window;                 /* tokens, 0 = 512; scored on the second half */
    uint32_t max_windows;            /* 0 = all */
    uint32_t cache_bits;             /* as of a session */
    const struct rt_pack *reference; /* an f32 pack of the same source for the KL, or NULL */
    struct ert_progress progress;
};

/* A mean over the windows of a text and its standard error. Each window counts as one observation:
 * the tokens of one share a context, and taken for independent they would make errors up to four
 * times too small (measured: docs/quality.md). The error is NaN for a single window. */
struct var_mean {
    double mean, error;
};

/* Without a reference kld, top1 and ppl_ratio are NaN. */
struct var_eval_result {
    uint64_t tokens; /* scored */
    uint32_t windows;
    double nll;                /* mean negative log likelihood, nats */
    struct var_mean ppl;       /* exp(nll) */
    struct var_mean kld;       /* KL(reference || point), nats */
    struct var_mean top1;      /* share of tokens where the argmax agrees with the reference's */
    struct var_mean ppl_ratio; /* ppl over the reference's on the same tokens */
};

/* Perplexity as llama.cpp's tool measures it: windows one after the other without overlap, the
 * first token of each replaced by BOS where the vocabulary asks for one, positions window/2 ..
 * window-2 predict their next token. Fills results[n]; the text is read, and the reference run,
 * once for all n schedules. */
int var_eval(const struct rt_pack *pack, struct rt_team *team, const struct var_eval_config *config,
             const struct var_schedule *schedules, size_t n, struct var_eval_result *results,
             struct ert_error *err);

/* One measure of the tokens after a switch: at each point all along, and switched; then how much
 * the switched text is worse, window by window, than if it had always been there (or stayed). */
struct var_switch_measure {
    struct var_mean from, to, switched, over_to, over_from;
};

/* Tokens first .. last after the switch: 0 is the first one computed at the new point. */
struct var_switch_stretch {
    uint32_t first, last;
    struct var_switch_measure nll, kld; /* kld is NaN without a reference */
};

enum { VAR_SWITCH_STRETCHES = 24 };

struct var_switch {
    struct rt_point from, to;
};

struct var_switch_result {
    uint32_t windows;
    size_t n_stretches;
    struct var_switch_stretch stretches[VAR_SWITCH_STRETCHES]; /* 0, 1, 2-3, 4-7, 8-15, ... */
    struct var_switch_stretch all;
};

/* What a switch at token `at` of every window does to the rest of the window. Windows as for
 * var_eval; all switches share one run of the reference. ERT_E_RANGE if `at` leaves nothing to
 * score. Fills results[n]. */
int var_eval_switches(const struct rt_pack *pack, struct rt_team *team,
                      const struct var_eval_config *config, uint32_t at,
                      const struct var_switch *switches, size_t n,
                      struct var_switch_result *results, struct ert_error *err);

/* Multiple-choice questions of a file (docs/quality.md). */
struct var_exam {
    const char *path;
    uint32_t max_questions; /* 0 = all */
    uint32_t cache_bits;    /* as of a session */
    struct ert_progress progress;
};

/* A share with its 95 % interval (Wilson). */
struct var_share {
    double share, low, high;
};

/* The choice of the highest log-likelihood, and of the highest per character. */
struct var_answer {
    uint32_t choice, choice_norm;
    bool right, right_norm;
};

struct var_exam_result {
    uint32_t questions;
    struct var_share acc, acc_norm;
    struct var_answer *answers; /* [questions] */
};

/* Asks every question at every schedule: the log-likelihood of each choice after the prompt, whole
 * and per character, as EleutherAI's lm-evaluation-harness scores `acc` and `acc_norm`. Fills
 * results[n], to be released one by one, on failure too. ERT_E_FULL names a question that the
 * model's context does not hold. */
int var_eval_questions(const struct rt_pack *pack, struct rt_team *team,
                       const struct var_exam *config, const struct var_schedule *schedules,
                       size_t n, struct var_exam_result *results, struct ert_error *err);
void var_exam_result_release(struct var_exam_result *result);

/* Reads a schedule file: lines "TOKEN POINT", '#' comments, or the journal of a run (its switch
 * lines). var_schedule_release frees the entries. */
int var_schedule_read(const char *path, const struct rt_pack *pack, struct var_schedule *schedule,
                      struct ert_error *err);
void var_schedule_release(struct var_schedule *schedule);

#endif
