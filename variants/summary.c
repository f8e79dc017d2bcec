/* What the scores of many positions come to: means, and how far they can be trusted. */
#include <math.h>

#include "variants/measure.h"

/* Sums of a column of scores. */
struct column {
    double sum, sum2;
    size_t n;
};

static void add(struct column *c, double x)
{
    c->sum += x;
    c->sum2 += x * x;
    c->n++;
}

static double mean_of(const struct column *c)
{
    return c->sum / (double)c->n;
}

/* Standard error of the mean, NaN for a single value. */
static double error_of(const struct column *c)
{
    double n = (double)c->n, mean = mean_of(c);
    return n > 1 ? sqrt(fmax(c->sum2 / n - mean * mean, 0) / (n - 1)) : NAN;
}

struct var_eval_result var_summarise(const struct var_score *scores,
                                     const struct var_windows *windows, bool compared)
{
    struct column nll = {0}, kld = {0}, agrees = {0}, excess = {0};
    size_t n = var_windows_scores(windows);
    for (size_t i = 0; i < n; i++) {
        add(&nll, (double)scores[i].nll);
        add(&kld, (double)scores[i].kld);
        add(&agrees, scores[i].agrees);
        add(&excess, (double)scores[i].nll - (double)scores[i].reference_nll);
    }
    double ppl = exp(mean_of(&nll)), ratio = exp(mean_of(&excess));
    return (struct var_eval_result){
        .tokens = n,
        .windows = windows->n,
        .nll = mean_of(&nll),
        .ppl = ppl,
        .ppl_error = ppl * error_of(&nll),
        .kld = compared ? mean_of(&kld) : NAN,
        .kld_error = compared ? error_of(&kld) : NAN,
        .top1 = compared ? mean_of(&agrees) : NAN,
        .top1_error = compared ? error_of(&agrees) : NAN,
        .ppl_ratio = compared ? ratio : NAN,
        .ppl_ratio_error = compared ? ratio * error_of(&excess) : NAN,
    };
}

struct var_difference var_compare_kld(const struct var_score *a, const struct var_score *b,
                                      size_t n)
{
    struct column difference = {0};
    for (size_t i = 0; i < n; i++)
        add(&difference, (double)a[i].kld - (double)b[i].kld);
    return (struct var_difference){mean_of(&difference), error_of(&difference)};
}
