/* sensitivity: what it costs to narrow one layer's MLP further, all others being as a tier has
 * them. */
#ifndef VAR_SENSITIVITY_H
#define VAR_SENSITIVITY_H

#include "variants/arrange.h"
#include "variants/texts.h"

enum { VAR_CUTS = 4 };

struct var_sensitivity {
    uint32_t n_layers;
    uint32_t width[VAR_CUTS]; /* MLP channels kept, falling to one step */
    double tier_kld;          /* KL(source || tier), nats a token */
    double (*kld)[VAR_CUTS];  /* [n_layers] with one layer at that width; INFINITY: not measured */
};

/* MLP widths are multiples of this, and not less: the first channels may carry what no later layer
 * can do without (Sun et al. 2024, massive activations). */
uint32_t var_width_step(const struct rt_model *m);

/* Runs the source in FP32 (variants/stream.h) on the texts (var_texts_weighed): cut as
 * a->dims[tier] says, and once more for each layer and width below the tier's, down to the first
 * that loses at least `depth` channels more. Layers whose cuts mend or double one another are so
 * seen together. What a dropped channel gives becomes its mean, which is what a tier's bias adds.
 * The stored order is a's. Release after use; nothing is allocated on failure. */
int var_sensitivity_measure(struct var_sensitivity *s, const struct var_source *src,
                            const struct var_arrangement *a, uint32_t tier, uint32_t depth,
                            const struct var_moments_store *moments, const struct var_texts *texts,
                            struct rt_team *team, const struct ert_progress *progress,
                            struct ert_error *err);
void var_sensitivity_release(struct var_sensitivity *s);

#endif
