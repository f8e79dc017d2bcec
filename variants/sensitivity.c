#include "variants/sensitivity.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/kernels/kernels.h"
#include "runtime/pack_format.h"
#include "variants/divergence.h"
#include "variants/progress.h"
#include "variants/stream.h"

/* Standard errors matter little here, since all cuts are measured on the same tokens. */
enum { FIRST = 16, ROUND_MIB = 320 };

enum { PANEL = 128, WIDE = 1024, TRUNK = UINT32_MAX };

/* The tier with one layer cut to one width, on its way through the rest of the model; the trunk is
 * the tier itself, which branches leave at their layer. */
struct branch {
    float *x; /* [tokens][E] */
    uint32_t layer, cut;
};

/* As many branches as fit into memory, the first of them the trunk, run side by side: the stream
 * passes every layer once. */
struct round {
    const struct var_source *src;
    const struct var_arrangement *order;
    const struct var_moments_store *moments;
    struct var_texts texts;
    struct rt_team *team;
    const struct rt_dims *dims; /* [n_layers], the tier's */
    uint32_t depth;
    struct var_sensitivity *result;
    struct branch *branches; /* [n] */
    uint32_t n;
    float *x;             /* the branches' states */
    const float **states; /* of each branch */
    double *kld;          /* of each branch */
    float *norm_final;
    const struct rt_kernels *kernels;
    uint32_t n_scored;
};

static size_t state_floats(const struct round *r)
{
    return (size_t)r->texts.n * r->texts.length * r->src->model.n_embd_pad;
}

/* ---- the branches -------------------------------------------------------------------------- */

/* A branch's way through the layer the stream stands at: without the last of its stored channels.
 */
static void pass_branch(const struct round *r, struct var_stream *stream, const struct branch *b,
                        uint32_t layer, const struct var_moments *m)
{
    const int32_t *stored = r->order->layers[layer].mlp;
    uint32_t kept = b->layer == layer ? r->result->width[b->cut] : r->dims[layer].mlp;
    uint32_t end = r->src->model.n_ff;
    const struct var_cut cut = {stored + kept, end > kept ? end - kept : 0, m->level_mean};
    var_stream_branch(stream, b->x, &cut);
}

