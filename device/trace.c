#include "device/device.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_FILE = 64 << 20, /* bytes */
    MAX_VALUES = 1 << 24,
    MAX_COLUMNS = 256,
    MAX_LINE = 16384,
};

/* A trace being read: the rest of the text, where we are. */
struct reader {
    struct dev_trace *trace;
    char *rest;
    unsigned line;
    size_t capacity; /* rows allocated */
    struct ert_error *err;
};

#define FAIL_AT(r, code, fmt, ...)                                                                 \
    ert_fail((r)->err, code, "%s:%u: " fmt, (r)->trace->path, (r)->line, __VA_ARGS__)

/* Cuts the next line out of the text, without its CR LF; NULL at the end. */
static char *next_line(struct reader *r)
{
    if (!*r->rest)
        return NULL;
    char *line = r->rest, *end = strchr(line, '\n');
    size_t n = end ? (size_t)(end - line) : strlen(line);
    r->rest = line + n + (end != NULL);
    r->line++;
    if (n && line[n - 1] == '\r')
        n--;
    line[n] = '\0';
    return line;
}

/* "# device: X" and its like; other comments are for people only. */
static int take_comment(struct reader *r, const char *line)
{
    const struct {
        const char *key;
        char **value;
    } keys[] = {
        {"device:", &r->trace->device},
        {"source:", &r->trace->source},
        {"licence:", &r->trace->licence},
    };
    line += 1 + strspn(line + 1, " ");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size_t n = strlen(keys[i].key);
        if (strncmp(line, keys[i].key, n) != 0)
            continue;
        char *copy = strdup(line + n + strspn(line + n, " "));
        if (!copy)
            return ert_fail(r->err, ERT_E_NOMEM, "out of memory for %s", r->trace->path);
        free(*keys[i].value);
        *keys[i].value = copy;
    }
    return 0;
}

/* Cuts the next cell out of *rest; NULL when there is none left. */
static char *next_cell(char **rest)
{
    char *cell = *rest;
    if (!cell)
        return NULL;
    char *comma = strchr(cell, ',');
    *rest = comma ? comma + 1 : NULL;
    if (comma)
        *comma = '\0';
    cell += strspn(cell, " \t");
    for (size_t n = strlen(cell); n && strchr(" \t", cell[n - 1]); n--)
        cell[n - 1] = '\0';
    return cell;
}

static int unknown_signal(struct reader *r, const char *name)
{
    const char *near = dev_signal_nearest(name);
    return FAIL_AT(r, ERT_E_FORMAT, "unknown signal '%.60s'%s%s%s", name,
                   near ? ", did you mean '" : ", docs/traces.md lists the known ones",
                   near ? near : "", near ? "'?" : "");
}

/* A column is the signal's name, "_" and its unit's name: "temp.cpu_C"; no "_" without a unit. */
static int take_column(struct reader *r, char *cell)
{
    struct dev_trace *t = r->trace;
    if (t->n_columns == MAX_COLUMNS)
        return FAIL_AT(r, ERT_E_RANGE, "more than %d columns", MAX_COLUMNS);
    char *unit = strrchr(cell, '_');
    if (unit)
        *unit++ = '\0';
    const struct dev_signal *signal = dev_signal_find(cell);
    if (!signal || strlen(cell) >= DEV_NAME)
        return unknown_signal(r, cell);
    const char *expected = ert_unit_name(signal->unit);
    if (strcmp(unit ? unit : "", expected) != 0)
        return FAIL_AT(r, ERT_E_FORMAT, "column '%s' has the unit '%.20s', expected '%s%s%s'", cell,
                       unit ? unit : "", cell, *expected ? "_" : "", expected);
    if (dev_trace_column(t, cell) >= 0)
        return FAIL_AT(r, ERT_E_FORMAT, "column '%s' appears twice", cell);
    memcpy(t->columns[t->n_columns], cell, strlen(cell) + 1);
    t->n_columns++;
    return 0;
}

static int take_header(struct reader *r, char *line)
{
    char *rest = line, *cell = next_cell(&rest);
    if (strcmp(cell, "time_s") != 0)
        return FAIL_AT(r, ERT_E_FORMAT,
                       "the first column is '%.40s', expected 'time_s' as in "
                       "'time_s,temp.cpu_C,battery.charge_%%'",
                       cell);
    r->trace->columns = calloc(MAX_COLUMNS, sizeof *r->trace->columns);
    if (!r->trace->columns)
        return ert_fail(r->err, ERT_E_NOMEM, "out of memory for %s", r->trace->path);
    while ((cell = next_cell(&rest))) {
        int rc = take_column(r, cell);
        if (rc)
            return rc;
    }
    return r->trace->n_columns ? 0 : FAIL_AT(r, ERT_E_FORMAT, "%s", "no column besides time_s");
}

