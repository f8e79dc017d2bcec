/* What the scores of many positions come to: means, and how far they can be trusted. */
#include <math.h>

#include "variants/measure.h"

typedef double (*score_value)(const struct var_score *a, const struct var_score *b);

static double mean_of_window(const struct var_windows *windows, uint32_t window,
                             const struct var_stretch *s, score_value value)
{
    size_t begin = (size_t)window * var_windows_scored(windows);
    double sum = 0;
    for (size_t i = begin + s->first; i <= begin + s->last; i++)
        sum += value(&s->scores[i], s->minus ? &s->minus[i] : NULL);
    return sum / (s->last - s->first + 1);
}

/* Windows are of equal length, so that the mean of their means is the mean of all tokens. */
static struct var_mean mean_of(const struct var_windows *windows, const struct var_stretch *s,
                               score_value value)
{
    double n = windows->n, mean = 0, squares = 0;
    for (uint32_t w = 0; w < windows->n; w++)
        mean += mean_of_window(windows, w, s, value) / n;
    for (uint32_t w = 0; w < windows->n; w++) {
        double off = mean_of_window(windows, w, s, value) - mean;
        squares += off * off;
    }
    return (struct var_mean){mean, n > 1 ? sqrt(squares / (n - 1) / n) : NAN};
}

static double nll(const struct var_score *a, const struct var_score *b)
{
    return (double)a->nll - (b ? (double)b->nll : 0);
}

static double kld(const struct var_score *a, const struct var_score *b)
{
    return (double)a->kld - (b ? (double)b->kld : 0);
}

static double agreement(const struct var_score *a, const struct var_score *b)
{
    (void)b;
    return a->agrees;
}

static double excess(const struct var_score *a, const struct var_score *b)
{
    (void)b;
    return (double)a->nll - (double)a->reference_nll;
}

struct var_mean var_mean_nll(const struct var_windows *windows, const struct var_stretch *s)
{
    return mean_of(windows, s, nll);
}

struct var_mean var_mean_kld(const struct var_windows *windows, const struct var_stretch *s)
{
    return mean_of(windows, s, kld);
}

struct var_eval_result var_summarise(const struct var_score *scores,
                                     const struct var_windows *windows, bool compared)
{
    const struct var_stretch all = {scores, NULL, 0, var_windows_scored(windows) - 1};
    const struct var_mean none = {NAN, NAN}, loss = mean_of(windows, &all, nll);
    struct var_mean ratio = compared ? mean_of(windows, &all, excess) : none;
    ratio = (struct var_mean){exp(ratio.mean), exp(ratio.mean) * ratio.error};
    return (struct var_eval_result){
        .tokens = var_windows_scores(windows),
        .windows = windows->n,
        .nll = loss.mean,
        .ppl = {exp(loss.mean), exp(loss.mean) * loss.error},
        .kld = compared ? mean_of(windows, &all, kld) : none,
        .top1 = compared ? mean_of(windows, &all, agreement) : none,
        .ppl_ratio = ratio,
    };
}
