/* widths: how many MLP channels each layer keeps at a tier. */
#ifndef VAR_WIDTHS_H
#define VAR_WIDTHS_H

#include "variants/tiers.h"

/* Fills a->dims[tier], tier > 0, whose tier above is filled. Layers are weighed on the first
 * quarter of the texts; what is weighed scatters with the tokens, and the widths with it, so
 * several candidates are made, from the mean and from draws of those tokens (var_sensitivity_draw),
 * and the one that loses least on all of the texts is taken (docs/quality.md). a is w's order. */
int var_widths_choose(struct var_arrangement *a, const struct var_weighing *w, uint32_t tier,
                      uint32_t comp_rank, const struct ert_progress *progress,
                      struct ert_error *err);

#endif
