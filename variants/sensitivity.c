#include "variants/sensitivity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/kernels/kernels.h"
#include "runtime/pack_format.h"
#include "variants/draw.h"
#include "variants/progress.h"
#include "variants/states.h"
#include "variants/stream.h"

/* Standard errors matter little here, since all cuts are measured on the same tokens. */
enum { FIRST = 16, ROWS = 256, ROUND_MIB = 320 };

enum { PANEL = 128, WIDE = 1024, TRUNK = UINT32_MAX };

/* A tier with one layer cut to one width, on its way through the rest of the model; a trunk is a
 * tier itself, which branches leave at their layer. */
struct branch {
    float *x;              /* [tokens][E] */
    const uint32_t *width; /* [n_layers] the tier's */
    uint32_t layer, cut;
    double *sums; /* [VAR_BLOCKS], what is found */
};

/* As many branches as fit into memory, run side by side: the stream passes every layer once. */
struct round {
    const struct var_weighing *w;
    struct var_texts texts;
    const uint32_t *cuts;    /* [VAR_CUTS] */
    struct branch *branches; /* [n], of which branches leave the first */
    uint32_t n, at_once;
    float *x; /* the branches' states */
    float *norm_final;
    float *rows, *reference_rows;     /* [ROWS][E], [scored][E]: what the head reads */
    float *logits, *reference_logits; /* [ROWS][n_vocab] */
    int32_t *next;                    /* [scored] */
    struct var_score *scores;         /* [ROWS] */
    uint32_t n_scored;
};

static size_t state_floats(const struct round *r)
{
    return (size_t)r->texts.n * r->texts.length * r->w->src->model.n_embd_pad;
}

/* ---- the branches -------------------------------------------------------------------------- */

/* A branch's way through the layer the stream stands at: without the last of its stored channels.
 */
static void pass_branch(const struct round *r, struct var_stream *stream, const struct branch *b,
                        uint32_t layer, const struct var_moments *m)
{
    const int32_t *stored = r->w->order->layers[layer].mlp;
    uint32_t kept = b->layer == layer ? r->cuts[b->cut] : b->width[layer];
    uint32_t end = r->w->src->model.n_ff;
    const struct var_cut cut = {stored + kept, end > kept ? end - kept : 0, m->level_mean};
    var_stream_branch(stream, b->x, &cut);
}

/* The first trunk last: what leaves it needs its state. */
static int pass_layer(const struct round *r, struct var_stream *stream, struct ert_error *err)
{
    uint32_t layer = var_stream_position(stream);
    const struct ert_progress silent = {0};
    struct var_moments m = {0};
    int rc = r->w->moments->load(r->w->moments->ctx, layer, &m, err);
    for (uint32_t i = r->n; i-- > 0 && !rc;) {
        const struct branch *b = &r->branches[i];
        if (b->layer != TRUNK && b->layer > layer)
            continue;
        if (b->layer == layer)
            memcpy(b->x, r->branches[0].x, state_floats(r) * sizeof *b->x);
        pass_branch(r, stream, b, layer, &m);
    }
    var_moments_release(&m);
    return rc ? rc : var_stream_layer(stream, NULL, &silent, err);
}

/* ---- scores -------------------------------------------------------------------------------- */

static bool is_scored(const struct round *r, uint32_t position)
{
    return position >= FIRST && position + 1 < r->texts.length;
}

/* The state of a scored row. */
static const float *state_of(const struct round *r, const float *x, uint32_t row)
{
    uint32_t each = r->n_scored / r->texts.n;
    size_t token = (size_t)(row / each) * r->texts.length + FIRST + row % each;
    return x + token * r->w->src->model.n_embd_pad;
}

/* What the head reads of rows from .. from + n - 1 of a branch. */
static void norm_rows(const struct round *r, const float *x, uint32_t from, uint32_t n)
{
    const struct rt_model *m = &r->w->src->model;
    for (uint32_t i = 0; i < n; i++)
        rt_kernels_best()->rmsnorm(state_of(r, x, from + i), r->norm_final, m->n_embd_pad,
                                   m->n_embd, m->rms_eps, r->rows + (size_t)i * m->n_embd_pad);
}

/* The same of all rows of the source itself, whose norm is done. */
static void copy_reference(const struct round *r, const float *x)
{
    size_t e = r->w->src->model.n_embd_pad;
    for (uint32_t i = 0; i < r->n_scored; i++)
        memcpy(r->reference_rows + i * e, state_of(r, x, i), e * sizeof *x);
}

