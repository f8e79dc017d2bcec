/* compensate: what a tier adds to make up for the channels it leaves out. */
#ifndef VAR_COMPENSATE_H
#define VAR_COMPENSATE_H

#include "variants/arrange.h"
#include "variants/moments.h"

/* Private extras of one tier and layer, in stored order, owned by the caller; absent ones NULL. */
struct var_extras {
    float *mlp_bias;        /* [n_embd_pad] */
    float *comp_v, *comp_u; /* [rank][n_embd_pad], [n_embd_pad][rank] */
    uint32_t rank;          /* padded to 32 */
};

/* For the channels S that tier `tier` drops from layer `layer`: the bias W_down[:,S] E[a_S], and,
 * with rank > 0, the best rank-limited linear map from the MLP's input to what is still missing
 * (ridge regression on the layer's moments, which then hold the cross moments, cut to its leading
 * output directions). Nothing where S is empty. */
int var_compensate(struct var_extras *x, const struct var_source *src,
                   const struct var_arrangement *a, const struct var_moments *moments,
                   uint32_t tier, uint32_t layer, uint32_t rank, struct ert_error *err);

enum { VAR_STANDARD_RANK = 32 }; /* less would be padded to it */

/* MLP channels of the source that tier `tier` drops from layer `layer`; where none, there are no
 * extras. */
uint32_t var_lost_channels(const struct var_arrangement *a, const struct rt_model *m, uint32_t tier,
                           uint32_t layer);
/* The rank of a layer's compensator where so many channels are lost, before padding to 32; 0 is
 * none. comp_rank as in var_build_options: 0 leaves it to what a compensator takes beside what is
 * lost. */
uint32_t var_compensator_rank(const struct rt_model *m, uint32_t comp_rank, uint32_t lost);

#endif
