#include "variants/compensate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/pack_format.h"

enum { ITERATIONS = 8 };

/* The removed part of one layer at one tier. */
struct removed {
    const struct var_source *src;
    const struct var_arrangement *a;
    const struct var_layer_stats *stats;
    double tokens;
    uint32_t layer, first, end; /* stored channels first .. end - 1 */
};

/* Calls add with each source row of DOWN and its removed weights in stored order. */
static int fill_bias(const struct removed *r, float *bias)
{
    const struct rt_model *m = &r->src->model;
    const struct var_tensor *down = &r->src->layers[r->layer].part[VAR_DOWN];
    const int32_t *order = r->a->layers[r->layer].mlp;
    float *w = malloc(m->n_ff * sizeof *w);
    if (!w)
        return -1;
    for (uint32_t row = 0; row < m->n_embd_pad; row++) {
        double sum = 0;
        if (r->a->residual[row] >= 0) {
            var_tensor_row(down, (uint32_t)r->a->residual[row], w);
            for (uint32_t c = r->first; c < r->end; c++)
                if (order[c] >= 0)
                    sum += w[order[c]] * r->stats->sum_a[order[c]] / r->tokens;
        }
        bias[row] = (float)sum;
    }
    free(w);
    return 0;
}

int var_compensate(struct var_extras *x, const struct var_source *src,
                   const struct var_arrangement *a, const struct var_stats *stats, uint32_t tier,
                   uint32_t layer, uint32_t rank, struct ert_error *err)
{
    struct removed r = {.src = src,
                        .a = a,
                        .stats = &stats->layers[layer],
                        .tokens = (double)stats->tokens,
                        .layer = layer,
                        .first = a->dims[tier][layer].mlp,
                        .end = a->dims[0][layer].mlp};
    (void)rank;
    if (r.first == r.end || stats->tokens == 0)
        return 0;
    x->mlp_bias = calloc(src->model.n_embd_pad, sizeof *x->mlp_bias);
    if (!x->mlp_bias || fill_bias(&r, x->mlp_bias))
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for the tiers' biases", src->path);
    return 0;
}
