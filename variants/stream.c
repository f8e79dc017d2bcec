#include "variants/stream.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/kernels/kernels.h"
#include "variants/level.h"

enum { CHUNK_TOKENS = 1024, MEAN_COLUMNS = 64 };

/* E = n_embd_pad, H = heads, G = KV heads, D = head_dim, F = n_ff padded to 32, C = tokens of a
 * chunk, L = length of a text. A chunk is some whole texts. */
struct var_stream {
    const struct var_source *src;
    struct rt_team *team;
    const struct rt_kernels *kernels;
    struct var_texts texts;
    uint32_t layer;             /* the next one */
    uint32_t n_read;            /* layers read, the last of them lies in `part` */
    const struct var_cut *cut;  /* of the branch being run, or NULL */
    uint32_t texts_at_once;     /* of a chunk */
    uint32_t first, n;          /* texts of the current chunk */
    float *x;                   /* [all tokens][E] */
    float *weights;             /* one layer's matrices */
    float *part[VAR_N_PARTS];   /* into it: [rows][cols]; norms [E] */
    float *norm_final;          /* [E] */
    float *turn;                /* [L][D / 2][2] cosine and sine */
    float *normed;              /* [C][E] */
    float *q, *mixed;           /* [C][H D] */
    float *k, *v;               /* [C][G D] */
    float *gate, *up;           /* [C][F] */
    float *scores;              /* [workers][L][L] */
    double *sums[VAR_N_INPUTS]; /* [width] */
    struct var_level level;
    float *memory;
    double *sum_memory;
};

static uint32_t wide_mlp(const struct var_stream *s)
{
    return pack_pad(s->src->model.n_ff, PACK_GROUP);
}

static size_t chunk_tokens(const struct var_stream *s)
{
    return (size_t)s->n * s->texts.length;
}

/* ---- memory -------------------------------------------------------------------------------- */

static size_t part_floats(const struct var_stream *s, enum var_part p)
{
    const struct var_tensor *t = &s->src->layers[0].part[p];
    return p == VAR_NORM_ATTN || p == VAR_NORM_MLP ? s->src->model.n_embd_pad
                                                   : (size_t)t->rows * t->cols;
}

static int allocate(struct var_stream *s)
{
    const struct rt_model *m = &s->src->model;
    size_t e = m->n_embd_pad, heads = (size_t)m->n_heads * m->head_dim;
    size_t kv = (size_t)m->n_kv_heads * m->head_dim, f = wide_mlp(s), l = s->texts.length;
    size_t c = (size_t)s->texts_at_once * l, layer = 0, total = 0;
    for (int p = 0; p < VAR_N_PARTS; p++)
        layer += part_floats(s, p);
    const struct {
        float **at;
        size_t n;
    } pieces[] = {
        {&s->x, (size_t)s->texts.n * l * e},
        {&s->weights, layer},
        {&s->norm_final, e},
        {&s->turn, l * m->head_dim},
        {&s->normed, c * e},
        {&s->q, c * heads},
        {&s->mixed, c * heads},
        {&s->k, c * kv},
        {&s->v, c * kv},
        {&s->gate, c * f},
        {&s->up, c * f},
        {&s->scores, rt_team_size(s->team) * l * l},
    };
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; i++)
        total += pieces[i].n;
    s->memory = calloc(total, sizeof *s->memory);
    s->sum_memory = calloc(e + heads + e + f + e, sizeof *s->sum_memory);
    if (!s->memory || !s->sum_memory || var_level_init(&s->level, m, c))
        return -1;
    float *at = s->memory;
    for (size_t i = 0; i < sizeof pieces / sizeof *pieces; at += pieces[i++].n)
        *pieces[i].at = at;
    s->part[0] = s->weights;
    for (int p = 1; p < VAR_N_PARTS; p++)
        s->part[p] = s->part[p - 1] + part_floats(s, p - 1);
    s->sums[VAR_IN_ATTN] = s->sum_memory;
    s->sums[VAR_IN_MIXED] = s->sums[VAR_IN_ATTN] + e;
    s->sums[VAR_IN_MLP] = s->sums[VAR_IN_MIXED] + heads;
    s->sums[VAR_IN_GATED] = s->sums[VAR_IN_MLP] + e;
    s->sums[VAR_IN_HEAD] = s->sums[VAR_IN_GATED] + f;
    return 0;
}

