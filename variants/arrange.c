/* The order of channels, heads' dimensions and the residual stream. */
#include "variants/arrange.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/pack_format.h"

/* A unit of channels that move together, for sorting. */
struct unit {
    double score;
    uint32_t first;
};

/* Falling score; equal scores keep the source's order, so that the result is the same everywhere.
 */
static int compare_units(const void *a, const void *b)
{
    const struct unit *x = a, *y = b;
    if (x->score != y->score)
        return x->score < y->score ? 1 : -1;
    return (x->first > y->first) - (x->first < y->first);
}

/* How many of n channels move together. */
static uint32_t unit_width(const struct var_source *src, uint32_t n)
{
    return src->grid && n % PACK_GROUP == 0 ? PACK_GROUP : 1;
}

/* map[i] = the channel stored at place i: units of `width` channels by falling score (the sum of
 * the members'), then padding. */
static int sort_channels(const double *score, uint32_t n, uint32_t n_pad, uint32_t width,
                         int32_t *map)
{
    uint32_t n_units = n / width;
    struct unit *units = calloc(n_units, sizeof *units);
    if (!units)
        return -1;
    for (uint32_t u = 0; u < n_units; u++) {
        units[u].first = u * width;
        for (uint32_t i = 0; i < width; i++)
            units[u].score += score[u * width + i];
    }
    qsort(units, n_units, sizeof *units, compare_units);
    for (uint32_t i = 0; i < n_pad; i++)
        map[i] = i < n ? (int32_t)(units[i / width].first + i % width) : -1;
    free(units);
    return 0;
}

/* Adds scale[c] * w[r][c]^2 over all rows to by_col[c], and the same over all columns to by_row[r];
 * either may be NULL. scale (a norm's weights, squared here) may be NULL. */
static int add_squares(const struct var_tensor *t, const float *scale, double *by_row,
                       double *by_col)
{
    float *w = malloc(t->cols * sizeof *w);
    if (!w)
        return -1;
    for (uint32_t r = 0; r < t->rows; r++) {
        var_tensor_row(t, r, w);
        for (uint32_t c = 0; c < t->cols; c++) {
            double x = (double)w[c] * (scale ? scale[c] : 1);
            if (by_row)
                by_row[r] += x * x;
            if (by_col)
                by_col[c] += x * x;
        }
    }
    free(w);
    return 0;
}

/* One layer's work and what it needs. */
struct layer_job {
    const struct var_source *src;
    const struct var_moments *moments; /* or NULL */
    struct var_layer_order *order;
    const struct rt_dims *widest;
    uint32_t layer;
    bool sort_mlp, sort_heads; /* else the source's order stays */
};

static const struct var_tensor *part(const struct layer_job *j, enum var_part p)
{
    return &j->src->layers[j->layer].part[p];
}

/* Importance of MLP channels: what a channel adds to the residual, E[a_j^2] |W_down[:,j]|^2 with
 * tokens levelled (variants/level.h), or, where nothing was measured, the product of the norms
 * that a_j is made of. */
static int score_mlp(const struct layer_job *j, double *score)
{
    uint32_t n_ff = j->src->model.n_ff, n_embd = j->src->model.n_embd;
    float *norm = calloc(n_embd, sizeof *norm);
    double *gate = calloc(3 * (size_t)n_ff, sizeof *gate), *up = gate ? gate + n_ff : NULL;
    double *down = gate ? up + n_ff : NULL;
    int rc = norm && gate ? add_squares(part(j, VAR_DOWN), NULL, NULL, down) : -1;
    if (!rc && !j->moments) {
        var_tensor_row(part(j, VAR_NORM_MLP), 0, norm);
        rc = add_squares(part(j, VAR_GATE), norm, gate, NULL);
        rc = rc ? rc : add_squares(part(j, VAR_UP), norm, up, NULL);
    }
    for (uint32_t c = 0; c < n_ff && !rc; c++)
        score[c] = down[c] * (j->moments ? (double)j->moments->level_square[c] : gate[c] * up[c]);
    free(norm);
    free(gate);
    return rc;
}

