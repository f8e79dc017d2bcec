/* What a GGUF file's keys and tensors mean: the llama architecture and the vocabulary. */
#include "variants/source.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "variants/gguf.h"

enum { MAX_TEMPLATE = 1 << 20, MAX_MERGE_TEXT = 4096 };

/* What the functions here pass along. */
struct model_reader {
    struct gguf_file *f;
    struct var_source *src;
    struct ert_error *err;
};

static int fail_key(const struct model_reader *r, const char *key, const struct gguf_value *v,
                    const char *expected)
{
    if (!v)
        return ert_fail(
            r->err, ERT_E_MISSING,
            "%s: key '%s' is missing (%s was expected); the file is incomplete, convert "
            "the model again",
            r->f->path, key, expected);
    return ert_fail(r->err, ERT_E_FORMAT,
                    "%s: offset %llu: key '%s' is not %s; the file is damaged or from a newer "
                    "converter",
                    r->f->path, (unsigned long long)v->offset, key, expected);
}

static bool value_u64(const struct gguf_value *v, uint64_t *out)
{
    static const struct {
        uint8_t bytes;
        bool is_signed;
    } ints[GGUF_N_KINDS] = {
        [GGUF_U8] = {1, false},  [GGUF_I8] = {1, true},   [GGUF_U16] = {2, false},
        [GGUF_I16] = {2, true},  [GGUF_U32] = {4, false}, [GGUF_I32] = {4, true},
        [GGUF_U64] = {8, false}, [GGUF_I64] = {8, true},  [GGUF_BOOL] = {1, false},
    };
    unsigned bytes = ints[v->kind].bytes;
    if (v->array || bytes == 0)
        return false;
    *out = 0;
    memcpy(out, v->data, bytes);
    return !(ints[v->kind].is_signed && *out >> (8 * bytes - 1)); /* no negative sizes */
}

/* A number of at most 32 bits; NULL fallback: the key must be there. */
static int get_u32(const struct model_reader *r, const char *key, const uint32_t *fallback,
                   uint32_t *out)
{
    const struct gguf_value *v = gguf_find(r->f, key);
    uint64_t n;
    if (!v && fallback) {
        *out = *fallback;
        return 0;
    }
    if (!v || !value_u64(v, &n) || n > UINT32_MAX)
        return fail_key(r, key, v, "a whole number below 2^32");
    *out = (uint32_t)n;
    return 0;
}

static int get_f32(const struct model_reader *r, const char *key, float fallback, float *out)
{
    const struct gguf_value *v = gguf_find(r->f, key);
    *out = fallback;
    if (!v && !isnan(fallback))
        return 0;
    if (!v || v->array || v->kind != GGUF_F32)
        return fail_key(r, key, v, "a 32-bit float");
    memcpy(out, v->data, sizeof *out);
    return 0;
}

static int get_bool(const struct model_reader *r, const char *key, bool fallback, bool *out)
{
    const struct gguf_value *v = gguf_find(r->f, key);
    *out = fallback;
    if (!v)
        return 0;
    if (v->array || v->kind != GGUF_BOOL)
        return fail_key(r, key, v, "true or false");
    *out = v->data[0] != 0;
    return 0;
}

/* A string, or {NULL, 0} where the key is missing. */
static int get_text(const struct model_reader *r, const char *key, size_t max,
                    struct gguf_text *out)
{
    const struct gguf_value *v = gguf_find(r->f, key);
    *out = (struct gguf_text){0};
    if (!v)
        return 0;
    if (v->array || v->kind != GGUF_STRING)
        return fail_key(r, key, v, "a string");
    const uint8_t *cursor = v->data;
    *out = gguf_next_text(&cursor);
    if (out->n > max || memchr(out->text, 0, out->n))
        return fail_key(r, key, v, "a string of sane length");
    return 0;
}

static bool text_is(struct gguf_text t, const char *word)
{
    return t.n == strlen(word) && memcmp(t.text, word, t.n) == 0;
}

/* ---- hyperparameters ----------------------------------------------------------------------- */

