/* tokenizer.json of a Hugging Face folder (github.com/huggingface/tokenizers): the vocabulary and
 * merges of byte-level BPE, and of SentencePiece's with byte fallback. */
#include "variants/hf_tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "variants/vocab.h"

enum { MAX_TOKENS = 1 << 22, SHOWN = 60 };

int hf_fail_tokenizer(const struct hf_reader *r, const char *what)
{
    return ert_fail(r->err, ERT_E_UNSUPPORTED,
                    "%s/" HF_TOKENIZER
                    ": %s; byte-level BPE as of GPT-2, SmolLM2, Llama 3 and Qwen, "
                    "and SentencePiece's BPE as of Llama 2 and Mistral are supported",
                    r->src->path, what);
}

static int fail_damaged(const struct hf_reader *r, const char *what, const char *token)
{
    return ert_fail(r->err, ERT_E_FORMAT,
                    "%s/" HF_TOKENIZER ": %s '%.*s'; the file is damaged, fetch it again",
                    r->src->path, what, SHOWN, token);
}

/* ---- the list of tokens -------------------------------------------------------------------- */

/* A token on its way: texts point into the JSON. */
struct entry {
    const char *text; /* NULL: no token has this id */
    uint8_t type;
};

struct list {
    struct entry *entries; /* [room] */
    size_t room, n;        /* n: the largest id + 1 */
};

/* Whether an id is one that the model can have. Tokens that were added beyond its embedding are of
 * no use to it, and are left out. */
static bool take_id(const struct hf_reader *r, const json_t *value, json_int_t *id)
{
    *id = json_integer_value(value);
    return json_is_integer(value) && *id >= 0 && *id < r->src->model.n_vocab;
}

static int put(const struct hf_reader *r, struct list *list, json_int_t id, const char *text,
               uint8_t type)
{
    struct entry *e = &list->entries[id];
    if (e->text && strcmp(e->text, text) != 0)
        return fail_damaged(r, "two tokens have one id:", text);
    *e = (struct entry){text, type};
    list->n = (size_t)id + 1 > list->n ? (size_t)id + 1 : list->n;
    return 0;
}

static bool names_a_byte(const char *text)
{
    return strlen(text) == 6 && memcmp(text, "<0x", 3) == 0 && text[5] == '>' &&
           strspn(text + 3, "0123456789ABCDEF") == 2;
}

static int list_vocab(const struct hf_reader *r, const json_t *vocab, bool byte_fallback,
                      struct list *list)
{
    const char *text;
    json_t *value;
    json_int_t id;
    int rc = 0;
    json_object_foreach((json_t *)(uintptr_t)vocab, text, value)
    {
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return fail_damaged(r, "no id for token", text);
        if (!take_id(r, value, &id))
            continue;
        bool byte = byte_fallback && names_a_byte(text);
        rc = put(r, list, id, text, byte ? RT_TOKEN_BYTE : RT_TOKEN_NORMAL);
        if (rc)
            break;
    }
    return rc;
}

/* Added tokens are found in text before it is cut: special ones are control tokens. */
static int list_added(const struct hf_reader *r, const json_t *added, struct list *list)
{
    static const char *const trims[] = {"lstrip", "rstrip", "single_word"};
    json_t *token;
    size_t i;
    int rc = 0;
    json_array_foreach((json_t *)(uintptr_t)added, i, token)
    {
        const char *text = json_string_value(json_object_get(token, "content"));
        const json_t *value = json_object_get(token, "id");
        json_int_t id;
        if (!text || !json_is_integer(value))
            return fail_damaged(r, "an added token without content and id:", text ? text : "");
        for (size_t t = 0; t < sizeof trims / sizeof trims[0]; t++)
            if (json_is_true(json_object_get(token, trims[t]))) {
                char what[128];
                snprintf(what, sizeof what, "the added token '%.*s' is %s", SHOWN, text, trims[t]);
                return hf_fail_tokenizer(r, what);
            }
        if (!take_id(r, value, &id))
            continue;
        bool special = json_is_true(json_object_get(token, "special"));
        list->entries[id].text = NULL; /* the vocabulary may have it as a plain token */
        rc = put(r, list, id, text, special ? RT_TOKEN_CONTROL : RT_TOKEN_USER);
        if (rc)
            break;
    }
    return rc;
}

static int store_tokens(const struct hf_reader *r, const struct list *list)
{
    struct var_vocab_store *s = &r->src->store;
    size_t bytes = 0, at = 0;
    for (size_t id = 0; id < list->n; id++)
        bytes += list->entries[id].text ? strlen(list->entries[id].text) : 0;
    int rc = var_vocab_reserve(r->src, (uint32_t)list->n, bytes, r->err);
    for (size_t id = 0; id < list->n && !rc; id++) {
        const struct entry *e = &list->entries[id];
        size_t n = e->text ? strlen(e->text) : 0;
        memcpy(s->text + at, e->text ? e->text : "", n);
        at += n;
        s->offset[id + 1] = (uint32_t)at;
        s->type[id] = e->text ? e->type : RT_TOKEN_UNUSED;
    }
    return rc;
}