static int grow(struct reader *r)
{
    struct dev_trace *t = r->trace;
    if (t->time_s && t->n_rows < r->capacity)
        return 0;
    size_t rows = r->capacity ? 2 * r->capacity : 256;
    if (t->n_columns == 0 || t->n_rows >= MAX_VALUES / t->n_columns)
        return FAIL_AT(r, ERT_E_RANGE, "more than %d values", MAX_VALUES);
    double *time_s = realloc(t->time_s, rows * sizeof *time_s);
    if (time_s)
        t->time_s = time_s;
    double *values = realloc(t->values, rows * t->n_columns * sizeof *values);
    if (values)
        t->values = values;
    if (!time_s || !values)
        return ert_fail(r->err, ERT_E_NOMEM, "out of memory for %s", t->path);
    r->capacity = rows;
    return 0;
}

static int take_number(struct reader *r, const char *column, const char *cell, double *value)
{
    if (ert_parse_double(cell, value, NULL) == 0)
        return 0;
    return FAIL_AT(r, ERT_E_FORMAT,
                   "column '%s': '%.40s' is not a number; leave the cell empty for "
                   "no reading",
                   column, cell);
}

static int take_time(struct reader *r, const char *cell)
{
    struct dev_trace *t = r->trace;
    double *time_s = &t->time_s[t->n_rows];
    int rc = take_number(r, "time_s", cell, time_s);
    if (rc)
        return rc;
    if (*time_s < 0 || *time_s > 1e9)
        return FAIL_AT(r, ERT_E_RANGE, "time %g s, expected 0 to 1e9 from the trace's start",
                       *time_s);
    if (t->n_rows && !(*time_s > time_s[-1]))
        return FAIL_AT(r, ERT_E_FORMAT, "time %g s after %g s, expected rising times", *time_s,
                       time_s[-1]);
    return 0;
}

static int take_row(struct reader *r, char *line)
{
    struct dev_trace *t = r->trace;
    int rc = grow(r);
    char *rest = line;
    if (rc || !t->time_s)
        return rc;
    rc = take_time(r, next_cell(&rest));
    double *row = rc ? NULL : t->values + t->n_rows * t->n_columns;
    for (size_t c = 0; !rc && c < t->n_columns; c++) {
        const char *cell = next_cell(&rest);
        if (!cell)
            return FAIL_AT(r, ERT_E_FORMAT, "%zu cells, expected %zu as in the header", c + 1,
                           t->n_columns + 1);
        row[c] = NAN;
        if (*cell)
            rc = take_number(r, t->columns[c], cell, &row[c]);
    }
    if (!rc && rest)
        return FAIL_AT(r, ERT_E_FORMAT, "more than the %zu cells of the header", t->n_columns + 1);
    t->n_rows += !rc;
    return rc;
}

/* Offset of the first byte that is no text, or -1: errors repeat cells, and go to a terminal. */
static long first_non_text(const char *line)
{
    size_t size = strlen(line);
    for (size_t i = 0, n; i < size; i += n) {
        n = ert_utf8_length(line + i, size - i);
        if (n == 0 || (n == 1 && (unsigned char)line[i] < ' ' && line[i] != '\t') ||
            line[i] == 0x7f)
            return (long)i;
    }
    return -1;
}

static int take_line(struct reader *r, char *line)
{
    long bad = first_non_text(line);
    if (bad >= 0)
        return FAIL_AT(r, ERT_E_FORMAT, "byte %ld is no UTF-8 text", bad + 1);
    if (strlen(line) > MAX_LINE)
        return FAIL_AT(r, ERT_E_FORMAT, "line longer than %d bytes", MAX_LINE);
    if (*line == '#')
        return take_comment(r, line);
    if (line[strspn(line, " \t")] == '\0')
        return 0;
    return r->trace->columns ? take_row(r, line) : take_header(r, line);
}