/* ---- weights ------------------------------------------------------------------------------- */

/* Rows of several tensors to be read, shared out among the team. */
struct reading {
    const struct var_tensor *tensor;
    float *to;
};

static void read_rows(void *ctx, unsigned worker, unsigned n)
{
    const struct reading *r = ctx;
    for (uint32_t row = worker; row < r->tensor->rows; row += n)
        var_tensor_row(r->tensor, row, r->to + (size_t)row * r->tensor->cols);
}

static void read_layer(struct var_stream *s)
{
    if (s->n_read == s->layer + 1)
        return;
    s->n_read = s->layer + 1;
    for (int p = 0; p < VAR_N_PARTS; p++) {
        struct reading r = {&s->src->layers[s->layer].part[p], s->part[p]};
        rt_team_run(s->team, rt_team_size(s->team), read_rows, &r);
    }
}

static void embed(void *ctx, unsigned worker, unsigned n)
{
    struct var_stream *s = ctx;
    size_t tokens = (size_t)s->texts.n * s->texts.length;
    for (size_t t = worker; t < tokens; t += n)
        var_tensor_row(&s->src->embed, (uint32_t)s->texts.ids[t],
                       s->x + t * s->src->model.n_embd_pad);
}

static void turn_positions(struct var_stream *s)
{
    const struct rt_model *m = &s->src->model;
    float *turn = s->turn;
    for (uint32_t t = 0; t < s->texts.length; t++)
        for (uint32_t i = 0; i < m->head_dim / 2; i++) {
            double angle = t * rt_rope_frequency(m, s->src->rope_factors, i);
            *turn++ = (float)cos(angle);
            *turn++ = (float)sin(angle);
        }
}

/* ---- moments ------------------------------------------------------------------------------- */

/* Adds the columns of x up, in double. */
struct summing {
    struct var_view x;
    double *sums;
};

static void sum_columns(void *ctx, unsigned worker, unsigned n)
{
    const struct summing *s = ctx;
    for (uint32_t first = worker * MEAN_COLUMNS; first < s->x.cols; first += n * MEAN_COLUMNS) {
        uint32_t end = first + MEAN_COLUMNS < s->x.cols ? first + MEAN_COLUMNS : s->x.cols;
        for (uint32_t r = 0; r < s->x.rows; r++)
            for (uint32_t c = first; c < end; c++)
                s->sums[c] += (double)s->x.data[r * s->x.stride + c];
    }
}

/* The rows of the current chunk that count: its first texts, or none. */
static struct var_view measured(const struct var_stream *s, float *x, size_t stride, uint32_t width)
{
    uint32_t left = s->texts.n_measured > s->first ? s->texts.n_measured - s->first : 0;
    uint32_t texts = left < s->n ? left : s->n;
    return (struct var_view){x, texts * s->texts.length, width, stride};
}

static void add_input(struct var_stream *s, struct var_moments *m, enum var_input input, float *x,
                      size_t stride)
{
    uint32_t width = m ? m->width[input] : 0;
    struct summing job = {measured(s, x, stride, width), s->sums[input]};
    if (width == 0 || job.x.rows == 0)
        return;
    const struct var_view gram = {m->gram[input], width, width, width};
    rt_team_run(s->team, rt_team_size(s->team), sum_columns, &job);
    var_blas_gram(s->team, &job.x, &gram);
}

