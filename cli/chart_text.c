/* A chart in the character cells of a terminal. Lines are of braille dots, 2 x 4 to a cell. */
#include <langinfo.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cli/chart_scale.h"

enum {
    ROWS = 16,
    LEFT = 10, /* columns of the tick labels and the axis */
    LEAST_COLUMNS = 40,
    MOST_COLUMNS = 120,
    DOTS_ACROSS = 2,
    DOTS_DOWN = 4,
    BRAILLE = 0x2800,
};

enum tone { PLAIN, STRONG, FAINT };

struct cell {
    uint32_t glyph; /* 0 = none */
    uint8_t dots;
    enum tone tone;
};

struct plot {
    const struct chart *chart;
    const struct chart_terminal *terminal;
    struct chart_scale x, y;
    int columns;        /* of the plane */
    struct cell *cells; /* [ROWS][columns] */
};

static struct cell *cell_at(const struct plot *p, int row, int column)
{
    bool inside = row >= 0 && row < ROWS && column >= 0 && column < p->columns;
    return inside ? &p->cells[row * p->columns + column] : NULL;
}

/* ---- lines --------------------------------------------------------------------------------- */

struct dot {
    int x, y; /* from the upper left corner */
};

static struct dot dot_of(const struct plot *p, double x, double y)
{
    double across = p->columns * DOTS_ACROSS - 1, down = ROWS * DOTS_DOWN - 1;
    return (struct dot){(int)lround(chart_place(&p->x, x) * across),
                        (int)lround((1 - chart_place(&p->y, y)) * down)};
}

static void set_dot(const struct plot *p, int x, int y)
{
    /* Unicode 15, table 15-5: bit of each dot, by row and column. */
    static const uint8_t bits[DOTS_DOWN][DOTS_ACROSS] = {
        {0x01, 0x08}, {0x02, 0x10}, {0x04, 0x20}, {0x40, 0x80}};
    struct cell *cell = cell_at(p, y / DOTS_DOWN, x / DOTS_ACROSS);
    if (cell)
        cell->dots |= bits[y % DOTS_DOWN][x % DOTS_ACROSS];
}

/* Every `every`-th dot of the straight line from a to b. */
static void draw_line(const struct plot *p, struct dot a, struct dot b, int every)
{
    int steps = abs(b.x - a.x) > abs(b.y - a.y) ? abs(b.x - a.x) : abs(b.y - a.y);
    for (int i = 0; i <= steps; i += every) {
        double share = steps ? (double)i / steps : 0;
        set_dot(p, a.x + (int)lround(share * (b.x - a.x)), a.y + (int)lround(share * (b.y - a.y)));
    }
}

static void join(const struct plot *p, const struct chart_series *s)
{
    for (size_t i = 1; i < s->n && s->line != CHART_NO_LINE; i++) {
        struct dot a = dot_of(p, s->points[i - 1].x, s->points[i - 1].y);
        struct dot b = dot_of(p, s->points[i].x, s->points[i].y), corner = {b.x, a.y};
        if (s->line == CHART_STEPS) {
            draw_line(p, a, corner, 2);
            draw_line(p, corner, b, 2);
        } else {
            draw_line(p, a, b, 2);
        }
    }
}

static void draw_bars(const struct plot *p, const struct chart_series *s)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct chart_point *at = &s->points[i];
        if (at->error > 0)
            draw_line(p, dot_of(p, at->x, at->y - at->error), dot_of(p, at->x, at->y + at->error),
                      1);
    }
}

/* ---- marks and labels ---------------------------------------------------------------------- */

static uint32_t glyph_of(const struct plot *p, const struct chart_series *s, enum chart_mark mark)
{
    static const uint32_t unicode[] = {
        [CHART_DOT] = 0x25CF, [CHART_RING] = 0x25CB, [CHART_CROSS] = 0xD7};
    static const char ascii[] = {[CHART_DOT] = '*', [CHART_RING] = 'o', [CHART_CROSS] = 'x'};
    if (p->chart->letters)
        return 'a' + (uint32_t)(s - p->chart->series);
    return p->terminal->unicode ? unicode[mark] : (uint32_t)ascii[mark];
}