/* lost[w] = the importance of the stored channels from w on. */
static void sum_lost(const struct layer_job *j, const double *score)
{
    const struct var_layer_order *o = j->order;
    uint32_t n = pack_pad(j->src->model.n_ff, PACK_GROUP);
    o->lost[n] = 0;
    for (uint32_t w = n; w-- > 0;)
        o->lost[w] = o->lost[w + 1] + (o->mlp[w] < 0 ? 0 : score[o->mlp[w]]);
}

static int order_mlp(const struct layer_job *j)
{
    const struct rt_model *m = &j->src->model;
    double *score = calloc(m->n_ff, sizeof *score);
    int rc = score ? 0 : -1;
    if (!rc && j->sort_mlp)
        rc = score_mlp(j, score);
    if (!rc)
        rc = sort_channels(score, m->n_ff, pack_pad(m->n_ff, PACK_GROUP),
                           unit_width(j->src, m->n_ff), j->order->mlp);
    if (!rc)
        sum_lost(j, score);
    free(score);
    return rc;
}

/* Squared norms of each dimension of each KV head, over its rows of K (or V) and those of its query
 * heads in Q (or its columns of O): [n_kv_heads * head_dim]. */
static int score_heads(const struct layer_job *j, enum var_part own, enum var_part other,
                       double *score)
{
    const struct rt_model *m = &j->src->model;
    uint32_t n = m->n_heads * m->head_dim, n_kv = m->n_kv_heads * m->head_dim;
    double *mine = calloc((size_t)n + n_kv, sizeof *mine), *theirs = mine ? mine + n_kv : NULL;
    int rc = mine ? add_squares(part(j, own), NULL, mine, NULL) : -1;
    bool rows = other == VAR_Q;
    if (!rc)
        rc = add_squares(part(j, other), NULL, rows ? theirs : NULL, rows ? NULL : theirs);
    uint32_t group = m->n_heads / m->n_kv_heads;
    for (uint32_t i = 0; i < n && !rc; i++) {
        uint32_t kv = i / m->head_dim / group * m->head_dim + i % m->head_dim;
        score[kv] += mine[kv] * theirs[i];
    }
    free(mine);
    return rc;
}

/* Order of the dimensions of each KV head, [n_kv_heads][head_pad]. */
static int order_dims(const struct layer_job *j, enum var_part own, enum var_part other,
                      uint32_t width, int32_t *dims)
{
    const struct rt_model *m = &j->src->model;
    double *score = calloc((size_t)m->n_kv_heads * m->head_dim, sizeof *score);
    int rc = score ? 0 : -1;
    if (!rc && j->sort_heads)
        rc = score_heads(j, own, other, score);
    for (uint32_t h = 0; h < m->n_kv_heads && !rc; h++)
        rc = sort_channels(score + (size_t)h * m->head_dim, m->head_dim, m->head_pad, width,
                           dims + (size_t)h * m->head_pad);
    free(score);
    return rc;
}

/* Places of stored rows (or columns) of the query heads: "by block of 32 dims across heads". */
static void spread_heads(const struct rt_model *m, const int32_t *dims, uint32_t kept, int32_t *map)
{
    uint32_t group = m->n_heads / m->n_kv_heads;
    for (uint32_t i = 0; i < m->n_heads * kept; i++) {
        uint32_t head = i / PACK_GROUP % m->n_heads;
        uint32_t dim = i / PACK_GROUP / m->n_heads * PACK_GROUP + i % PACK_GROUP;
        int32_t from = dims[head / group * m->head_pad + dim];
        map[i] = from < 0 ? -1 : (int32_t)(head * m->head_dim) + from;
    }
}

static void list_heads(const struct rt_model *m, const int32_t *dims, int32_t *map)
{
    for (uint32_t i = 0; i < m->n_kv_heads * m->head_pad; i++)
        map[i] = dims[i] < 0 ? -1 : (int32_t)(i / m->head_pad * m->head_dim) + dims[i];
}

