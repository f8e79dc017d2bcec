/* chart: points, lines and error bars in a plane, as text for a terminal or as an SVG file. */
#ifndef ERT_CHART_H
#define ERT_CHART_H

#include "base/base.h"

enum chart_mark { CHART_DOT, CHART_RING, CHART_CROSS };
enum chart_line { CHART_NO_LINE, CHART_STRAIGHT, CHART_STEPS };

struct chart_point {
    double x, y;
    double error;      /* half the length of its vertical bar, 0 = none */
    const char *label; /* beside it, NULL = none */
    enum chart_mark mark;
};

struct chart_series {
    const char *name;                 /* in the legend, NULL = not there */
    const struct chart_point *points; /* [n], from left to right where a line joins them */
    size_t n;
    enum chart_line line;
};

struct chart_axis {
    const char *title; /* with the unit */
    bool log;
};

struct chart {
    const char *title;
    struct chart_axis x, y;
    const struct chart_series *series;
    size_t n_series;
    bool zero_line; /* y = 0 is drawn, and lies within the chart */
    bool letters;   /* a terminal tells the series apart by letters instead of marks */
};

/* Prints the chart, `columns` wide. Without unicode it is of ASCII characters; tones: the terminal
 * may show dominated marks faintly. Nothing to show prints nothing. ERT_E_NOMEM. */
struct chart_terminal {
    FILE *file;
    int columns;
    bool unicode, tones;
};
/* Stdout as it is: its width (80 if it is no terminal), the locale's characters, no tones when it
 * is piped or NO_COLOR is set. */
struct chart_terminal chart_stdout(void);
int chart_print(const struct chart *chart, const struct chart_terminal *terminal,
                struct ert_error *err);

/* Writes an SVG file, which appears only when it is complete. */
int chart_write_svg(const struct chart *chart, const char *path, struct ert_error *err);

#endif
