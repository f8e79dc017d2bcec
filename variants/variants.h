/* variants: making a pack out of a model file, and measuring what its points cost. */
#ifndef VAR_VARIANTS_H
#define VAR_VARIANTS_H

#include "runtime/runtime.h"

/* ---- building ------------------------------------------------------------------------------ */

enum { VAR_MAX_TIERS = 8 };

struct var_build_options {
    const char *source;                   /* a GGUF v3 file, or a llama2.c .bin */
    const char *tokenizer;                /* llama2.c's tokenizer .bin; NULL for GGUF */
    const char *output;                   /* the pack; appears only when complete */
    bool f32;                             /* an f32 pack (reference) instead of a nested one */
    bool h_only;                          /* nested without L planes: w4a16 only */
    bool no_catalog;                      /* skip the measuring pass */
    unsigned n_tiers;                     /* 0 = the default 100, 90, 80, 70 % */
    unsigned rank_percent[VAR_MAX_TIERS]; /* first must be 100, strictly falling */
    bool truncate_attention; /* deeper tiers also narrow qk and vo (fixtures; costs quality) */
    unsigned comp_rank;      /* rank of the MLP compensator of deeper tiers, 0 = none */
    bool outliers;           /* store group 0 as an outlier group */
    unsigned threads;        /* 0 = all cores; the result does not depend on it */
    uint64_t seed;
    struct ert_progress progress;
};

/* Builds the pack; on failure or cancellation nothing is left under the output's name. Errors name
 * the source file, tensor and offset, what was expected and what to do. */
int var_build(const struct var_build_options *options, struct ert_error *err);

/* ---- evaluation ---------------------------------------------------------------------------- */

/* From token index `token` of a window on, run at this point. */
struct var_schedule_entry {
    uint32_t token;
    struct rt_point point;
};

struct var_eval_config {
    const char *text;
    size_t n_text;                             /* bytes */
    uint32_t window;                           /* tokens, 0 = 512; scored on the second half */
    uint32_t max_windows;                      /* 0 = all */
    const struct var_schedule_entry *schedule; /* at least one entry, the first at token 0 */
    size_t n_schedule;
    const struct rt_pack *reference; /* an f32 pack of the same source for the KL, or NULL */
    struct ert_progress progress;
};

struct var_eval_result {
    uint64_t tokens; /* scored */
    uint32_t windows;
    double nll;       /* mean negative log likelihood, nats */
    double ppl;       /* exp(nll) */
    double ppl_error; /* standard error of ppl */
    double kld;       /* mean KL(reference || point), NaN without a reference */
    double top1;      /* share of tokens where the argmax agrees with the reference's, or NaN */
};

/* Perplexity as llama.cpp's tool measures it: windows one after the other without overlap, the
 * first token of each replaced by BOS where the vocabulary asks for one, positions window/2 ..
 * window-2 predict their next token. A schedule of one entry runs in prefill chunks, a longer one
 * changes the point at its tokens. */
int var_eval(const struct rt_pack *pack, struct rt_team *team, const struct var_eval_config *config,
             struct var_eval_result *result, struct ert_error *err);

/* Reads a schedule file: lines "TOKEN POINT", '#' comments, or the journal of a run (its switch
 * lines). *entries is the caller's to free. */
int var_schedule_read(const char *path, const struct rt_pack *pack,
                      struct var_schedule_entry **entries, size_t *n, struct ert_error *err);

#endif
