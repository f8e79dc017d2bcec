/* A chart as SVG, drawn by cairo. Lengths are points, y downwards. */
#include <math.h>
#include <string.h>

#include <cairo-svg.h>

#include "cli/chart_scale.h"

#define WIDTH      640.0
#define PLANE      320.0 /* height of the frame */
#define LEFT       78.0
#define RIGHT      24.0
#define TOP        40.0
#define BOTTOM     58.0
#define TEXT_SIZE  12.0
#define TITLE_SIZE 14.0
#define MARK       4.0
#define LEGEND_ROW 17.0

/* Okabe and Ito's palette, which colour-blind people tell apart (Wong, Nature Methods 8, 2011). */
static const struct colour {
    double r, g, b;
} series_colours[] = {
    {0, 0.447, 0.698},     {0.835, 0.369, 0}, {0, 0.620, 0.451},
    {0.800, 0.475, 0.655}, {0, 0, 0},         {0.902, 0.624, 0},
};
static const struct colour ink = {0.15, 0.15, 0.15}, grid = {0.88, 0.88, 0.88},
                           faint = {0.6, 0.6, 0.6};

struct drawing {
    const struct chart *chart;
    struct chart_scale x, y;
    double top, bottom; /* of the frame, below title and legend */
    cairo_t *cr;
};

static void set_colour(cairo_t *cr, struct colour c)
{
    cairo_set_source_rgb(cr, c.r, c.g, c.b);
}

static double place_x(const struct drawing *d, double x)
{
    return LEFT + chart_place(&d->x, x) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const struct drawing *d, double y)
{
    return d->top + (1 - chart_place(&d->y, y)) * PLANE;
}

/* Text whose anchor lies at share ax of its width and ay of its height. */
static void put_text(cairo_t *cr, double x, double y, double ax, double ay, const char *text)
{
    cairo_text_extents_t e;
    cairo_text_extents(cr, text, &e);
    cairo_move_to(cr, x - ax * e.width - e.x_bearing, y - ay * e.height - e.y_bearing);
    cairo_show_text(cr, text);
    cairo_new_path(cr); /* a text leaves the pen behind it */
}

static void draw_segment(cairo_t *cr, double x1, double y1, double x2, double y2)
{
    cairo_move_to(cr, x1, y1);
    cairo_line_to(cr, x2, y2);
    cairo_stroke(cr);
}

static void draw_ticks(const struct drawing *d)
{
    char text[CHART_TICK_TEXT];
    cairo_set_line_width(d->cr, 0.8);
    for (size_t i = 0; i < d->x.n_ticks; i++) {
        double x = place_x(d, d->x.ticks[i]);
        chart_tick_text(&d->x, i, text);
        set_colour(d->cr, grid);
        draw_segment(d->cr, x, d->top, x, d->bottom);
        set_colour(d->cr, ink);
        put_text(d->cr, x, d->bottom + 8, 0.5, 0, text);
    }
    for (size_t i = 0; i < d->y.n_ticks; i++) {
        double y = place_y(d, d->y.ticks[i]);
        chart_tick_text(&d->y, i, text);
        set_colour(d->cr, grid);
        draw_segment(d->cr, LEFT, y, WIDTH - RIGHT, y);
        set_colour(d->cr, ink);
        put_text(d->cr, LEFT - 8, y, 1, 0.5, text);
    }
}

static void draw_frame(const struct drawing *d)
{
    set_colour(d->cr, ink);
    cairo_rectangle(d->cr, LEFT, d->top, WIDTH - LEFT - RIGHT, PLANE);
    cairo_stroke(d->cr);
    if (d->chart->zero_line)
        draw_segment(d->cr, LEFT, place_y(d, 0), WIDTH - RIGHT, place_y(d, 0));
    put_text(d->cr, (LEFT + WIDTH - RIGHT) / 2, d->bottom + BOTTOM - 20, 0.5, 0, d->chart->x.title);
    cairo_save(d->cr);
    cairo_translate(d->cr, 14, (d->top + d->bottom) / 2);
    cairo_rotate(d->cr, -M_PI / 2);
    put_text(d->cr, 0, 0, 0.5, 0, d->chart->y.title);
    cairo_restore(d->cr);
    cairo_set_font_size(d->cr, TITLE_SIZE);
    put_text(d->cr, WIDTH / 2, 16, 0.5, 0, d->chart->title);
    cairo_set_font_size(d->cr, TEXT_SIZE);
}

static void draw_line(const struct drawing *d, const struct chart_series *s)
{
    cairo_set_line_width(d->cr, 1.4);
    for (size_t i = 0; i < s->n; i++) {
        const struct chart_point *at = &s->points[i];
        if (i > 0 && s->line == CHART_STEPS)
            cairo_line_to(d->cr, place_x(d, at->x), place_y(d, s->points[i - 1].y));
        cairo_line_to(d->cr, place_x(d, at->x), place_y(d, at->y));
    }
    cairo_stroke(d->cr);
}

static void draw_bar(const struct drawing *d, const struct chart_point *at)
{
    double x = place_x(d, at->x), low = place_y(d, at->y - at->error),
           high = place_y(d, at->y + at->error);
    cairo_set_line_width(d->cr, 1);
    draw_segment(d->cr, x, low, x, high);
    draw_segment(d->cr, x - 3, low, x + 3, low);
    draw_segment(d->cr, x - 3, high, x + 3, high);
}

