/* device: what a device is on paper. Signals and their units, readings, traces. Pure, no I/O but
 * the trace files. */
#ifndef DEV_DEVICE_H
#define DEV_DEVICE_H

#include "base/base.h"

/* ---- signals ------------------------------------------------------------------------------- */

enum { DEV_NAME = 48 }; /* bytes of a signal's name, NUL included */

/* What is known of a signal by its name (signals.def: exact names, and families such as "temp.").
 */
struct dev_signal {
    const char *name; /* "battery.charge", or a family's prefix "temp." */
    enum ert_unit unit;
    double min, max;  /* plausible range in the unit's base */
    double rate;      /* fastest plausible change per second, 0 = unlimited */
    const char *what; /* for people */
    double stale_s;   /* a sample older than this says nothing any more */
};
const struct dev_signal *dev_signal_find(const char *name); /* NULL if unknown */
const struct dev_signal *dev_signal_at(size_t i);           /* NULL past the end */
const char *dev_signal_nearest(const char *name); /* for "did you mean", NULL if none is close */

/* ---- readings ------------------------------------------------------------------------------ */

enum dev_absence {
#define A(id, text) DEV_##id,
#include "device/absences.def"
#undef A
    DEV_N_ABSENCES
};
const char *dev_absence_text(enum dev_absence why);
const char *dev_absence_id(enum dev_absence why); /* "STALE": as journals have it */
bool dev_absence_find(const char *id,
                      enum dev_absence *why); /* false if there is none of that id */

/* One sample: a value, or the reason why there is none. */
struct dev_reading {
    double value;     /* in the unit's base; meaningless unless why == DEV_PRESENT */
    uint64_t time_ns; /* when the source took it, same clock as the decision's time */
    enum dev_absence why;
};

/* ---- traces -------------------------------------------------------------------------------- */

/* A recorded trace in memory: rows of time and one value per column, NaN = no reading. */
struct dev_trace {
    char *path;
    char *device, *source, *licence; /* from the header's "# device: ..." lines, "" if absent */
    size_t n_columns, n_rows;
    char (*columns)[DEV_NAME]; /* signal names, without the unit suffix */
    double *time_s;            /* [n_rows], strictly rising, from 0 */
    double *values;            /* [n_rows][n_columns] */
};

/* Reads CSV as design and docs/traces.md have it: `time_s,temp.cpu_C,...`. Errors carry file and
 * line, what was expected and the nearest known name. At most 2^24 values. */
int dev_trace_read(struct dev_trace **trace, const char *path, struct ert_error *err);
void dev_trace_free(struct dev_trace *trace);
int dev_trace_write(const struct dev_trace *trace, const char *path, struct ert_error *err);
/* Column of a signal, -1 if the trace has none. */
int dev_trace_column(const struct dev_trace *trace, const char *signal);
/* The reading of a column at time t_s: the last row at or before it (hold-last-value). A column
 * with an empty cell there holds the last value it had; before the first value: DEV_NO_SAMPLE.
 * time_ns of the reading is that of the row that carried the value, plus origin_ns. */
struct dev_reading dev_trace_at(const struct dev_trace *trace, int column, double t_s,
                                uint64_t origin_ns);
double dev_trace_duration_s(const struct dev_trace *trace);

#endif
