/* The VOCAB section of a pack, as docs/pack-format.md lays it out. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "runtime/tokenizer.h"

#define REMEDY "fetch or build the pack again"

enum { VOCAB_HEADER = 16 };

static int damaged(struct ert_error *err, const char *what)
{
    return ert_fail(err, ERT_E_FORMAT, "VOCAB section: %s; " REMEDY, what);
}

/* Splits the section into its arrays; sizes are 64-bit sums of products of 32-bit counts, which
 * cannot overflow. */
static int locate(struct rt_vocab *v, const uint8_t *section, size_t size, struct ert_error *err)
{
    uint32_t header[4];
    if ((uintptr_t)section % sizeof(uint32_t) != 0)
        return damaged(err, "it is not aligned to 4 bytes");
    if (size < VOCAB_HEADER)
        return damaged(err, "it is shorter than its header of 16 bytes");
    memcpy(header, section, sizeof header);
    uint64_t n = header[0], n_merges = header[1], text_bytes = header[2];
    if (n == 0 || n > INT32_MAX || header[3] != 0)
        return damaged(err, "its header has no tokens, too many, or a field that should be zero");
    uint64_t scores = VOCAB_HEADER + 4 * (n + 1), merges = scores + 4 * n;
    uint64_t types = merges + 8 * n_merges, text = types + n;
    if (text + text_bytes != size)
        return ert_fail(err, ERT_E_FORMAT,
                        "VOCAB section: %u tokens, %u merges and %u bytes of text make %" PRIu64
                        " bytes, the section has %zu; " REMEDY,
                        header[0], header[1], header[2], text + text_bytes, size);
    v->n_tokens = header[0];
    v->n_merges = header[1];
    v->offset = (const void *)(section + VOCAB_HEADER);
    v->score = (const void *)(section + scores);
    v->merge = (const void *)(section + merges);
    v->type = section + types;
    v->text = (const char *)section + text;
    if (v->offset[0] != 0 || v->offset[n] != text_bytes)
        return damaged(err, "the text offsets do not start at 0 and end at the size of the text");
    return 0;
}

static int check_tokens(const struct rt_vocab *v, struct ert_error *err)
{
    for (uint32_t i = 0; i < v->n_tokens; i++) {
        const char *what = v->offset[i + 1] < v->offset[i] ? "a text offset that falls"
                           : !isfinite(v->score[i])        ? "a score that is not finite"
                           : v->type[i] < RT_TOKEN_NORMAL || v->type[i] > RT_TOKEN_BYTE
                               ? "an unknown type"
                               : NULL;
        if (what)
            return ert_fail(err, ERT_E_FORMAT, "VOCAB section: token %u has %s; " REMEDY, i, what);
    }
    for (uint32_t i = 0; i < v->n_merges; i++)
        if (v->merge[i][0] >= v->n_tokens || v->merge[i][1] >= v->n_tokens)
            return ert_fail(err, ERT_E_FORMAT,
                            "VOCAB section: merge %u joins tokens %u and %u of %u; " REMEDY, i,
                            v->merge[i][0], v->merge[i][1], v->n_tokens);
    return 0;
}

/* ---- META's "tokenizer" -------------------------------------------------------------------- */

static int read_string(const json_t *meta, const char *key, char *out, size_t room,
                       struct ert_error *err)
{
    const json_t *value = json_object_get(meta, key);
    if (!value)
        return 0;
    if (!json_is_string(value) || json_string_length(value) >= room ||
        strlen(json_string_value(value)) != json_string_length(value))
        return ert_fail(err, ERT_E_FORMAT,
                        "META: tokenizer.%s is no string of less than %zu bytes; " REMEDY, key,
                        room);
    memcpy(out, json_string_value(value), json_string_length(value) + 1);
    return 0;
}

static int read_id(const json_t *value, const char *key, uint32_t n_tokens, int32_t *id,
                   struct ert_error *err)
{
    json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < -1 || number >= n_tokens)
        return ert_fail(
            err, ERT_E_FORMAT,
            "META: tokenizer.%s is no token of a vocabulary of %u (or -1 for none); " REMEDY, key,
            n_tokens);
    *id = (int32_t)number;
    return 0;
}

static int read_eos(struct rt_vocab *v, const json_t *meta, struct ert_error *err)
{
    const json_t *list = json_object_get(meta, "eos");
    size_t most = sizeof v->eos / sizeof *v->eos;
    if (!list)
        return 0;
    if (!json_is_array(list) || json_array_size(list) > most)
        return ert_fail(err, ERT_E_FORMAT,
                        "META: tokenizer.eos is no list of at most %zu tokens; " REMEDY, most);
    for (size_t i = 0; i < json_array_size(list); i++) {
        int rc = read_id(json_array_get(list, i), "eos", v->n_tokens, &v->eos[v->n_eos], err);
        if (rc)
            return rc;
        if (v->eos[v->n_eos] >= 0)
            v->n_eos++;
    }
    return 0;
}

static int read_flag(const json_t *meta, const char *key, bool *flag, struct ert_error *err)
{
    const json_t *value = json_object_get(meta, key);
    if (value && !json_is_boolean(value))
        return ert_fail(err, ERT_E_FORMAT, "META: tokenizer.%s is neither true nor false; " REMEDY,
                        key);
    *flag = json_is_true(value);
    return 0;
}

static int read_meta(struct rt_vocab *v, const json_t *meta, struct ert_error *err)
{
    const struct {
        const char *key;
        int32_t *id;
    } ids[] = {{"bos", &v->bos}, {"unk", &v->unk}};
    const struct {
        const char *key;
        bool *flag;
    } flags[] = {
        {"add_bos", &v->add_bos},
        {"nfc", &v->nfc},
        {"add_space_prefix", &v->add_space_prefix},
        {"prefix_if_needed", &v->prefix_if_needed},
        {"prefix_once", &v->prefix_once},
    };
    if (!json_is_object(meta) || !json_object_get(meta, "model"))
        return ert_fail(err, ERT_E_FORMAT, "META: no tokenizer object with a model; " REMEDY);
    int rc = read_string(meta, "model", v->model, sizeof v->model, err);
    if (rc == 0)
        rc = read_string(meta, "pre", v->pre, sizeof v->pre, err);
    for (unsigned i = 0; i < sizeof ids / sizeof *ids && rc == 0; i++) {
        const json_t *value = json_object_get(meta, ids[i].key);
        *ids[i].id = -1;
        rc = value ? read_id(value, ids[i].key, v->n_tokens, ids[i].id, err) : 0;
    }
    if (rc == 0)
        rc = read_eos(v, meta, err);
    for (unsigned i = 0; i < sizeof flags / sizeof *flags && rc == 0; i++)
        rc = read_flag(meta, flags[i].key, flags[i].flag, err);
    return rc;
}

int rt_vocab_parse(struct rt_vocab *v, const void *section, size_t size,
                   const json_t *tokenizer_meta, struct ert_error *err)
{
    *v = (struct rt_vocab){0};
    int rc = locate(v, section, size, err);
    if (rc == 0)
        rc = check_tokens(v, err);
    return rc ? rc : read_meta(v, tokenizer_meta, err);
}