/* The trunk last: what leaves it needs its state. */
static int pass_layer(const struct round *r, struct var_stream *stream, struct ert_error *err)
{
    uint32_t layer = var_stream_position(stream);
    const struct ert_progress silent = {0};
    struct var_moments m = {0};
    int rc = r->moments->load(r->moments->ctx, layer, &m, err);
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

/* Moves the scored rows of a state to its front, as the head reads them; normed is whether the
 * final norm is done. */
static void gather_rows(const struct round *r, float *x, bool normed)
{
    const struct rt_model *m = &r->src->model;
    size_t e = m->n_embd_pad;
    float *to = x;
    for (size_t t = 0; t < (size_t)r->texts.n * r->texts.length; t++, x += e) {
        if (!is_scored(r, (uint32_t)(t % r->texts.length)))
            continue;
        if (normed)
            memmove(to, x, e * sizeof *to);
        else
            r->kernels->rmsnorm(x, r->norm_final, m->n_embd_pad, m->n_embd, m->rms_eps, to);
        to += e;
    }
}

static double *result_of(const struct round *r, const struct branch *b)
{
    return b->layer == TRUNK ? &r->result->tier_kld : &r->result->kld[b->layer][b->cut];
}

/* All branches' divergence; their states are used up. */
static int score_branches(const struct round *r, struct var_stream *stream, struct ert_error *err)
{
    struct var_divergence d;
    var_stream_finish(stream, NULL);
    gather_rows(r, var_stream_state(stream), true);
    int rc = var_divergence_open(&d, r->src, r->team, var_stream_state(stream), r->n_scored, err);
    if (rc)
        return rc;
    for (uint32_t i = 0; i < r->n; i++) {
        gather_rows(r, r->branches[i].x, false);
        r->states[i] = r->branches[i].x;
    }
    rc = var_divergence_measure(&d, r->states, r->n, r->kld, err);
    for (uint32_t i = 0; i < r->n && !rc; i++)
        *result_of(r, &r->branches[i]) = r->kld[i];
    var_divergence_release(&d);
    return rc;
}

/* ---- a round ------------------------------------------------------------------------------- */

static int run_round(struct round *r, const struct ert_progress *progress, struct ert_error *err)
{
    struct var_stream *stream;
    uint32_t n_layers = r->src->model.n_layers;
    int rc = var_stream_open(&stream, r->src, r->team, &r->texts, err);
    if (!rc)
        memcpy(r->branches[0].x, var_stream_state(stream), state_floats(r) * sizeof *r->x);
    while (!rc && var_stream_position(stream) < n_layers) {
        uint32_t layer = var_stream_position(stream);
        if (!ert_progress_report(progress, "weighing layers", layer, n_layers + 1))
            rc = ert_fail(err, ERT_E_CANCELLED, "%s: stopped on request", r->src->path);
        else
            rc = pass_layer(r, stream, err);
    }
    if (!rc)
        rc = score_branches(r, stream, err);
    var_stream_close(stream);
    return rc;
}

static uint32_t branches_at_once(const struct round *r)
{
    uint32_t all = 1 + r->src->model.n_layers * VAR_CUTS;
    size_t fit = ((size_t)ROUND_MIB << 20) / (state_floats(r) * sizeof *r->x);
    return fit < 2 ? 2 : fit < all ? (uint32_t)fit : all;
}

static bool allocate(struct round *r, uint32_t n)
{
    r->branches = calloc(n, sizeof *r->branches);
    r->x = malloc(n * state_floats(r) * sizeof *r->x);
    r->states = calloc(n, sizeof *r->states);
    r->kld = calloc(n, sizeof *r->kld);
    r->norm_final = calloc(r->src->model.n_embd_pad, sizeof *r->norm_final);
    return r->branches && r->x && r->states && r->kld && r->norm_final;
}

static void release(struct round *r)
{
    free(r->branches);
    free(r->x);
    free(r->states);
    free(r->kld);
    free(r->norm_final);
}

static uint32_t count_scored(const struct round *r)
{
    uint32_t n = 0;
    for (uint32_t position = 0; position < r->texts.length; position++)
        n += is_scored(r, position);
    return n * r->texts.n;
}

/* Narrower than the layer is, and than no other cut that loses enough already. */
static bool is_wanted(const struct round *r, uint32_t layer, uint32_t cut)
{
    const uint32_t *width = r->result->width;
    uint32_t own = r->dims[layer].mlp, floor = own > r->depth ? own - r->depth : 0;
    return width[cut] < own &&
           (cut == 0 || (width[cut - 1] > floor && width[cut - 1] > width[cut]));
}

/* The wanted cuts from number `at` on, as many as fit; the number after them. */
static uint32_t fill_round(struct round *r, uint32_t at, uint32_t at_once)
{
    uint32_t all = r->src->model.n_layers * VAR_CUTS;
    r->branches[0] = (struct branch){r->x, TRUNK, 0};
    for (r->n = 1; at < all && r->n < at_once; at++) {
        uint32_t layer = at / VAR_CUTS, cut = at % VAR_CUTS;
        if (is_wanted(r, layer, cut)) {
            r->branches[r->n] = (struct branch){r->x + r->n * state_floats(r), layer, cut};
            r->n++;
        }
    }
    return at;
}

static int run_rounds(struct round *r, uint32_t at_once, const struct ert_progress *progress,
                      struct ert_error *err)
{
    uint32_t all = r->src->model.n_layers * VAR_CUTS;
    int rc = 0;
    for (uint32_t at = 0, next; at < all && !rc; at = next) {
        next = fill_round(r, at, at_once);
        struct var_part_progress part = {progress, (double)at / all, (double)(next - at) / all,
                                         NULL};
        const struct ert_progress mine = var_part_progress(&part);
        rc = run_round(r, &mine, err);
    }
    return rc;
}

uint32_t var_width_step(const struct rt_model *m)
{
    uint32_t full = pack_pad(m->n_ff, PACK_GROUP);
    return full >= WIDE && full % PANEL == 0 ? PANEL : PACK_GROUP;
}

/* Three quarters, one half, one quarter of the channels, and the least. */
static void choose_widths(struct var_sensitivity *s, const struct rt_model *m)
{
    uint32_t least = var_width_step(m);
    for (uint32_t i = 0; i < VAR_CUTS; i++) {
        uint64_t share = (uint64_t)m->n_ff * (VAR_CUTS - 1 - i) / VAR_CUTS;
        uint32_t width = (uint32_t)share / PACK_GROUP * PACK_GROUP;
        s->width[i] = width < least ? least : width;
    }
}

static int prepare(struct round *r, struct ert_error *err)
{
    const struct rt_model *m = &r->src->model;
    struct var_sensitivity *s = r->result;
    *s = (struct var_sensitivity){.n_layers = m->n_layers};
    s->kld = malloc(m->n_layers * sizeof *s->kld);
    if (!s->kld)
        return ert_fail(err, ERT_E_NOMEM, "no memory for %u layers", m->n_layers);
    choose_widths(s, m);
    for (uint32_t i = 0; i < m->n_layers * VAR_CUTS; i++) /* nothing to score: all cost nothing */
        s->kld[i / VAR_CUTS][i % VAR_CUTS] = r->n_scored > 0 ? INFINITY : 0;
    return 0;
}

int var_sensitivity_measure(struct var_sensitivity *s, const struct var_source *src,
                            const struct var_arrangement *a, uint32_t tier, uint32_t depth,
                            const struct var_moments_store *moments, const struct var_texts *texts,
                            struct rt_team *team, const struct ert_progress *progress,
                            struct ert_error *err)
{
    struct round r = {.src = src,
                      .order = a,
                      .moments = moments,
                      .texts = *texts,
                      .team = team,
                      .kernels = rt_kernels_best(),
                      .dims = a->dims[tier],
                      .depth = depth,
                      .result = s};
    r.n_scored = count_scored(&r);
    int rc = prepare(&r, err);
    if (!rc && r.n_scored > 0) {
        uint32_t at_once = branches_at_once(&r);
        if (allocate(&r, at_once)) {
            var_tensor_row(&src->norm_final, 0, r.norm_final);
            rc = run_rounds(&r, at_once, progress, err);
        } else {
            rc = ert_fail(err, ERT_E_NOMEM, "%s: no memory to weigh its layers", src->path);
        }
        release(&r);
    }
    if (rc)
        var_sensitivity_release(s);
    return rc;
}

void var_sensitivity_release(struct var_sensitivity *s)
{
    free(s->kld);
    *s = (struct var_sensitivity){0};
}
