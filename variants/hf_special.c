/* Special tokens and the chat template, from all the files of a Hugging Face folder that name them.
 */
#include "variants/hf_tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "variants/vocab.h"

#define TOKENIZER_CONFIG "tokenizer_config.json"
#define TEMPLATE         "chat_template.jinja"

enum { MAX_TEMPLATE = 1 << 20 };

/* The id of a special token given as "text" or {"content": "text"}; -1 if there is none such. */
static int64_t id_of_token(const struct var_token_index *index, const json_t *value)
{
    const json_t *content = json_object_get(value, "content");
    const char *text = json_string_value(content ? content : value);
    return text ? var_token_find(index, text, strlen(text)) : -1;
}

/* The id of a token by number; null and nothing are -1. */
static int take_id(const struct hf_reader *r, const json_t *value, const char *file,
                   const char *key, int64_t *id)
{
    *id = -1;
    if (!value || json_is_null(value))
        return 0;
    if (!json_is_integer(value) || json_integer_value(value) < -1 ||
        json_integer_value(value) >= (json_int_t)r->src->vocab.n_tokens)
        return ert_fail(r->err, ERT_E_FORMAT,
                        "%s/%s: \"%s\" is no token of the vocabulary of %u; the files belong to "
                        "different models, fetch them again",
                        r->src->path, file, key, r->src->vocab.n_tokens);
    *id = json_integer_value(value);
    return 0;
}

/* eos_token_id: one id or a list. */
static int add_ends(const struct hf_reader *r, const json_t *object, const char *file)
{
    static const char key[] = "eos_token_id";
    const json_t *value = json_object_get(object, key);
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        int64_t id;
        rc = take_id(r, json_is_array(value) ? json_array_get(value, i) : value, file, key, &id);
        if (!rc)
            var_vocab_add_eos(&r->src->vocab, id);
    }
    return rc;
}

/* Whether the post-processor of tokenizer.json begins a text with this token. */
static bool begins_with(const json_t *processor, const struct var_token_index *index, int32_t bos)
{
    const json_t *list = json_object_get(processor, "processors");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (begins_with(json_array_get(list, i), index, bos))
            return true;
    const json_t *first = json_array_get(json_object_get(processor, "single"), 0);
    const json_t *token = json_object_get(json_object_get(first, "SpecialToken"), "id");
    return bos >= 0 && token && id_of_token(index, token) == bos;
}

static int read_ids(const struct hf_reader *r, const json_t *tokenizer, const json_t *config,
                    const struct var_token_index *index)
{
    struct rt_vocab *v = &r->src->vocab;
    const json_t *add = json_object_get(config, "add_bos_token");
    int64_t bos = id_of_token(index, json_object_get(config, "bos_token"));
    int rc = 0;
    if (bos < 0)
        rc = take_id(r, json_object_get(r->config, "bos_token_id"), "config.json", "bos_token_id",
                     &bos);
    v->bos = (int32_t)bos;
    v->unk = (int32_t)id_of_token(
        index, json_object_get(json_object_get(tokenizer, "model"), "unk_token"));
    var_vocab_add_eos(v, id_of_token(index, json_object_get(config, "eos_token")));
    if (!rc)
        rc = add_ends(r, r->config, "config.json");
    if (!rc)
        rc = add_ends(r, r->generation, "generation_config.json");
    var_vocab_add_known_ends(v);
    v->add_bos = json_is_boolean(add)
                     ? json_is_true(add) && v->bos >= 0
                     : begins_with(json_object_get(tokenizer, "post_processor"), index, v->bos);
    return rc;
}

/* ---- chat template ------------------------------------------------------------------------- */

/* A text, or a list of named ones, of which the default is taken. */
static const char *template_of(const json_t *config)
{
    const json_t *value = json_object_get(config, "chat_template");
    for (size_t i = 0; i < json_array_size(value); i++) {
        const json_t *entry = json_array_get(value, i);
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (name && strcmp(name, "default") == 0)
            return json_string_value(json_object_get(entry, "template"));
    }
    return json_string_value(value);
}

/* The file of its own, where there is one, as transformers does. */
static int read_template(const struct hf_reader *r, const json_t *config)
{
    char *path = hf_path(r, TEMPLATE);
    struct ert_map map = {.fd = -1};
    const char *text = template_of(config);
    size_t n = text ? strlen(text) : 0;
    bool is_text = true;
    int rc = 0;
    if (!path)
        return ert_fail(r->err, ERT_E_NOMEM, "%s: no memory to read the model", r->src->path);
    if (hf_has_file(path)) {
        rc = ert_map_open(&map, path, r->err);
        text = (const char *)map.data;
        n = map.size;
        is_text = n == 0 || !memchr(map.data, 0, n);
    }
    if (!rc && (n > MAX_TEMPLATE || !is_text))
        rc = ert_fail(r->err, ERT_E_FORMAT,
                      "%s: the chat template has %zu bytes or is no text; at most %d are read",
                      r->src->path, n, MAX_TEMPLATE);
    if (!rc)
        r->src->chat_template = strndup(text ? text : "", n);
    if (!rc && !r->src->chat_template)
        rc = ert_fail(r->err, ERT_E_NOMEM, "%s: no memory for the chat template", r->src->path);
    ert_map_close(&map);
    free(path);
    return rc;
}

int hf_read_special(const struct hf_reader *r, const json_t *tokenizer)
{
    json_t *config;
    int rc = hf_read_json(r, TOKENIZER_CONFIG, false, &config);
    if (rc)
        return rc;
    struct var_token_index index = var_token_index(&r->src->vocab);
    rc = index.ids ? read_ids(r, tokenizer, config, &index)
                   : ert_fail(r->err, ERT_E_NOMEM, "%s: no memory for the tokens", r->src->path);
    free(index.ids);
    if (!rc)
        rc = read_template(r, config);
    json_decref(config);
    return rc;
}
