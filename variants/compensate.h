/* compensate: what a tier adds to make up for the channels it leaves out. */
#ifndef VAR_COMPENSATE_H
#define VAR_COMPENSATE_H

#include "variants/arrange.h"
#include "variants/moments.h"

/* What narrower tiers add to one layer, in stored order; absent ones NULL. */
struct var_extras {
    float *mlp_bias[VAR_MAX_TIERS]; /* [n_embd_pad] each */
    float *comp_v, *comp_u;         /* [rank][n_embd_pad], [n_embd_pad][rank] */
    uint32_t rank;                  /* of the narrowest tier, which a->dims say as `comp` */
};

/* For the channels S that each tier drops from a layer: the bias W_down[:,S] E[a_S], and, of the
 * tier's rank, the linear map from the MLP's input to what is still missing (ridge regression on
 * the layer's moments, which then hold the cross moments, cut to its leading output directions).
 * The map of a tier begins with that of the tier before. Nothing where no tier drops any; the
 * caller releases *x, also the empty one that an error leaves. */
int var_compensate(struct var_extras *x, const struct var_source *src,
                   const struct var_arrangement *a, const struct var_moments *moments,
                   uint32_t layer, struct ert_error *err);
void var_extras_release(struct var_extras *x);

/* MLP channels of the source that tier `tier` drops from layer `layer`; where none, there are no
 * extras. */
uint32_t var_lost_channels(const struct var_arrangement *a, const struct rt_model *m, uint32_t tier,
                           uint32_t layer);
/* The rank of a layer's compensator at a tier, a multiple of 32 that does not fall with the tier; 0
 * is none. comp_rank as in var_build_options: 0 leaves it to what a compensator takes beside what
 * is lost. */
uint32_t var_compensator_rank(const struct var_arrangement *a, const struct rt_model *m,
                              uint32_t tier, uint32_t layer, uint32_t comp_rank);
/* Once the widths are final: the ranks of all tiers, into a->dims. */
void var_rank_compensators(struct var_arrangement *a, const struct rt_model *m, uint32_t comp_rank);

#endif