static int take_text(struct reader *r, size_t size)
{
    if (strlen(r->rest) != size) {
        r->line = 1;
        return FAIL_AT(r, ERT_E_FORMAT, "a NUL byte at offset %zu, expected text", strlen(r->rest));
    }
    if (!strncmp(r->rest, "\xef\xbb\xbf", 3))
        r->rest += 3;
    for (char *line = next_line(r); line; line = next_line(r)) {
        int rc = take_line(r, line);
        if (rc)
            return rc;
    }
    if (r->trace->n_rows == 0)
        return FAIL_AT(r, ERT_E_FORMAT, "no rows, expected %s",
                       r->trace->columns ? "at least one after the header"
                                         : "a header such as time_s,temp.cpu_C");
    return 0;
}

static int init_strings(struct dev_trace *t, const char *path)
{
    t->path = strdup(path);
    t->device = strdup("");
    t->source = strdup("");
    t->licence = strdup("");
    return t->path && t->device && t->source && t->licence ? 0 : -ERT_E_NOMEM;
}

int dev_trace_read(struct dev_trace **trace, const char *path, struct ert_error *err)
{
    *trace = NULL;
    char *text = NULL;
    size_t size;
    struct dev_trace *t = calloc(1, sizeof *t);
    if (!t || init_strings(t, path)) {
        dev_trace_free(t);
        return ert_fail(err, ERT_E_NOMEM, "out of memory for %s", path);
    }
    int rc = ert_read_text(path, MAX_FILE, &text, &size, err);
    if (!rc) {
        struct reader r = {.trace = t, .rest = text, .err = err};
        rc = take_text(&r, size);
    }
    free(text);
    if (rc)
        dev_trace_free(t);
    else
        *trace = t;
    return rc;
}

void dev_trace_free(struct dev_trace *trace)
{
    if (!trace)
        return;
    free(trace->path);
    free(trace->device);
    free(trace->source);
    free(trace->licence);
    free(trace->columns);
    free(trace->time_s);
    free(trace->values);
    free(trace);
}

/* The fewest digits that read back as the same double. */
static void write_number(FILE *file, double value)
{
    char text[32];
    double back = NAN;
    for (int digits = 6; digits <= 17 && back != value; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        (void)ert_parse_double(text, &back, NULL);
    }
    fputs(text, file);
}

static void write_header(FILE *file, const struct dev_trace *trace)
{
    fprintf(file, "# device: %s\n# source: %s\n# licence: %s\ntime_s", trace->device, trace->source,
            trace->licence);
    for (size_t c = 0; c < trace->n_columns; c++) {
        const struct dev_signal *signal = dev_signal_find(trace->columns[c]);
        const char *unit = signal ? ert_unit_name(signal->unit) : "";
        fprintf(file, ",%s%s%s", trace->columns[c], *unit ? "_" : "", unit);
    }
    fputc('\n', file);
}

int dev_trace_write(const struct dev_trace *trace, const char *path, struct ert_error *err)
{
    struct ert_output out;
    int rc = ert_output_open(&out, path, err);
    if (rc)
        return rc;
    write_header(out.file, trace);
    for (size_t r = 0; r < trace->n_rows; r++) {
        write_number(out.file, trace->time_s[r]);
        for (size_t c = 0; c < trace->n_columns; c++) {
            double value = trace->values[r * trace->n_columns + c];
            fputc(',', out.file);
            if (!isnan(value))
                write_number(out.file, value);
        }
        fputc('\n', out.file);
    }
    return ert_output_commit(&out, err);
}

int dev_trace_column(const struct dev_trace *trace, const char *signal)
{
    for (size_t c = 0; c < trace->n_columns; c++)
        if (!strcmp(trace->columns[c], signal))
            return (int)c;
    return -1;
}

/* Rows at or before t_s. */
static size_t rows_until(const struct dev_trace *trace, double t_s)
{
    size_t low = 0, high = trace->n_rows;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (trace->time_s[middle] <= t_s)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct dev_reading dev_trace_at(const struct dev_trace *trace, int column, double t_s,
                                uint64_t origin_ns)
{
    struct dev_reading reading = {.why = DEV_NO_SOURCE};
    if (column < 0)
        return reading;
    reading.why = DEV_NO_SAMPLE;
    for (size_t r = rows_until(trace, t_s); r > 0; r--) {
        double value = trace->values[(r - 1) * trace->n_columns + (size_t)column];
        if (isnan(value))
            continue;
        reading.value = value;
        reading.time_ns = origin_ns + (uint64_t)llround(trace->time_s[r - 1] * 1e9);
        reading.why = DEV_PRESENT;
        break;
    }
    return reading;
}

double dev_trace_duration_s(const struct dev_trace *trace)
{
    return trace->n_rows ? trace->time_s[trace->n_rows - 1] : 0;
}