static int check_architecture(const struct model_reader *r)
{
    struct gguf_text arch, scaling;
    int rc = get_text(r, "general.architecture", 64, &arch);
    if (rc)
        return rc;
    if (!arch.text)
        return fail_key(r, "general.architecture", NULL, "\"llama\"");
    if (!text_is(arch, "llama"))
        return ert_fail(r->err, ERT_E_UNSUPPORTED,
                        "%s: architecture '%.*s' is not supported yet; supported: llama",
                        r->f->path, (int)arch.n, arch.text);
    uint32_t none = 0, experts = 0;
    rc = get_u32(r, "llama.expert_count", &none, &experts);
    if (!rc && experts > 0)
        rc = ert_fail(r->err, ERT_E_UNSUPPORTED,
                      "%s: a mixture of %u experts is not supported; use a dense llama model",
                      r->f->path, experts);
    if (!rc)
        rc = get_text(r, "llama.rope.scaling.type", 64, &scaling);
    if (!rc && scaling.text && !text_is(scaling, "none"))
        rc = ert_fail(r->err, ERT_E_UNSUPPORTED,
                      "%s: RoPE scaling '%.*s' is not supported yet; supported: none", r->f->path,
                      (int)scaling.n, scaling.text);
    return rc;
}

/* Without a width of its own, a head is the embedding's share. */
static int read_head_width(const struct model_reader *r, struct rt_model *m)
{
    uint32_t shared = m->n_heads ? m->n_embd / m->n_heads : 0, value_dim = 0, rope_dim = 0;
    bool own = gguf_find(r->f, "llama.attention.key_length") != NULL;
    if (!own && (m->n_heads == 0 || m->n_embd % m->n_heads != 0))
        return ert_fail(
            r->err, ERT_E_FORMAT,
            "%s: width %u is not a multiple of %u heads and llama.attention.key_length is "
            "missing; the file is damaged",
            r->f->path, m->n_embd, m->n_heads);
    int rc = get_u32(r, "llama.attention.key_length", &shared, &m->head_dim);
    if (!rc)
        rc = get_u32(r, "llama.attention.value_length", &m->head_dim, &value_dim);
    if (!rc)
        rc = get_u32(r, "llama.rope.dimension_count", &m->head_dim, &rope_dim);
    if (!rc && (value_dim != m->head_dim || rope_dim != m->head_dim))
        rc = ert_fail(r->err, ERT_E_UNSUPPORTED,
                      "%s: key width %u, value width %u and RoPE width %u differ; models where the "
                      "three are equal are supported",
                      r->f->path, m->head_dim, value_dim, rope_dim);
    return rc;
}

static int read_name(const struct model_reader *r, struct rt_model *m)
{
    struct gguf_text name;
    int rc = get_text(r, "general.name", 4096, &name);
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

static int read_hyperparameters(const struct model_reader *r)
{
    struct rt_model *m = &r->src->model;
    const struct {
        const char *key;
        uint32_t *out;
    } sizes[] = {
        {"llama.block_count", &m->n_layers},     {"llama.embedding_length", &m->n_embd},
        {"llama.feed_forward_length", &m->n_ff}, {"llama.attention.head_count", &m->n_heads},
        {"llama.context_length", &m->n_ctx},
    };
    int rc = check_architecture(r);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && !rc; i++)
        rc = get_u32(r, sizes[i].key, NULL, sizes[i].out);
    if (!rc)
        rc = get_u32(r, "llama.attention.head_count_kv", &m->n_heads, &m->n_kv_heads);
    if (!rc)
        rc = get_f32(r, "llama.rope.freq_base", 10000.0f, &m->rope_theta);
    if (!rc)
        rc = get_f32(r, "llama.attention.layer_norm_rms_epsilon", NAN, &m->rms_eps);
    if (!rc)
        rc = read_head_width(r, m);
    if (!rc)
        rc = read_name(r, m);
    snprintf(m->arch, sizeof m->arch, "llama");
    return rc;
}

/* ---- vocabulary ---------------------------------------------------------------------------- */

static int find_array(const struct model_reader *r, const char *key, enum gguf_kind kind,
                      uint64_t count, const struct gguf_value **out)
{
    const struct gguf_value *v = gguf_find(r->f, key);
    *out = v;
    if (v && (!v->array || v->kind != kind || (count && v->count != count)))
        return fail_key(r, key, v, "an array of the expected type and length");
    return 0;
}

