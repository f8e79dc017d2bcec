/* pack_meta: the META section, read by tables of fields with their types and ranges. */
#include "runtime/pack_read.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    META_MAX_BYTES = 4 << 20, /* a parsed value takes some ten times its text */
    META_MAX_TIERS = 16,
};

enum field_type { FIELD_UINT, FIELD_REAL, FIELD_BOOL, FIELD_TEXT };

/* A member of a JSON object and where its value goes. For texts max is the room, NUL included. */
struct field {
    const char *name;
    enum field_type type;
    size_t offset;
    double min, max;
};

#define FIELD(s, type, member, min, max)                                                           \
    {                                                                                              \
#member, type, offsetof(struct s, member), min, max                                        \
    }

static const struct field model_fields[] = {
    FIELD(rt_model, FIELD_TEXT, arch, 0, 32),
    FIELD(rt_model, FIELD_UINT, n_layers, 1, 1024),
    FIELD(rt_model, FIELD_UINT, n_embd, 1, 65536),
    FIELD(rt_model, FIELD_UINT, n_heads, 1, 1024),
    FIELD(rt_model, FIELD_UINT, n_kv_heads, 1, 1024),
    FIELD(rt_model, FIELD_UINT, head_dim, 2, 1024),
    FIELD(rt_model, FIELD_UINT, n_ff, 1, 1 << 20),
    FIELD(rt_model, FIELD_UINT, n_vocab, 1, 1 << 22),
    FIELD(rt_model, FIELD_UINT, n_ctx, 1, 1 << 20),
    FIELD(rt_model, FIELD_REAL, rope_theta, 1, 1e12),
    FIELD(rt_model, FIELD_REAL, rms_eps, 0, 1),
    FIELD(rt_model, FIELD_BOOL, tied, 0, 1),
};

static const struct field tier_fields[] = {
    FIELD(rt_tier, FIELD_TEXT, name, 0, 16),
    FIELD(rt_tier, FIELD_UINT, rank_percent, 1, 100),
};

static const struct field dims_fields[] = {
    FIELD(rt_dims, FIELD_UINT, mlp, 32, 1 << 20),
    FIELD(rt_dims, FIELD_UINT, qk, 32, 1024),
    FIELD(rt_dims, FIELD_UINT, vo, 32, 1024),
    FIELD(rt_dims, FIELD_UINT, comp, 0, 4096),
};

static const struct {
    const char *name;
    enum rt_pack_kind kind;
} kinds[] = {{"nested", RT_PACK_NESTED}, {"h-only", RT_PACK_H_ONLY}, {"f32", RT_PACK_F32}};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Puts a value into base + f->offset; returns what was expected instead, or NULL. */
static const char *put_field(const struct field *f, const json_t *value, char *base)
{
    void *to = base + f->offset;
    double number = json_number_value(value);
    switch (f->type) {
    case FIELD_UINT:
        if (!json_is_integer(value) || number < f->min || number > f->max)
            return "an integer";
        *(uint32_t *)to = (uint32_t)json_integer_value(value);
        return NULL;
    case FIELD_REAL:
        if (!json_is_number(value) || !isfinite(number) || number < f->min || number > f->max)
            return "a number";
        *(float *)to = (float)number;
        return NULL;
    case FIELD_BOOL:
        if (!json_is_boolean(value))
            return "true or false, as";
        *(bool *)to = json_is_true(value);
        return NULL;
    case FIELD_TEXT:
        if (!json_is_string(value) || json_string_length(value) >= (size_t)f->max)
            return "a text with a length";
        memcpy(to, json_string_value(value), json_string_length(value) + 1);
        return NULL;
    }
    return "a known type";
}

static int read_fields(const struct rt_pack *pack, const json_t *object, const char *where,
                       const struct field *fields, size_t n, void *base, struct ert_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_object_get(object, fields[i].name);
        const char *expected = put_field(&fields[i], value, base);
        if (expected)
            return ert_fail(err, ERT_E_FORMAT,
                            "%s: section META, %s.%s is %s, expected %s in %.10g to %.10g; %s",
                            pack->path, where, fields[i].name, value ? "not usable" : "missing",
                            expected, fields[i].min, fields[i].max, PACK_REMEDY);
    }
    return 0;
}

