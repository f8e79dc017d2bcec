/* pack_tensors: the TENSORS section. A table says of every role where it may stand, its shape and
 * its place in the pack; a record must match it exactly. */
#include "runtime/pack_read.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum scope { OF_MODEL, OF_LAYER, OF_TIER };
enum form { VECTOR, MATRIX, TABLE };
enum extent { ONE, VOCAB, EMBD, HEADS_QK, HEADS_VO, HEADS_KV, MLP, PAIR_TABLE, FREQUENCIES, RANK };
enum need { OPTIONAL, NEEDED };

struct role {
    const char *name;
    enum scope scope;
    enum form form;
    enum extent rows, cols;
    enum need need;
    size_t slot; /* in struct rt_pack, rt_layer or rt_extras, by scope */
};

#define ROLE(id, scope, form, rows, cols, need, owner, member)                                     \
    [PACK_ROLE_##id] = {#id, scope, form, rows, cols, need, offsetof(struct owner, member)}

static const struct role roles[] = {
    ROLE(EMBED, OF_MODEL, MATRIX, VOCAB, EMBD, NEEDED, rt_pack, embed),
    ROLE(HEAD, OF_MODEL, MATRIX, VOCAB, EMBD, NEEDED, rt_pack, head),
    ROLE(NORM_FINAL, OF_MODEL, VECTOR, ONE, EMBD, NEEDED, rt_pack, norm_final),
    ROLE(NORM_ATTN, OF_LAYER, VECTOR, ONE, EMBD, NEEDED, rt_layer, norm_attn),
    ROLE(NORM_MLP, OF_LAYER, VECTOR, ONE, EMBD, NEEDED, rt_layer, norm_mlp),
    ROLE(Q, OF_LAYER, MATRIX, HEADS_QK, EMBD, NEEDED, rt_layer, q),
    ROLE(K, OF_LAYER, MATRIX, HEADS_KV, EMBD, NEEDED, rt_layer, k),
    ROLE(V, OF_LAYER, MATRIX, HEADS_KV, EMBD, NEEDED, rt_layer, v),
    ROLE(O, OF_LAYER, MATRIX, EMBD, HEADS_VO, NEEDED, rt_layer, o),
    ROLE(GATE, OF_LAYER, MATRIX, MLP, EMBD, NEEDED, rt_layer, gate),
    ROLE(UP, OF_LAYER, MATRIX, MLP, EMBD, NEEDED, rt_layer, up),
    ROLE(DOWN, OF_LAYER, MATRIX, EMBD, MLP, NEEDED, rt_layer, down),
    ROLE(PAIRS, OF_LAYER, TABLE, ONE, PAIR_TABLE, NEEDED, rt_layer, pairs),
    ROLE(ATTN_BIAS, OF_TIER, VECTOR, ONE, EMBD, OPTIONAL, rt_extras, attn_bias),
    ROLE(MLP_BIAS, OF_TIER, VECTOR, ONE, EMBD, OPTIONAL, rt_extras, mlp_bias),
    ROLE(COMP_V, OF_LAYER, MATRIX, RANK, EMBD, OPTIONAL, rt_layer, comp_v),
    ROLE(COMP_U, OF_LAYER, MATRIX, EMBD, RANK, OPTIONAL, rt_layer, comp_u),
    ROLE(Q_BIAS, OF_LAYER, VECTOR, ONE, HEADS_QK, OPTIONAL, rt_layer, q_bias),
    ROLE(K_BIAS, OF_LAYER, VECTOR, ONE, HEADS_KV, OPTIONAL, rt_layer, k_bias),
    ROLE(V_BIAS, OF_LAYER, VECTOR, ONE, HEADS_KV, OPTIONAL, rt_layer, v_bias),
    ROLE(Q_NORM, OF_LAYER, VECTOR, ONE, HEADS_KV, OPTIONAL, rt_layer, q_norm),
    ROLE(K_NORM, OF_LAYER, VECTOR, ONE, HEADS_KV, OPTIONAL, rt_layer, k_norm),
    ROLE(ROPE_FACTORS, OF_MODEL, VECTOR, ONE, FREQUENCIES, OPTIONAL, rt_pack, rope_factors),
};
enum { N_ROLES = sizeof roles / sizeof roles[0] };

/* A range of bytes that a tensor claims, to find two that claim the same. */
struct region {
    uint32_t in_l, record;
    uint64_t offset, size;
};

struct reader {
    struct rt_pack *pack;
    const uint8_t *records;
    uint32_t n_records;
    struct region *regions; /* room for 4 a record */
    uint32_t n_regions;
    struct ert_error *err;
};

static struct pack_tensor record_at(const struct reader *r, uint32_t i)
{
    struct pack_tensor t;
    memcpy(&t, r->records + (size_t)i * sizeof t, sizeof t);
    return t;
}

/* "Q of layer 3", for sentences. */
static const char *describe(const struct pack_tensor *t, char text[64])
{
    if (t->role == 0 || t->role >= N_ROLES)
        snprintf(text, 64, "the tensor of role %u", t->role);
    else if (roles[t->role].scope == OF_MODEL)
        snprintf(text, 64, "%s", roles[t->role].name);
    else if (roles[t->role].scope == OF_LAYER)
        snprintf(text, 64, "%s of layer %u", roles[t->role].name, t->layer);
    else
        snprintf(text, 64, "%s of layer %u, tier %u", roles[t->role].name, t->layer, t->tier);
    return text;
}

static int fail_tensor(const struct reader *r, uint32_t i, const char *what)
{
    struct pack_tensor t = record_at(r, i);
    char name[64];
    return ert_fail(r->err, ERT_E_FORMAT,
                    "%s: section TENSORS, record %u at offset %zu, %s: %s; %s", r->pack->path, i,
                    (size_t)i * sizeof t, describe(&t, name), what, PACK_REMEDY);
}

static uint32_t extent_of(const struct rt_pack *pack, enum extent e, uint32_t layer)
{
    const struct rt_model *m = &pack->model;
    switch (e) {
    case ONE:
        return 1;
    case VOCAB:
        return m->n_vocab_pad;
    case EMBD:
        return m->n_embd_pad;
    case HEADS_QK:
        return m->n_heads * pack->tiers[0].dims[layer].qk;
    case HEADS_VO:
        return m->n_heads * pack->tiers[0].dims[layer].vo;
    case HEADS_KV:
        return m->n_kv_heads * m->head_pad;
    case MLP:
        return pack->tiers[0].dims[layer].mlp;
    case PAIR_TABLE:
        return m->n_kv_heads * m->head_pad / 2;
    case FREQUENCIES:
        return m->head_pad / 2;
    case RANK:
        return pack->tiers[pack->n_tiers - 1].dims[layer].comp;
    }
    return 0;
}

static int check_scope(const struct reader *r, uint32_t i, const struct pack_tensor *t)
{
    if (t->role == 0 || t->role >= N_ROLES)
        return fail_tensor(r, i, "the role is not known");
    enum scope scope = roles[t->role].scope;
    if (scope == OF_MODEL ? t->layer != (uint32_t)PACK_NO_LAYER
                          : t->layer >= r->pack->model.n_layers)
        return fail_tensor(r, i, "the layer is not one that the model has");
    if (scope == OF_TIER ? t->tier >= r->pack->n_tiers : t->tier != 0)
        return fail_tensor(r, i, "the tier is not one that the pack has");
    return 0;
}

static int check_shape(const struct reader *r, uint32_t i, const struct pack_tensor *t)
{
    const struct role *role = &roles[t->role];
    const enum pack_tensor_kind matrix =
        r->pack->kind == RT_PACK_F32 ? PACK_F32_MATRIX : PACK_NESTED;
    const uint32_t kind[] = {
        [VECTOR] = PACK_F32_VECTOR, [MATRIX] = matrix, [TABLE] = PACK_U16_TABLE};
    char what[160];
    uint32_t rows = extent_of(r->pack, role->rows, t->layer);
    uint32_t cols = extent_of(r->pack, role->cols, t->layer);
    if (t->rows != rows || t->cols != cols || t->kind != kind[role->form]) {
        snprintf(what, sizeof what, "kind %u, %u x %u, expected kind %u, %u x %u", t->kind, t->rows,
                 t->cols, kind[role->form], rows, cols);
        return fail_tensor(r, i, what);
    }
    bool nested = t->kind == PACK_NESTED;
    if (t->outlier_groups > (nested ? 1 : 0) || t->flags > (nested ? PACK_FLAG_L_RESIDENT : 0))
        return fail_tensor(r, i, "outlier groups or flags that this kind does not have");
    if (role->form != MATRIX && t->panel_groups)
        return fail_tensor(r, i, "column panels in a vector");
    if (t->zero[0] || t->zero[1] || t->zero[2])
        return fail_tensor(r, i, "reserved fields that are not zero");
    return 0;
}

/* Notes a range, after checking that it is aligned and inside its section; *at is where it begins.
 */
static int claim(struct reader *r, uint32_t i, const char *name, bool in_l, uint64_t offset,
                 uint64_t size, const uint8_t **at)
{
    const struct rt_pack *pack = r->pack;
    uint64_t section = in_l ? pack->l_offset : pack->h_offset;
    uint64_t section_size = in_l ? pack->l_size : pack->h_size;
    if (offset % PACK_ALIGN || offset > section_size || size > section_size - offset) {
        char what[200];
        snprintf(what, sizeof what,
                 "its %s (%llu bytes at %llu) do not lie in %s (%llu bytes) on a multiple of %d",
                 name, (unsigned long long)size, (unsigned long long)offset,
                 in_l ? "PLANES_L" : "PLANES_H", (unsigned long long)section_size, PACK_ALIGN);
        return fail_tensor(r, i, what);
    }
    *at = pack->map.data + section + offset;
    if (size)
        r->regions[r->n_regions++] =
            (struct region){.in_l = in_l, .record = i, .offset = offset, .size = size};
    return 0;
}

static int check_size(const struct reader *r, uint32_t i, const char *name, uint64_t has,
                      uint64_t expected)
{
    if (has == expected)
        return 0;
    char what[128];
    snprintf(what, sizeof what, "%s is %llu bytes, expected %llu", name, (unsigned long long)has,
             (unsigned long long)expected);
    return fail_tensor(r, i, what);
}

/* A compensator may have no L plane in a nested pack: it has 4 bits in every variant then. */
static bool lacks_l(const struct pack_tensor *t)
{
    return t->l_size == 0 && (t->role == PACK_ROLE_COMP_V || t->role == PACK_ROLE_COMP_U);
}

/* The L plane lies in PLANES_L, or in PLANES_H for a matrix kept at 8 bits; an h-only pack has only
 * the latter. blocks fits: META's limits keep it below 2^30. */
static int read_l_plane(struct reader *r, uint32_t i, const struct pack_tensor *t, uint64_t blocks,
                        struct rt_matrix *m)
{
    m->l_resident = t->flags & PACK_FLAG_L_RESIDENT;
    bool has_l = m->l_resident || (r->pack->kind == RT_PACK_NESTED && !lacks_l(t));
    int rc = check_size(r, i, "the L plane", t->l_size, has_l ? blocks * PACK_L_BLOCK : 0);
    if (rc || !has_l)
        return rc;
    return claim(r, i, "L blocks", !m->l_resident, t->l_off, t->l_size, &m->l);
}

static int read_nested(struct reader *r, uint32_t i, const struct pack_tensor *t,
                       struct rt_matrix *m)
{
    uint64_t tiles = t->rows / PACK_TILE;
    uint64_t blocks = tiles * (t->cols / PACK_GROUP - t->outlier_groups);
    int rc = check_size(r, i, "the H plane", t->data_size, blocks * PACK_H_BLOCK);
    if (!rc)
        rc = claim(r, i, "H blocks", false, t->data_off, t->data_size, &m->data);
    if (!rc)
        rc = claim(r, i, "row pairs", false, t->pair_off, tiles * PACK_PAIRS, &m->pairs);
    if (!rc && t->outlier_groups)
        rc =
            claim(r, i, "outlier blocks", false, t->outlier_off, tiles * PACK_OUTLIER, &m->outlier);
    return rc ? rc : read_l_plane(r, i, t, blocks, m);
}

static int read_matrix(struct reader *r, uint32_t i, const struct pack_tensor *t,
                       struct rt_matrix *m)
{
    if (m->data)
        return fail_tensor(r, i, "the same tensor came before");
    uint32_t groups = t->cols / PACK_GROUP;
    m->rows = t->rows;
    m->cols = t->cols;
    m->panel_groups = t->panel_groups && t->panel_groups < groups ? t->panel_groups : groups;
    if (t->kind == PACK_NESTED)
        return read_nested(r, i, t, m);
    uint64_t size = (uint64_t)(t->rows / PACK_TILE) * groups * PACK_F32_BLOCK;
    int rc = check_size(r, i, "the matrix", t->data_size, size);
    return rc ? rc : claim(r, i, "blocks", false, t->data_off, size, &m->data);
}

/* A vector of floats or a table of u16; *slot is its pointer. */
static int read_array(struct reader *r, uint32_t i, const struct pack_tensor *t, const void **slot)
{
    if (*slot)
        return fail_tensor(r, i, "the same tensor came before");
    size_t unit = t->kind == PACK_F32_VECTOR ? sizeof(float) : sizeof(uint16_t);
    int rc = check_size(r, i, "the array", t->data_size, t->cols * unit);
    const uint8_t *at = NULL;
    if (!rc)
        rc = claim(r, i, "values", false, t->data_off, t->data_size, &at);
    *slot = at;
    return rc;
}

/* Frequencies index a table of head_dim / 2 angles; padding pairs name the first. */
static int check_pairs(const struct reader *r, uint32_t i, const struct pack_tensor *t)
{
    const struct rt_model *m = &r->pack->model;
    const uint8_t *section = r->pack->map.data + r->pack->h_offset;
    const uint16_t *pairs = (const uint16_t *)(const void *)(section + t->data_off);
    for (uint32_t k = 0; k < m->n_kv_heads * m->head_pad / 2; k++) {
        bool padding = k % (m->head_pad / 2) >= m->head_dim / 2;
        if (pairs[k] >= (padding ? 1 : m->head_dim / 2)) {
            char what[96];
            snprintf(what, sizeof what, "entry %u is %u, expected less than %u", k, pairs[k],
                     padding ? 1 : m->head_dim / 2);
            return fail_tensor(r, i, what);
        }
    }
    return 0;
}

/* Frequencies are divided by these. */
static int check_factors(const struct reader *r, uint32_t i)
{
    for (uint32_t f = 0; f < r->pack->model.head_dim / 2; f++) {
        float factor = r->pack->rope_factors[f];
        if (!(factor > 0) || !isfinite(factor)) {
            char what[96];
            snprintf(what, sizeof what, "entry %u is %g, expected a number above 0", f,
                     (double)factor);
            return fail_tensor(r, i, what);
        }
    }
    return 0;
}

static int read_record(struct reader *r, uint32_t i)
{
    struct pack_tensor t = record_at(r, i);
    int rc = check_scope(r, i, &t);
    if (!rc)
        rc = check_shape(r, i, &t);
    if (rc)
        return rc;
    const struct role *role = &roles[t.role];
    char *owner = role->scope == OF_MODEL   ? (char *)r->pack
                  : role->scope == OF_LAYER ? (char *)&r->pack->layers[t.layer]
                                            : (char *)&r->pack->tiers[t.tier].extras[t.layer];
    void *slot = owner + role->slot;
    rc = role->form == MATRIX ? read_matrix(r, i, &t, slot) : read_array(r, i, &t, slot);
    if (!rc && role->form == TABLE)
        rc = check_pairs(r, i, &t);
    if (!rc && t.role == PACK_ROLE_ROPE_FACTORS)
        rc = check_factors(r, i);
    return rc;
}

static int compare_regions(const void *a, const void *b)
{
    const struct region *x = a, *y = b;
    if (x->in_l != y->in_l)
        return x->in_l < y->in_l ? -1 : 1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

static int check_overlaps(struct reader *r)
{
    qsort(r->regions, r->n_regions, sizeof *r->regions, compare_regions);
    for (uint32_t i = 1; i < r->n_regions; i++) {
        const struct region *a = &r->regions[i - 1], *b = &r->regions[i];
        if (a->in_l == b->in_l && a->offset + a->size > b->offset)
            return fail_tensor(r, b->record, "its bytes overlap those of another tensor");
    }
    return 0;
}

static bool has_tensor(const struct role *role, const char *owner)
{
    const void *slot = owner + role->slot;
    return role->form == MATRIX ? ((const struct rt_matrix *)slot)->data != NULL
                                : *(const void *const *)slot != NULL;
}

/* Every tensor that the model needs was there. */
static int check_complete(const struct rt_pack *pack, struct ert_error *err)
{
    for (uint32_t id = 1; id < N_ROLES; id++) {
        const struct role *role = &roles[id];
        bool model = role->scope == OF_MODEL;
        if (role->need == OPTIONAL)
            continue;
        for (uint32_t i = 0; i < (model ? 1 : pack->model.n_layers); i++) {
            bool needed = id != PACK_ROLE_HEAD || !pack->model.tied;
            if (has_tensor(role, model ? (const char *)pack : (const char *)&pack->layers[i]) ==
                needed)
                continue;
            char where[32] = "";
            if (!model)
                snprintf(where, sizeof where, " of layer %u", i);
            return ert_fail(err, ERT_E_FORMAT, "%s: section TENSORS: %s%s is %s; %s", pack->path,
                            role->name, where,
                            needed ? "missing" : "there although the head is tied", PACK_REMEDY);
        }
    }
    return 0;
}

/* Both matrices of a layer's compensator are there, or it has none. */
static int check_compensators(const struct rt_pack *pack, struct ert_error *err)
{
    for (uint32_t i = 0; i < pack->model.n_layers; i++) {
        const struct rt_layer *l = &pack->layers[i];
        uint32_t rank = extent_of(pack, RANK, i);
        if ((l->comp_v.data != NULL) != (rank > 0) || (l->comp_u.data != NULL) != (rank > 0))
            return ert_fail(err, ERT_E_FORMAT,
                            "%s: section TENSORS: %s of layer %u is missing, the narrowest tier's "
                            "dims.comp is %u; %s",
                            pack->path, l->comp_v.data ? "COMP_U" : "COMP_V", i, rank, PACK_REMEDY);
    }
    return 0;
}

/* A norm over a head's dimensions needs all of them, at every tier. */
static int check_whole_heads(const struct rt_pack *pack, struct ert_error *err)
{
    for (uint32_t t = 0; t < pack->n_tiers; t++)
        for (uint32_t i = 0; i < pack->model.n_layers; i++) {
            const struct rt_layer *l = &pack->layers[i];
            uint32_t qk = pack->tiers[t].dims[i].qk;
            if ((l->q_norm || l->k_norm) && qk != pack->model.head_pad)
                return ert_fail(err, ERT_E_FORMAT,
                                "%s: section META, tiers[%u].dims[%u].qk is %u, but the layer has "
                                "Q_NORM or K_NORM, which need all %u; %s",
                                pack->path, t, i, qk, pack->model.head_pad, PACK_REMEDY);
        }
    return 0;
}

static int read_records(struct reader *r)
{
    int rc = 0;
    for (uint32_t i = 0; !rc && i < r->n_records; i++)
        rc = read_record(r, i);
    if (!rc)
        rc = check_overlaps(r);
    if (!rc)
        rc = check_complete(r->pack, r->err);
    if (!rc)
        rc = check_compensators(r->pack, r->err);
    if (!rc)
        rc = check_whole_heads(r->pack, r->err);
    if (!rc && r->pack->model.tied)
        r->pack->head = r->pack->embed;
    return rc;
}

int rt_pack_read_tensors(struct rt_pack *pack, const uint8_t *records, size_t size,
                         struct ert_error *err)
{
    size_t n = size / sizeof(struct pack_tensor);
    enum { OF_THE_MODEL = 4, OF_A_LAYER = 17, OF_A_TIER = 2 };
    size_t per_layer = OF_A_LAYER + OF_A_TIER * (size_t)pack->n_tiers;
    size_t most = OF_THE_MODEL + pack->model.n_layers * per_layer;
    if (size % sizeof(struct pack_tensor) || n > most)
        return ert_fail(
            err, ERT_E_FORMAT,
            "%s: section TENSORS has %zu bytes, expected at most %zu records of %zu; %s",
            pack->path, size, most, sizeof(struct pack_tensor), PACK_REMEDY);
    struct reader r = {.pack = pack, .records = records, .n_records = (uint32_t)n, .err = err};
    r.regions = calloc(4 * n + 1, sizeof *r.regions);
    pack->layers = calloc(pack->model.n_layers, sizeof *pack->layers);
    int rc = r.regions && pack->layers
                 ? read_records(&r)
                 : ert_fail(err, ERT_E_NOMEM, "%s: no memory for %zu tensors", pack->path, n);
    free(r.regions);
    return rc;
}