static void draw_mark(cairo_t *cr, double x, double y, enum chart_mark mark)
{
    cairo_set_line_width(cr, 1.4);
    if (mark == CHART_CROSS) {
        draw_segment(cr, x - MARK, y - MARK, x + MARK, y + MARK);
        draw_segment(cr, x - MARK, y + MARK, x + MARK, y - MARK);
        return;
    }
    cairo_new_path(cr);
    cairo_arc(cr, x, y, MARK, 0, 2 * M_PI);
    if (mark == CHART_DOT)
        cairo_fill(cr);
    else
        cairo_stroke(cr);
}

/* Above its mark, to the right, or left where the frame is near; on white, so that no line crosses
 * it. */
static void put_label(const struct drawing *d, const struct chart_point *at)
{
    cairo_text_extents_t e;
    double x = place_x(d, at->x), y = place_y(d, at->y) - 9;
    cairo_text_extents(d->cr, at->label, &e);
    bool fits = x + 11 + e.width < WIDTH - RIGHT;
    double left = fits ? x + 5 : x - 5 - e.width;
    cairo_save(d->cr);
    cairo_set_source_rgba(d->cr, 1, 1, 1, 0.85);
    cairo_rectangle(d->cr, left - 1, y - TEXT_SIZE / 2, e.width + 2, TEXT_SIZE);
    cairo_fill(d->cr);
    cairo_restore(d->cr);
    put_text(d->cr, left, y, 0, 0.5, at->label);
}

static struct colour colour_of(const struct drawing *d, size_t series, enum chart_mark mark)
{
    const size_t n_colours = sizeof series_colours / sizeof *series_colours;
    bool one = mark == CHART_CROSS && !d->chart->letters;
    return one ? faint : series_colours[series % n_colours];
}

static void draw_series(const struct drawing *d, size_t i)
{
    const struct chart_series *s = &d->chart->series[i];
    set_colour(d->cr, colour_of(d, i, CHART_DOT));
    if (s->line != CHART_NO_LINE)
        draw_line(d, s);
    for (size_t k = 0; k < s->n; k++) {
        const struct chart_point *at = &s->points[k];
        set_colour(d->cr, colour_of(d, i, at->mark));
        if (at->error > 0)
            draw_bar(d, at);
        draw_mark(d->cr, place_x(d, at->x), place_y(d, at->y), at->mark);
    }
}

static void draw_labels(const struct drawing *d, size_t i)
{
    const struct chart_series *s = &d->chart->series[i];
    for (size_t k = 0; k < s->n; k++) {
        set_colour(d->cr, colour_of(d, i, s->points[k].mark));
        if (s->points[k].label)
            put_label(d, &s->points[k]);
    }
}

static size_t legend_rows(const struct chart *c)
{
    size_t rows = 0;
    for (size_t i = 0; i < c->n_series; i++)
        rows += c->series[i].name && c->series[i].n;
    return rows;
}

static void draw_legend(const struct drawing *d)
{
    double y = TOP + LEGEND_ROW / 2 - 3;
    for (size_t i = 0; i < d->chart->n_series; i++) {
        const struct chart_series *s = &d->chart->series[i];
        if (!s->name || !s->n)
            continue;
        set_colour(d->cr, colour_of(d, i, s->points[0].mark));
        draw_mark(d->cr, LEFT + 6, y, s->points[0].mark);
        set_colour(d->cr, ink);
        put_text(d->cr, LEFT + 18, y, 0, 0.5, s->name);
        y += LEGEND_ROW;
    }
}

static cairo_status_t write_bytes(void *ctx, const unsigned char *bytes, unsigned n)
{
    FILE *f = ctx;
    return fwrite(bytes, 1, n, f) == n ? CAIRO_STATUS_SUCCESS : CAIRO_STATUS_WRITE_ERROR;
}

/* Cairo keeps the first failure and ignores calls after it, so that one look at the end is enough.
 */
static cairo_status_t draw(struct drawing *d, FILE *f)
{
    cairo_surface_t *surface =
        cairo_svg_surface_create_for_stream(write_bytes, f, WIDTH, d->bottom + BOTTOM);
    d->cr = cairo_create(surface);
    cairo_set_source_rgb(d->cr, 1, 1, 1);
    cairo_paint(d->cr);
    cairo_select_font_face(d->cr, "sans-serif", CAIRO_FONT_SLANT_NORMAL, CAIRO_FONT_WEIGHT_NORMAL);
    cairo_set_font_size(d->cr, TEXT_SIZE);
    draw_ticks(d);
    draw_frame(d);
    draw_legend(d);
    for (size_t i = 0; i < d->chart->n_series; i++)
        draw_series(d, i);
    for (size_t i = 0; i < d->chart->n_series; i++)
        draw_labels(d, i);
    cairo_status_t status = cairo_status(d->cr);
    cairo_destroy(d->cr);
    cairo_surface_finish(surface);
    status = status ? status : cairo_surface_status(surface);
    cairo_surface_destroy(surface);
    return status;
}

int chart_write_svg(const struct chart *chart, const char *path, struct ert_error *err)
{
    struct drawing d = {.chart = chart, .top = TOP + LEGEND_ROW * (double)legend_rows(chart)};
    struct ert_output out;
    d.bottom = d.top + PLANE;
    if (!chart_scales(chart, 8, 10, &d.x, &d.y))
        return ert_fail(err, ERT_E_MISSING, "%s: there is no point to plot", path);
    int rc = ert_output_open(&out, path, err);
    if (rc)
        return rc;
    cairo_status_t status = draw(&d, out.file);
    if (status == CAIRO_STATUS_SUCCESS)
        return ert_output_commit(&out, err);
    ert_output_abort(&out);
    return ert_fail(err, ERT_E_IO, "%s: the plot could not be written: %s", path,
                    cairo_status_to_string(status));
}
