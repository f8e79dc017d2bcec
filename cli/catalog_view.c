#include "cli/catalog_view.h"

#include <math.h>
#include <stdlib.h>

#include "cli/chart.h"

#define MB 1e6

enum standing { ON_FRONTIER, BEHIND, DOMINATED, N_STANDINGS };

static const struct {
    const char *name;
    enum chart_mark mark;
    char sign; /* in the table */
} standings[N_STANDINGS] = {
    [ON_FRONTIER] = {"on the frontier: no point is better in both", CHART_DOT, '*'},
    [BEHIND] = {"behind it", CHART_RING, 'o'},
    [DOMINATED] = {"dominated: a better point reads no more", CHART_CROSS, 'x'},
};

/* What bytes are counted in. */
struct unit {
    const char *name;
    double bytes;
};

struct view {
    struct unit unit;
    struct chart chart;
    struct chart_series series[N_STANDINGS];
    struct chart_point *points; /* [n_catalog] by standing */
    char title[192], x_title[48];
};

static enum standing standing_of(const struct rt_pack *pack, const struct rt_catalog_row *row)
{
    if (row->dominated)
        return DOMINATED;
    for (size_t i = 0; i < pack->n_catalog; i++) {
        const struct rt_catalog_row *other = &pack->catalog[i];
        bool no_worse = other->kld <= row->kld && other->bytes_per_token <= row->bytes_per_token;
        bool better = other->kld < row->kld || other->bytes_per_token < row->bytes_per_token;
        if (no_worse && better)
            return BEHIND;
    }
    return ON_FRONTIER;
}

static struct unit unit_of(const struct rt_pack *pack)
{
    for (size_t i = 0; i < pack->n_catalog; i++)
        if (pack->catalog[i].bytes_per_token >= 1e7)
            return (struct unit){"MB", 1e6};
    return (struct unit){"kB", 1e3};
}

static int by_x(const void *a, const void *b)
{
    const struct chart_point *p = a, *q = b;
    return (p->x > q->x) - (p->x < q->x);
}

/* The points of a standing, from left to right. */
static struct chart_series series_of(const struct view *v, const struct rt_pack *pack,
                                     enum standing standing, struct chart_point *points)
{
    size_t n = 0;
    for (size_t i = 0; i < pack->n_catalog; i++) {
        const struct rt_catalog_row *row = &pack->catalog[i];
        if (standing_of(pack, row) == standing)
            points[n++] = (struct chart_point){.x = row->bytes_per_token / v->unit.bytes,
                                               .y = row->kld,
                                               .label = row->point.name,
                                               .mark = standings[standing].mark};
    }
    qsort(points, n, sizeof *points, by_x);
    return (struct chart_series){.name = standings[standing].name,
                                 .points = points,
                                 .n = n,
                                 .line = standing == ON_FRONTIER ? CHART_STEPS : CHART_NO_LINE};
}

static int make_view(struct view *v, const struct rt_pack *pack, struct ert_error *err)
{
    size_t n = 0;
    *v = (struct view){.unit = unit_of(pack)};
    v->points = calloc(pack->n_catalog, sizeof *v->points);
    if (!v->points)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for a chart");
    for (enum standing s = 0; s < N_STANDINGS; s++) {
        v->series[s] = series_of(v, pack, s, v->points + n);
        n += v->series[s].n;
    }
    snprintf(v->title, sizeof v->title, "%s: quality against bytes", pack->model.name);
    snprintf(v->x_title, sizeof v->x_title, "weights read per token, %s", v->unit.name);
    v->chart = (struct chart){
        .title = v->title,
        .x = {v->x_title, false},
        .y = {"KL to the source, nats per token (log)", true},
        .series = v->series,
        .n_series = N_STANDINGS,
    };
    return 0;
}

/* "1.234 +-0.012", with "-" for what the pack does not say. */
static void print_with_error(int width, int digits, double value, double error)
{
    char text[40] = "-";
    if (!isnan(value) && !isnan(error))
        snprintf(text, sizeof text, "%.*f +-%.*f", digits, value, digits, error);
    else if (!isnan(value))
        snprintf(text, sizeof text, "%.*f", digits, value);
    printf(" %*s", width, text);
}

static void print_row(const struct rt_pack *pack, const struct rt_catalog_row *row,
                      struct unit unit)
{
    char resident[24] = "-";
    if (!isnan(row->resident_bytes))
        snprintf(resident, sizeof resident, "%.1f", row->resident_bytes / unit.bytes);
    printf("%c %-10s %9.1f %8s %8.2f", standings[standing_of(pack, row)].sign, row->point.name,
           row->bytes_per_token / unit.bytes, resident, row->ppl);
    print_with_error(14, 3, row->ppl_ratio, row->ppl_ratio_error);
    print_with_error(16, 4, row->kld, row->kld_error);
    print_with_error(11, 1, 100 * row->top1, 100 * row->top1_error);
    putchar('\n');
}

static void print_table(const struct rt_pack *pack, struct unit unit)
{
    char kept[16], read[16];
    snprintf(read, sizeof read, "%s/token", unit.name);
    snprintf(kept, sizeof kept, "%s kept", unit.name);
    printf("\n  %-10s %9s %8s %8s %14s %16s %11s\n", "point", read, kept, "ppl", "x source", "KL",
           "top-1 %");
    for (size_t i = 0; i < pack->n_catalog; i++)
        print_row(pack, &pack->catalog[i], unit);
    printf("on %.0f tokens that the source wrote itself; +- is a standard error\n\n",
           pack->catalog[0].tokens);
}

int catalog_print(const struct rt_pack *pack, struct ert_error *err)
{
    struct view view;
    if (pack->n_catalog == 0) {
        printf("\nno catalog: built with --no-catalog\n");
        return 0;
    }
    int rc = make_view(&view, pack, err);
    if (rc)
        return rc;
    const struct chart_terminal terminal = chart_stdout();
    print_table(pack, view.unit);
    rc = chart_print(&view.chart, &terminal, err);
    free(view.points);
    return rc;
}

int catalog_plot(const struct rt_pack *pack, const char *path, struct ert_error *err)
{
    struct view view;
    if (pack->n_catalog == 0)
        return ert_fail(err, ERT_E_MISSING, "%s: no catalog to plot, it was built without",
                        pack->path);
    int rc = make_view(&view, pack, err);
    if (!rc)
        rc = chart_write_svg(&view.chart, path, err);
    free(view.points);
    return rc;
}
