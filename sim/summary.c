#include "sim/sim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The kernel's cooling_device/stats/trans_table: From rows, To columns. */
static void write_trans_table(FILE *f, const struct sim_result *r)
{
    fputs("trans_table\n From  :    To\n       : ", f);
    for (size_t to = 0; to < r->n_states; to++)
        fprintf(f, "state%2zu  ", to);
    fputc('\n', f);
    for (size_t from = 0; from < r->n_states; from++) {
        fprintf(f, "state%2zu:", from);
        for (size_t to = 0; to < r->n_states; to++)
            fprintf(f, "%8llu ", (unsigned long long)r->trans_table[from][to]);
        fputc('\n', f);
    }
}

static void write_sensor(FILE *f, const struct sim_result *r, const struct sim_peak *peak)
{
    const struct dev_signal *signal = dev_signal_find(peak->sensor);
    const char *unit = signal ? ert_unit_name(signal->unit) : "";
    fprintf(f, "  %s", peak->sensor);
    if (!isnan(peak->min))
        fprintf(f, "\t%.6g%s to %.6g%s", peak->min, unit, peak->max, unit);
    if (peak->missing)
        fprintf(f, "\tmissing in %llu of %llu decisions: %s", (unsigned long long)peak->missing,
                (unsigned long long)r->decisions, dev_absence_text(peak->why));
    fputc('\n', f);
}

/* "  false at 12.500 s  robustness -3.1  always (temp.cpu < 95C)" */
static void write_guarantee(FILE *f, const struct sim_guarantee *g)
{
    fprintf(f, "  %s", pol_verdict_name(g->verdict));
    if (g->decided)
        fprintf(f, " at %.3f s", g->decided_s);
    if (isnan(g->robustness))
        fprintf(f, "\tno reading of %s", *g->waits_for ? g->waits_for : "anything");
    else
        fprintf(f, "\trobustness %.6g", g->robustness);
    if (g->restarts)
        fprintf(f, "\twatched anew %u times", g->restarts);
    fprintf(f, "\t%s\n", g->text);
}

static void write_summary(FILE *f, const struct sim_result *r)
{
    fprintf(f, "trace\t%s\npolicy\t%s\nduration_s\t%.3f\ndecisions\t%llu\ntotal_trans\t%llu\n",
            r->trace, r->policy, r->duration_s, (unsigned long long)r->decisions,
            (unsigned long long)r->total_trans);
    fputs("states\n", f);
    for (size_t i = 0; i < r->n_states; i++)
        fprintf(f, "  state%zu\t%s\n", i, r->states[i]);
    fputs("time_in_state_ms\n", f);
    for (size_t i = 0; i < r->n_states; i++)
        fprintf(f, "state%zu\t%llu\n", i, (unsigned long long)r->time_in_state_ms[i]);
    write_trans_table(f, r);
    fputs("sensors\n", f);
    for (size_t i = 0; i < r->n_sensors; i++)
        write_sensor(f, r, &r->sensors[i]);
    if (r->n_guarantees)
        fputs("guarantees\n", f);
    for (size_t i = 0; i < r->n_guarantees; i++)
        write_guarantee(f, &r->guarantees[i]);
    fputs("changes\n", f);
    for (uint64_t i = 0; i < r->total_trans; i++)
        fprintf(f, "  %.3f s\t%s -> %s\t%s\n", r->changes[i].time_s, r->states[r->changes[i].from],
                r->states[r->changes[i].to], r->changes[i].reason);
}

int sim_summary_text(const struct sim_result *result, char **text, struct ert_error *err)
{
    size_t size;
    *text = NULL;
    FILE *f = open_memstream(text, &size);
    if (!f)
        return ert_fail(err, ERT_E_NOMEM, "out of memory for a summary");
    write_summary(f, result);
    bool failed = ferror(f) != 0;
    if (fclose(f) == 0 && !failed)
        return 0;
    free(*text);
    *text = NULL;
    return ert_fail(err, ERT_E_NOMEM, "out of memory for a summary");
}

static json_t *number(uint64_t n)
{
    return json_integer((json_int_t)n);
}

/* What JSON has no number for is null. */
static json_t *value(double v)
{
    return !isfinite(v) ? json_null() : json_real(v);
}

static json_t *states_json(const struct sim_result *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->n_states; i++)
        json_array_append_new(list, json_string(r->states[i]));
    return list;
}

