/* sensitivity: what it costs to narrow one layer's MLP further, all others being as a tier has
 * them. */
#ifndef VAR_SENSITIVITY_H
#define VAR_SENSITIVITY_H

#include "variants/arrange.h"
#include "variants/texts.h"

enum { VAR_CUTS = 4, VAR_BLOCKS = 32 };

/* What tiers are weighed by and on. The stored order is order's; what a dropped channel gives
 * becomes its mean, which is what a tier's bias adds. */
struct var_weighing {
    const struct var_source *src;
    const struct var_arrangement *order;
    const struct var_moments_store *moments;
    const struct var_texts *texts;
    struct rt_team *team;
};

struct var_sensitivity {
    uint32_t n_layers;
    uint32_t width[VAR_CUTS]; /* MLP channels kept, falling to one step */
    double tier_kld;          /* KL(source || tier), nats a token */
    double (*kld)[VAR_CUTS];  /* [n_layers] with one layer at that width; INFINITY: not measured */
    uint32_t n_scored;        /* tokens that these are the means over */
    /* The same as sums over VAR_BLOCKS parts of the scored tokens: the tier's, then the layers'. */
    double (*sums)[VAR_BLOCKS]; /* [1 + n_layers * VAR_CUTS] */
};

/* MLP widths are multiples of this, and not less: the first channels may carry what no later layer
 * can do without (Sun et al. 2024, massive activations). */
uint32_t var_width_step(const struct rt_model *m);

/* Runs the source in FP32 (variants/stream.h) on the texts: cut as order->dims[tier] says, and once
 * more for each layer and width below the tier's, down to the first that loses at least `depth`
 * channels more. Layers whose cuts mend or double one another are so seen together. Release after
 * use; nothing is allocated on failure. */
int var_sensitivity_measure(struct var_sensitivity *s, const struct var_weighing *w, uint32_t tier,
                            uint32_t depth, const struct ert_progress *progress,
                            struct ert_error *err);
void var_sensitivity_release(struct var_sensitivity *s);

/* Makes the means those over other tokens of the same kind: as many parts as there are, drawn with
 * replacement (the bootstrap; Efron 1979). Draw 0 is all parts, once each. */
void var_sensitivity_draw(struct var_sensitivity *s, uint32_t draw);

/* kld[n]: KL(source || tier), nats a token, of n tiers: widths[n][n_layers] MLP channels kept. */
int var_sensitivity_compare(double *kld, const struct var_weighing *w, const uint32_t *widths,
                            uint32_t n, const struct ert_progress *progress, struct ert_error *err);

#endif
