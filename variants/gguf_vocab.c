/* The vocabulary of a GGUF file. */
#include "variants/gguf_model.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "variants/vocab.h"

enum { MAX_TEMPLATE = 1 << 20, MAX_MERGE_TEXT = 4096 };

static int find_array(const struct gguf_reader *r, const char *key, enum gguf_kind kind,
                      uint64_t count, const struct gguf_value **out)
{
    const struct gguf_value *v = gguf_find(r->f, key);
    *out = v;
    if (v && (!v->array || v->kind != kind || (count && v->count != count)))
        return gguf_fail_key(r, key, v, "an array of the expected type and length");
    return 0;
}

static int read_tokens(const struct gguf_reader *r)
{
    static const char key[] = "tokenizer.ggml.tokens";
    const struct gguf_value *v;
    int rc = find_array(r, key, GGUF_STRING, 0, &v);
    if (rc)
        return rc;
    if (!v || v->count == 0 || v->count > 1 << 24)
        return gguf_fail_key(r, key, v, "an array of 1 to 2^24 strings");
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

static int read_scores_and_types(const struct gguf_reader *r)
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

static int read_merge_list(const struct gguf_reader *r, const struct gguf_value *v,
                           const struct var_token_index *index)
{
    const uint8_t *cursor = v->data;
    for (uint64_t i = 0; i < v->count; i++) {
        struct gguf_text t = gguf_next_text(&cursor);
        const char *space = t.n > 1 ? memchr(t.text + 1, ' ', t.n - 1) : NULL;
        int64_t left = -1, right = -1;
        if (space && t.n < MAX_MERGE_TEXT) {
            size_t n = (size_t)(space - t.text);
            left = var_token_find(index, t.text, n);
            right = var_token_find(index, space + 1, t.n - n - 1);
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

static int read_merges(const struct gguf_reader *r)
{
    const struct gguf_value *v;
    int rc = find_array(r, "tokenizer.ggml.merges", GGUF_STRING, 0, &v);
    if (rc || !v || v->count == 0)
        return rc;
    if (v->count > 1 << 24)
        return gguf_fail_key(r, "tokenizer.ggml.merges", v, "an array of at most 2^24 strings");
    rc = var_vocab_reserve_merges(r->src, (uint32_t)v->count, r->err);
    if (rc)
        return rc;
    struct var_token_index index = var_token_index(&r->src->vocab);
    rc = index.ids ? read_merge_list(r, v, &index)
                   : ert_fail(r->err, ERT_E_NOMEM, "%s: no memory for %llu merges", r->f->path,
                              (unsigned long long)v->count);
    free(index.ids);
    return rc;
}

static int read_token_id(const struct gguf_reader *r, const char *key, int32_t *id)
{
    const struct gguf_value *v = gguf_find(r->f, key);
    uint64_t n;
    *id = -1;
    if (!v || (v->kind == GGUF_U32 && !v->array && memcmp(v->data, "\xff\xff\xff\xff", 4) == 0))
        return 0; /* converters write -1 for none */
    if (!gguf_value_u64(v, &n) || n >= r->src->vocab.n_tokens)
        return gguf_fail_key(r, key, v, "the id of a token");
    *id = (int32_t)n;
    return 0;
}

static int read_special(const struct gguf_reader *r)
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
        rc = gguf_get_bool(r, "tokenizer.ggml.add_bos_token", spm, &v->add_bos);
    if (!rc)
        rc = gguf_get_bool(r, "tokenizer.ggml.add_space_prefix", spm, &v->add_space_prefix);
    if (rc)
        return rc;
    var_vocab_add_eos(v, eos);
    var_vocab_add_eos(v, eot);
    var_vocab_add_known_ends(v);
    v->add_bos = v->add_bos && v->bos >= 0;
    return 0;
}

int gguf_read_vocab(const struct gguf_reader *r)
{
    struct rt_vocab *v = &r->src->vocab;
    struct gguf_text model, pre, chat;
    int rc = gguf_get_text(r, "tokenizer.ggml.model", sizeof v->model - 1, &model);
    if (!rc && !model.text)
        rc = gguf_fail_key(r, "tokenizer.ggml.model", NULL, "\"gpt2\" or \"llama\"");
    if (!rc)
        rc = gguf_get_text(r, "tokenizer.ggml.pre", sizeof v->pre - 1, &pre);
    if (!rc)
        rc = gguf_get_text(r, "tokenizer.chat_template", MAX_TEMPLATE, &chat);
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
    if (!rc && strcmp(v->model, "gpt2") == 0) /* SentencePiece's merge by score */
        rc = read_merges(r);
    return rc ? rc : read_special(r);
}