static void add_level(struct var_stream *s, struct var_moments *m, float *x)
{
    const struct rt_model *model = &s->src->model;
    const struct var_view rows = measured(s, x, model->n_embd_pad, model->n_embd);
    const struct var_view gated = measured(s, s->gate, wide_mlp(s), model->n_ff);
    const struct var_view mlp = measured(s, s->normed, model->n_embd_pad, model->n_embd);
    if (m && m->level_mean && rows.rows)
        var_level_add(&s->level, s->team, m, &rows, &gated, &mlp);
}

/* Sums become averages, lower triangles whole matrices. */
struct averaging {
    struct var_stream *stream;
    struct var_moments *moments;
    float share; /* of one token */
};

static void average(void *ctx, unsigned worker, unsigned n)
{
    const struct averaging *a = ctx;
    struct var_moments *m = a->moments;
    for (unsigned i = 0; i < VAR_N_INPUTS; i++) {
        size_t width = m->width[i];
        for (size_t row = worker; row < width; row += n) {
            m->mean[i][row] = (float)(a->stream->sums[i][row] * (double)a->share);
            for (size_t col = 0; col <= row; col++) {
                float *at = &m->gram[i][row * width + col];
                *at *= a->share;
                m->gram[i][col * width + row] = *at;
            }
        }
    }
}

static void begin_moments(struct var_stream *s, const struct var_moments *m)
{
    for (unsigned i = 0; i < VAR_N_INPUTS && m; i++)
        memset(s->sums[i], 0, m->width[i] * sizeof *s->sums[i]);
    var_level_begin(&s->level);
}

static void end_moments(struct var_stream *s, struct var_moments *m)
{
    if (!m || s->texts.n_measured == 0)
        return;
    m->tokens = (uint64_t)s->texts.n_measured * s->texts.length;
    struct averaging a = {s, m, 1 / (float)m->tokens};
    rt_team_run(s->team, rt_team_size(s->team), average, &a);
    var_level_end(&s->level, m);
}

/* ---- the forward pass ---------------------------------------------------------------------- */

static float *residual(const struct var_stream *s)
{
    return s->x + (size_t)s->first * s->texts.length * s->src->model.n_embd_pad;
}

/* normed = rmsnorm(x, norm) of every token of the chunk. */
struct norming {
    struct var_stream *stream;
    const float *norm;
};

static void normalize_tokens(void *ctx, unsigned worker, unsigned n)
{
    const struct norming *job = ctx;
    struct var_stream *s = job->stream;
    const struct rt_model *m = &s->src->model;
    size_t e = m->n_embd_pad;
    for (size_t t = worker; t < chunk_tokens(s); t += n)
        s->kernels->rmsnorm(residual(s) + t * e, job->norm, m->n_embd_pad, m->n_embd, m->rms_eps,
                            s->normed + t * e);
}

static void normalize(struct var_stream *s, const float *norm)
{
    struct norming job = {s, norm};
    rt_team_run(s->team, rt_team_size(s->team), normalize_tokens, &job);
}

static void product(struct var_stream *s, enum var_part p, float *x, size_t x_stride, float *y,
                    size_t y_stride, bool add)
{
    const struct var_tensor *t = &s->src->layers[s->layer].part[p];
    uint32_t tokens = (uint32_t)chunk_tokens(s);
    const struct var_view in = {x, tokens, t->cols, x_stride};
    const struct var_view w = {s->part[p], t->rows, t->cols, t->cols};
    const struct var_view out = {y, tokens, t->rows, y_stride};
    var_blas_product(s->team, &in, &w, &out, add);
}

/* RoPE on n heads of one token, pairs (2p, 2p + 1). */
static void rotate(const struct var_stream *s, float *heads, uint32_t n, uint32_t position)
{
    uint32_t half = s->src->model.head_dim / 2;
    const float *turn = s->turn + (size_t)position * half * 2;
    for (uint32_t h = 0; h < n; h++, heads += 2 * (size_t)half)
        for (size_t i = 0; i < 2 * (size_t)half; i += 2) {
            float a = heads[i], b = heads[i + 1];
            heads[i] = a * turn[i] - b * turn[i + 1];
            heads[i + 1] = a * turn[i + 1] + b * turn[i];
        }
}