static int order_heads(const struct layer_job *j)
{
    const struct rt_model *m = &j->src->model;
    struct var_layer_order *o = j->order;
    uint32_t n = m->n_kv_heads * m->head_pad;
    /* O's columns are grouped in the source too; rows of Q, K and V move freely, in RoPE pairs. */
    int32_t *dims = calloc(n, sizeof *dims);
    int rc = dims ? order_dims(j, VAR_K, VAR_Q, 2, dims) : -1;
    if (!rc) {
        spread_heads(m, dims, j->widest->qk, o->q);
        list_heads(m, dims, o->k);
        memcpy(o->head, dims, n * sizeof *dims);
        for (uint32_t p = 0; p < n / 2; p++)
            o->pairs[p] = dims[2 * (size_t)p] < 0 ? 0 : (uint16_t)(dims[2 * (size_t)p] / 2);
        rc = order_dims(j, VAR_V, VAR_O, unit_width(j->src, m->head_dim), dims);
    }
    if (!rc) {
        spread_heads(m, dims, j->widest->vo, o->o);
        list_heads(m, dims, o->v);
    }
    free(dims);
    return rc;
}

/* ---- the residual stream ------------------------------------------------------------------- */

/* Which 32 channels become group 0: those that weigh most in what reads the residual. */
static int score_residual(const struct var_source *src, double *score)
{
    static const enum var_part readers[][2] = {
        {VAR_NORM_ATTN, VAR_Q},   {VAR_NORM_ATTN, VAR_K}, {VAR_NORM_ATTN, VAR_V},
        {VAR_NORM_MLP, VAR_GATE}, {VAR_NORM_MLP, VAR_UP},
    };
    float *norm = calloc(src->model.n_embd, sizeof *norm);
    int rc = norm ? 0 : -1;
    for (uint32_t l = 0; l < src->model.n_layers; l++)
        for (size_t i = 0; i < sizeof readers / sizeof readers[0] && !rc; i++) {
            var_tensor_row(&src->layers[l].part[readers[i][0]], 0, norm);
            rc = add_squares(&src->layers[l].part[readers[i][1]], norm, NULL, score);
        }
    free(norm);
    return rc;
}

/* Adds what a layer's reading of the residual says of each channel: its share of E[x^2], which is
 * what an error in the weights of that channel costs. */
static void add_shares(const struct var_moments *m, double *score)
{
    static const enum var_input reads[] = {VAR_IN_ATTN, VAR_IN_MLP};
    for (size_t i = 0; i < sizeof reads / sizeof reads[0]; i++) {
        uint32_t n = m->width[reads[i]];
        double sum = 0;
        for (uint32_t c = 0; c < n; c++)
            sum += (double)m->gram[reads[i]][c * ((size_t)n + 1)];
        for (uint32_t c = 0; c < n && sum > 0; c++)
            score[c] += (double)m->gram[reads[i]][c * ((size_t)n + 1)] / sum;
    }
}

/* ranked[n] over the groups of 32 places, one each in turn: groups then need steps of like size. */
static void spread(const int32_t *ranked, uint32_t n, int32_t *map)
{
    for (uint32_t slot = 0; slot < PACK_GROUP; slot++)
        for (uint32_t place = slot; place < n; place += PACK_GROUP)
            map[place] = *ranked++;
}

/* The channels after the first group, from their rank to their places. */
static int place_rest(const struct var_arrangement *a, const struct var_source *src,
                      const double *score)
{
    uint32_t n = src->model.n_embd, first = a->outliers && n > PACK_GROUP ? PACK_GROUP : 0;
    int32_t *ranked = malloc((size_t)n * sizeof *ranked);
    if (!ranked)
        return -1;
    memcpy(ranked, a->residual + first, (n - first) * sizeof *ranked);
    if (score && unit_width(src, n) == 1)
        spread(ranked, n - first, a->residual + first);
    free(ranked);
    return 0;
}

/* Where rounding is calibrated (score), channels by their shares: the best 32 are the outlier
 * group, if there is one, the others are spread. Without, those that weigh most in what reads them
 * are the outlier group and the others stay as they are: channels of like size side by side would
 * raise the error of their groups. */
