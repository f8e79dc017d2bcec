/* The model writes texts side by side, and its MLP activations are watched while it does. A batch
 * of sequences reads every weight once per step, which one sequence after the other (runtime's
 * session) would not. The arithmetic is docs/pack-format.md's for f32 packs. */
#include "variants/calibrate.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/sampler.h"

/* S sequences at one position. E = n_embd_pad, H = heads, G = KV heads, P = head_pad, F = MLP
 * width. */
struct batch {
    const struct rt_pack *pack;
    const struct rt_kernels *kernels;
    struct rt_team *team;
    struct var_stats *stats;
    uint32_t n, length, position, n_measured, mlp;
    int32_t *ids;         /* [S][length] */
    float *x, *normed;    /* [S][E] */
    float *out;           /* [S][E] */
    float *q, *mixed;     /* [S][H P] by block of 32 dims across heads */
    float *k, *v;         /* [S][G P] */
    float *gate, *up;     /* [S][F] */
    float *logits;        /* [S][n_vocab_pad] */
    float *keys, *values; /* [layer][S][G][length][P] */
    float *scores, *head; /* [workers][length], [workers][P] */
    float *turn;          /* [head_dim / 2][2] of this position */
    float *memory;
};

struct place {
    unsigned worker, n;
};

/* ---- memory -------------------------------------------------------------------------------- */

static int allocate_batch(struct batch *b)
{
    const struct rt_model *m = &b->pack->model;
    size_t s = b->n, workers = rt_team_size(b->team), e = m->n_embd_pad;
    size_t heads = (size_t)m->n_heads * m->head_pad, kv = (size_t)m->n_kv_heads * m->head_pad;
    size_t cache = (size_t)m->n_layers * s * kv * b->length;
    const struct {
        float **at;
        size_t n;
    } parts[] = {
        {&b->turn, m->head_dim},
        {&b->x, s * e},
        {&b->normed, s * e},
        {&b->out, s * e},
        {&b->q, s * heads},
        {&b->mixed, s * heads},
        {&b->k, s * kv},
        {&b->v, s * kv},
        {&b->gate, s * b->mlp},
        {&b->up, s * b->mlp},
        {&b->logits, s * m->n_vocab_pad},
        {&b->keys, cache},
        {&b->values, cache},
        {&b->scores, workers * b->length},
        {&b->head, workers * m->head_pad},
    };
    size_t total = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        total += parts[i].n;
    b->memory = calloc(total, sizeof *b->memory);
    float *at = b->memory;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && at; i++) {
        *parts[i].at = at;
        at += parts[i].n;
    }
    return b->memory ? 0 : -1;
}

static struct var_stats *allocate_stats(const struct rt_pack *pack, const struct var_calibration *c)
{
    const struct rt_model *m = &pack->model;
    struct var_stats *stats = calloc(1, sizeof *stats);
    if (!stats)
        return NULL;
    stats->n_layers = m->n_layers;
    stats->window = c->length;
    stats->n_windows = c->held_back;
    stats->ids = calloc((size_t)c->held_back * c->length + 1, sizeof *stats->ids);
    stats->layers = calloc(m->n_layers, sizeof *stats->layers);
    bool ok = stats->ids && stats->layers;
    for (uint32_t l = 0; l < m->n_layers && ok; l++) {
        struct var_layer_stats *s = &stats->layers[l];
        ok = (s->sum_a = calloc(m->n_ff, sizeof *s->sum_a)) != NULL &&
             (s->sum_a2 = calloc(m->n_ff, sizeof *s->sum_a2)) != NULL;
        ok = ok && (s->sum_b = calloc(m->n_embd, sizeof *s->sum_b)) != NULL;
        if (ok && c->products)
            ok = (s->cross = calloc((size_t)m->n_ff * m->n_embd, sizeof *s->cross)) != NULL &&
                 (s->gram = calloc((size_t)m->n_embd * m->n_embd, sizeof *s->gram)) != NULL;
    }
    if (ok)
        return stats;
    var_stats_free(stats);
    return NULL;
}

void var_stats_free(struct var_stats *stats)
{
    if (!stats)
        return;
    for (uint32_t l = 0; l < stats->n_layers && stats->layers; l++) {
        free(stats->layers[l].sum_a);
        free(stats->layers[l].sum_a2);
        free(stats->layers[l].sum_b);
        free(stats->layers[l].cross);
        free(stats->layers[l].gram);
    }
    free(stats->layers);
    free(stats->ids);
    free(stats);
}

