#include "variants/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 64 };

/* What one scored token adds. */
struct score {
    double nll, kld;
    bool agrees;
};

struct sums {
    double nll, nll2, kld, agree;
};

/* A session that follows a schedule through a window. */
struct lane {
    struct rt_session *session;
    const struct var_schedule_entry *schedule;
    size_t n_schedule;
    float *logits; /* [CHUNK][n_vocab] */
    struct sums sums;
};

struct measurement {
    const struct var_windows *windows;
    struct rt_team *team;
    struct lane *lanes; /* points, then the reference if there is one */
    size_t n_points, n_lanes;
    uint32_t n_vocab;
    struct score *scores; /* [CHUNK] */
};

/* log(sum(exp(x))) and the place of the largest, in double. */
static double log_sum_exp(const float *x, uint32_t n, uint32_t *argmax)
{
    uint32_t top = 0;
    for (uint32_t i = 1; i < n; i++)
        top = x[i] > x[top] ? i : top;
    double sum = 0; /* at least 1: the largest counts exp(0) */
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)x[i] - (double)x[top]);
    *argmax = top;
    return (double)x[top] + log(fmax(sum, 1));
}

/* KL(reference || point) over the whole vocabulary. */
static double divergence(const float *ref, double ref_lse, const float *x, double lse, uint32_t n)
{
    double kld = 0;
    for (uint32_t i = 0; i < n; i++) {
        double log_p = (double)ref[i] - ref_lse;
        kld += exp(log_p) * (log_p - ((double)x[i] - lse));
    }
    return kld;
}

/* The rows of one chunk of one lane, shared out among the team. */
struct score_job {
    const struct measurement *m;
    const struct lane *lane, *reference; /* reference may be NULL */
    const int32_t *next;                 /* the token each row should predict */
    uint32_t n;
};

static void score_rows(void *ctx, unsigned worker, unsigned workers)
{
    const struct score_job *job = ctx;
    uint32_t v = job->m->n_vocab;
    for (uint32_t i = worker; i < job->n; i += workers) {
        const float *x = job->lane->logits + (size_t)i * v;
        struct score *s = &job->m->scores[i];
        uint32_t top, ref_top;
        double lse = log_sum_exp(x, v, &top);
        *s = (struct score){.nll = lse - (double)x[job->next[i]]};
        if (!job->reference)
            continue;
        const float *ref = job->reference->logits + (size_t)i * v;
        double ref_lse = log_sum_exp(ref, v, &ref_top);
        s->kld = divergence(ref, ref_lse, x, lse, v);
        s->agrees = top == ref_top;
    }
}

static void add_scores(struct sums *sums, const struct score *scores, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        sums->nll += scores[i].nll;
        sums->nll2 += scores[i].nll * scores[i].nll;
        sums->kld += scores[i].kld;
        sums->agree += scores[i].agrees;
    }
}

/* The point of position pos, and how far it reaches. */
static const struct rt_point *point_at(const struct lane *lane, uint32_t pos, uint32_t *until)
{
    size_t i = 0;
    while (i + 1 < lane->n_schedule && lane->schedule[i + 1].token <= pos)
        i++;
    *until = i + 1 < lane->n_schedule ? lane->schedule[i + 1].token : UINT32_MAX;
    return &lane->schedule[i].point;
}

/* Feeds positions from .. to-1 of a window. A token's variant is the point's own, alone or in a
 * chunk: what is measured is the point, not its prefill. */
static int feed_lane(struct lane *lane, const int32_t *ids, uint32_t from, uint32_t to, bool scored,
                     uint32_t n_vocab, struct ert_error *err)
{
    int rc = 0;
    for (uint32_t pos = from, end; pos < to && !rc; pos = end) {
        struct rt_point point = *point_at(lane, pos, &end);
        point.prefill_variant = point.variant;
        end = end < to ? end : to;
        rt_session_set_point(lane->session, &point);
        float *out = scored ? lane->logits + (size_t)(pos - from) * n_vocab : NULL;
        rc = rt_session_feed(lane->session, ids + pos, end - pos, NULL, NULL, out, err);
    }
    return rc;
}

static void score_chunk(const struct measurement *m, const int32_t *next, uint32_t n)
{
    const struct lane *reference = m->n_lanes > m->n_points ? &m->lanes[m->n_points] : NULL;
    for (size_t i = 0; i < m->n_points; i++) {
        struct score_job job = {m, &m->lanes[i], reference, next, n};
        rt_team_run(m->team, rt_team_size(m->team), score_rows, &job);
        add_scores(&m->lanes[i].sums, m->scores, n);
    }
}