static int read_tokens(const struct model_reader *r)
{
    static const char key[] = "tokenizer.ggml.tokens";
    const struct gguf_value *v;
    int rc = find_array(r, key, GGUF_STRING, 0, &v);
    if (rc)
        return rc;
    if (!v || v->count == 0 || v->count > 1 << 24)
        return fail_key(r, key, v, "an array of 1 to 2^24 strings");
    size_t bytes = 0;
    const uint8_t *cursor = v->data;
    for (uint64_t i = 0; i < v->count; i++)
        bytes += gguf_next_text(&cursor).n;
    rc = var_vocab_reserve(r->src, (uint32_t)v->count, bytes, r->err);
    if (rc)
        return rc;
    struct var_vocab_store *s = &r->src->store;
    cursor = v->data;
    for (uint64_t i = 0, at = 0; i < v->count; i++) {
        struct gguf_text t = gguf_next_text(&cursor);
        memcpy(s->text + at, t.text, t.n);
        at += t.n;
        s->offset[i + 1] = (uint32_t)at;
    }
    return 0;
}

static int read_scores_and_types(const struct model_reader *r)
{
    uint32_t n = r->src->vocab.n_tokens;
    const struct gguf_value *scores, *types;
    int rc = find_array(r, "tokenizer.ggml.scores", GGUF_F32, n, &scores);
    if (!rc)
        rc = find_array(r, "tokenizer.ggml.token_type", GGUF_I32, n, &types);
    if (rc)
        return rc;
    if (scores)
        memcpy(r->src->store.score, scores->data, n * sizeof(float));
    for (uint32_t i = 0; i < n; i++) {
        int32_t type = RT_TOKEN_NORMAL;
        if (types)
            memcpy(&type, types->data + 4 * (size_t)i, sizeof type);
        if (type < RT_TOKEN_NORMAL || type > RT_TOKEN_BYTE || !isfinite(r->src->store.score[i]))
            return ert_fail(
                r->err, ERT_E_FORMAT,
                "%s: token %u has type %d (1 to 6 expected) or a score that is no number; "
                "the file is damaged",
                r->f->path, i, type);
        r->src->store.type[i] = (uint8_t)type;
    }
    return 0;
}

/* Token ids sorted by text, to look up the parts of merges. */
struct token_index {
    const struct rt_vocab *vocab;
    uint32_t *ids;
};

static struct gguf_text token_text(const struct rt_vocab *v, uint32_t id)
{
    return (struct gguf_text){v->text + v->offset[id], v->offset[id + 1] - v->offset[id]};
}

static int compare_tokens(const void *a, const void *b, void *vocab)
{
    struct gguf_text x = token_text(vocab, *(const uint32_t *)a);
    struct gguf_text y = token_text(vocab, *(const uint32_t *)b);
    int order = memcmp(x.text, y.text, x.n < y.n ? x.n : y.n);
    return order ? order : (x.n > y.n) - (x.n < y.n);
}

