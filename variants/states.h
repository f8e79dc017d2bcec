/* states: the source's logits out of what its head read: the end of the FP32 stream, kept for the
 * held-back texts. So a catalog needs no f32 pack to compare with. */
#ifndef VAR_STATES_H
#define VAR_STATES_H

#include "variants/measure.h"
#include "variants/source.h"

struct var_states {
    const struct var_source *src;
    struct rt_team *team;
    const float *x; /* [windows][length][n_embd_pad], normed (variants/stream.h) */
    uint32_t length;
    float *rows; /* scratch */
};

/* Makes *reference one that multiplies these states with the source's head, in FP32. src, team, x
 * and *states must outlive it; the caller releases *states. */
int var_states_open(struct var_states *states, const struct var_source *src, struct rt_team *team,
                    const float *x, uint32_t length, struct var_reference *reference,
                    struct ert_error *err);
void var_states_release(struct var_states *states);

#endif