static uint32_t block_of(const struct round *r, uint32_t row)
{
    return (uint32_t)((uint64_t)row * VAR_BLOCKS / r->n_scored);
}

static void add_kld(const struct round *r, uint32_t from, uint32_t n, double *sums)
{
    uint32_t n_vocab = r->w->src->model.n_vocab;
    var_score_rows(r->w->team, r->logits, r->reference_logits, n_vocab, r->next + from, n,
                   r->scores);
    for (uint32_t i = 0; i < n; i++)
        sums[block_of(r, from + i)] += (double)r->scores[i].kld;
}

/* Adds to each branch's sums the divergence of rows from .. from + n - 1. */
static int score_rows(const struct round *r, struct var_states *states,
                      const struct var_reference *logits, uint32_t from, uint32_t n,
                      struct ert_error *err)
{
    states->x = r->reference_rows;
    int rc = logits->logits(logits->ctx, 0, from, n, r->reference_logits, err);
    states->x = r->rows;
    for (uint32_t i = 0; i < r->n && !rc; i++) {
        norm_rows(r, r->branches[i].x, from, n);
        rc = logits->logits(logits->ctx, 0, 0, n, r->logits, err);
        if (!rc)
            add_kld(r, from, n, r->branches[i].sums);
    }
    return rc;
}

static int score_branches(const struct round *r, struct var_stream *stream, struct ert_error *err)
{
    struct var_states states;
    struct var_reference logits;
    int rc = var_states_open(&states, r->w->src, r->w->team, r->rows, r->n_scored, &logits, err);
    if (rc)
        return rc;
    var_stream_finish(stream, NULL);
    copy_reference(r, var_stream_state(stream));
    for (uint32_t from = 0; from < r->n_scored && !rc; from += ROWS)
        rc = score_rows(r, &states, &logits, from,
                        r->n_scored - from < ROWS ? r->n_scored - from : ROWS, err);
    var_states_release(&states);
    return rc;
}

/* ---- a round ------------------------------------------------------------------------------- */

static void begin_branch(const struct round *r, struct branch *b, const float *state)
{
    memset(b->sums, 0, VAR_BLOCKS * sizeof *b->sums);
    if (b->layer == TRUNK)
        memcpy(b->x, state, state_floats(r) * sizeof *b->x);
}

static int run_round(struct round *r, const struct ert_progress *progress, struct ert_error *err)
{
    struct var_stream *stream;
    const char *path = r->w->src->path;
    uint32_t n_layers = r->w->src->model.n_layers;
    int rc = var_stream_open(&stream, r->w->src, r->w->team, &r->texts, err);
    for (uint32_t i = 0; i < r->n && !rc; i++)
        begin_branch(r, &r->branches[i], var_stream_state(stream));
    while (!rc && var_stream_position(stream) < n_layers) {
        uint32_t layer = var_stream_position(stream);
        if (!ert_progress_report(progress, "weighing layers", layer, n_layers + 1))
            rc = ert_fail(err, ERT_E_CANCELLED, "%s: stopped on request", path);
        else
            rc = pass_layer(r, stream, err);
    }
    if (!rc)
        rc = score_branches(r, stream, err);
    var_stream_close(stream);
    return rc;
}

static uint32_t count_scored(const struct round *r)
{
    uint32_t n = 0;
    for (uint32_t position = 0; position < r->texts.length; position++)
        n += is_scored(r, position);
    return n * r->texts.n;
}

static void list_next(struct round *r)
{
    int32_t *next = r->next;
    for (size_t t = 0; t < (size_t)r->texts.n * r->texts.length; t++)
        if (is_scored(r, (uint32_t)(t % r->texts.length)))
            *next++ = r->texts.ids[t + 1];
}

static bool allocate(struct round *r)
{
    const struct rt_model *m = &r->w->src->model;
    size_t e = m->n_embd_pad, logits = (size_t)ROWS * m->n_vocab;
    r->branches = calloc(r->at_once, sizeof *r->branches);
    r->x = malloc(r->at_once * state_floats(r) * sizeof *r->x);
    r->norm_final = calloc(e, sizeof *r->norm_final);
    r->rows = malloc(ROWS * e * sizeof *r->rows);
    r->reference_rows = malloc(r->n_scored * e * sizeof *r->reference_rows);
    r->logits = malloc(2 * logits * sizeof *r->logits);
    r->reference_logits = r->logits ? r->logits + logits : NULL;
    r->next = calloc(r->n_scored + 1, sizeof *r->next);
    r->scores = calloc(ROWS, sizeof *r->scores);
    return r->branches && r->x && r->norm_final && r->rows && r->reference_rows && r->logits &&
           r->next && r->scores;
}