/* ---- the forward pass ---------------------------------------------------------------------- */

static void product(const struct batch *b, const struct rt_matrix *m, const float *x, float *y,
                    struct place at)
{
    const struct rt_input input = {.f32 = x, .stride = m->cols, .n_cols = b->n};
    uint64_t tiles = m->rows / PACK_TILE;
    uint32_t first = (uint32_t)(tiles * at.worker / at.n) * PACK_TILE;
    uint32_t end = (uint32_t)(tiles * (at.worker + 1) / at.n) * PACK_TILE;
    rt_matmul(b->kernels, m, &input, first, end - first, m->cols, y, m->rows);
}

static void normalize(const struct batch *b, const float *norm, struct place at)
{
    const struct rt_model *m = &b->pack->model;
    for (size_t s = at.worker; s < b->n; s += at.n)
        b->kernels->rmsnorm(b->x + s * m->n_embd_pad, norm, m->n_embd_pad, m->n_embd, m->rms_eps,
                            b->normed + s * m->n_embd_pad);
}

static void add_residual(const struct batch *b, struct place at)
{
    uint32_t e = b->pack->model.n_embd_pad;
    for (size_t s = at.worker; s < b->n; s += at.n)
        for (size_t i = s * e; i < (s + 1) * e; i++)
            b->x[i] += b->out[i];
}

static void rotate(const struct batch *b, float *head)
{
    for (uint32_t p = 0; p < b->pack->model.head_dim / 2; p++) {
        float c = b->turn[2 * (size_t)p], s = b->turn[2 * (size_t)p + 1];
        float x = head[2 * (size_t)p], y = head[2 * (size_t)p + 1];
        head[2 * (size_t)p] = x * c - y * s;
        head[2 * (size_t)p + 1] = x * s + y * c;
    }
}

/* Bias, norm and rotation of one head's query or key; bias and norm may be NULL. */
static void finish_head(const struct batch *b, const float *bias, const float *norm, float *head)
{
    const struct rt_model *m = &b->pack->model;
    for (uint32_t i = 0; bias && i < m->head_pad; i++)
        head[i] += bias[i];
    if (norm)
        b->kernels->rmsnorm(head, norm, m->head_pad, m->head_dim, m->rms_eps, head);
    rotate(b, head);
}

static const float *of_group(const float *vectors, const struct rt_model *m, uint32_t group)
{
    return vectors ? vectors + (size_t)group * m->head_pad : NULL;
}

static size_t cache_at(const struct batch *b, uint32_t layer, size_t sequence, uint32_t group)
{
    const struct rt_model *m = &b->pack->model;
    return ((layer * (size_t)b->n + sequence) * m->n_kv_heads + group) * b->length * m->head_pad;
}

static void fill_cache(const struct batch *b, uint32_t layer, struct place at)
{
    const struct rt_model *m = &b->pack->model;
    for (uint32_t task = at.worker; task < b->n * m->n_kv_heads; task += at.n) {
        float *k = b->k + (size_t)task * m->head_pad, *v = b->v + (size_t)task * m->head_pad;
        size_t to = cache_at(b, layer, task / m->n_kv_heads, task % m->n_kv_heads) +
                    (size_t)b->position * m->head_pad;
        const struct rt_layer *l = &b->pack->layers[layer];
        uint32_t group = task % m->n_kv_heads;
        finish_head(b, of_group(l->k_bias, m, group), of_group(l->k_norm, m, group), k);
        for (uint32_t i = 0; l->v_bias && i < m->head_pad; i++)
            v[i] += l->v_bias[group * m->head_pad + i];
        memcpy(b->keys + to, k, m->head_pad * sizeof *k);
        memcpy(b->values + to, v, m->head_pad * sizeof *v);
    }
}