/* The vector of a part of the current layer; NULL where the model has it not. */
static const float *vector(const struct var_stream *s, enum var_part p)
{
    return s->src->layers[s->layer].part[p].type ? s->part[p] : NULL;
}

static void add_bias(float *x, const float *bias, size_t n)
{
    for (size_t i = 0; bias && i < n; i++)
        x[i] += bias[i];
}

/* RMS norm of each of n heads over its own dimensions. */
static void normalize_heads(const struct var_stream *s, float *heads, uint32_t n, const float *norm)
{
    const struct rt_model *m = &s->src->model;
    for (uint32_t h = 0; norm && h < n; h++, heads += m->head_dim) {
        double squares = 0;
        for (uint32_t i = 0; i < m->head_dim; i++)
            squares += (double)heads[i] * (double)heads[i];
        float scale = (float)(1 / sqrt(squares / m->head_dim + (double)m->rms_eps));
        for (uint32_t i = 0; i < m->head_dim; i++)
            heads[i] *= scale * norm[i];
    }
}

/* Biases, norms of heads and RoPE of queries, keys and values. */
static void finish_tokens(void *ctx, unsigned worker, unsigned n)
{
    struct var_stream *s = ctx;
    const struct rt_model *m = &s->src->model;
    size_t heads = (size_t)m->n_heads * m->head_dim, kv = (size_t)m->n_kv_heads * m->head_dim;
    for (size_t t = worker; t < chunk_tokens(s); t += n) {
        uint32_t position = (uint32_t)(t % s->texts.length);
        float *q = s->q + t * heads, *k = s->k + t * kv;
        add_bias(q, vector(s, VAR_Q_BIAS), heads);
        add_bias(k, vector(s, VAR_K_BIAS), kv);
        add_bias(s->v + t * kv, vector(s, VAR_V_BIAS), kv);
        normalize_heads(s, q, m->n_heads, vector(s, VAR_Q_NORM));
        normalize_heads(s, k, m->n_kv_heads, vector(s, VAR_K_NORM));
        rotate(s, q, m->n_heads, position);
        rotate(s, k, m->n_kv_heads, position);
    }
}

/* mixed = softmax(q K^T / sqrt(D)) V of one head of one text, each token over those up to itself.
 */
static void attend(const struct var_stream *s, uint32_t text, uint32_t head, float *scores)
{
    const struct rt_model *m = &s->src->model;
    uint32_t l = s->texts.length, kv_head = head / (m->n_heads / m->n_kv_heads);
    size_t heads = (size_t)m->n_heads * m->head_dim, kv = (size_t)m->n_kv_heads * m->head_dim;
    size_t own = text * l * heads + (size_t)head * m->head_dim;
    size_t shared = text * l * kv + (size_t)kv_head * m->head_dim;
    blasint n = (blasint)l, d = (blasint)m->head_dim;
    var_blas()->cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, n, n, d,
                            1 / sqrtf((float)m->head_dim), s->q + own, (blasint)heads,
                            s->k + shared, (blasint)kv, 0, scores, n);
    for (uint32_t t = 0; t < l; t++) {
        float *row = scores + (size_t)t * l;
        s->kernels->softmax(row, t + 1);
        memset(row + t + 1, 0, (l - t - 1) * sizeof *row);
    }
    var_blas()->cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, n, d, n, 1, scores, n,
                            s->v + shared, (blasint)kv, 0, s->mixed + own, (blasint)heads);
}

static void attend_all(void *ctx, unsigned worker, unsigned n)
{
    const struct var_stream *s = ctx;
    uint32_t heads = s->src->model.n_heads;
    float *scores = s->scores + (size_t)worker * s->texts.length * s->texts.length;
    for (uint32_t task = worker; task < s->n * heads; task += n)
        attend(s, task / heads, task % heads, scores);
}

