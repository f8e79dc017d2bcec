/* What a GGUF file's keys and tensors mean: sizes of the model, RoPE and weights. */
#include "variants/gguf_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "variants/rope.h"

/* ---- hyperparameters ----------------------------------------------------------------------- */

static int read_architecture(struct gguf_reader *r)
{
    struct gguf_text arch;
    char name[65], list[128];
    int rc = gguf_get_text(r, "general.architecture", sizeof name - 1, &arch);
    if (rc)
        return rc;
    var_architecture_list(VAR_NAMES_GGUF, list, sizeof list);
    if (!arch.text)
        return gguf_fail_key(r, "general.architecture", NULL, list);
    snprintf(name, sizeof name, "%.*s", (int)arch.n, arch.text);
    r->architecture = var_architecture_of(VAR_NAMES_GGUF, name);
    if (!r->architecture)
        return ert_fail(r->err, ERT_E_UNSUPPORTED,
                        "%s: architecture '%s' is not supported; supported: %s", r->f->path, name,
                        list);
    uint32_t none = 0, experts = 0;
    rc = gguf_get_u32(r, gguf_own_key(r, "expert_count").text, &none, &experts);
    if (!rc && experts > 0)
        rc = ert_fail(r->err, ERT_E_UNSUPPORTED,
                      "%s: a mixture of %u experts is not supported; use a dense model", r->f->path,
                      experts);
    return rc;
}

/* Without a width of its own, a head is the embedding's share. */
static int read_head_width(const struct gguf_reader *r, struct rt_model *m)
{
    uint32_t shared = m->n_heads ? m->n_embd / m->n_heads : 0, value_dim = 0, rope_dim = 0;
    struct gguf_key own = gguf_own_key(r, "attention.key_length");
    if (!gguf_find(r->f, own.text) && (m->n_heads == 0 || m->n_embd % m->n_heads != 0))
        return ert_fail(r->err, ERT_E_FORMAT,
                        "%s: width %u is not a multiple of %u heads and %s is missing; the file is "
                        "damaged",
                        r->f->path, m->n_embd, m->n_heads, own.text);
    int rc = gguf_get_u32(r, own.text, &shared, &m->head_dim);
    if (!rc)
        rc = gguf_get_u32(r, gguf_own_key(r, "attention.value_length").text, &m->head_dim,
                          &value_dim);
    if (!rc)
        rc = gguf_get_u32(r, gguf_own_key(r, "rope.dimension_count").text, &m->head_dim, &rope_dim);
    if (!rc && (value_dim != m->head_dim || rope_dim != m->head_dim))
        rc = ert_fail(r->err, ERT_E_UNSUPPORTED,
                      "%s: key width %u, value width %u and RoPE width %u differ; models where the "
                      "three are equal are supported",
                      r->f->path, m->head_dim, value_dim, rope_dim);
    return rc;
}

static int read_name(const struct gguf_reader *r, struct rt_model *m)
{
    struct gguf_text name;
    int rc = gguf_get_text(r, "general.name", 4096, &name);
    if (rc)
        return rc;
    const char *base = strrchr(r->f->path, '/');
    base = base ? base + 1 : r->f->path;
    if (!name.text || name.n == 0)
        name = (struct gguf_text){base, strlen(base)};
    size_t n = 0; /* cut between characters, and replace what is no UTF-8 */
    for (size_t i = 0, step; i < name.n && n + 4 < sizeof m->name; i += step ? step : 1) {
        step = ert_utf8_length(name.text + i, name.n - i);
        if (step == 0)
            m->name[n++] = '?';
        memcpy(m->name + n, name.text + i, step);
        n += step;
    }
    return 0;
}