static int read_kind(struct rt_pack *pack, struct ert_error *err)
{
    const char *name = json_string_value(json_object_get(pack->meta, "kind"));
    for (size_t i = 0; name && i < COUNT(kinds); i++) {
        if (strcmp(name, kinds[i].name) != 0)
            continue;
        pack->kind = kinds[i].kind;
        if ((pack->kind == RT_PACK_NESTED) != (pack->l_offset != 0))
            return ert_fail(err, ERT_E_FORMAT, "%s: a pack of kind %s must have %s; %s", pack->path,
                            name, pack->l_offset ? "no section PLANES_L" : "a section PLANES_L",
                            PACK_REMEDY);
        return 0;
    }
    return ert_fail(err, ERT_E_UNSUPPORTED,
                    "%s: section META, kind is %.32s, expected nested, h-only or f32; %s",
                    pack->path, name ? name : "missing", PACK_REMEDY);
}

/* The table has an architecture once for each name that Hugging Face has for it. */
static int check_architecture(const struct rt_pack *pack, struct ert_error *err)
{
    static const char *const names[] = {
#define A(name, hf, order, bias, norm) name,
#include "runtime/architectures.def"
#undef A
    };
    char list[160] = "";
    for (size_t i = 0, n = 0; i < COUNT(names); i++) {
        if (strcmp(pack->model.arch, names[i]) == 0)
            return 0;
        if (i == 0 || strcmp(names[i], names[i - 1]) != 0)
            n += (size_t)snprintf(list + n, sizeof list - n, n ? ", %s" : "%s", names[i]);
    }
    return ert_fail(err, ERT_E_UNSUPPORTED,
                    "%s: section META, model.arch is \"%s\", this program runs %s: build the pack "
                    "again with this program's `edgert build`",
                    pack->path, pack->model.arch, list);
}

static int read_model(struct rt_pack *pack, struct ert_error *err)
{
    struct rt_model *m = &pack->model;
    static const struct field name[] = {FIELD(rt_model, FIELD_TEXT, name, 0, 128)};
    int rc = read_fields(pack, pack->meta, "the pack", name, 1, m, err);
    if (!rc)
        rc = read_fields(pack, json_object_get(pack->meta, "model"), "model", model_fields,
                         COUNT(model_fields), m, err);
    if (rc)
        return rc;
    rc = check_architecture(pack, err);
    if (rc)
        return rc;
    if (m->n_heads % m->n_kv_heads)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: section META, model.n_heads %u is no multiple of n_kv_heads %u; %s",
                        pack->path, m->n_heads, m->n_kv_heads, PACK_REMEDY);
    if (m->head_dim % 2)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: section META, model.head_dim %u is odd, RoPE turns pairs; %s",
                        pack->path, m->head_dim, PACK_REMEDY);
    m->n_embd_pad = pack_pad(m->n_embd, PACK_GROUP);
    m->head_pad = pack_pad(m->head_dim, PACK_GROUP);
    m->n_vocab_pad = pack_pad(m->n_vocab, PACK_TILE);
    return 0;
}

/* One width of a tier: a multiple of 32 and no more than above (the tier before, or the model). */
static int check_width(const struct rt_pack *pack, const char *name, uint32_t tier, uint32_t layer,
                       uint32_t width, uint32_t above, struct ert_error *err)
{
    if (width % PACK_GROUP == 0 && width <= above)
        return 0;
    return ert_fail(err, ERT_E_FORMAT,
                    "%s: section META, tiers[%u].dims[%u].%s is %u, expected a multiple of %d, at "
                    "most %u; %s",
                    pack->path, tier, layer, name, width, PACK_GROUP, above, PACK_REMEDY);
}

/* The rank of a compensator: a multiple of 32 and no less than at the tier before. */
static int check_rank(const struct rt_pack *pack, uint32_t tier, uint32_t layer, uint32_t rank,
                      uint32_t above, struct ert_error *err)
{
    if (rank % PACK_GROUP == 0 && rank >= above)
        return 0;
    return ert_fail(err, ERT_E_FORMAT,
                    "%s: section META, tiers[%u].dims[%u].comp is %u, expected a multiple of %d, "
                    "at least %u; %s",
                    pack->path, tier, layer, rank, PACK_GROUP, above, PACK_REMEDY);
}

