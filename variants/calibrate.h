/* calibrate: what the model's own activations say about the importance of its channels. */
#ifndef VAR_CALIBRATE_H
#define VAR_CALIBRATE_H

#include "runtime/pack.h"
#include "runtime/team.h"

/* Moments of one layer over the calibration tokens. a = silu(gate b) * (up b) are the MLP's
 * channels, b its input after the norm, both in the source's order. */
struct var_layer_stats {
    double *sum_a, *sum_a2; /* [n_ff] */
    double *sum_b;          /* [n_embd] */
    float *cross;           /* sum a b^T, [n_ff][n_embd]; NULL unless asked for */
    float *gram;            /* sum b b^T, [n_embd][n_embd]; likewise */
};

struct var_stats {
    uint32_t n_layers;
    uint64_t tokens; /* that went into the moments */
    struct var_layer_stats *layers;
    int32_t *ids;               /* held-back text of the model, not in the moments */
    uint32_t n_windows, window; /* ids is [n_windows][window], each starts with BOS */
};

/* Lets the model write n_sequences texts of `length` tokens side by side (temperature 1, from its
 * BOS) and gathers the moments on them; the last `held_back` sequences only become text. `pack` is
 * an f32 pack in source order. The caller frees *stats. */
struct var_calibration {
    uint32_t n_sequences, length, held_back;
    bool products; /* cross and gram as well */
    uint64_t seed;
    const struct ert_progress *progress;
};
int var_calibrate(struct var_stats **stats, const struct rt_pack *pack, struct rt_team *team,
                  const struct var_calibration *config, struct ert_error *err);
void var_stats_free(struct var_stats *stats); /* NULL is fine */

#endif