static int read_hyperparameters(struct gguf_reader *r)
{
    struct rt_model *m = &r->src->model;
    const struct {
        const char *key;
        uint32_t *out;
    } sizes[] = {
        {"block_count", &m->n_layers},     {"embedding_length", &m->n_embd},
        {"feed_forward_length", &m->n_ff}, {"attention.head_count", &m->n_heads},
        {"context_length", &m->n_ctx},
    };
    uint32_t none = 0, window = 0;
    int rc = read_architecture(r);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && !rc; i++)
        rc = gguf_get_u32(r, gguf_own_key(r, sizes[i].key).text, NULL, sizes[i].out);
    if (rc)
        return rc;
    rc = gguf_get_u32(r, gguf_own_key(r, "attention.head_count_kv").text, &m->n_heads,
                      &m->n_kv_heads);
    if (!rc)
        rc = gguf_get_f32(r, gguf_own_key(r, "rope.freq_base").text, 10000.0f, &m->rope_theta);
    if (!rc)
        rc = gguf_get_f32(r, gguf_own_key(r, "attention.layer_norm_rms_epsilon").text, NAN,
                          &m->rms_eps);
    if (!rc)
        rc = gguf_get_u32(r, gguf_own_key(r, "attention.sliding_window").text, &none, &window);
    if (!rc)
        rc = read_head_width(r, m);
    if (!rc)
        rc = read_name(r, m);
    var_source_limit_context(r->src, window);
    snprintf(m->arch, sizeof m->arch, "%s", r->architecture->name);
    return rc;
}

/* ---- tensors ------------------------------------------------------------------------------- */

static int fail_type(const struct gguf_reader *r, const char *name, uint32_t type)
{
    char list[128];
    const char *known = var_type_name(type);
    var_type_list(list, sizeof list);
    return ert_fail(
        r->err, ERT_E_UNSUPPORTED,
        "%s: tensor '%s' is of type %s (%u); supported: %s: quantize or convert the model "
        "to one of these",
        r->f->path, name, known ? known : "unknown", type, list);
}

static int check_data(const struct gguf_reader *r, const char *name, const struct gguf_tensor *t,
                      const struct var_tensor *out)
{
    uint64_t bytes, start, end;
    if (out->cols % out->type->block != 0)
        return ert_fail(r->err, ERT_E_FORMAT,
                        "%s: tensor '%s': rows of %u weights of type %s, which must be a multiple "
                        "of its blocks of %u; the file is damaged, fetch it again",
                        r->f->path, name, out->cols, out->type->name, out->type->block);
    uint64_t blocks = (uint64_t)out->cols / out->type->block;
    if (__builtin_mul_overflow(blocks * out->type->bytes, (uint64_t)out->rows, &bytes) ||
        __builtin_add_overflow(r->f->data_offset, t->offset, &start) ||
        __builtin_add_overflow(start, bytes, &end) || end > r->f->size ||
        t->offset % r->f->alignment != 0)
        return ert_fail(r->err, ERT_E_FORMAT,
                        "%s: tensor '%s' at data offset %llu (aligned to %u) does not fit into the "
                        "file's %zu bytes; it is truncated or damaged, fetch it again",
                        r->f->path, name, (unsigned long long)t->offset, r->f->alignment,
                        r->f->size);
    return 0;
}

static bool has_tensor(void *ctx, const char *name)
{
    const struct gguf_reader *r = ctx;
    return gguf_find_tensor(r->f, name) != NULL;
}

static int take_tensor(void *ctx, const char *name, uint32_t rows, uint32_t cols,
                       struct var_tensor *out)
{
    const struct gguf_reader *r = ctx;
    struct gguf_tensor *t = gguf_find_tensor(r->f, name);
    if (!t)
        return ert_fail(
            r->err, ERT_E_MISSING,
            "%s: tensor '%s' is missing; the file is incomplete, convert the model again",
            r->f->path, name);
    if (t->dims[0] != cols || t->dims[1] != rows || t->dims[2] != 1 || t->dims[3] != 1)
        return ert_fail(
            r->err, ERT_E_FORMAT,
            "%s: tensor '%s' is %llu x %llu, the model's sizes ask for %u x %u; the file "
            "is damaged",
            r->f->path, name, (unsigned long long)t->dims[1], (unsigned long long)t->dims[0], rows,
            cols);
    const struct var_type *type = var_type_of(t->type);
    if (!type)
        return fail_type(r, name, t->type);
    t->used = true;
    *out = (struct var_tensor){out->name, type, NULL, rows, cols, 0};
    int rc = check_data(r, name, t, out);
    if (!rc)
        out->data = r->f->data + r->f->data_offset + t->offset;
    return rc;
}

