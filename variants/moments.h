/* moments: what the products of each layer read, averaged over calibration text. The source runs in
 * FP32 one layer at a time (variants/stream.h), so that a model larger than memory can be watched.
 */
#ifndef VAR_MOMENTS_H
#define VAR_MOMENTS_H

#include "runtime/team.h"
#include "variants/source.h"
#include "variants/work.h"

/* The vectors that products read, and which. */
enum var_input {
    VAR_IN_ATTN,  /* [n_embd], after the norm: Q, K, V */
    VAR_IN_MIXED, /* [n_heads * head_dim], attention's output: O */
    VAR_IN_MLP,   /* [n_embd], after the norm: GATE, UP */
    VAR_IN_GATED, /* [n_ff], silu(gate) * up: DOWN */
    VAR_IN_HEAD,  /* [n_embd], after the final norm: HEAD; the model's, not a layer's */
    VAR_N_INPUTS
};

/* Averages over the tokens of one layer's inputs (or of the model's own one), in the source's order
 * of channels. What was not asked for is NULL, its width 0. */
struct var_moments {
    uint64_t tokens;
    uint32_t width[VAR_N_INPUTS];
    float *mean[VAR_N_INPUTS]; /* E[x], [width] */
    float *gram[VAR_N_INPUTS]; /* E[x x^T], [width][width], symmetric, both triangles */
    /* Averages over levelled tokens (variants/level.h). */
    float *level_mean, *level_square; /* E[x], E[x^2] of gated: [n_ff], there where gated is */
    float *level_mlp, *level_gram;    /* E[b], E[b b^T] of mlp: [n_embd], [n_embd][n_embd] */
    float *cross;                     /* E[gated mlp^T], [n_ff][n_embd] */
};

/* What to average. */
enum {
    VAR_OF_LAYER = 1 << VAR_IN_ATTN | 1 << VAR_IN_MIXED | 1 << VAR_IN_MLP | 1 << VAR_IN_GATED,
    VAR_OF_MODEL = 1 << VAR_IN_HEAD,
    VAR_CROSS = 1 << VAR_N_INPUTS, /* the last three; needs VAR_IN_MLP and VAR_IN_GATED */
};

/* Room for the inputs in `wanted`, all of it zero; ERT_E_NOMEM leaves nothing. Release after use.
 */
int var_moments_init(struct var_moments *m, const struct rt_model *model, unsigned wanted,
                     struct ert_error *err);
void var_moments_release(struct var_moments *m);

/* Keep moments in a build's folder and bring them back, into a *m for the caller to release. They
 * are only ever asked for where they were saved: a file that is missing or damaged is
 * ERT_E_MISSING.
 */
int var_moments_save(const struct var_moments *m, const struct var_work *w, const char *name,
                     struct ert_error *err);
int var_moments_load(struct var_moments *m, const struct rt_model *model, const struct var_work *w,
                     const char *name, struct ert_error *err);

/* Where the moments of layers come from: all at once they would not fit into memory. load fills *m
 * for the caller to release. */
struct var_moments_store {
    int (*load)(void *ctx, uint32_t layer, struct var_moments *m, struct ert_error *err);
    void *ctx;
};

#endif