static bool is_free(const struct plot *p, int row, int column, int n)
{
    for (int i = -1; i <= n; i++) {
        const struct cell *cell = cell_at(p, row, column + i);
        if (i >= 0 && i < n ? !cell || cell->glyph : cell && cell->glyph)
            return false;
    }
    return true;
}

/* Writes a label at the first place around its mark that is free; where none is, it is left out. */
static void put_label(const struct plot *p, int row, int column, const char *label, enum tone tone)
{
    const int n = (int)strlen(label);
    const struct {
        int down, right;
    } places[] = {{0, 2},   {0, -n - 1}, {-1, 1},      {1, 1},
                  {-1, -n}, {1, -n},     {-1, -n / 2}, {1, -n / 2}};
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        int at_row = row + places[i].down, at = column + places[i].right;
        bool beside = places[i].down == 0; /* the mark itself is the neighbour */
        if (!is_free(p, at_row, beside && at > column ? at + 1 : at, beside ? n - 1 : n))
            continue;
        for (int k = 0; k < n; k++)
            *cell_at(p, at_row, at + k) = (struct cell){(unsigned char)label[k], 0, tone};
        if (beside)
            cell_at(p, row, at > column ? column + 1 : column - 1)->dots = 0;
        return;
    }
}

static enum tone tone_of(const struct chart_point *at)
{
    return at->mark == CHART_DOT ? STRONG : at->mark == CHART_CROSS ? FAINT : PLAIN;
}

static void put_marks(const struct plot *p, const struct chart_series *s, bool labels)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct chart_point *at = &s->points[i];
        struct dot dot = dot_of(p, at->x, at->y);
        int row = dot.y / DOTS_DOWN, column = dot.x / DOTS_ACROSS;
        struct cell *cell = cell_at(p, row, column);
        if (!labels && cell)
            *cell = (struct cell){glyph_of(p, s, at->mark), 0, tone_of(at)};
        if (labels && at->label)
            put_label(p, row, column, at->label, tone_of(at));
    }
}

static void draw(const struct plot *p)
{
    const struct chart *c = p->chart;
    if (c->zero_line)
        draw_line(p, dot_of(p, p->x.min, 0), dot_of(p, p->x.max, 0), 4);
    for (size_t i = 0; i < c->n_series; i++) {
        join(p, &c->series[i]);
        draw_bars(p, &c->series[i]);
    }
    for (size_t i = 0; i < c->n_series; i++)
        put_marks(p, &c->series[i], false);
    for (size_t i = 0; i < c->n_series; i++)
        put_marks(p, &c->series[i], true);
}

/* ---- out ----------------------------------------------------------------------------------- */

static void print_cell(const struct plot *p, const struct cell *cell)
{
    static const char *const tones[] = {[PLAIN] = "", [STRONG] = "\033[1m", [FAINT] = "\033[2m"};
    FILE *f = p->terminal->file;
    uint32_t glyph = cell->glyph;
    char text[4];
    if (!glyph && cell->dots)
        glyph = p->terminal->unicode ? BRAILLE + cell->dots : '.';
    bool toned = p->terminal->tones && cell->tone != PLAIN;
    fprintf(f, "%s%.*s%s", toned ? tones[cell->tone] : "",
            (int)ert_utf8_encode(glyph ? glyph : ' ', text), text, toned ? "\033[0m" : "");
}

/* The tick whose label belongs to a row, or n_ticks. */
static size_t tick_of_row(const struct plot *p, int row)
{
    size_t i = 0;
    while (i < p->y.n_ticks && dot_of(p, p->x.min, p->y.ticks[i]).y / DOTS_DOWN != row)
        i++;
    return i;
}