static void attention(struct var_stream *s, struct var_moments *m)
{
    const struct rt_model *model = &s->src->model;
    size_t e = model->n_embd_pad, heads = (size_t)model->n_heads * model->head_dim;
    size_t kv = (size_t)model->n_kv_heads * model->head_dim;
    normalize(s, s->part[VAR_NORM_ATTN]);
    add_input(s, m, VAR_IN_ATTN, s->normed, e);
    product(s, VAR_Q, s->normed, e, s->q, heads, false);
    product(s, VAR_K, s->normed, e, s->k, kv, false);
    product(s, VAR_V, s->normed, e, s->v, kv, false);
    rt_team_run(s->team, rt_team_size(s->team), finish_tokens, s);
    rt_team_run(s->team, var_blas_callers(s->team), attend_all, s);
    add_input(s, m, VAR_IN_MIXED, s->mixed, heads);
    product(s, VAR_O, s->mixed, heads, residual(s), e, true);
}

static void leave_out(const struct var_cut *cut, float *gated)
{
    for (uint32_t i = 0; i < cut->n; i++)
        gated[cut->channels[i]] = cut->constant[cut->channels[i]];
}

static void gate_tokens(void *ctx, unsigned worker, unsigned n)
{
    struct var_stream *s = ctx;
    uint32_t f = wide_mlp(s);
    for (size_t t = worker; t < chunk_tokens(s); t += n) {
        s->kernels->swiglu(s->gate + t * f, s->up + t * f, f);
        if (s->cut)
            leave_out(s->cut, s->gate + t * f);
    }
}

static void mlp(struct var_stream *s, struct var_moments *m)
{
    size_t e = s->src->model.n_embd_pad, f = wide_mlp(s);
    normalize(s, s->part[VAR_NORM_MLP]);
    add_input(s, m, VAR_IN_MLP, s->normed, e);
    product(s, VAR_GATE, s->normed, e, s->gate, f, false);
    product(s, VAR_UP, s->normed, e, s->up, f, false);
    rt_team_run(s->team, rt_team_size(s->team), gate_tokens, s);
    add_input(s, m, VAR_IN_GATED, s->gate, f);
    add_level(s, m, residual(s));
    product(s, VAR_DOWN, s->gate, f, residual(s), e, true);
}

/* The next chunk; false when all texts are done. */
static bool next_chunk(struct var_stream *s, bool begin)
{
    s->first = begin ? 0 : s->first + s->n;
    uint32_t left = s->texts.n - s->first;
    s->n = left < s->texts_at_once ? left : s->texts_at_once;
    return left > 0;
}

int var_stream_layer(struct var_stream *s, struct var_moments *m,
                     const struct ert_progress *progress, struct ert_error *err)
{
    read_layer(s);
    begin_moments(s, m);
    for (bool more = next_chunk(s, true); more; more = next_chunk(s, false)) {
        if (!ert_progress_report(progress, "watching the model", s->first, s->texts.n))
            return ert_fail(err, ERT_E_CANCELLED, "%s: stopped on request in layer %u",
                            s->src->path, s->layer);
        attention(s, m);
        mlp(s, m);
    }
    end_moments(s, m);
    s->layer++;
    return 0;
}

void var_stream_branch(struct var_stream *s, float *x, const struct var_cut *cut)
{
    float *own = s->x;
    read_layer(s);
    s->x = x;
    s->cut = cut;
    for (bool more = next_chunk(s, true); more; more = next_chunk(s, false)) {
        attention(s, NULL);
        mlp(s, NULL);
    }
    s->x = own;
    s->cut = NULL;
}

