/* Values of a GGUF file's keys, typed and checked. */
#include "variants/gguf_model.h"

#include <math.h>
#include <string.h>

struct gguf_key gguf_own_key(const struct gguf_reader *r, const char *name)
{
    struct gguf_key key;
    snprintf(key.text, sizeof key.text, "%s.%s", r->architecture->name, name);
    return key;
}

int gguf_fail_key(const struct gguf_reader *r, const char *key, const struct gguf_value *v,
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

bool gguf_value_u64(const struct gguf_value *v, uint64_t *out)
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

int gguf_get_u32(const struct gguf_reader *r, const char *key, const uint32_t *fallback,
                 uint32_t *out)
{
    const struct gguf_value *v = gguf_find(r->f, key);
    uint64_t n;
    if (!v && fallback) {
        *out = *fallback;
        return 0;
    }
    if (!v || !gguf_value_u64(v, &n) || n > UINT32_MAX)
        return gguf_fail_key(r, key, v, "a whole number below 2^32");
    *out = (uint32_t)n;
    return 0;
}

int gguf_get_f32(const struct gguf_reader *r, const char *key, float fallback, float *out)
{
    const struct gguf_value *v = gguf_find(r->f, key);
    *out = fallback;
    if (!v && !isnan(fallback))
        return 0;
    if (!v || v->array || v->kind != GGUF_F32)
        return gguf_fail_key(r, key, v, "a 32-bit float");
    memcpy(out, v->data, sizeof *out);
    return 0;
}

int gguf_get_bool(const struct gguf_reader *r, const char *key, bool fallback, bool *out)
{
    const struct gguf_value *v = gguf_find(r->f, key);
    *out = fallback;
    if (!v)
        return 0;
    if (v->array || v->kind != GGUF_BOOL)
        return gguf_fail_key(r, key, v, "true or false");
    *out = v->data[0] != 0;
    return 0;
}

int gguf_get_text(const struct gguf_reader *r, const char *key, size_t max, struct gguf_text *out)
{
    const struct gguf_value *v = gguf_find(r->f, key);
    *out = (struct gguf_text){0};
    if (!v)
        return 0;
    if (v->array || v->kind != GGUF_STRING)
        return gguf_fail_key(r, key, v, "a string");
    const uint8_t *cursor = v->data;
    *out = gguf_next_text(&cursor);
    if (out->n > max || memchr(out->text, 0, out->n))
        return gguf_fail_key(r, key, v, "a string of sane length");
    return 0;
}

bool gguf_text_is(struct gguf_text t, const char *word)
{
    return t.n == strlen(word) && memcmp(t.text, word, t.n) == 0;
}