static int order_residual(const struct var_arrangement *a, const struct var_source *src,
                          double *score)
{
    const struct rt_model *m = &src->model;
    double *own = score ? NULL : calloc(m->n_embd, sizeof *own), *by = score ? score : own;
    int rc = by ? 0 : -1;
    if (!rc && own && a->outliers)
        rc = score_residual(src, own);
    if (!rc)
        rc = sort_channels(by, m->n_embd, m->n_embd_pad, unit_width(src, m->n_embd), a->residual);
    for (uint32_t i = 0; own && i < PACK_GROUP && !rc && i < m->n_embd; i++)
        own[a->residual[i]] = -1; /* moved to the front */
    for (uint32_t c = 0, at = PACK_GROUP; own && c < m->n_embd && !rc && at < m->n_embd; c++)
        if (own[c] >= 0)
            a->residual[at++] = (int32_t)c;
    if (!rc)
        rc = place_rest(a, src, score);
    free(own);
    return rc;
}

/* ---- all of it ----------------------------------------------------------------------------- */

static int allocate_layer(struct var_layer_order *o, const struct rt_model *m)
{
    size_t heads = (size_t)m->n_heads * m->head_pad, kv = (size_t)m->n_kv_heads * m->head_pad;
    o->q = calloc(2 * heads + 3 * kv + pack_pad(m->n_ff, PACK_GROUP), sizeof *o->q);
    o->pairs = calloc(kv / 2, sizeof *o->pairs);
    o->lost = calloc(pack_pad(m->n_ff, PACK_GROUP) + 1, sizeof *o->lost);
    if (!o->q || !o->pairs || !o->lost)
        return -1;
    o->o = o->q + heads;
    o->k = o->o + heads;
    o->v = o->k + kv;
    o->head = o->v + kv;
    o->mlp = o->head + kv;
    return 0;
}

static int allocate(struct var_arrangement *a, const struct rt_model *m)
{
    a->n_layers = m->n_layers;
    a->residual = calloc(m->n_embd_pad, sizeof *a->residual);
    a->layers = calloc(m->n_layers, sizeof *a->layers);
    bool ok = a->residual && a->layers;
    for (uint32_t t = 0; t < a->n_tiers && ok; t++)
        ok = (a->dims[t] = calloc(m->n_layers, sizeof *a->dims[t])) != NULL;
    for (uint32_t l = 0; l < m->n_layers && ok; l++)
        ok = allocate_layer(&a->layers[l], m) == 0;
    return ok ? 0 : -1;
}

/* Where rounding is calibrated, channels go where rounding errs least; a source's own grid is found
 * where its channels stay together. */
static bool spreads(const struct var_source *src, const struct var_build_options *options,
                    const struct var_moments_store *store)
{
    return store && !options->nearest && !src->grid;
}

static int arrange_layer(struct var_arrangement *a, const struct var_source *src,
                         const struct var_build_options *options,
                         const struct var_moments_store *store, uint32_t l, double *shares,
                         struct ert_error *err)
{
    struct var_moments moments = {0};
    const struct layer_job j = {.src = src,
                                .moments = store ? &moments : NULL,
                                .order = &a->layers[l],
                                .widest = &a->dims[0][l],
                                .layer = l,
                                .sort_mlp = a->n_tiers > 1 || spreads(src, options, store),
                                .sort_heads = options->truncate_attention};
    int rc = store ? store->load(store->ctx, l, &moments, err) : 0;
    if (!rc && (order_mlp(&j) || order_heads(&j)))
        rc = ert_fail(err, ERT_E_NOMEM, "%s: no memory to order its channels", src->path);
    if (!rc && store)
        add_shares(&moments, shares);
    var_moments_release(&moments);
    return rc;
}

/* A norm over a head's dimensions needs all of them. */
static void keep_normed_heads_whole(struct var_arrangement *a, const struct var_source *src)
{
    for (uint32_t t = 0; t < a->n_tiers; t++)
        for (uint32_t l = 0; l < a->n_layers; l++)
            if (src->layers[l].part[VAR_Q_NORM].type || src->layers[l].part[VAR_K_NORM].type)
                a->dims[t][l].qk = src->model.head_pad;
}