static int read_dims(struct rt_pack *pack, uint32_t t, const json_t *list, struct ert_error *err)
{
    const struct rt_model *m = &pack->model;
    const struct rt_dims model = {pack_pad(m->n_ff, PACK_GROUP), m->head_pad, m->head_pad, 0};
    if (!json_is_array(list) || json_array_size(list) != m->n_layers)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: section META, tiers[%u].dims is no list of %u layers; %s", pack->path,
                        t, m->n_layers, PACK_REMEDY);
    char where[48];
    for (uint32_t i = 0; i < m->n_layers; i++) {
        struct rt_dims *d = &pack->tiers[t].dims[i];
        const struct rt_dims *above = t ? &pack->tiers[t - 1].dims[i] : &model;
        snprintf(where, sizeof where, "tiers[%u].dims[%u]", t, i);
        int rc = read_fields(pack, json_array_get(list, i), where, dims_fields, COUNT(dims_fields),
                             d, err);
        if (!rc)
            rc = check_width(pack, "mlp", t, i, d->mlp, above->mlp, err);
        if (!rc)
            rc = check_width(pack, "qk", t, i, d->qk, above->qk, err);
        if (!rc)
            rc = check_width(pack, "vo", t, i, d->vo, above->vo, err);
        if (!rc)
            rc = check_rank(pack, t, i, d->comp, above->comp, err);
        if (rc)
            return rc;
    }
    return 0;
}

static int read_tier(struct rt_pack *pack, uint32_t t, const json_t *object, struct ert_error *err)
{
    struct rt_tier *tier = &pack->tiers[t];
    char where[24];
    snprintf(where, sizeof where, "tiers[%u]", t);
    int rc = read_fields(pack, object, where, tier_fields, COUNT(tier_fields), tier, err);
    if (rc)
        return rc;
    if (t && tier->rank_percent >= pack->tiers[t - 1].rank_percent)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: section META, tiers[%u].rank_percent is %u, expected less than the "
                        "%u of the tier before; %s",
                        pack->path, t, tier->rank_percent, pack->tiers[t - 1].rank_percent,
                        PACK_REMEDY);
    tier->dims = calloc(pack->model.n_layers, sizeof *tier->dims);
    tier->extras = calloc(pack->model.n_layers, sizeof *tier->extras);
    if (!tier->dims || !tier->extras)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for tier %u", pack->path, t);
    return read_dims(pack, t, json_object_get(object, "dims"), err);
}

static int read_tiers(struct rt_pack *pack, struct ert_error *err)
{
    const json_t *list = json_object_get(pack->meta, "tiers");
    size_t n = json_array_size(list);
    if (n < 1 || n > META_MAX_TIERS)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: section META, tiers is no list of 1 to %d tiers; %s", pack->path,
                        META_MAX_TIERS, PACK_REMEDY);
    pack->tiers = calloc(n, sizeof *pack->tiers);
    if (!pack->tiers)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for %zu tiers", pack->path, n);
    pack->n_tiers = (uint32_t)n;
    int rc = 0;
    for (uint32_t t = 0; !rc && t < n; t++)
        rc = read_tier(pack, t, json_array_get(list, t), err);
    return rc;
}

static int read_chat_template(struct rt_pack *pack, struct ert_error *err)
{
    const json_t *tokenizer = json_object_get(pack->meta, "tokenizer");
    const json_t *text = json_object_get(tokenizer, "chat_template");
    if (!json_is_object(tokenizer) || (text && !json_is_string(text)))
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: section META, tokenizer is no object with a text chat_template; %s",
                        pack->path, PACK_REMEDY);
    pack->chat_template = strdup(text ? json_string_value(text) : "");
    return pack->chat_template
               ? 0
               : ert_fail(err, ERT_E_NOMEM, "%s: no memory for the chat template", pack->path);
}

int rt_pack_read_meta(struct rt_pack *pack, const uint8_t *json, size_t size, struct ert_error *err)
{
    if (size > META_MAX_BYTES)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: section META has %zu bytes, expected at most %d; %s", pack->path, size,
                        META_MAX_BYTES, PACK_REMEDY);
    json_error_t bad;
    pack->meta = json_loadb((const char *)json, size, JSON_REJECT_DUPLICATES, &bad);
    if (!json_is_object(pack->meta))
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: section META is no JSON object (it stops being one at byte %d); %s",
                        pack->path, pack->meta ? 0 : bad.position, PACK_REMEDY);
    int rc = read_kind(pack, err);
    if (!rc)
        rc = read_model(pack, err);
    if (!rc)
        rc = read_tiers(pack, err);
    if (!rc)
        rc = read_chat_template(pack, err);
    return rc;
}
