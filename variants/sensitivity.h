/* sensitivity: what it costs to narrow one layer's MLP: the divergence of a model that is whole but
 * for that layer. */
#ifndef VAR_SENSITIVITY_H
#define VAR_SENSITIVITY_H

#include "variants/arrange.h"
#include "variants/texts.h"

enum { VAR_CUTS = 3 };

struct var_sensitivity {
    uint32_t n_layers;
    uint32_t width[VAR_CUTS]; /* MLP channels kept, falling */
    double (*kld)[VAR_CUTS];  /* [n_layers] KL(source || cut), nats a token */
};

/* Runs the source in FP32 (variants/stream.h) on some of the texts that were measured, once for
 * each layer and width; what a dropped channel gives becomes its mean, which is what a tier's bias
 * adds. The stored order is a's. Release after use; nothing is allocated on failure. */
int var_sensitivity_measure(struct var_sensitivity *s, const struct var_source *src,
                            const struct var_arrangement *a,
                            const struct var_moments_store *moments, const struct var_texts *texts,
                            struct rt_team *team, const struct ert_progress *progress,
                            struct ert_error *err);
void var_sensitivity_release(struct var_sensitivity *s);

#endif
