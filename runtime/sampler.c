#include "runtime/sampler.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

enum { MOST_REMEMBERED = 1 << 20 };

struct candidate {
    float logit, weight; /* weight: exp((logit - best) / temperature) */
    int32_t id;
};

struct rt_sampler {
    struct rt_sampler_config config;
    uint32_t n_vocab;
    uint64_t random_state;
    struct candidate *candidate; /* [n_vocab] */
    uint32_t *times_seen;        /* [n_vocab] how often among the recent */
    int32_t *recent;             /* [repeat_last] ring */
    uint32_t n_recent, oldest;
};

/* ---- create -------------------------------------------------------------------------------- */

static int check_config(const struct rt_sampler_config *c, struct ert_error *err)
{
    const struct {
        const char *name;
        float value, least, most;
        bool open; /* least itself is outside */
    } ranges[] = {
        {"temperature", c->temperature, 0.0f, 100.0f, false},
        {"top_p", c->top_p, 0.0f, 1.0f, true},
        {"min_p", c->min_p, 0.0f, 1.0f, false},
        {"repeat_penalty", c->repeat_penalty, 0.0f, 100.0f, true},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++)
        if (!(ranges[i].value >= ranges[i].least && ranges[i].value <= ranges[i].most) ||
            (ranges[i].open && ranges[i].value == ranges[i].least))
            return ert_fail(err, ERT_E_RANGE, "%s is %g; it goes from %s%g to %g", ranges[i].name,
                            (double)ranges[i].value, ranges[i].open ? "above " : "",
                            (double)ranges[i].least, (double)ranges[i].most);
    if (c->repeat_last > MOST_REMEMBERED)
        return ert_fail(err, ERT_E_RANGE, "repeat_last is %u; it goes from 0 to %d", c->repeat_last,
                        MOST_REMEMBERED);
    return 0;
}

int rt_sampler_create(struct rt_sampler **s, const struct rt_sampler_config *config,
                      uint32_t n_vocab, struct ert_error *err)
{
    *s = NULL;
    int rc = check_config(config, err);
    if (rc)
        return rc;
    if (n_vocab == 0 || n_vocab > INT32_MAX)
        return ert_fail(err, ERT_E_RANGE, "n_vocab is %u; it goes from 1 to %d", n_vocab,
                        INT32_MAX);
    struct rt_sampler *made = calloc(1, sizeof *made);
    if (!made)
        return ert_fail(err, ERT_E_NOMEM, "no memory for a sampler");
    *made = (struct rt_sampler){*config, .n_vocab = n_vocab, .random_state = config->seed};
    made->candidate = malloc(n_vocab * sizeof *made->candidate);
    made->times_seen = calloc(n_vocab, sizeof *made->times_seen);
    made->recent = malloc(((size_t)config->repeat_last + 1) * sizeof *made->recent);
    if (!made->candidate || !made->times_seen || !made->recent) {
        rt_sampler_free(made);
        return ert_fail(err, ERT_E_NOMEM, "no memory for a sampler of %u tokens", n_vocab);
    }
    *s = made;
    return 0;
}

size_t rt_sampler_need(const struct rt_sampler_config *config, uint32_t n_vocab)
{
    size_t each = sizeof(struct candidate) + sizeof(uint32_t);
    return sizeof(struct rt_sampler) + n_vocab * each +
           ((size_t)config->repeat_last + 1) * sizeof(int32_t);
}

void rt_sampler_free(struct rt_sampler *s)
{
    if (!s)
        return;
    free(s->candidate);
    free(s->times_seen);
    free(s->recent);
    free(s);
}

/* ---- candidates ---------------------------------------------------------------------------- */

/* SplitMix64 (Steele, Lea, Flood 2014): uniform in [0, 1) with 53 bits. */
static double next_uniform(struct rt_sampler *s)
{
    uint64_t z = s->random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-53;
}

/* The logit as the choice sees it: finite, penalised if the token was seen lately (Keskar et al.
 * 2019, CTRL, eq. 2). */
