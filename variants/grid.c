#include "variants/grid.h"

#include <float.h>
#include <math.h>

#include "base/base.h"

enum { LEVELS = 15, WIDE_LEVELS = 255, SHRINKS = 4, REFITS = 2, FEWEST_STEPS = 8 };

/* An error this small beside the weights is rounding: the source's own grid is found. */
#define FOUND 1e-9f

void var_grid_levels(const struct var_grid *g, struct var_lanes *step, struct var_lanes *offset)
{
    for (int r = 0; r < VAR_LANES; r++) {
        step->v[r] = g->wide ? g->d.v[r] * 0.0625f : g->d.v[r];
        offset->v[r] = g->wide ? g->m.v[r] + g->d.v[r] * 0.5f : g->m.v[r];
    }
}

static struct var_lanes inverse(const struct var_lanes *step)
{
    struct var_lanes out;
    for (int r = 0; r < VAR_LANES; r++)
        out.v[r] = step->v[r] > 0 ? 1 / step->v[r] : 0;
    return out;
}

static struct var_lanes grid_error(const struct var_grid *g, const struct var_lanes *w,
                                   const float *weight)
{
    struct var_lanes step, offset, error = {{0}};
    var_grid_levels(g, &step, &offset);
    struct var_lanes per_step = inverse(&step);
    float top = g->wide ? WIDE_LEVELS : LEVELS;
    for (int c = 0; c < PACK_GROUP; c++)
        for (int r = 0; r < VAR_LANES; r++) {
            float level = (w[c].v[r] + offset.v[r]) * per_step.v[r];
            level = level < 0 ? 0 : level > top ? top : level;
            float e = w[c].v[r] - (step.v[r] * (float)(int)(level + 0.5f) - offset.v[r]);
            error.v[r] += weight[c] * (e * e);
        }
    return error;
}

/* The best grid of each row so far. */
struct search {
    const struct var_lanes *w;
    const float *weight;
    struct var_grid best;
    struct var_lanes least;
};

static void keep_better(struct search *s, const struct var_grid *g)
{
    struct var_lanes error = grid_error(g, s->w, s->weight);
    for (int r = 0; r < VAR_LANES; r++)
        if (error.v[r] < s->least.v[r]) {
            s->least.v[r] = error.v[r];
            s->best.d.v[r] = g->d.v[r];
            s->best.m.v[r] = g->m.v[r];
        }
}

/* Least squares for d and m with the levels of the best grid fixed; m stays >= 0 because u_m has no
 * sign. */
static void refit(struct search *s)
{
    struct var_lanes per_step = inverse(&s->best.d), *d = &s->best.d, *m = &s->best.m;
    struct var_grid g = s->best;
    double n = 0, sh[VAR_LANES] = {0}, shh[VAR_LANES] = {0}, sw[VAR_LANES] = {0},
           swh[VAR_LANES] = {0};
    for (int c = 0; c < PACK_GROUP; c++) {
        double q = (double)s->weight[c];
        n += q;
        for (int r = 0; r < VAR_LANES; r++) {
            float level = (s->w[c].v[r] + m->v[r]) * per_step.v[r];
            double h = (int)((level < 0 ? 0 : level > LEVELS ? LEVELS : level) + 0.5f);
            double x = (double)s->w[c].v[r];
            sh[r] += q * h;
            shh[r] += q * h * h;
            sw[r] += q * x;
            swh[r] += q * x * h;
        }
    }
    for (int r = 0; r < VAR_LANES; r++) {
        double det = n * shh[r] - sh[r] * sh[r];
        double scale = det > 0 ? (n * swh[r] - sh[r] * sw[r]) / det : (double)d->v[r];
        double offset = det > 0 ? (sh[r] * swh[r] - shh[r] * sw[r]) / det : (double)m->v[r];
        if (offset < 0) {
            offset = 0;
            scale = shh[r] > 0 ? swh[r] / shh[r] : 0;
        }
        g.d.v[r] = scale > 0 ? (float)scale : d->v[r];
        g.m.v[r] = scale > 0 ? (float)offset : m->v[r];
    }
    keep_better(s, &g);
}

/* Smallest (at most 0) and largest weight of each row, and the weighted sum of squares. */
struct range {
    struct var_lanes low, high, power;
};

static struct range range_of(const struct var_lanes *w, const float *weight)
{
    struct range x;
    for (int r = 0; r < VAR_LANES; r++) {
        x.low.v[r] = x.power.v[r] = 0;
        x.high.v[r] = -FLT_MAX;
    }
    for (int c = 0; c < PACK_GROUP; c++)
        for (int r = 0; r < VAR_LANES; r++) {
            float v = w[c].v[r];
            x.low.v[r] = v < x.low.v[r] ? v : x.low.v[r];
            x.high.v[r] = v > x.high.v[r] ? v : x.high.v[r];
            x.power.v[r] += weight[c] * (v * v);
        }
    return x;
}