static void attend(const struct batch *b, uint32_t layer, size_t sequence, uint32_t head,
                   unsigned worker)
{
    const struct rt_model *m = &b->pack->model;
    size_t column = sequence * m->n_heads * m->head_pad;
    const struct rt_layer *l = &b->pack->layers[layer];
    uint32_t group = head / (m->n_heads / m->n_kv_heads);
    size_t from = cache_at(b, layer, sequence, group);
    float *own = b->head + (size_t)worker * m->head_pad;
    float *scores = b->scores + (size_t)worker * b->length;
    for (uint32_t i = 0; i < m->head_pad; i++) {
        size_t at = ((size_t)(i / PACK_GROUP) * m->n_heads + head) * PACK_GROUP + i % PACK_GROUP;
        own[i] = b->q[column + at] + (l->q_bias ? l->q_bias[at] : 0);
    }
    finish_head(b, NULL, of_group(l->q_norm, m, group), own);
    b->kernels->score_f32(own, b->keys + from, m->head_pad, b->position + 1, m->head_pad,
                          1 / sqrtf((float)m->head_dim), scores);
    b->kernels->softmax(scores, b->position + 1);
    b->kernels->mix_f32(scores, b->values + from, m->head_pad, b->position + 1, m->head_pad, own);
    for (uint32_t block = 0; block < m->head_pad / PACK_GROUP; block++)
        memcpy(b->mixed + column + ((size_t)block * m->n_heads + head) * PACK_GROUP,
               own + (size_t)block * PACK_GROUP, PACK_GROUP * sizeof *own);
}

static void attention(const struct batch *b, uint32_t layer, struct place at)
{
    const struct rt_layer *l = &b->pack->layers[layer];
    uint32_t heads = b->pack->model.n_heads;
    product(b, &l->q, b->normed, b->q, at);
    product(b, &l->k, b->normed, b->k, at);
    product(b, &l->v, b->normed, b->v, at);
    rt_team_barrier(b->team);
    fill_cache(b, layer, at);
    rt_team_barrier(b->team);
    for (uint32_t task = at.worker; task < heads * b->n; task += at.n)
        attend(b, layer, task / heads, task % heads, at.worker);
    rt_team_barrier(b->team);
    product(b, &l->o, b->mixed, b->out, at);
    rt_team_barrier(b->team);
}

/* Adds a row vector times `factor` to a row of moments. */
static void add_scaled(float *row, const float *x, float factor, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        row[i] += factor * x[i];
}

/* Moments of the measured sequences; each worker owns some channels, so the sums do not depend on
 * how many workers there are. Position 0 counts for importance only: the first token's activations
 * are so much larger than all others that a mean with them would describe neither. */
static void watch(const struct batch *b, struct var_layer_stats *stats, struct place at)
{
    const struct rt_model *m = &b->pack->model;
    bool first = b->position == 0;
    for (uint32_t j = at.worker; j < m->n_ff; j += at.n)
        for (size_t s = 0; s < b->n_measured; s++) {
            float a = b->gate[s * b->mlp + j];
            stats->sum_a2[j] += (double)a * a;
            stats->sum_a[j] += first ? 0 : a;
            if (stats->cross && !first)
                add_scaled(stats->cross + (size_t)j * m->n_embd, b->normed + s * m->n_embd_pad, a,
                           m->n_embd);
        }
    for (uint32_t i = at.worker; i < m->n_embd && !first; i += at.n)
        for (size_t s = 0; s < b->n_measured; s++) {
            const float *x = b->normed + s * m->n_embd_pad;
            stats->sum_b[i] += x[i];
            if (stats->gram)
                add_scaled(stats->gram + (size_t)i * m->n_embd, x, x[i], m->n_embd);
        }
}

static void mlp(const struct batch *b, uint32_t layer, struct place at)
{
    const struct rt_layer *l = &b->pack->layers[layer];
    product(b, &l->gate, b->normed, b->gate, at);
    product(b, &l->up, b->normed, b->up, at);
    rt_team_barrier(b->team);
    for (size_t s = at.worker; s < b->n; s += at.n)
        b->kernels->swiglu(b->gate + s * b->mlp, b->up + s * b->mlp, b->mlp);
    rt_team_barrier(b->team);
    watch(b, &b->stats->layers[layer], at);
    product(b, &l->down, b->gate, b->out, at);
    rt_team_barrier(b->team);
}

static void step(void *ctx, unsigned worker, unsigned n)
{
    const struct batch *b = ctx;
    const struct rt_model *m = &b->pack->model;
    struct place at = {worker, n};
    for (size_t s = worker; s < b->n; s += n)
        rt_matrix_row(&b->pack->embed, 0, (uint32_t)b->ids[s * b->length + b->position],
                      b->x + s * m->n_embd_pad);
    for (uint32_t l = 0; l < m->n_layers; l++) {
        normalize(b, b->pack->layers[l].norm_attn, at);
        rt_team_barrier(b->team);
        attention(b, l, at);
        add_residual(b, at);
        normalize(b, b->pack->layers[l].norm_mlp, at);
        rt_team_barrier(b->team);
        mlp(b, l, at);
        add_residual(b, at);
    }
    normalize(b, b->pack->norm_final, at);
    rt_team_barrier(b->team);
    product(b, &b->pack->head, b->normed, b->logits, at);
}