static json_t *counts_json(const uint64_t *counts, size_t n)
{
    json_t *list = json_array();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(list, number(counts[i]));
    return list;
}

static json_t *table_json(const struct sim_result *r)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < r->n_states; i++)
        json_array_append_new(rows, counts_json(r->trans_table[i], r->n_states));
    return rows;
}

static json_t *peaks_json(const struct sim_result *r)
{
    json_t *peaks = json_object();
    for (size_t i = 0; i < r->n_sensors; i++) {
        const struct sim_peak *p = &r->sensors[i];
        json_object_set_new(peaks, p->sensor,
                            json_pack("{s:o,s:o,s:o,s:s}", "min", value(p->min), "max",
                                      value(p->max), "missing", number(p->missing), "why",
                                      p->missing ? dev_absence_id(p->why) : ""));
    }
    return peaks;
}

static json_t *changes_json(const struct sim_result *r)
{
    json_t *list = json_array();
    for (uint64_t i = 0; i < r->total_trans; i++) {
        const struct sim_change *c = &r->changes[i];
        json_array_append_new(list, json_pack("{s:f,s:s,s:s,s:i,s:s}", "t_s", c->time_s, "from",
                                              r->states[c->from], "to", r->states[c->to], "state",
                                              (int)c->to, "reason", c->reason));
    }
    return list;
}

static json_t *guarantees_json(const struct sim_result *r)
{
    json_t *list = json_array();
    for (size_t i = 0; i < r->n_guarantees; i++) {
        const struct sim_guarantee *g = &r->guarantees[i];
        json_array_append_new(list, json_pack("{s:s,s:o,s:s,s:o,s:s?}", "text", g->text,
                                              "robustness", value(g->robustness), "verdict",
                                              pol_verdict_name(g->verdict), "decided_s",
                                              g->decided ? json_real(g->decided_s) : json_null(),
                                              "waits_for", *g->waits_for ? g->waits_for : NULL));
    }
    return list;
}

json_t *sim_summary_json(const struct sim_result *r)
{
    return json_pack("{s:s,s:s,s:f,s:o,s:o,s:o,s:o,s:o,s:o,s:o,s:o}", "trace", r->trace, "policy",
                     r->policy, "duration_s", r->duration_s, "decisions", number(r->decisions),
                     "total_trans", number(r->total_trans), "states", states_json(r),
                     "time_in_state_ms", counts_json(r->time_in_state_ms, r->n_states),
                     "trans_table", table_json(r), "peak", peaks_json(r), "guarantees",
                     guarantees_json(r), "changes", changes_json(r));
}

int sim_check_guarantees(const struct sim_result *result, struct ert_error *err)
{
    for (size_t i = 0; i < result->n_guarantees; i++) {
        const struct sim_guarantee *g = &result->guarantees[i];
        if (g->verdict == POL_FALSE)
            return ert_fail(err, ERT_E_CHECK, "%s: policy '%s' does not keep its guarantee '%s'",
                            result->trace, result->policy, g->text);
    }
    return 0;
}

/* Where two texts first differ: *line from 1, and the offset of that line's start in both. */
static size_t first_difference(const char *a, const char *b, unsigned *line)
{
    size_t start = 0;
    *line = 1;
    for (size_t i = 0; a[i] == b[i]; i++)
        if (a[i] == '\n') {
            start = i + 1;
            ++*line;
        }
    return start;
}

int sim_check_golden(const struct sim_result *result, const char *golden_path,
                     struct ert_error *err)
{
    enum { MAX_GOLDEN = 64 << 20 };
    char *golden = NULL, *text = NULL;
    int rc = ert_read_text(golden_path, MAX_GOLDEN, &golden, NULL, err);
    if (!rc)
        rc = sim_summary_text(result, &text, err);
    if (!rc && golden && text && strcmp(golden, text) != 0) {
        unsigned line;
        size_t at = first_difference(golden, text, &line);
        int expected = (int)strcspn(golden + at, "\n"), got = (int)strcspn(text + at, "\n");
        rc = ert_fail(err, ERT_E_CHECK, "%s:%u: expected '%.*s', got '%.*s'", golden_path, line,
                      expected < 160 ? expected : 160, golden + at, got < 160 ? got : 160,
                      text + at);
    }
    free(golden);
    free(text);
    return rc;
}
