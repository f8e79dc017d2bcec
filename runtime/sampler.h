/* sampler: logits to one token. Penalty, temperature, top-k, top-p, min-p, seed; greedy at 0. */
#ifndef RT_SAMPLER_H
#define RT_SAMPLER_H

#include "base/base.h"

struct rt_sampler_config {
    float temperature;    /* 0 = greedy */
    uint32_t top_k;       /* 0 = off */
    float top_p;          /* 1 = off */
    float min_p;          /* 0 = off */
    float repeat_penalty; /* 1 = off; logits of recent tokens divided (positive) or multiplied by it
                           */
    uint32_t repeat_last; /* how many tokens back */
    uint64_t seed;
};
#define RT_SAMPLER_DEFAULT                                                                         \
    {                                                                                              \
        .temperature = 0.6f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .repeat_penalty = 1.1f,  \
        .repeat_last = 64, .seed = 1                                                               \
    }

struct rt_sampler;

/* ERT_E_RANGE names the parameter that is out of range and its range. */
int rt_sampler_create(struct rt_sampler **s, const struct rt_sampler_config *config,
                      uint32_t n_vocab, struct ert_error *err);
/* Bytes that it allocates. */
size_t rt_sampler_need(const struct rt_sampler_config *config, uint32_t n_vocab);
void rt_sampler_free(struct rt_sampler *s);
/* Chooses a token from logits[n_vocab] (not changed), remembers it for the penalty. Ties go to the
 * lower id; NaN counts as minus infinity. Allocates nothing. */
int32_t rt_sample(struct rt_sampler *s, const float *logits);
/* Tells the sampler of a token it did not choose (the prompt). */
void rt_sampler_accept(struct rt_sampler *s, int32_t id);

#endif