/* ---- writing text -------------------------------------------------------------------------- */

static int32_t first_token(const struct rt_vocab *v)
{
    return v->bos >= 0 ? v->bos : v->n_eos > 0 ? v->eos[0] : 0;
}

static bool ends_text(const struct rt_vocab *v, int32_t id)
{
    for (uint32_t i = 0; i < v->n_eos; i++)
        if (v->eos[i] == id)
            return true;
    return false;
}

static void turn_to(struct batch *b)
{
    const struct rt_model *m = &b->pack->model;
    for (uint32_t i = 0; i < m->head_dim / 2; i++) {
        double angle = b->position * rt_rope_frequency(m, b->pack->rope_factors, i);
        b->turn[2 * (size_t)i] = (float)cos(angle);
        b->turn[2 * (size_t)i + 1] = (float)sin(angle);
    }
}

/* After an end a new text begins, in the same cache. */
static void choose_next(struct batch *b, struct rt_sampler **samplers)
{
    const struct rt_vocab *v = &b->pack->vocab;
    for (size_t s = 0; s < b->n; s++) {
        int32_t *id = b->ids + s * b->length + b->position;
        id[1] = ends_text(v, id[0])
                    ? first_token(v)
                    : rt_sample(samplers[s], b->logits + s * b->pack->model.n_vocab_pad);
    }
}

static int write_texts(struct batch *b, struct rt_sampler **samplers,
                       const struct ert_progress *progress, struct ert_error *err)
{
    for (size_t s = 0; s < b->n; s++)
        b->ids[s * b->length] = first_token(&b->pack->vocab);
    for (b->position = 0; b->position < b->length; b->position++) {
        if (!ert_progress_report(progress, "reading the model's own text", b->position, b->length))
            return ert_fail(err, ERT_E_CANCELLED, "stopped on request, nothing is left");
        turn_to(b);
        rt_team_run(b->team, rt_team_size(b->team), step, b);
        b->stats->tokens += b->position > 0 ? b->n_measured : 0;
        if (b->position + 1 < b->length)
            choose_next(b, samplers);
    }
    memcpy(b->stats->ids, b->ids + (size_t)b->n_measured * b->length,
           (size_t)(b->n - b->n_measured) * b->length * sizeof *b->ids);
    return 0;
}

static int open_samplers(struct rt_sampler **samplers, const struct batch *b, uint64_t seed,
                         struct ert_error *err)
{
    struct rt_sampler_config config = {.temperature = 1, .top_p = 1, .repeat_penalty = 1};
    int rc = 0;
    for (uint32_t s = 0; s < b->n && !rc; s++) {
        config.seed = seed * 1000003 + s + 1;
        rc = rt_sampler_create(&samplers[s], &config, b->pack->model.n_vocab, err);
    }
    return rc;
}

int var_calibrate(struct var_stats **stats, const struct rt_pack *pack, struct rt_team *team,
                  const struct var_calibration *config, struct ert_error *err)
{
    struct batch b = {.pack = pack,
                      .kernels = rt_kernels_best(),
                      .team = team,
                      .n = config->n_sequences,
                      .length = config->length,
                      .n_measured = config->n_sequences - config->held_back,
                      .mlp = pack->tiers[0].dims[0].mlp};
    struct rt_sampler **samplers = calloc(b.n, sizeof(struct rt_sampler *));
    b.ids = calloc((size_t)b.n * b.length, sizeof *b.ids);
    b.stats = allocate_stats(pack, config);
    int rc = 0;
    if (!samplers || !b.ids || !b.stats || allocate_batch(&b)) {
        rc = ert_fail(err, ERT_E_NOMEM, "%s: no memory to run the model", pack->path);
        goto out;
    }
    rc = open_samplers(samplers, &b, config->seed, err);
    if (!rc)
        rc = write_texts(&b, samplers, config->progress, err);
out:
    for (uint32_t s = 0; s < b.n && samplers; s++)
        rt_sampler_free(samplers[s]);
    free(samplers);
    free(b.ids);
    free(b.memory);
    if (rc)
        var_stats_free(b.stats);
    *stats = rc ? NULL : b.stats;
    return rc;
}
