#include "variants/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/kernels/kernels.h"
#include "variants/lane.h"

enum { CHUNK = 64 };

struct measurement {
    const struct var_windows *windows;
    const struct var_reference *reference; /* or NULL */
    struct rt_team *team;
    const struct ert_progress *progress;
    struct var_measured *points;
    struct var_lane *lanes; /* [n_points] */
    size_t n_points;
    uint32_t n_vocab;
    float *logits, *reference_logits; /* [CHUNK][n_vocab] */
};

uint32_t var_windows_scored(const struct var_windows *windows)
{
    return windows->length - 1 - windows->first;
}

size_t var_windows_scores(const struct var_windows *windows)
{
    return (size_t)windows->n * var_windows_scored(windows);
}

/* ---- one position -------------------------------------------------------------------------- */

enum { PART = 1024, LANES = 8 };

/* exp(x) of a row, part after part (online softmax, arXiv 1805.02867): values e over `max`, which
 * is x[top]. */
struct exponentials {
    float max;
    uint32_t top;
    double sum;   /* of e */
    double moved; /* of e (x - other), other being another row */
};

static double log_sum(const struct exponentials *e)
{
    return (double)e->max + log(e->sum);
}

static uint32_t place_of(const float *x, float value, uint32_t n)
{
    uint32_t i = 0;
    while (i + 1 < n && x[i] != value)
        i++;
    return i;
}

static double sum_moved(const float *e, const float *x, const float *other, uint32_t n)
{
    double lane[LANES] = {0}, sum = 0;
    uint32_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (uint32_t k = 0; k < LANES; k++)
            lane[k] += (double)e[i + k] * ((double)x[i + k] - (double)other[i + k]);
    for (; i < n; i++)
        sum += (double)e[i] * ((double)x[i] - (double)other[i]);
    for (uint32_t k = 0; k < LANES; k++)
        sum += lane[k];
    return sum;
}

/* other may be NULL. */
static struct exponentials exponentials_of(const struct rt_kernels *kernels, const float *x,
                                           const float *other, uint32_t n)
{
    struct exponentials all = {.max = -INFINITY};
    float e[PART];
    for (uint32_t from = 0; from < n; from += PART) {
        uint32_t length = n - from < PART ? n - from : PART;
        float max;
        memcpy(e, x + from, length * sizeof *e);
        double sum = (double)kernels->softmax_part(e, length, &max);
        double moved = other ? sum_moved(e, x + from, other + from, length) : 0;
        double old = max > all.max ? exp((double)all.max - (double)max) : 1;
        double new = max > all.max ? 1 : exp((double)max - (double)all.max);
        all.sum = all.sum * old + sum * new;
        all.moved = all.moved * old + moved * new;
        if (max > all.max) {
            all.max = max;
            all.top = from + place_of(x + from, max, length);
        }
    }
    return all;
}

/* The rows of one chunk, shared out among the team. */
struct score_job {
    const struct rt_kernels *kernels;
    const float *logits, *reference;
    const int32_t *next;
    struct var_score *scores;
    uint32_t n_vocab, n;
};

static void score_rows(void *ctx, unsigned worker, unsigned workers)
{
    const struct score_job *job = ctx;
    uint32_t v = job->n_vocab;
    for (uint32_t i = worker; i < job->n; i += workers) {
        const float *x = job->logits + (size_t)i * v;
        struct var_score *s = &job->scores[i];
        const struct exponentials e = exponentials_of(job->kernels, x, NULL, v);
        double lse = log_sum(&e);
        *s = (struct var_score){.nll = (float)(lse - (double)x[job->next[i]])};
        if (!job->reference)
            continue;
        const float *ref = job->reference + (size_t)i * v;
        const struct exponentials r = exponentials_of(job->kernels, ref, x, v);
        double ref_lse = log_sum(&r);
        s->reference_nll = (float)(ref_lse - (double)ref[job->next[i]]);
        /* sum of p (log p - log q); rounding may leave equal distributions below 0 */
        s->kld = (float)fmax(r.moved / r.sum - (ref_lse - lse), 0);
        s->agrees = e.top == r.top;
    }
}

void var_score_rows(struct rt_team *team, const float *logits, const float *reference,
                    uint32_t n_vocab, const int32_t *next, uint32_t n, struct var_score *scores)
{
    struct score_job job = {rt_kernels_best(), logits, reference, next, scores, n_vocab, n};
    rt_team_run(team, rt_team_size(team), score_rows, &job);
}