static float seen_logit(const struct rt_sampler *s, const float *logits, uint32_t id)
{
    float x = logits[id], penalty = s->config.repeat_penalty;
    if (!(x > -FLT_MAX))
        return -FLT_MAX;
    if (s->times_seen[id] > 0)
        x = x > 0 ? x / penalty : x * penalty;
    return fmaxf(-FLT_MAX, fminf(x, FLT_MAX));
}

static bool is_better(const struct candidate *a, const struct candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

static void sift_down(struct candidate *heap, uint32_t n, uint32_t i)
{
    struct candidate moving = heap[i];
    for (uint32_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && is_better(&heap[child + 1], &heap[child]))
            child++;
        if (!is_better(&heap[child], &moving))
            break;
        heap[i] = heap[child];
    }
    heap[i] = moving;
}

/* Candidates in the order of their ids; the best. */
static struct candidate collect(struct rt_sampler *s, const float *logits)
{
    struct candidate best = {seen_logit(s, logits, 0), 1.0f, 0};
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        s->candidate[i] = (struct candidate){seen_logit(s, logits, i), 0.0f, (int32_t)i};
        if (s->candidate[i].logit > best.logit)
            best = s->candidate[i];
    }
    return best;
}

/* Takes the best of the n in the heap out of it and puts it where the heap's last one was. */
static struct candidate *pop_best(struct candidate *heap, uint32_t n)
{
    struct candidate best = heap[0];
    heap[0] = heap[n - 1];
    heap[n - 1] = best;
    sift_down(heap, n - 1, 0);
    return &heap[n - 1];
}

/* ---- choice -------------------------------------------------------------------------------- */

/* The candidates that top-k, top-p and min-p leave are the last `return value` ones, the best last.
 */
static uint32_t keep_best(struct rt_sampler *s, float best_logit, double *kept_weight)
{
    const struct rt_sampler_config *c = &s->config;
    struct candidate *all = s->candidate;
    uint32_t n = s->n_vocab, kept = 0, popped = 0;
    uint32_t most = c->top_k && c->top_k < n ? c->top_k : n;
    double total = 0;
    for (uint32_t i = 0; i < n; i++)
        all[i].weight = expf((all[i].logit - best_logit) / c->temperature);
    for (uint32_t i = n / 2; i-- > 0;)
        sift_down(all, n, i);
    if (most < n) /* top-p is a share of what top-k leaves */
        for (; popped < most; popped++)
            total += (double)pop_best(all, n - popped)->weight;
    else
        for (uint32_t i = 0; i < n; i++)
            total += (double)all[i].weight;
    *kept_weight = 0;
    for (; kept < most && (kept == 0 || *kept_weight < (double)c->top_p * total); kept++) {
        if (kept == popped)
            pop_best(all, n - popped++);
        double weight = (double)all[n - 1 - kept].weight;
        if (kept > 0 && (weight < (double)c->min_p || weight == 0))
            break;
        *kept_weight += weight;
    }
    return kept;
}

int32_t rt_sample(struct rt_sampler *s, const float *logits)
{
    struct candidate best = collect(s, logits);
    int32_t chosen = best.id;
    if (s->config.temperature > 0 && best.logit > -FLT_MAX) {
        double kept_weight;
        uint32_t kept = keep_best(s, best.logit, &kept_weight);
        const struct candidate *last = s->candidate + s->n_vocab - 1;
        double left = next_uniform(s) * kept_weight;
        uint32_t i = 0;
        while (i + 1 < kept && (left -= (double)last[-(ptrdiff_t)i].weight) >= 0)
            i++;
        chosen = last[-(ptrdiff_t)i].id;
    }
    rt_sampler_accept(s, chosen);
    return chosen;
}

void rt_sampler_accept(struct rt_sampler *s, int32_t id)
{
    uint32_t most = s->config.repeat_last;
    if (id < 0 || (uint32_t)id >= s->n_vocab || most == 0)
        return;
    if (s->n_recent == most) {
        s->times_seen[s->recent[s->oldest]]--;
    } else {
        s->n_recent++;
    }
    s->recent[s->oldest] = id;
    s->oldest = (s->oldest + 1) % most;
    s->times_seen[id]++;
}
