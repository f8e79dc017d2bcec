/* moments: what the products of each layer read, averaged over calibration text. The source runs in
 * FP32 one layer at a time, so that a model larger than memory can be watched. */
#ifndef VAR_MOMENTS_H
#define VAR_MOMENTS_H

#include "runtime/team.h"
#include "variants/source.h"

/* The vectors that products read, and which. */
enum var_input {
    VAR_IN_ATTN,  /* [n_embd], after the norm: Q, K, V */
    VAR_IN_MIXED, /* [n_heads * head_dim], attention's output: O */
    VAR_IN_MLP,   /* [n_embd], after the norm: GATE, UP */
    VAR_IN_GATED, /* [n_ff], silu(gate) * up: DOWN */
    VAR_N_INPUTS
};

/* Averages over the tokens of one layer's inputs, in the source's order of channels. */
struct var_moments {
    uint64_t tokens;
    uint32_t width[VAR_N_INPUTS];
    float *mean[VAR_N_INPUTS]; /* E[x], [width] */
    float *gram[VAR_N_INPUTS]; /* E[x x^T], [width][width], symmetric, both triangles */
    float *cross;              /* E[gated mlp^T], [n_ff][n_embd] */
};

#endif