static int measure_window(const struct measurement *m, const int32_t *ids, struct ert_error *err)
{
    uint32_t half = m->windows->length / 2, last = m->windows->length - 1;
    int rc = 0;
    for (size_t i = 0; i < m->n_lanes; i++)
        rt_session_rewind(m->lanes[i].session, 0);
    for (uint32_t from = 0, to; from < last && !rc; from = to) {
        uint32_t limit = from < half ? half : last;
        to = limit - from < CHUNK ? limit : from + CHUNK;
        for (size_t i = 0; i < m->n_lanes && !rc; i++)
            rc = feed_lane(&m->lanes[i], ids, from, to, from >= half, m->n_vocab, err);
        if (!rc && from >= half)
            score_chunk(m, ids + from + 1, to - from);
    }
    return rc;
}

static int open_lane(struct lane *lane, const struct rt_pack *pack, const struct measurement *m,
                     struct ert_error *err)
{
    struct rt_session_config config = {.n_ctx = m->windows->length, .chunk = CHUNK};
    lane->logits = malloc((size_t)CHUNK * m->n_vocab * sizeof *lane->logits);
    if (!lane->logits)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for logits", pack->path);
    return rt_session_create(&lane->session, pack, m->team, &config, err);
}

static int open_lanes(struct measurement *m, const struct var_measured *points,
                      const struct var_schedule_entry *reference_point, struct ert_error *err)
{
    const struct rt_pack *reference = m->windows->reference;
    int rc = 0;
    for (size_t i = 0; i < m->n_points && !rc; i++) {
        m->lanes[i].schedule = points[i].schedule;
        m->lanes[i].n_schedule = points[i].n_schedule;
        rc = open_lane(&m->lanes[i], points[i].pack, m, err);
    }
    if (!rc && reference) {
        m->lanes[m->n_points].schedule = reference_point;
        m->lanes[m->n_points].n_schedule = 1;
        rc = open_lane(&m->lanes[m->n_points], reference, m, err);
    }
    return rc;
}

static void summarise(const struct measurement *m, const struct sums *sums,
                      struct var_eval_result *result)
{
    uint32_t per_window = m->windows->length - 1 - m->windows->length / 2;
    double n = (double)m->windows->n * per_window;
    double nll = sums->nll / n, variance = sums->nll2 / n - nll * nll;
    bool compared = m->n_lanes > m->n_points;
    *result = (struct var_eval_result){
        .tokens = (uint64_t)m->windows->n * per_window,
        .windows = m->windows->n,
        .nll = nll,
        .ppl = exp(nll),
        .ppl_error = n > 1 ? exp(nll) * sqrt(fmax(variance, 0) / (n - 1)) : NAN,
        .kld = compared ? sums->kld / n : NAN,
        .top1 = compared ? sums->agree / n : NAN,
    };
}

static int measure_all(const struct measurement *m, const struct ert_progress *progress,
                       struct ert_error *err)
{
    int rc = 0;
    for (uint32_t w = 0; w < m->windows->n && !rc; w++) {
        if (!ert_progress_report(progress, "measuring", w, m->windows->n))
            return ert_fail(err, ERT_E_CANCELLED, "stopped on request");
        rc = measure_window(m, m->windows->ids + (size_t)w * m->windows->length, err);
    }
    return rc;
}

int var_measure(struct var_measured *points, size_t n_points, const struct var_windows *windows,
                struct rt_team *team, const struct ert_progress *progress, struct ert_error *err)
{
    const struct rt_pack *reference = windows->reference;
    struct var_schedule_entry reference_point = {.point = {.name = "f32", .variant = RT_F32}};
    struct measurement m = {.windows = windows,
                            .team = team,
                            .n_points = n_points,
                            .n_lanes = n_points + (reference != NULL),
                            .n_vocab = points[0].pack->model.n_vocab};
    int rc;
    if (reference && reference->model.n_vocab != m.n_vocab)
        return ert_fail(err, ERT_E_USAGE,
                        "%s: its vocabulary of %u tokens differs from that of %s (%u); give a "
                        "reference made from the same source",
                        reference->path, reference->model.n_vocab, points[0].pack->path, m.n_vocab);
    m.lanes = calloc(m.n_lanes, sizeof *m.lanes);
    m.scores = calloc(CHUNK, sizeof *m.scores);
    if (!m.lanes || !m.scores) {
        rc = ert_fail(err, ERT_E_NOMEM, "no memory to measure %zu points", n_points);
        goto out;
    }
    rc = open_lanes(&m, points, &reference_point, err);
    if (!rc)
        rc = measure_all(&m, progress, err);
    for (size_t i = 0; i < n_points && !rc; i++)
        summarise(&m, &m.lanes[i].sums, &points[i].result);
out:
    for (size_t i = 0; i < m.n_lanes && m.lanes; i++) {
        rt_session_free(m.lanes[i].session);
        free(m.lanes[i].logits);
    }
    free(m.lanes);
    free(m.scores);
    return rc;
}
