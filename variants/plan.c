#include "variants/plan.h"

#include <stdlib.h>
#include <string.h>

#include "variants/compensate.h"
#include "variants/precision.h"

enum { DOWN_PANEL = 8, H_BITS = 4 };

/* What the functions here pass along. */
struct planner {
    struct var_plan *plan;
    const struct var_source *src;
    const struct var_arrangement *a;
    const struct var_build_options *options;
};

static uint64_t take_place(uint64_t *end, uint64_t size)
{
    uint64_t at = (*end + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
    *end = at + size;
    return at;
}

static void place_nested(const struct planner *p, struct pack_tensor *r)
{
    struct var_plan *plan = p->plan;
    uint64_t tiles = r->rows / PACK_TILE;
    uint64_t blocks = tiles * (r->cols / PACK_GROUP - r->outlier_groups);
    r->pair_off = take_place(&plan->h_size, tiles * PACK_PAIRS);
    if (r->outlier_groups)
        r->outlier_off = take_place(&plan->h_size, tiles * PACK_OUTLIER);
    r->data_size = blocks * PACK_H_BLOCK;
    r->data_off = take_place(&plan->h_size, r->data_size);
    bool resident = r->flags & PACK_FLAG_L_RESIDENT;
    if (p->options->h_only && !resident)
        return;
    r->l_size = blocks * PACK_L_BLOCK;
    r->l_off = take_place(resident ? &plan->h_size : &plan->l_size, r->l_size);
}

/* A place in the planes for every tensor, in the plan's order. */
static void place_all(const struct planner *p)
{
    p->plan->h_size = p->plan->l_size = 0;
    for (uint32_t i = 0; i < p->plan->n; i++) {
        struct pack_tensor *r = &p->plan->tensors[i].record;
        if (r->kind == PACK_NESTED) {
            place_nested(p, r);
            continue;
        }
        size_t unit = r->kind == PACK_U16_TABLE ? sizeof(uint16_t) : sizeof(float);
        r->data_size = (uint64_t)r->rows * r->cols * unit;
        r->data_off = take_place(&p->plan->h_size, r->data_size);
    }
}

static struct var_planned *add(struct planner *p, uint32_t role, uint32_t layer, uint32_t kind,
                               uint32_t rows, uint32_t cols)
{
    struct var_plan *plan = p->plan;
    struct var_planned *t = &plan->tensors[plan->n++];
    *t = (struct var_planned){.record = {role, layer, 0, kind, rows, cols}, .reads = VAR_N_INPUTS};
    return t;
}

/* What a 4-bit source itself keeps at more bits (the embedding, as a rule) keeps both planes in
 * every variant: at 4 bits that one tensor would cost more than all others together. Measured on
 * SmolLM2-135M (blocks Q4_1, embedding Q8_0): w4a16's KL to the source is 0.069 without this. Not
 * so where the user says how many bits a weight may take. */
static bool stays_at_eight_bits(const struct planner *p, const struct var_tensor *tensor)
{
    return p->src->grid && p->options->bits_per_weight == 0 && tensor &&
           tensor->type->bits > H_BITS;
}

static struct var_planned *add_matrix(struct planner *p, uint32_t role, uint32_t layer,
                                      const struct var_tensor *tensor, uint32_t rows, uint32_t cols,
                                      uint32_t panel)
{
    uint32_t kind = p->options->f32 ? PACK_F32_MATRIX : PACK_NESTED;
    struct var_planned *t = add(p, role, layer, kind, rows, cols);
    struct pack_tensor *r = &t->record;
    bool of_residual = role != PACK_ROLE_O && role != PACK_ROLE_DOWN && role < PACK_ROLE_COMP_V;
    t->tensor = tensor;
    r->panel_groups = panel < cols / PACK_GROUP ? panel : cols / PACK_GROUP;
    r->outlier_groups = kind == PACK_NESTED && p->a->outliers && of_residual;
    if (kind == PACK_NESTED && stays_at_eight_bits(p, tensor))
        r->flags = PACK_FLAG_L_RESIDENT;
    p->plan->weights += (uint64_t)rows * cols;
    return t;
}

static struct var_planned *add_vector(struct planner *p, uint32_t role, uint32_t layer,
                                      const struct var_tensor *tensor, uint32_t n,
                                      const int32_t *map)
{
    struct var_planned *t = add(p, role, layer, PACK_F32_VECTOR, 1, n);
    t->tensor = tensor;
    t->cols = map;
    return t;
}

static void add_pairs(struct planner *p, uint32_t layer)
{
    uint32_t n = p->src->model.n_kv_heads * p->src->model.head_pad / 2;
    struct var_planned *t = add(p, PACK_ROLE_PAIRS, layer, PACK_U16_TABLE, 1, n);
    t->table = p->a->layers[layer].pairs;
}

static void add_layer(struct planner *p, uint32_t l)
{
    const struct rt_model *m = &p->src->model;
    const struct var_layer_order *o = &p->a->layers[l];
    const struct rt_dims *d = &p->a->dims[0][l];
    const struct var_tensor *part = p->src->layers[l].part;
    const int32_t *res = p->a->residual;
    uint32_t e = m->n_embd_pad, kv = m->n_kv_heads * m->head_pad;
    const struct {
        uint32_t role;
        enum var_part part;
        uint32_t rows, cols, panel;
        const int32_t *row_map, *col_map;
        enum var_input reads;
    } matrices[] = {
        {PACK_ROLE_Q, VAR_Q, m->n_heads * d->qk, e, 0, o->q, res, VAR_IN_ATTN},
        {PACK_ROLE_K, VAR_K, kv, e, 0, o->k, res, VAR_IN_ATTN},
        {PACK_ROLE_V, VAR_V, kv, e, 0, o->v, res, VAR_IN_ATTN},
        {PACK_ROLE_O, VAR_O, e, m->n_heads * d->vo, m->n_heads, res, o->o, VAR_IN_MIXED},
        {PACK_ROLE_GATE, VAR_GATE, d->mlp, e, 0, o->mlp, res, VAR_IN_MLP},
        {PACK_ROLE_UP, VAR_UP, d->mlp, e, 0, o->mlp, res, VAR_IN_MLP},
        {PACK_ROLE_DOWN, VAR_DOWN, e, d->mlp, DOWN_PANEL, res, o->mlp, VAR_IN_GATED},
    };
    const struct {
        uint32_t role;
        enum var_part part;
        uint32_t n;
        const int32_t *map;
    } vectors[] = {
        {PACK_ROLE_NORM_ATTN, VAR_NORM_ATTN, e, res},
        {PACK_ROLE_NORM_MLP, VAR_NORM_MLP, e, res},
        {PACK_ROLE_Q_BIAS, VAR_Q_BIAS, m->n_heads * d->qk, o->q},
        {PACK_ROLE_K_BIAS, VAR_K_BIAS, kv, o->k},
        {PACK_ROLE_V_BIAS, VAR_V_BIAS, kv, o->v},
        {PACK_ROLE_Q_NORM, VAR_Q_NORM, kv, o->head},
        {PACK_ROLE_K_NORM, VAR_K_NORM, kv, o->head},
    };
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++)
        if (part[vectors[i].part].type)
            add_vector(p, vectors[i].role, l, &part[vectors[i].part], vectors[i].n, vectors[i].map);
    add_pairs(p, l);
    for (size_t i = 0; i < sizeof matrices / sizeof matrices[0]; i++) {
        struct var_planned *t = add_matrix(p, matrices[i].role, l, &part[matrices[i].part],
                                           matrices[i].rows, matrices[i].cols, matrices[i].panel);
        t->rows = matrices[i].row_map;
        t->cols = matrices[i].col_map;
        t->reads = matrices[i].reads;
    }
}