/* Linear scaling is a key, whose type is "linear" unless it says otherwise (as in llama.cpp); Llama
 * 3's scaling is a table that the converter made. */
static int read_rope_scaling(struct gguf_reader *r)
{
    struct gguf_text type;
    struct gguf_key factor_key = gguf_own_key(r, "rope.scaling.factor");
    float factor = 1;
    int rc = gguf_get_text(r, gguf_own_key(r, "rope.scaling.type").text, 64, &type);
    if (!rc && type.text && !gguf_text_is(type, "none") && !gguf_text_is(type, "linear"))
        rc = ert_fail(r->err, ERT_E_UNSUPPORTED,
                      "%s: RoPE scaling '%.*s' is not supported; supported: none, linear, and "
                      "Llama 3's as a tensor rope_freqs.weight",
                      r->f->path, (int)type.n, type.text);
    if (!gguf_find(r->f, factor_key.text))
        factor_key = gguf_own_key(r, "rope.scale_linear");
    if (!rc)
        rc = gguf_get_f32(r, factor_key.text, 1, &factor);
    if (!rc && factor != 1 && factor != 0 && !(type.text && gguf_text_is(type, "none")))
        rc = var_rope_linear(r->src, (double)factor, r->err);
    struct var_tensor table = {.name = "rope_freqs.weight"};
    if (rc || !has_tensor(r, table.name))
        return rc;
    rc = take_tensor(r, table.name, 1, r->src->model.head_dim / 2, &table);
    return rc ? rc : var_rope_table(r->src, &table, r->err);
}

/* A tensor nobody took would silently change the model. */
static int check_all_used(const struct gguf_reader *r)
{
    for (uint64_t i = 0; i < r->f->n_tensors; i++)
        if (!r->f->tensors[i].used)
            return ert_fail(r->err, ERT_E_UNSUPPORTED,
                            "%s: tensor '%.*s' is not part of a plain %s model (adapters and other "
                            "additions are not supported)",
                            r->f->path,
                            (int)(r->f->tensors[i].name.n < 80 ? r->f->tensors[i].name.n : 80),
                            r->f->tensors[i].name.text, r->architecture->name);
    return 0;
}

static int take_tensors(struct gguf_reader *r)
{
    struct rt_model *m = &r->src->model;
    const struct var_tensors tensors = {r, has_tensor, take_tensor};
    /* Each layer needs its tensors' table entries, so n_layers is no more than the file holds. */
    if (m->n_layers > r->f->n_tensors)
        return ert_fail(r->err, ERT_E_FORMAT,
                        "%s: %u layers, but only %llu tensors: a vocabulary without weights, or "
                        "damaged; a whole model is needed",
                        r->f->path, m->n_layers, (unsigned long long)r->f->n_tensors);
    m->tied = !has_tensor(r, var_model_names[VAR_NAMES_GGUF].head);
    int rc = var_take_tensors(r->src, r->architecture, VAR_NAMES_GGUF, r->architecture->gguf_halves,
                              &tensors, r->err);
    if (!rc)
        rc = read_rope_scaling(r);
    return rc ? rc : check_all_used(r);
}

static int read_model(struct gguf_reader *r)
{
    struct rt_model *m = &r->src->model;
    int rc = read_hyperparameters(r);
    if (!rc)
        rc = gguf_read_vocab(r);
    if (rc)
        return rc;
    struct gguf_tensor *embed = gguf_find_tensor(r->f, var_model_names[VAR_NAMES_GGUF].embed);
    uint64_t rows = embed ? embed->dims[1] : r->src->vocab.n_tokens;
    m->n_vocab = rows < UINT32_MAX ? (uint32_t)rows : UINT32_MAX;
    rc = var_source_check_model(r->src, r->err);
    return rc ? rc : take_tensors(r);
}

int var_source_read_gguf(struct var_source *src, struct ert_error *err)
{
    struct gguf_file file;
    struct gguf_reader r = {.f = &file, .src = src, .err = err};
    int rc = gguf_open(&file, src->path, src->maps[0].data, src->maps[0].size, err);
    if (rc)
        return rc;
    rc = read_model(&r);
    if (!rc)
        var_source_describe_type(src);
    gguf_close(&file);
    return rc;
}