static int read_tokens(const struct hf_reader *r, const json_t *tokenizer, bool byte_fallback)
{
    const json_t *vocab = json_object_get(json_object_get(tokenizer, "model"), "vocab");
    if (!json_is_object(vocab) || json_object_size(vocab) == 0 ||
        json_object_size(vocab) > MAX_TOKENS)
        return fail_damaged(r, "no list of tokens in", "model.vocab");
    struct list list = {.room = r->src->model.n_vocab};
    list.entries = calloc(list.room, sizeof *list.entries);
    if (!list.entries)
        return ert_fail(r->err, ERT_E_NOMEM, "%s: no memory for %zu tokens", r->src->path,
                        list.room);
    int rc = list_vocab(r, vocab, byte_fallback, &list);
    if (!rc)
        rc = list_added(r, json_object_get(tokenizer, "added_tokens"), &list);
    if (!rc)
        rc = store_tokens(r, &list);
    free(list.entries);
    return rc;
}

/* ---- merges -------------------------------------------------------------------------------- */

/* The two texts of a merge: "a b", or ["a", "b"] since tokenizers 0.20. Lengths of both; false for
 * anything else. */
static bool cut_merge(const json_t *merge, const char *text[2], size_t n[2])
{
    if (json_is_array(merge) && json_array_size(merge) == 2) {
        for (size_t i = 0; i < 2; i++) {
            text[i] = json_string_value(json_array_get(merge, i));
            n[i] = text[i] ? strlen(text[i]) : 0;
        }
        return text[0] && text[1];
    }
    text[0] = json_string_value(merge);
    const char *space = text[0] ? strchr(text[0], ' ') : NULL;
    if (!space || strchr(space + 1, ' '))
        return false;
    text[1] = space + 1;
    n[0] = (size_t)(space - text[0]);
    n[1] = strlen(text[1]);
    return true;
}

static int list_merges(const struct hf_reader *r, const json_t *merges,
                       const struct var_token_index *index)
{
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const char *text[2];
        size_t n[2];
        bool whole = cut_merge(json_array_get(merges, i), text, n);
        for (size_t side = 0; side < 2; side++) {
            int64_t id = whole ? var_token_find(index, text[side], n[side]) : -1;
            char what[64];
            snprintf(what, sizeof what, "merge %zu does not join two tokens:", i);
            if (id < 0)
                return fail_damaged(r, what, whole ? text[0] : "");
            r->src->store.merge[i][side] = (uint32_t)id;
        }
    }
    return 0;
}

static int read_merges(const struct hf_reader *r, const json_t *merges)
{
    if (!json_is_array(merges) || json_array_size(merges) > MAX_TOKENS)
        return fail_damaged(r, "no list of merges in", "model.merges");
    int rc = var_vocab_reserve_merges(r->src, (uint32_t)json_array_size(merges), r->err);
    if (rc)
        return rc;
    struct var_token_index index = var_token_index(&r->src->vocab);
    rc = index.ids ? list_merges(r, merges, &index)
                   : ert_fail(r->err, ERT_E_NOMEM, "%s: no memory for %zu merges", r->src->path,
                              json_array_size(merges));
    free(index.ids);
    return rc;
}

/* ---- all of it ----------------------------------------------------------------------------- */

/* What a BPE model may be besides plain, and is not supported. */
static int check_model(const struct hf_reader *r, const json_t *model)
{
    const char *type = json_string_value(json_object_get(model, "type"));
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    char what[100];
    if (!json_is_object(model) || (type && strcmp(type, "BPE") != 0)) {
        snprintf(what, sizeof what, "the tokenizer's model is %.40s", type ? type : "missing");
        return hf_fail_tokenizer(r, what);
    }
    for (size_t i = 0; i < sizeof affixes / sizeof affixes[0]; i++) {
        const char *affix = json_string_value(json_object_get(model, affixes[i]));
        if (affix && *affix) {
            snprintf(what, sizeof what, "the tokenizer has a %s", affixes[i]);
            return hf_fail_tokenizer(r, what);
        }
    }
    return 0;
}

/* A byte that no token stands for would be lost. */
static int check_bytes(const struct hf_reader *r)
{
    const struct rt_vocab *v = &r->src->vocab;
    size_t n = 0;
    for (uint32_t id = 0; id < v->n_tokens; id++)
        n += v->type[id] == RT_TOKEN_BYTE;
    return n == 256 ? 0 : hf_fail_tokenizer(r, "there is no token <0x00> to <0xFF> for every byte");
}

static int read_tokenizer(const struct hf_reader *r, const json_t *tokenizer)
{
    const json_t *model = json_object_get(tokenizer, "model");
    bool byte_fallback = json_is_true(json_object_get(model, "byte_fallback"));
    struct rt_vocab *v = &r->src->vocab;
    int rc = check_model(r, model);
    snprintf(v->model, sizeof v->model, "%s", byte_fallback ? "llama" : "gpt2");
    if (!rc)
        rc = read_tokens(r, tokenizer, byte_fallback);
    if (!rc && byte_fallback)
        rc = check_bytes(r);
    if (!rc)
        rc = read_merges(r, json_object_get(model, "merges"));
    if (!rc)
        rc = hf_read_splitting(r, tokenizer);
    return rc ? rc : hf_read_special(r, tokenizer);
}

int hf_read_tokenizer(struct hf_reader *r)
{
    json_t *tokenizer;
    int rc = hf_read_json(r, HF_TOKENIZER, false, &tokenizer);
    if (!rc && !tokenizer)
        rc = ert_fail(r->err, ERT_E_MISSING,
                      "%s: there is no " HF_TOKENIZER "; load and save the tokenizer with "
                      "transformers (AutoTokenizer), which writes it",
                      r->src->path);
    if (!rc)
        rc = read_tokenizer(r, tokenizer);
    json_decref(tokenizer);
    return rc;
}