/* Biases of a layer's narrower tiers, and its compensator where one is asked for or pays. */
static void add_extras(struct planner *p, uint32_t layer)
{
    const struct rt_model *m = &p->src->model;
    uint32_t rank = p->a->dims[p->a->n_tiers - 1][layer].comp;
    const struct {
        uint32_t role, rows, cols;
    } maps[] = {{PACK_ROLE_COMP_V, rank, m->n_embd_pad}, {PACK_ROLE_COMP_U, m->n_embd_pad, rank}};
    for (uint32_t t = 1; t < p->a->n_tiers; t++)
        if (var_lost_channels(p->a, m, t, layer) > 0)
            add_vector(p, PACK_ROLE_MLP_BIAS, layer, NULL, m->n_embd_pad, NULL)->record.tier = t;
    for (size_t i = 0; rank > 0 && i < sizeof maps / sizeof *maps; i++)
        add_matrix(p, maps[i].role, layer, NULL, maps[i].rows, maps[i].cols, 0);
}

/* The vocabulary's matrices have rows beyond n_vocab that are padding, in no order but the
 * source's. */
static void add_model(struct planner *p)
{
    const struct var_source *src = p->src;
    const struct rt_model *m = &src->model;
    uint32_t none = (uint32_t)PACK_NO_LAYER;
    struct var_planned *head =
        add_matrix(p, PACK_ROLE_EMBED, none, &src->embed, m->n_vocab_pad, m->n_embd_pad, 0);
    head->cols = p->a->residual;
    if (!m->tied) {
        head = add_matrix(p, PACK_ROLE_HEAD, none, &src->head, m->n_vocab_pad, m->n_embd_pad, 0);
        head->cols = p->a->residual;
    }
    head->reads = VAR_IN_HEAD;
    add_vector(p, PACK_ROLE_NORM_FINAL, none, &src->norm_final, m->n_embd_pad, p->a->residual);
}

static int add_rope_factors(struct planner *p, struct ert_error *err)
{
    const struct var_source *src = p->src;
    uint32_t n = src->model.head_pad / 2;
    if (!src->rope_factors)
        return 0;
    float *values = calloc(n, sizeof *values);
    if (!values)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory to plan the pack", src->path);
    memcpy(values, src->rope_factors, src->model.head_dim / 2 * sizeof *values);
    add_vector(p, PACK_ROLE_ROPE_FACTORS, (uint32_t)PACK_NO_LAYER, NULL, n, NULL)->values = values;
    return 0;
}

