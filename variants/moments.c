#include "variants/moments.h"

#include <stdlib.h>

static uint32_t width_of(const struct rt_model *model, enum var_input input)
{
    switch (input) {
    case VAR_IN_MIXED:
        return model->n_heads * model->head_dim;
    case VAR_IN_GATED:
        return model->n_ff;
    default:
        return model->n_embd;
    }
}

int var_moments_init(struct var_moments *m, const struct rt_model *model, unsigned wanted,
                     struct ert_error *err)
{
    bool ok = true;
    *m = (struct var_moments){0};
    for (unsigned i = 0; i < VAR_N_INPUTS && ok; i++) {
        if (!(wanted & 1u << i))
            continue;
        size_t n = m->width[i] = width_of(model, i);
        ok = (m->mean[i] = calloc(n, sizeof *m->mean[i])) != NULL &&
             (m->gram[i] = calloc(n * n, sizeof *m->gram[i])) != NULL;
    }
    if (ok && wanted & VAR_CROSS)
        ok = (m->cross = calloc((size_t)model->n_ff * model->n_embd, sizeof *m->cross)) != NULL;
    if (ok)
        return 0;
    var_moments_release(m);
    return ert_fail(err, ERT_E_NOMEM, "no memory for the moments of a layer of %u and %u channels",
                    model->n_embd, model->n_ff);
}

void var_moments_release(struct var_moments *m)
{
    for (unsigned i = 0; i < VAR_N_INPUTS; i++) {
        free(m->mean[i]);
        free(m->gram[i]);
    }
    free(m->cross);
    *m = (struct var_moments){0};
}
