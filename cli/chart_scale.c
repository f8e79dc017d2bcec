#include "cli/chart_scale.h"

#include <math.h>

#define MARGIN 0.06 /* of the range, on either side */

static void include(struct chart_scale *s, double value)
{
    if (!isfinite(value) || (s->log && value <= 0))
        return;
    s->min = fmin(s->min, value);
    s->max = fmax(s->max, value);
}

static double to_plane(const struct chart_scale *s, double value)
{
    return s->log ? log10(value) : value;
}

static double from_plane(const struct chart_scale *s, double value)
{
    return s->log ? pow(10, value) : value;
}

/* A single value gets a range as well; then some air on both sides. */
static void widen(struct chart_scale *s)
{
    double low = to_plane(s, s->min), high = to_plane(s, s->max);
    if (high - low <= 1e-9 * fmax(fabs(low), fabs(high))) {
        double half = s->log || low == 0 ? 0.5 : 0.5 * fabs(low);
        low -= half;
        high += half;
    }
    double margin = MARGIN * (high - low);
    s->min = from_plane(s, low - margin);
    s->max = from_plane(s, high + margin);
}

/* Ticks at multiples of a step of 1, 2 or 5 times a power of ten, the least that are few enough. */
static void put_linear_ticks(struct chart_scale *s, size_t most)
{
    static const double steps[] = {1, 2, 5, 10};
    double unit = pow(10, floor(log10((s->max - s->min) / (double)most)));
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        double step = steps[i] * unit, first = ceil(s->min / step),
               n = floor(s->max / step) - first;
        if (n + 1 > (double)most)
            continue;
        for (size_t k = 0; k <= (size_t)n; k++)
            s->ticks[s->n_ticks++] = (first + (double)k) * step;
        return;
    }
}

/* Ticks at 1, 2 and 5 times the powers of ten within the range, or at every d-th power only. */
static void put_log_ticks(struct chart_scale *s, size_t most)
{
    static const double within[] = {1, 2, 5};
    int low = (int)floor(log10(s->min)), high = (int)ceil(log10(s->max));
    bool fine = (size_t)(high - low) * 3 <= most + 2;
    int every = (int)((size_t)(high - low) / most) + 1;
    for (int e = low; e <= high; e += fine ? 1 : every)
        for (size_t i = 0; i < (fine ? 3u : 1u); i++) {
            double tick = within[i] * pow(10, e);
            if (tick >= s->min && tick <= s->max && s->n_ticks < most)
                s->ticks[s->n_ticks++] = tick;
        }
}

static void finish(struct chart_scale *s, size_t most)
{
    most = most < 2 ? 2 : most > CHART_MAX_TICKS ? CHART_MAX_TICKS : most;
    widen(s);
    if (s->log)
        put_log_ticks(s, most);
    if (s->n_ticks < 2) { /* not logarithmic, or of less than a decade */
        s->n_ticks = 0;
        put_linear_ticks(s, most);
    }
}

bool chart_scales(const struct chart *chart, size_t x_ticks, size_t y_ticks, struct chart_scale *x,
                  struct chart_scale *y)
{
    *x = (struct chart_scale){.log = chart->x.log, .min = INFINITY, .max = -INFINITY};
    *y = (struct chart_scale){.log = chart->y.log, .min = INFINITY, .max = -INFINITY};
    for (size_t i = 0; i < chart->n_series; i++)
        for (size_t k = 0; k < chart->series[i].n; k++) {
            const struct chart_point *p = &chart->series[i].points[k];
            include(x, p->x);
            include(y, p->y);
            include(y, p->y - p->error);
            include(y, p->y + p->error);
        }
    if (!isfinite(x->min) || !isfinite(y->min))
        return false;
    if (chart->zero_line)
        include(y, 0);
    finish(x, x_ticks);
    finish(y, y_ticks);
    return true;
}

double chart_place(const struct chart_scale *s, double value)
{
    double low = to_plane(s, s->min), high = to_plane(s, s->max);
    if (s->log && value <= 0)
        return 0;
    return fmin(fmax((to_plane(s, value) - low) / (high - low), 0), 1);
}

void chart_tick_text(const struct chart_scale *s, size_t i, char out[CHART_TICK_TEXT])
{
    double tick = s->ticks[i], step = s->n_ticks > 1 ? s->ticks[1] - s->ticks[0] : 1;
    if (!s->log && fabs(tick) < 1e-9 * step)
        tick = 0; /* a sum of steps that should be */
    snprintf(out, CHART_TICK_TEXT, "%.6g", tick);
}