/* ---- all of them --------------------------------------------------------------------------- */

/* Positions from .. to - 1 of a window, which are scored, through reference and points. */
static int measure_chunk(const struct measurement *m, uint32_t window, uint32_t from, uint32_t to,
                         struct ert_error *err)
{
    const struct var_reference *reference = m->reference;
    const int32_t *ids = m->windows->ids + (size_t)window * m->windows->length;
    size_t at = (size_t)window * var_windows_scored(m->windows) + from - m->windows->first;
    int rc = 0;
    if (reference)
        rc = reference->logits(reference->ctx, window, from, to - from, m->reference_logits, err);
    for (size_t i = 0; i < m->n_points && !rc; i++) {
        rc = var_lane_read(&m->lanes[i], ids, from, to, m->logits, err);
        if (!rc)
            var_score_rows(m->team, m->logits, reference ? m->reference_logits : NULL, m->n_vocab,
                           ids + from + 1, to - from, m->points[i].scores + at);
    }
    return rc;
}

/* Positions from .. to - 1, which only fill the caches. */
static int read_chunk(const struct measurement *m, uint32_t window, uint32_t from, uint32_t to,
                      struct ert_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < m->n_points && !rc; i++)
        rc = var_lane_read(&m->lanes[i], m->windows->ids + (size_t)window * m->windows->length,
                           from, to, NULL, err);
    return rc;
}

static int measure_window(const struct measurement *m, uint32_t window, struct ert_error *err)
{
    const struct var_windows *w = m->windows;
    uint32_t last = w->length - 1;
    int rc = 0;
    for (uint32_t from = 0, to; from < last && !rc; from = to) {
        uint32_t limit = from < w->first ? w->first : last;
        to = limit - from < CHUNK ? limit : from + CHUNK;
        if (!ert_progress_report(m->progress, "measuring", window + (double)from / last, w->n))
            return ert_fail(err, ERT_E_CANCELLED, "stopped on request");
        rc = from < w->first ? read_chunk(m, window, from, to, err)
                             : measure_chunk(m, window, from, to, err);
    }
    return rc;
}

static int open_measurement(struct measurement *m, struct ert_error *err)
{
    size_t n_logits = (size_t)CHUNK * m->n_vocab, n_scores = var_windows_scores(m->windows);
    m->lanes = calloc(m->n_points, sizeof *m->lanes);
    m->logits = malloc(n_logits * sizeof *m->logits);
    m->reference_logits = m->reference ? malloc(n_logits * sizeof *m->logits) : NULL;
    int rc = 0;
    if (!m->lanes || !m->logits || (m->reference && !m->reference_logits))
        rc = ert_fail(err, ERT_E_NOMEM, "no memory to measure %zu points", m->n_points);
    for (size_t i = 0; i < m->n_points && !rc; i++) {
        struct var_measured *p = &m->points[i];
        const struct rt_session_config config = {.n_ctx = m->windows->length,
                                                 .cache_bits = p->cache_bits};
        p->scores = calloc(n_scores, sizeof *p->scores);
        if (!p->scores)
            rc = ert_fail(err, ERT_E_NOMEM, "no memory for %zu scores", n_scores);
        else
            rc = var_lane_open(&m->lanes[i], p->pack, &p->schedule, &config, m->team, err);
    }
    return rc;
}

int var_measure(struct var_measured *points, size_t n_points, const struct var_windows *windows,
                const struct var_reference *reference, struct rt_team *team,
                const struct ert_progress *progress, struct ert_error *err)
{
    struct measurement m = {.windows = windows,
                            .reference = reference,
                            .team = team,
                            .progress = progress,
                            .points = points,
                            .n_points = n_points};
    for (size_t i = 0; i < n_points; i++)
        points[i].scores = NULL;
    if (n_points == 0 || var_windows_scores(windows) == 0)
        return ert_fail(err, ERT_E_USAGE, "there is no point or no token to measure");
    m.n_vocab = points[0].pack->model.n_vocab;
    int rc = open_measurement(&m, err);
    for (uint32_t w = 0; w < windows->n && !rc; w++)
        rc = measure_window(&m, w, err);
    for (size_t i = 0; i < n_points && m.lanes; i++)
        var_lane_close(&m.lanes[i]);
    free(m.lanes);
    free(m.logits);
    free(m.reference_logits);
    return rc;
}