static void close_round(struct round *r)
{
    free(r->branches);
    free(r->x);
    free(r->norm_final);
    free(r->rows);
    free(r->reference_rows);
    free(r->logits);
    free(r->next);
    free(r->scores);
}

/* For at most `wanted` branches at a time. Close it on failure, too. */
static int open_round(struct round *r, const struct var_weighing *w, uint32_t wanted,
                      struct ert_error *err)
{
    *r = (struct round){.w = w, .texts = *w->texts};
    r->texts.n_measured = 0;
    r->n_scored = count_scored(r);
    if (r->n_scored == 0)
        return 0;
    size_t fit = ((size_t)ROUND_MIB << 20) / (state_floats(r) * sizeof *r->x);
    r->at_once = fit < 2 ? 2 : fit < wanted ? (uint32_t)fit : wanted;
    if (!allocate(r))
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory to weigh its layers", w->src->path);
    var_tensor_row(&w->src->norm_final, 0, r->norm_final);
    list_next(r);
    return 0;
}

static void add_branch(struct round *r, struct branch b)
{
    b.x = r->x + r->n * state_floats(r);
    r->branches[r->n++] = b;
}

/* ---- one layer narrower -------------------------------------------------------------------- */

uint32_t var_width_step(const struct rt_model *m)
{
    uint32_t full = pack_pad(m->n_ff, PACK_GROUP);
    return full >= WIDE && full % PANEL == 0 ? PANEL : PACK_GROUP;
}

/* Three quarters, one half, one quarter of the channels, and the least. */
static void choose_cuts(struct var_sensitivity *s, const struct rt_model *m)
{
    uint32_t least = var_width_step(m);
    for (uint32_t i = 0; i < VAR_CUTS; i++) {
        uint64_t share = (uint64_t)m->n_ff * (VAR_CUTS - 1 - i) / VAR_CUTS;
        uint32_t width = (uint32_t)share / PACK_GROUP * PACK_GROUP;
        s->width[i] = width < least ? least : width;
    }
}

/* Narrower than the layer is, and than no other cut that loses `depth` already. */
static bool is_wanted(const struct var_sensitivity *s, uint32_t own, uint32_t depth, uint32_t cut)
{
    uint32_t floor = own > depth ? own - depth : 0;
    return s->width[cut] < own &&
           (cut == 0 || (s->width[cut - 1] > floor && s->width[cut - 1] > s->width[cut]));
}

/* The wanted cuts from number `at` on, as many as fit; the number after them. */
static uint32_t fill_round(struct round *r, struct var_sensitivity *s, const uint32_t *width,
                           uint32_t depth, uint32_t at)
{
    uint32_t all = s->n_layers * VAR_CUTS;
    r->n = 0;
    add_branch(r, (struct branch){.width = width, .layer = TRUNK, .sums = s->sums[0]});
    for (; at < all && r->n < r->at_once; at++) {
        uint32_t layer = at / VAR_CUTS, cut = at % VAR_CUTS;
        if (!is_wanted(s, width[layer], depth, cut))
            continue;
        s->kld[layer][cut] = 0;
        add_branch(r, (struct branch){
                          .width = width, .layer = layer, .cut = cut, .sums = s->sums[1 + at]});
    }
    return at;
}

static int run_rounds(struct round *r, struct var_sensitivity *s, const uint32_t *width,
                      uint32_t depth, const struct ert_progress *progress, struct ert_error *err)
{
    uint32_t all = s->n_layers * VAR_CUTS;
    int rc = 0;
    r->cuts = s->width;
    for (uint32_t at = 0, next; at < all && !rc; at = next) {
        next = fill_round(r, s, width, depth, at);
        struct var_part_progress part = {progress, (double)at / all, (double)(next - at) / all,
                                         NULL};
        const struct ert_progress mine = var_part_progress(&part);
        rc = run_round(r, &mine, err);
    }
    return rc;
}

static int prepare(struct var_sensitivity *s, const struct rt_model *m, uint32_t **width,
                   struct ert_error *err)
{
    *s = (struct var_sensitivity){.n_layers = m->n_layers};
    s->kld = malloc(m->n_layers * sizeof *s->kld);
    s->sums = calloc(1 + (size_t)m->n_layers * VAR_CUTS, sizeof *s->sums);
    *width = calloc(m->n_layers, sizeof **width);
    if (!s->kld || !s->sums || !*width)
        return ert_fail(err, ERT_E_NOMEM, "no memory for %u layers", m->n_layers);
    choose_cuts(s, m);
    return 0;
}