/* `steps` steps between the ends, the ends drawn in by the shares low and high. */
static struct var_grid spread(const struct range *x, float low, float high, float steps)
{
    struct var_grid g = {.wide = false};
    for (int r = 0; r < VAR_LANES; r++) {
        float a = x->low.v[r] * (1 - low), b = x->high.v[r] * (1 - high);
        g.d.v[r] = b > a ? (b - a) / steps : 0;
        g.m.v[r] = -a;
    }
    return g;
}

static bool all_found(const struct search *s, const struct range *x)
{
    for (int r = 0; r < VAR_LANES; r++)
        if (s->least.v[r] > x->power.v[r] * FOUND)
            return false;
    return true;
}

/* Fewer than 15 steps between the ends are tried too: a source's grid whose outer levels a group
 * happens not to use is found that way, with error 0. */
static void fit_narrow(struct var_grid *g, const struct var_lanes *w, const float *weight)
{
    struct range x = range_of(w, weight);
    struct search s = {w, weight, spread(&x, 0, 0, LEVELS), {{0}}};
    s.least = grid_error(&s.best, w, weight);
    for (int steps = LEVELS - 1; steps >= FEWEST_STEPS && !all_found(&s, &x); steps--) {
        struct var_grid fewer = spread(&x, 0, 0, (float)steps);
        keep_better(&s, &fewer);
    }
    for (int i = 0; i < SHRINKS * SHRINKS && !all_found(&s, &x); i++) {
        int low = i / SHRINKS, high = i % SHRINKS;
        struct var_grid drawn = spread(&x, 0.04f * (float)low, 0.04f * (float)high, LEVELS);
        keep_better(&s, &drawn);
    }
    for (int i = 0; i < REFITS && !all_found(&s, &x); i++)
        refit(&s);
    *g = s.best;
}

static void fit_wide(struct var_grid *g, const struct var_lanes *w, const float *weight)
{
    struct range x = range_of(w, weight);
    *g = spread(&x, 0, 0, WIDE_LEVELS);
    g->wide = true;
    for (int r = 0; r < VAR_LANES; r++) {
        g->d.v[r] *= 16;
        g->m.v[r] -= g->d.v[r] * 0.5f;
    }
}

void var_grid_fit(struct var_grid *g, const struct var_lanes *w, const float *weight)
{
    if (g->wide)
        fit_wide(g, w, weight);
    else
        fit_narrow(g, w, weight);
}

static int clamp(float x, int low, int high)
{
    return x < (float)low ? low : x > (float)high ? high : (int)x;
}

static void decode(struct var_grid *g, const struct var_grid_codes *codes,
                   const struct var_pairs *pairs)
{
    for (int r = 0; r < VAR_LANES; r++) {
        g->d.v[r] = pairs->d.v[r] * (float)codes->d[r];
        g->m.v[r] = pairs->m.v[r] * (float)codes->m[r];
    }
}

static void nearest_codes(const struct var_grid *g, struct var_grid_codes *codes,
                          const struct var_pairs *pairs)
{
    for (int r = 0; r < VAR_LANES; r++) {
        float d = pairs->d.v[r], m = pairs->m.v[r];
        codes->d[r] = (uint8_t)(d > 0 ? clamp(rintf(g->d.v[r] / d), 1, 255) : 0);
        codes->m[r] = (uint8_t)(m > 0 ? clamp(rintf(g->m.v[r] / m), 0, 255) : 0);
    }
}

/* The nearest codes, or neighbours that suit the weights better. */
void var_grid_encode(struct var_grid *g, struct var_grid_codes *codes,
                     const struct var_pairs *pairs, const struct var_lanes *w, const float *weight)
{
    struct var_grid_codes start, near;
    nearest_codes(g, &start, pairs);
    *codes = start;
    decode(g, codes, pairs);
    struct var_lanes least = grid_error(g, w, weight);
    for (int i = 0; i < 9; i++) {
        struct var_grid other = *g;
        for (int r = 0; r < VAR_LANES; r++) {
            int d = start.d[r] + i / 3 - 1, m = start.m[r] + i % 3 - 1;
            near.d[r] = d >= 1 && d <= 255 && start.d[r] > 0 ? (uint8_t)d : start.d[r];
            near.m[r] = m >= 0 && m <= 255 ? (uint8_t)m : start.m[r];
        }
        decode(&other, &near, pairs);
        struct var_lanes error = grid_error(&other, w, weight);
        for (int r = 0; r < VAR_LANES; r++)
            if (error.v[r] < least.v[r]) {
                least.v[r] = error.v[r];
                codes->d[r] = near.d[r];
                codes->m[r] = near.m[r];
            }
    }
    decode(g, codes, pairs);
}