void var_stream_finish(struct var_stream *s, struct var_moments *m)
{
    size_t e = s->src->model.n_embd_pad;
    begin_moments(s, m);
    for (bool more = next_chunk(s, true); more; more = next_chunk(s, false)) {
        normalize(s, s->norm_final);
        add_input(s, m, VAR_IN_HEAD, s->normed, e);
        memcpy(residual(s), s->normed, chunk_tokens(s) * e * sizeof *s->normed);
    }
    end_moments(s, m);
}

/* ---- open and close ------------------------------------------------------------------------ */

static int check_texts(const struct var_source *src, const struct var_texts *t,
                       struct ert_error *err)
{
    if (t->n == 0 || t->length == 0 || t->length > src->model.n_ctx)
        return ert_fail(err, ERT_E_RANGE,
                        "%s: %u texts of %u tokens to run it on; 1 to %u tokens fit its context",
                        src->path, t->n, t->length, src->model.n_ctx);
    for (size_t i = 0; i < (size_t)t->n * t->length; i++)
        if (t->ids[i] < 0 || (uint32_t)t->ids[i] >= src->model.n_vocab)
            return ert_fail(err, ERT_E_RANGE,
                            "%s: token %zu has the id %d, the vocabulary has 0 to %u", src->path, i,
                            t->ids[i], src->model.n_vocab - 1);
    return 0;
}

int var_stream_open(struct var_stream **stream, const struct var_source *src, struct rt_team *team,
                    const struct var_texts *texts, struct ert_error *err)
{
    *stream = NULL;
    int rc = check_texts(src, texts, err);
    if (!rc)
        rc = var_blas_open(err);
    if (rc)
        return rc;
    struct var_stream *s = calloc(1, sizeof *s);
    if (!s)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory to run it", src->path);
    *s = (struct var_stream){.src = src,
                             .team = team,
                             .kernels = rt_kernels_best(),
                             .texts = *texts,
                             .texts_at_once = CHUNK_TOKENS / texts->length};
    s->texts_at_once += s->texts_at_once == 0;
    if (allocate(s)) {
        var_stream_close(s);
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory to run it on %u texts of %u tokens",
                        src->path, texts->n, texts->length);
    }
    rt_team_run(team, rt_team_size(team), embed, s);
    turn_positions(s);
    var_tensor_row(&src->norm_final, 0, s->norm_final);
    *stream = s;
    return 0;
}

void var_stream_close(struct var_stream *s)
{
    if (!s)
        return;
    free(s->memory);
    free(s->sum_memory);
    var_level_release(&s->level);
    free(s);
}

uint32_t var_stream_position(const struct var_stream *s)
{
    return s->layer;
}

float *var_stream_state(struct var_stream *s)
{
    return s->x;
}

/* ---- in the build's folder ----------------------------------------------------------------- */

#define NAME "stream"

static size_t state_floats(const struct var_stream *s)
{
    return (size_t)s->texts.n * s->texts.length * s->src->model.n_embd_pad;
}

int var_stream_save(struct var_stream *s, const struct var_work *w, struct ert_error *err)
{
    const uint64_t layer = s->layer;
    struct var_work_file f;
    int rc = var_work_begin(&f, w, NAME, err);
    if (rc)
        return rc;
    if (fwrite(&layer, sizeof layer, 1, f.file) == 1 &&
        fwrite(s->x, sizeof *s->x, state_floats(s), f.file) == state_floats(s))
        return var_work_commit(&f, err);
    rc = var_work_fail_write(w, err);
    var_work_abort(&f);
    return rc;
}

bool var_stream_load(struct var_stream *s, const struct var_work *w)
{
    uint64_t layer;
    struct var_work_data d;
    if (!var_work_load(&d, w, NAME))
        return false;
    memcpy(&layer, d.data, sizeof layer); /* the checksum held: it is what save wrote */
    memcpy(s->x, d.data + sizeof layer, d.size - sizeof layer);
    s->layer = (uint32_t)layer;
    var_work_release(&d);
    return true;
}

void var_stream_drop(const struct var_work *w)
{
    var_work_drop(w, NAME);
}
