/* measure: how well points predict a text, several points side by side against one reference. */
#ifndef VAR_MEASURE_H
#define VAR_MEASURE_H

#include "variants/variants.h"

/* What is measured on: windows of tokens, each fed from an empty cache. Positions first ..
 * length - 2 are scored on how they predict the next token. */
struct var_windows {
    const int32_t *ids; /* [n][length] */
    uint32_t n, length, first;
};

/* Scored positions, of one window and of all. */
uint32_t var_windows_scored(const struct var_windows *windows);
size_t var_windows_scores(const struct var_windows *windows);

/* Where the source's logits come from. */
struct var_reference {
    /* Logits of positions from .. from + n - 1 of a window, [n][n_vocab], into out. Asked in order
     * and only once: windows rise, positions rise within one, from windows->first on. */
    int (*logits)(void *ctx, uint32_t window, uint32_t from, uint32_t n, float *out,
                  struct ert_error *err);
    void *ctx;
};

/* A reference that runs an f32 pack of the source over the windows; those, the pack and the team
 * must outlive it. Close is harmless on {0}. ERT_E_USAGE if the pack is not f32. */
int var_reference_open(struct var_reference *reference, const struct rt_pack *f32,
                       const struct var_windows *windows, struct rt_team *team,
                       struct ert_error *err);
void var_reference_close(struct var_reference *reference);

/* What one position says. Without a reference only nll is meant. */
struct var_score {
    float nll;           /* -log p(next token), nats */
    float reference_nll; /* the same of the reference */
    float kld;           /* KL(reference || point) over the whole vocabulary */
    bool agrees;         /* the likeliest token is the reference's */
};

/* Scores n rows of logits [n][n_vocab], each on the token that should come next; reference (NULL =
 * none) has rows of the same positions. */
void var_score_rows(struct rt_team *team, const float *logits, const float *reference,
                    uint32_t n_vocab, const int32_t *next, uint32_t n, struct var_score *scores);

/* A point, or a schedule of points through every window, to be measured. */
struct var_measured {
    const struct rt_pack *pack;
    struct var_schedule schedule;
    uint32_t cache_bits; /* as of a session */
    struct var_score
        *scores; /* filled: [windows->n][scored]; the caller frees it, on failure too */
};

/* ERT_E_USAGE for a schedule that does not begin at 0, does not rise or pauses. */
int var_check_schedule(const struct var_schedule *schedule, struct ert_error *err);

/* Fills points[i].scores. Each chunk of the text goes through the reference (NULL = none) once and
 * through every point; all have the same vocabulary. */
int var_measure(struct var_measured *points, size_t n_points, const struct var_windows *windows,
                const struct var_reference *reference, struct rt_team *team,
                const struct ert_progress *progress, struct ert_error *err);

/* Scored positions first .. last (0 is windows->first) of every window: of one point, or its
 * difference to another's on the same text (minus, NULL = none). */
struct var_stretch {
    const struct var_score *scores, *minus; /* [windows->n][scored] */
    uint32_t first, last;
};
struct var_mean var_mean_nll(const struct var_windows *windows, const struct var_stretch *stretch);
struct var_mean var_mean_kld(const struct var_windows *windows, const struct var_stretch *stretch);

/* A point's scores in one; compared: there was a reference. */
struct var_eval_result var_summarise(const struct var_score *scores,
                                     const struct var_windows *windows, bool compared);

#endif
