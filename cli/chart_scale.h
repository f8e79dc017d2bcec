/* chart_scale: where values lie on an axis, and its ticks. */
#ifndef ERT_CHART_SCALE_H
#define ERT_CHART_SCALE_H

#include "cli/chart.h"

enum { CHART_MAX_TICKS = 24, CHART_TICK_TEXT = 16 };

struct chart_scale {
    bool log;
    double min, max; /* min < max; both above 0 if log */
    size_t n_ticks;
    double ticks[CHART_MAX_TICKS];
};

/* Scales that hold all points of a chart, with at most so many ticks. False if it has no point. */
bool chart_scales(const struct chart *chart, size_t x_ticks, size_t y_ticks, struct chart_scale *x,
                  struct chart_scale *y);
/* 0 at the left or lower end, 1 at the other; values outside lie at the nearer end. */
double chart_place(const struct chart_scale *scale, double value);
void chart_tick_text(const struct chart_scale *scale, size_t i, char out[CHART_TICK_TEXT]);

#endif