int var_sensitivity_measure(struct var_sensitivity *s, const struct var_weighing *w, uint32_t tier,
                            uint32_t depth, const struct ert_progress *progress,
                            struct ert_error *err)
{
    const struct rt_model *m = &w->src->model;
    struct round r = {0};
    uint32_t *width;
    int rc = prepare(s, m, &width, err);
    if (!rc)
        rc = open_round(&r, w, 1 + m->n_layers * VAR_CUTS, err);
    s->n_scored = r.n_scored;
    for (uint32_t i = 0; i < m->n_layers * VAR_CUTS && !rc; i++) /* nothing to score: all is free */
        s->kld[i / VAR_CUTS][i % VAR_CUTS] = r.n_scored > 0 ? INFINITY : 0;
    for (uint32_t l = 0; l < m->n_layers && !rc; l++)
        width[l] = w->order->dims[tier][l].mlp;
    if (!rc && r.n_scored > 0)
        rc = run_rounds(&r, s, width, depth, progress, err);
    if (!rc)
        var_sensitivity_draw(s, 0);
    close_round(&r);
    free(width);
    if (rc)
        var_sensitivity_release(s);
    return rc;
}

void var_sensitivity_release(struct var_sensitivity *s)
{
    free(s->kld);
    free(s->sums);
    *s = (struct var_sensitivity){0};
}

/* ---- other tokens -------------------------------------------------------------------------- */

static uint32_t block_rows(const struct var_sensitivity *s, uint32_t block)
{
    uint64_t n = s->n_scored;
    return (uint32_t)(((block + 1) * n + VAR_BLOCKS - 1) / VAR_BLOCKS -
                      (block * n + VAR_BLOCKS - 1) / VAR_BLOCKS);
}

static double mean_of(const uint32_t times[VAR_BLOCKS], const double sums[VAR_BLOCKS], double rows)
{
    double sum = 0;
    for (uint32_t i = 0; i < VAR_BLOCKS; i++)
        sum += times[i] * sums[i];
    return sum / rows;
}

void var_sensitivity_draw(struct var_sensitivity *s, uint32_t draw)
{
    uint32_t times[VAR_BLOCKS] = {0};
    double rows = 0;
    for (uint32_t i = 0; i < VAR_BLOCKS; i++)
        times[draw ? (uint32_t)(VAR_BLOCKS * var_draw(0, draw, i)) : i]++;
    for (uint32_t i = 0; i < VAR_BLOCKS; i++)
        rows += times[i] * (double)block_rows(s, i);
    if (rows == 0)
        return;
    s->tier_kld = mean_of(times, s->sums[0], rows);
    for (uint32_t i = 0; i < s->n_layers * VAR_CUTS; i++) {
        double *kld = &s->kld[i / VAR_CUTS][i % VAR_CUTS];
        if (*kld != INFINITY)
            *kld = mean_of(times, s->sums[1 + i], rows);
    }
}

/* ---- whole tiers --------------------------------------------------------------------------- */

static double total(const double sums[VAR_BLOCKS])
{
    double sum = 0;
    for (uint32_t i = 0; i < VAR_BLOCKS; i++)
        sum += sums[i];
    return sum;
}

int var_sensitivity_compare(double *kld, const struct var_weighing *w, const uint32_t *widths,
                            uint32_t n, const struct ert_progress *progress, struct ert_error *err)
{
    double(*sums)[VAR_BLOCKS] = calloc(n, sizeof *sums);
    struct round r = {0};
    int rc =
        sums ? open_round(&r, w, n, err) : ert_fail(err, ERT_E_NOMEM, "no memory for %u tiers", n);
    for (uint32_t at = 0; at < n && r.n_scored > 0 && !rc; at += r.n) {
        struct var_part_progress part = {progress, (double)at / n, 0, NULL};
        for (r.n = 0; r.n < r.at_once && at + r.n < n;)
            add_branch(
                &r, (struct branch){.width = widths + (size_t)(at + r.n) * w->src->model.n_layers,
                                    .layer = TRUNK,
                                    .sums = sums[at + r.n]});
        part.size = (double)r.n / n;
        const struct ert_progress mine = var_part_progress(&part);
        rc = run_round(&r, &mine, err);
    }
    for (uint32_t i = 0; i < n && !rc; i++)
        kld[i] = r.n_scored > 0 ? total(sums[i]) / r.n_scored : 0;
    close_round(&r);
    free(sums);
    return rc;
}
