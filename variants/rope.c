#include "variants/rope.h"

#include <math.h>
#include <stdlib.h>

static int begin(struct var_source *src, struct ert_error *err)
{
    uint32_t n = src->model.head_dim / 2;
    if (src->rope_factors)
        return 0;
    src->rope_factors = calloc(n, sizeof *src->rope_factors);
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

static int scale(struct var_source *src, uint32_t f, double factor, struct ert_error *err)
{
    float product = src->rope_factors[f] * (float)factor;
    if (!is_positive(factor) || !is_positive((double)product))
        return ert_fail(
            err, ERT_E_FORMAT,
            "%s: RoPE scaling factor %g of frequency %u, a number above 0 was expected; "
            "the file is damaged",
            src->path, factor, f);
    src->rope_factors[f] = product;
    return 0;
}

int var_rope_linear(struct var_source *src, double factor, struct ert_error *err)
{
    int rc = begin(src, err);
    for (uint32_t f = 0; f < src->model.head_dim / 2 && !rc; f++)
        rc = scale(src, f, factor, err);
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
        rc = scale(src, f, 1 / ((1 - kept) / s->factor + kept), err);
    }
    return rc;
}

int var_rope_table(struct var_source *src, const struct var_tensor *table, struct ert_error *err)
{
    float *row = calloc(table->cols, sizeof *row);
    if (!row)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory", src->path);
    int rc = begin(src, err);
    if (!rc)
        var_tensor_row(table, 0, row);
    for (uint32_t f = 0; f < table->cols && !rc; f++)
        rc = scale(src, f, (double)row[f], err);
    free(row);
    return rc;
}