static void choose_tiers(struct var_arrangement *a, const struct var_build_options *options)
{
    static const unsigned standard[] = {100, 90, 80, 70};
    bool own = options->n_tiers > 0;
    a->n_tiers = options->f32 ? 1 : own ? options->n_tiers : 4;
    for (uint32_t t = 0; t < a->n_tiers; t++)
        a->rank_percent[t] = own ? options->rank_percent[t] : standard[t];
}

/* A model with fewer channels pays more for the group than it gains: 32 of them cost 4.5 bits more
 * each. */
static bool pays_for_outliers(const struct var_source *src, const struct var_build_options *options,
                              const struct var_moments_store *store)
{
    enum { LEAST_CHANNELS = 512 };
    return spreads(src, options, store) && src->model.n_embd >= LEAST_CHANNELS;
}

static int arrange_layers(struct var_arrangement *a, const struct var_source *src,
                          const struct var_build_options *options,
                          const struct var_moments_store *store, struct ert_error *err)
{
    double *shares = calloc(src->model.n_embd, sizeof *shares);
    int rc = 0;
    for (uint32_t l = 0; l < src->model.n_layers && shares && !rc; l++)
        rc = arrange_layer(a, src, options, store, l, shares, err);
    if (!shares || (!rc && order_residual(a, src, spreads(src, options, store) ? shares : NULL)))
        rc = ert_fail(err, ERT_E_NOMEM, "%s: no memory to order its channels", src->path);
    free(shares);
    return rc;
}

int var_arrange(struct var_arrangement **a, const struct var_source *src,
                const struct var_build_options *options, const struct var_moments_store *moments,
                struct ert_error *err)
{
    struct var_arrangement *made = *a = calloc(1, sizeof **a);
    int rc = 0;
    if (!made)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory to order its channels", src->path);
    choose_tiers(made, options);
    made->outliers = options->outliers || pays_for_outliers(src, options, moments);
    if (allocate(made, &src->model))
        rc = ert_fail(err, ERT_E_NOMEM, "%s: no memory to order its channels", src->path);
    if (!rc) {
        var_choose_widths(made, &src->model, options->truncate_attention);
        keep_normed_heads_whole(made, src);
        rc = arrange_layers(made, src, options, moments, err);
    }
    if (rc) {
        var_arrangement_free(made);
        *a = NULL;
    }
    return rc;
}

/* From end to end of the tiers, from the narrowest. */
static void spread_layer(const struct var_arrangement *a, uint32_t layer, uint32_t n_ff,
                         int32_t *ranked)
{
    int32_t *mlp = a->layers[layer].mlp;
    uint32_t from = 0;
    for (uint32_t t = a->n_tiers; t-- > 0;) {
        uint32_t end = a->dims[t][layer].mlp < n_ff ? a->dims[t][layer].mlp : n_ff;
        if (end <= from)
            continue;
        memcpy(ranked, mlp + from, (end - from) * sizeof *ranked);
        spread(ranked, end - from, mlp + from);
        from = end;
    }
}

int var_spread_channels(struct var_arrangement *a, const struct var_source *src)
{
    uint32_t n_ff = src->model.n_ff;
    if (unit_width(src, n_ff) != 1)
        return 0;
    int32_t *ranked = malloc((size_t)n_ff * sizeof *ranked);
    if (!ranked)
        return -1;
    for (uint32_t l = 0; l < a->n_layers; l++)
        spread_layer(a, l, n_ff, ranked);
    free(ranked);
    return 0;
}

void var_arrangement_free(struct var_arrangement *a)
{
    if (!a)
        return;
    for (uint32_t l = 0; l < a->n_layers && a->layers; l++) {
        free(a->layers[l].q);
        free(a->layers[l].pairs);
        free(a->layers[l].lost);
    }
    for (uint32_t t = 0; t < VAR_MAX_TIERS; t++)
        free(a->dims[t]);
    free(a->residual);
    free(a->layers);
    free(a);
}
