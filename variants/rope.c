#include "variants/rope.h"

#include <math.h>
#include <stdlib.h>

static int begin(struct var_source *src, struct ert_error *err)
{
    uint32_t n = src->model.head_dim / 2;
    if (src->rope_factors)
        return 0;
    src->rope_factors = malloc(n * sizeof *src->rope_factors);
    if (!src->rope_factors)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory", src->path);
    for (uint32_t f = 0; f < n; f++)
        src->rope_factors[f] = 1;
    return 0;
}

static bool is_positive(double x)
{
    return x > 0 && isfinite(x);
}

int var_rope_linear(struct var_source *src, double factor, struct ert_error *err)
{
    if (!is_positive(factor) || !is_positive((double)(float)factor))
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: RoPE scaling factor %g, a number above 0 was expected; the file is "
                        "damaged",
                        src->path, factor);
    int rc = begin(src, err);
    for (uint32_t f = 0; f < src->model.head_dim / 2 && !rc; f++)
        src->rope_factors[f] *= (float)factor;
    return rc;
}

int var_rope_llama3(struct var_source *src, const struct var_rope_llama3 *s, struct ert_error *err)
{
    if (!is_positive(s->factor) || !is_positive(s->low) || !is_positive(s->context) ||
        !is_positive(s->high - s->low))
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: RoPE scaling \"llama3\" with factor %g, low_freq_factor %g, "
                        "high_freq_factor %g and original context %g; positive numbers with low "
                        "below high were expected",
                        src->path, s->factor, s->low, s->high, s->context);
    int rc = begin(src, err);
    for (uint32_t f = 0; f < src->model.head_dim / 2 && !rc; f++) {
        double turns = s->context * rt_rope_frequency(&src->model, NULL, f) / (2 * M_PI);
        double blend = (turns - s->low) / (s->high - s->low);
        double kept = blend < 0 ? 0 : blend > 1 ? 1 : blend;
        src->rope_factors[f] *= (float)(1 / ((1 - kept) / s->factor + kept));
    }
    return rc;
}

int var_rope_table(struct var_source *src, const struct var_tensor *table, struct ert_error *err)
{
    float *row = malloc(table->cols * sizeof *row);
    int rc = row ? begin(src, err) : ert_fail(err, ERT_E_NOMEM, "%s: no memory", src->path);
    if (!rc)
        var_tensor_row(table, 0, row);
    for (uint32_t f = 0; f < table->cols && !rc; f++) {
        if (!is_positive((double)row[f]))
            rc = ert_fail(err, ERT_E_FORMAT,
                          "%s: tensor '%s' holds %g at place %u, a number above 0 was expected; "
                          "the file is damaged",
                          src->path, table->name, (double)row[f], f);
        src->rope_factors[f] *= row[f];
    }
    free(row);
    return rc;
}