/* What w4a16 may take, in bits per weight of the source; 0 = whatever it does. A source with a
 * 4-bit grid says itself what it keeps at more. */
static float budget(const struct planner *p, const struct var_moments_store *moments)
{
    if (p->options->bits_per_weight > 0)
        return p->options->bits_per_weight;
    return p->src->grid || !moments || p->options->nearest ? 0 : VAR_BITS_PER_WEIGHT;
}

/* Spends what the budget leaves; that too little was asked for is an error only where it was asked
 * for. */
static int spend(const struct planner *p, const struct var_moments_store *moments,
                 struct ert_error *err)
{
    double bits = (double)budget(p, moments), weights = (double)var_count_weights(p->plan);
    uint64_t bytes = (uint64_t)(bits * weights / 8);
    if (bits > 0 && bytes < p->plan->h_size && p->options->bits_per_weight > 0)
        return ert_fail(err, ERT_E_RANGE,
                        "%s: %.2f bits per weight are too few, the 4-bit planes alone take %.3f; "
                        "give that or more",
                        p->src->path, bits, 8 * (double)p->plan->h_size / weights);
    if (bits <= 0 || bytes <= p->plan->h_size || !moments)
        return 0;
    int rc = var_choose_precision(p->plan, moments, bytes - p->plan->h_size, err);
    place_all(p);
    return rc;
}

int var_plan_make(struct var_plan *plan, const struct var_source *src,
                  const struct var_arrangement *a, const struct var_build_options *options,
                  const struct var_moments_store *moments, struct ert_error *err)
{
    struct planner p = {plan, src, a, options};
    enum { PER_MODEL = 4, PER_LAYER = VAR_N_PARTS + 3 };
    *plan = (struct var_plan){0};
    plan->room = PER_MODEL + a->n_layers * (PER_LAYER + a->n_tiers);
    plan->tensors = calloc(plan->room, sizeof *plan->tensors);
    if (!plan->tensors)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory to plan the pack", src->path);
    add_model(&p);
    int rc = add_rope_factors(&p, err);
    for (uint32_t l = 0; l < a->n_layers; l++)
        add_layer(&p, l);
    for (uint32_t l = 0; l < a->n_layers; l++)
        add_extras(&p, l);
    place_all(&p);
    if (!rc)
        rc = spend(&p, moments, err);
    if (rc)
        var_plan_release(plan);
    return rc;
}

void var_plan_release(struct var_plan *plan)
{
    for (uint32_t i = 0; i < plan->n; i++)
        free(plan->tensors[i].values);
    free(plan->tensors);
    *plan = (struct var_plan){0};
}

/* ---- extras -------------------------------------------------------------------------------- */

static float **extra_of(struct var_extras *x, const struct pack_tensor *t)
{
    switch (t->role) {
    case PACK_ROLE_MLP_BIAS:
        return &x->mlp_bias[t->tier];
    case PACK_ROLE_COMP_V:
        return &x->comp_v;
    case PACK_ROLE_COMP_U:
        return &x->comp_u;
    default:
        return NULL;
    }
}

/* The tensors that hold them take over a layer's extras. */
int var_plan_fill_extras(struct var_plan *plan, const struct var_source *src,
                         const struct var_arrangement *a, uint32_t layer,
                         const struct var_moments *moments, struct ert_error *err)
{
    struct var_extras x;
    int rc = var_compensate(&x, src, a, moments, layer, err);
    for (uint32_t i = 0; i < plan->n && !rc; i++) {
        struct var_planned *t = &plan->tensors[i];
        float **values = t->record.layer == layer ? extra_of(&x, &t->record) : NULL;
        if (!values)
            continue;
        t->values = *values;
        *values = NULL;
    }
    var_extras_release(&x);
    return rc;
}

void var_plan_drop_extras(struct var_plan *plan, uint32_t layer)
{
    struct var_extras roles;
    for (uint32_t i = 0; i < plan->n; i++) {
        struct var_planned *t = &plan->tensors[i];
        if (t->record.layer != layer || !extra_of(&roles, &t->record))
            continue;
        free(t->values);
        t->values = NULL;
    }
}

void var_planned_row(const struct var_planned *p, uint32_t row, float *scratch, float *out)
{
    uint32_t n = p->record.cols;
    if (p->values) {
        memcpy(out, p->values + (size_t)row * n, n * sizeof *out);
        return;
    }
    int64_t from = p->rows ? p->rows[row] : row < p->tensor->rows ? (int64_t)row : -1;
    if (from < 0) {
        memset(out, 0, n * sizeof *out);
        return;
    }
    var_tensor_row(p->tensor, (uint32_t)from, scratch);
    for (uint32_t c = 0; c < n; c++) {
        int64_t at = p->cols ? p->cols[c] : c < p->tensor->cols ? (int64_t)c : -1;
        out[c] = at < 0 ? 0 : scratch[at];
    }
}