static void print_rows(const struct plot *p)
{
    FILE *f = p->terminal->file;
    bool unicode = p->terminal->unicode;
    for (int row = 0; row < ROWS; row++) {
        char text[CHART_TICK_TEXT] = "";
        size_t tick = tick_of_row(p, row);
        if (tick < p->y.n_ticks)
            chart_tick_text(&p->y, tick, text);
        fprintf(f, "%*s ", LEFT - 2, text);
        fputs(*text ? (unicode ? "┤" : "+") : (unicode ? "│" : "|"), f);
        int last = p->columns;
        while (last > 0 && !cell_at(p, row, last - 1)->glyph && !cell_at(p, row, last - 1)->dots)
            last--;
        for (int i = 0; i < last; i++)
            print_cell(p, cell_at(p, row, i));
        putc('\n', f);
    }
}

/* The axis and, under it, the labels of as many ticks as have room. */
static void print_x_axis(const struct plot *p)
{
    FILE *f = p->terminal->file;
    bool unicode = p->terminal->unicode;
    char labels[LEFT + MOST_COLUMNS + CHART_TICK_TEXT];
    int end = -1;
    memset(labels, ' ', sizeof labels);
    fprintf(f, "%*s%s", LEFT - 1, "", unicode ? "└" : "+");
    for (int column = 0; column < p->columns; column++) {
        bool ticked = false;
        for (size_t i = 0; i < p->x.n_ticks; i++) {
            char text[CHART_TICK_TEXT];
            if (dot_of(p, p->x.ticks[i], p->y.min).x / DOTS_ACROSS != column)
                continue;
            ticked = true;
            chart_tick_text(&p->x, i, text);
            int n = (int)strlen(text), at = LEFT + column - n / 2;
            if (at > end + 1 && at + n <= LEFT + p->columns) {
                memcpy(labels + at, text, (size_t)n);
                end = at + n;
            }
        }
        fputs(ticked ? (unicode ? "┬" : "+") : (unicode ? "─" : "-"), f);
    }
    fprintf(f, "\n%.*s\n%*s%s\n", end < 0 ? 0 : end, labels, LEFT, "", p->chart->x.title);
}

static void print_legend(const struct plot *p)
{
    for (size_t i = 0; i < p->chart->n_series; i++) {
        const struct chart_series *s = &p->chart->series[i];
        char glyph[4];
        if (s->name && s->n)
            fprintf(p->terminal->file, "%*s%.*s %s\n", LEFT, "",
                    (int)ert_utf8_encode(glyph_of(p, s, s->points[0].mark), glyph), glyph, s->name);
    }
}

int chart_print(const struct chart *chart, const struct chart_terminal *terminal,
                struct ert_error *err)
{
    struct plot p = {.chart = chart, .terminal = terminal};
    int columns = terminal->columns < LEAST_COLUMNS  ? LEAST_COLUMNS
                  : terminal->columns > MOST_COLUMNS ? MOST_COLUMNS
                                                     : terminal->columns;
    p.columns = columns - LEFT - 1; /* a full last column would wrap on some terminals */
    if (!chart_scales(chart, (size_t)p.columns / 8, ROWS / 2, &p.x, &p.y))
        return 0;
    p.cells = calloc((size_t)ROWS * (size_t)p.columns, sizeof *p.cells);
    if (!p.cells)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for a chart");
    draw(&p);
    fprintf(terminal->file, "%s\n%s\n", chart->title, chart->y.title);
    print_rows(&p);
    print_x_axis(&p);
    print_legend(&p);
    free(p.cells);
    return 0;
}

struct chart_terminal chart_stdout(void)
{
    struct winsize size = {0};
    bool tty = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return (struct chart_terminal){
        .file = stdout,
        .columns = tty ? size.ws_col : 80,
        .unicode = strcmp(nl_langinfo(CODESET), "UTF-8") == 0,
        .tones = tty && !getenv("NO_COLOR"),
    };
}
