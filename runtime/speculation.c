#include "runtime/speculation.h"

#include <math.h>

/* Before anything is known. A guess by one token is seldom right, one by three often; a column more
 * took 0.1 to 0.25 passes on the x86 machine that this was written on. */
static const double first_right[RT_LOOKUP_MATCH + 1] = {0,    0.15, 0.35, 0.55, 0.65,
                                                        0.75, 0.8,  0.85, 0.9};
#define FIRST_COST 0.25

#define NEW_DRAW   (1.0 / 16) /* weights of what is new in running means */
#define NEW_TIME   (1.0 / 4)
#define NEW_COST   (1.0 / 8)
#define FORGOTTEN  (1.0 / 256) /* of the cost, a pass without guesses */
#define MOST_TIMES 2.0         /* a pass that took longer than this was held up by something else */
#define LEAST_GAIN 1.05

void rt_speculation_init(struct rt_speculation *s)
{
    *s = (struct rt_speculation){.cost = FIRST_COST};
    for (int i = 0; i <= RT_LOOKUP_MATCH; i++)
        s->right[i] = first_right[i];
}

void rt_speculation_moved(struct rt_speculation *s)
{
    s->alone_ns = 0;
}

static void blend(double *mean, double value, double weight)
{
    *mean += (value - *mean) * weight;
}

void rt_speculation_drew(struct rt_speculation *s, uint32_t match, bool right)
{
    blend(&s->right[match < RT_LOOKUP_MATCH ? match : RT_LOOKUP_MATCH], right ? 1 : 0, NEW_DRAW);
}

void rt_speculation_timed(struct rt_speculation *s, uint32_t n_guesses, uint64_t ns)
{
    double expected = s->alone_ns * (1 + n_guesses * s->cost);
    double took = expected > 0 ? fmin((double)ns, MOST_TIMES * expected) : (double)ns;
    if (n_guesses == 0) {
        blend(&s->alone_ns, took, s->alone_ns > 0 ? NEW_TIME : 1);
        blend(&s->cost, FIRST_COST, FORGOTTEN);
    } else if (s->alone_ns > 0) {
        blend(&s->cost, fmax(took / s->alone_ns - 1, 0) / n_guesses, NEW_COST);
    }
}

uint32_t rt_speculation_length(const struct rt_speculation *s, uint32_t match, uint32_t most)
{
    double tokens = 1, all_right = 1, best = LEAST_GAIN;
    uint32_t length = 0;
    if (match == 0 || s->alone_ns <= 0)
        return 0;
    for (uint32_t k = 1; k <= most; k++) {
        uint32_t at = match + k - 1;
        all_right *= s->right[at < RT_LOOKUP_MATCH ? at : RT_LOOKUP_MATCH];
        tokens += all_right;
        double gain = tokens / (1 + k * s->cost);
        if (gain <= best)
            continue;
        best = gain;
        length = k;
    }
    return length;
}