static int64_t find_token(const struct token_index *index, const char *text, size_t n)
{
    uint32_t low = 0, high = index->vocab->n_tokens;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        struct gguf_text t = token_text(index->vocab, index->ids[middle]);
        int order = memcmp(t.text, text, t.n < n ? t.n : n);
        if (order == 0)
            order = (t.n > n) - (t.n < n);
        if (order == 0)
            return index->ids[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

static int read_merge_list(const struct model_reader *r, const struct gguf_value *v,
                           const struct token_index *index)
{
    const uint8_t *cursor = v->data;
    for (uint64_t i = 0; i < v->count; i++) {
        struct gguf_text t = gguf_next_text(&cursor);
        const char *space = t.n > 1 ? memchr(t.text + 1, ' ', t.n - 1) : NULL;
        int64_t left = -1, right = -1;
        if (space && t.n < MAX_MERGE_TEXT) {
            size_t n = (size_t)(space - t.text);
            left = find_token(index, t.text, n);
            right = find_token(index, space + 1, t.n - n - 1);
        }
        if (left < 0 || right < 0)
            return ert_fail(r->err, ERT_E_FORMAT,
                            "%s: offset %llu: merge %llu '%.*s' does not join two tokens; the "
                            "vocabulary is damaged",
                            r->f->path, (unsigned long long)v->offset, (unsigned long long)i,
                            (int)(t.n < 60 ? t.n : 60), t.text);
        r->src->store.merge[i][0] = (uint32_t)left;
        r->src->store.merge[i][1] = (uint32_t)right;
    }
    return 0;
}

static int read_merges(const struct model_reader *r)
{
    const struct gguf_value *v;
    struct rt_vocab *vocab = &r->src->vocab;
    int rc = find_array(r, "tokenizer.ggml.merges", GGUF_STRING, 0, &v);
    if (rc || !v || v->count == 0)
        return rc;
    if (v->count > 1 << 24)
        return fail_key(r, "tokenizer.ggml.merges", v, "an array of at most 2^24 strings");
    struct token_index index = {vocab, malloc(vocab->n_tokens * sizeof *index.ids)};
    r->src->store.merge = malloc(v->count * sizeof *r->src->store.merge);
    if (index.ids && r->src->store.merge) {
        for (uint32_t i = 0; i < vocab->n_tokens; i++)
            index.ids[i] = i;
        qsort_r(index.ids, vocab->n_tokens, sizeof *index.ids, compare_tokens, vocab);
        rc = read_merge_list(r, v, &index);
        vocab->n_merges = (uint32_t)v->count;
        vocab->merge = (const uint32_t(*)[2])r->src->store.merge;
    } else {
        rc = ert_fail(r->err, ERT_E_NOMEM, "%s: no memory for %llu merges", r->f->path,
                      (unsigned long long)v->count);
    }
    free(index.ids);
    return rc;
}

static int read_token_id(const struct model_reader *r, const char *key, int32_t *id)
{
    const struct gguf_value *v = gguf_find(r->f, key);
    uint64_t n;
    *id = -1;
    if (!v || (v->kind == GGUF_U32 && !v->array && memcmp(v->data, "\xff\xff\xff\xff", 4) == 0))
        return 0; /* converters write -1 for none */
    if (!value_u64(v, &n) || n >= r->src->vocab.n_tokens)
        return fail_key(r, key, v, "the id of a token");
    *id = (int32_t)n;
    return 0;
}

static void add_eos(struct rt_vocab *v, int32_t id)
{
    for (uint32_t i = 0; i < v->n_eos; i++)
        if (v->eos[i] == id)
            return;
    if (id >= 0 && v->n_eos < sizeof v->eos / sizeof v->eos[0])
        v->eos[v->n_eos++] = id;
}

/* Chat models end an answer with a control token that often is not the file's eos_token_id. */
static void add_known_ends(struct rt_vocab *v)
{
    static const char *const ends[] = {"<|im_end|>",    "<|eot_id|>",    "<|end|>",
                                       "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>"};
    for (uint32_t id = 0; id < v->n_tokens; id++)
        for (size_t e = 0; e < sizeof ends / sizeof ends[0]; e++)
            if (v->type[id] == RT_TOKEN_CONTROL && text_is(token_text(v, id), ends[e]))
                add_eos(v, (int32_t)id);
}

static int read_special(const struct model_reader *r)
{
    struct rt_vocab *v = &r->src->vocab;
    bool spm = strcmp(v->model, "llama") == 0;
    int32_t eos = -1, eot = -1;
    int rc = read_token_id(r, "tokenizer.ggml.bos_token_id", &v->bos);
    if (!rc)
        rc = read_token_id(r, "tokenizer.ggml.unknown_token_id", &v->unk);
    if (!rc)
        rc = read_token_id(r, "tokenizer.ggml.eos_token_id", &eos);
    if (!rc)
        rc = read_token_id(r, "tokenizer.ggml.eot_token_id", &eot);
    if (!rc)
        rc = get_bool(r, "tokenizer.ggml.add_bos_token", spm, &v->add_bos);
    if (!rc)
        rc = get_bool(r, "tokenizer.ggml.add_space_prefix", spm, &v->add_space_prefix);
    if (rc)
        return rc;
    add_eos(v, eos);
    add_eos(v, eot);
    add_known_ends(v);
    v->add_bos = v->add_bos && v->bos >= 0;
    return 0;
}

static int read_vocab(const struct model_reader *r)
{
    struct rt_vocab *v = &r->src->vocab;
    struct gguf_text model, pre, chat;
    int rc = get_text(r, "tokenizer.ggml.model", sizeof v->model - 1, &model);
    if (!rc && !model.text)
        rc = fail_key(r, "tokenizer.ggml.model", NULL, "\"gpt2\" or \"llama\"");
    if (!rc)
        rc = get_text(r, "tokenizer.ggml.pre", sizeof v->pre - 1, &pre);
    if (!rc)
        rc = get_text(r, "tokenizer.chat_template", MAX_TEMPLATE, &chat);
    if (rc)
        return rc;
    snprintf(v->model, sizeof v->model, "%.*s", (int)model.n, model.text);
    snprintf(v->pre, sizeof v->pre, "%.*s", (int)pre.n, pre.text ? pre.text : "");
    r->src->chat_template = strndup(chat.text ? chat.text : "", chat.n);
    if (!r->src->chat_template)
        return ert_fail(r->err, ERT_E_NOMEM, "%s: no memory", r->f->path);
    rc = read_tokens(r);
    if (!rc)
        rc = read_scores_and_types(r);
    if (!rc)
        rc = read_merges(r);
    return rc ? rc : read_special(r);
}

/* ---- tensors ------------------------------------------------------------------------------- */

static const char *const part_names[VAR_N_PARTS] = {
    [VAR_NORM_ATTN] = "attn_norm",
    [VAR_NORM_MLP] = "ffn_norm",
    [VAR_Q] = "attn_q",
    [VAR_K] = "attn_k",
    [VAR_V] = "attn_v",
    [VAR_O] = "attn_output",
    [VAR_GATE] = "ffn_gate",
    [VAR_UP] = "ffn_up",
    [VAR_DOWN] = "ffn_down",
};

enum { MAX_TENSOR_NAME = 40 };

static int fail_type(const struct model_reader *r, const char *name, uint32_t type)
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

static int check_data(const struct model_reader *r, const char *name, const struct gguf_tensor *t,
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

/* Takes tensor `name`, which must be rows x cols. out->name is copied into the source's storage. */
static int take_tensor(const struct model_reader *r, const char *name, uint32_t rows, uint32_t cols,
                       struct var_tensor *out)
{
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
    *out = (struct var_tensor){out->name, type, NULL, rows, cols};
    int rc = check_data(r, name, t, out);
    if (!rc)
        out->data = r->f->data + r->f->data_offset + t->offset;
    return rc;
}

static int take_layer(const struct model_reader *r, uint32_t l, char *names)
{
    const struct rt_model *m = &r->src->model;
    uint32_t q = m->n_heads * m->head_dim, kv = m->n_kv_heads * m->head_dim;
    const uint32_t shapes[VAR_N_PARTS][2] = {
        [VAR_NORM_ATTN] = {1, m->n_embd},  [VAR_NORM_MLP] = {1, m->n_embd},
        [VAR_Q] = {q, m->n_embd},          [VAR_K] = {kv, m->n_embd},
        [VAR_V] = {kv, m->n_embd},         [VAR_O] = {m->n_embd, q},
        [VAR_GATE] = {m->n_ff, m->n_embd}, [VAR_UP] = {m->n_ff, m->n_embd},
        [VAR_DOWN] = {m->n_embd, m->n_ff},
    };
    int rc = 0;
    for (int p = 0; p < VAR_N_PARTS && !rc; p++) {
        struct var_tensor *t = &r->src->layers[l].part[p];
        char *name = names + (size_t)p * MAX_TENSOR_NAME;
        snprintf(name, MAX_TENSOR_NAME, "blk.%u.%s.weight", l, part_names[p]);
        t->name = name;
        rc = take_tensor(r, name, shapes[p][0], shapes[p][1], t);
    }
    return rc;
}

/* A tensor nobody took would silently change the model. */
static int check_all_used(const struct model_reader *r)
{
    for (uint64_t i = 0; i < r->f->n_tensors; i++)
        if (!r->f->tensors[i].used)
            return ert_fail(r->err, ERT_E_UNSUPPORTED,
                            "%s: tensor '%.*s' is not part of a plain llama model (biases, RoPE "
                            "factors and adapters are not supported yet)",
                            r->f->path,
                            (int)(r->f->tensors[i].name.n < 80 ? r->f->tensors[i].name.n : 80),
                            r->f->tensors[i].name.text);
    return 0;
}

static int take_tensors(const struct model_reader *r)
{
    struct var_source *src = r->src;
    struct rt_model *m = &src->model;
    /* Each layer needs its tensors' table entries, so n_layers is no more than the file holds. */
    if (m->n_layers > r->f->n_tensors)
        return ert_fail(r->err, ERT_E_FORMAT,
                        "%s: %u layers, but only %llu tensors: a vocabulary without weights, or "
                        "damaged; a whole model is needed",
                        r->f->path, m->n_layers, (unsigned long long)r->f->n_tensors);
    src->layers = calloc(m->n_layers, sizeof *src->layers);
    src->names = calloc((size_t)m->n_layers * VAR_N_PARTS, MAX_TENSOR_NAME);
    if (!src->layers || !src->names)
        return ert_fail(r->err, ERT_E_NOMEM, "%s: no memory for %u layers", r->f->path,
                        m->n_layers);
    src->embed.name = "token_embd.weight";
    src->norm_final.name = "output_norm.weight";
    int rc = take_tensor(r, src->embed.name, m->n_vocab, m->n_embd, &src->embed);
    if (!rc)
        rc = take_tensor(r, src->norm_final.name, 1, m->n_embd, &src->norm_final);
    m->tied = gguf_find_tensor(r->f, "output.weight") == NULL;
    src->head = src->embed;
    src->head.name = m->tied ? src->embed.name : "output.weight";
    if (!rc && !m->tied)
        rc = take_tensor(r, src->head.name, m->n_vocab, m->n_embd, &src->head);
    for (uint32_t l = 0; l < m->n_layers && !rc; l++)
        rc = take_layer(r, l, src->names + (size_t)l * VAR_N_PARTS * MAX_TENSOR_NAME);
    return rc ? rc : check_all_used(r);
}

/* The type of most weights speaks for the file. No single tensor could: a mix like Q4_K_M keeps V
 * and down of every few layers at more bits. */
static void describe_type(struct var_source *src)
{
    uint64_t weights[VAR_TYPE_NUMBERS] = {0};
    const struct var_type *most = NULL;
    for (uint32_t l = 0; l < src->model.n_layers; l++)
        for (int p = 0; p < VAR_N_PARTS; p++) {
            const struct var_tensor *t = &src->layers[l].part[p];
            if (!t->type)
                return;
            weights[t->type->id] += (uint64_t)t->rows * t->cols;
            most = !most || weights[t->type->id] > weights[most->id] ? t->type : most;
        }
    if (!most)
        return;
    snprintf(src->type, sizeof src->type, "%s", most->name);
    src->grid = most->grid;
}

static int read_model(const struct model_reader *r)
{
    struct rt_model *m = &r->src->model;
    int rc = read_hyperparameters(r);
    if (!rc)
        rc = read_vocab(r);
    if (rc)
        return rc;
    struct gguf_tensor *embed = gguf_find_tensor(r->f, "token_embd.weight");
    uint64_t rows = embed ? embed->dims[1] : r->src->vocab.n_tokens;
    m->n_vocab = rows < UINT32_MAX ? (uint32_t)rows : UINT32_MAX;
    rc = var_source_check_model(r->src, r->err);
    return rc ? rc : take_tensors(r);
}

int var_source_read_gguf(struct var_source *src, struct ert_error *err)
{
    struct gguf_file file;
    struct model_reader r = {&file, src, err};
    int rc = gguf_open(&file, src->path, src->map.data, src->map.size, err);
    if (rc)
        return rc;
    rc = read_model(&r);
    if (!rc)
        describe_type(src);
    gguf_close(&file);
    return rc;
}
