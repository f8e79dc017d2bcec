/* level: averages over tokens of which each counts by 1 / |x|^2, x the residual stream that a
 * layer's MLP adds to. What reads the stream norms it, so this is how much a token feels of an
 * addition; a few tokens are a hundred times as large as all others, and a plain mean would
 * describe those. */
#ifndef VAR_LEVEL_H
#define VAR_LEVEL_H

#include "variants/blas.h"
#include "variants/moments.h"

struct var_level {
    double *sums;   /* [n_ff] of gated, [n_ff] of its squares, [n_embd] of mlp */
    float *weights; /* [tokens] */
    float *rows;    /* [tokens][n_embd] of mlp, weighted */
    double weight;  /* of all tokens */
    uint32_t n_ff, n_embd;
};

/* For at most `tokens` at once. 0 or -ERT_E_NOMEM, without a sentence; release is harmless on {0}.
 */
int var_level_init(struct var_level *l, const struct rt_model *model, size_t tokens);
void var_level_release(struct var_level *l);

/* Between begin and end tokens are added: of each a row of x, gated and mlp. end fills the level_*
 * and cross of *m that are there. */
void var_level_begin(struct var_level *l);
void var_level_add(struct var_level *l, struct rt_team *team, struct var_moments *m,
                   const struct var_view *x, const struct var_view *gated,
                   const struct var_view *mlp);
void var_level_end(const struct var_level *l, struct var_moments *m);

#endif
