/* GGUF v3 (github.com/ggml-org/ggml, docs/gguf.md): header, key-values, tensor table, aligned data.
 */
#include "variants/gguf.h"

#include <stdlib.h>
#include <string.h>

enum { MIN_VALUE_BYTES = 8 + 4 + 1, MIN_TENSOR_BYTES = 8 + 4 + 8 + 4 + 8, MAX_NAME = 65535 };

static const uint8_t kind_bytes[GGUF_N_KINDS] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

/* Where the reader stands; at never passes f->size. */
struct cursor {
    struct gguf_file *f;
    size_t at;
    struct ert_error *err;
};

static int fail_short(const struct cursor *c, const char *what)
{
    return ert_fail(
        c->err, ERT_E_FORMAT,
        "%s: offset %zu: the file ends (%zu bytes) inside %s; it is truncated or damaged, "
        "fetch it again",
        c->f->path, c->at, c->f->size, what);
}

static int take(struct cursor *c, void *out, size_t n, const char *what)
{
    if (c->f->size - c->at < n)
        return fail_short(c, what);
    memcpy(out, c->f->data + c->at, n);
    c->at += n;
    return 0;
}

static int take_text(struct cursor *c, struct gguf_text *text, uint64_t max, const char *what)
{
    uint64_t n = 0;
    int rc = take(c, &n, sizeof n, what);
    if (rc)
        return rc;
    if (n > max)
        return ert_fail(
            c->err, ERT_E_FORMAT,
            "%s: offset %zu: %s is %llu bytes long, at most %llu are allowed; the file is "
            "damaged, fetch it again",
            c->f->path, c->at - sizeof n, what, (unsigned long long)n, (unsigned long long)max);
    if (c->f->size - c->at < n)
        return fail_short(c, what);
    *text = (struct gguf_text){(const char *)c->f->data + c->at, n};
    c->at += n;
    return 0;
}

static int skip_elements(struct cursor *c, struct gguf_value *v)
{
    uint64_t bytes;
    struct gguf_text text;
    if (v->kind != GGUF_STRING) {
        if (__builtin_mul_overflow(v->count, kind_bytes[v->kind], &bytes) ||
            bytes > c->f->size - c->at)
            return fail_short(c, "a value");
        c->at += bytes;
        return 0;
    }
    for (uint64_t i = 0; i < v->count; i++) {
        int rc = take_text(c, &text, UINT32_MAX, "a string");
        if (rc)
            return rc;
    }
    return 0;
}

static int fail_kind(const struct cursor *c, const struct gguf_value *v, uint32_t kind)
{
    return ert_fail(
        c->err, ERT_E_FORMAT,
        "%s: offset %zu: key '%.*s' has value type %u; types 0 to 12 are known and arrays "
        "hold no arrays; the file is damaged or newer than version 3",
        c->f->path, c->at, (int)v->key.n, v->key.text, kind);
}

static int read_value(struct cursor *c, struct gguf_value *v)
{
    uint32_t kind = 0;
    int rc = take_text(c, &v->key, MAX_NAME, "a key");
    if (!rc)
        rc = take(c, &kind, sizeof kind, "a value's type");
    if (rc)
        return rc;
    v->count = 1;
    v->array = kind == GGUF_ARRAY;
    if (v->array) {
        rc = take(c, &kind, sizeof kind, "an array's type");
        if (!rc)
            rc = take(c, &v->count, sizeof v->count, "an array's length");
        if (rc)
            return rc;
    }
    if (kind >= GGUF_N_KINDS || kind == GGUF_ARRAY)
        return fail_kind(c, v, kind);
    v->kind = (enum gguf_kind)kind;
    v->data = c->f->data + c->at;
    v->offset = c->at;
    rc = skip_elements(c, v);
    return rc ? ert_fail_in(c->err, "key '%.*s'", (int)(v->key.n < 80 ? v->key.n : 80), v->key.text)
              : 0;
}

static int read_tensor(struct cursor *c, struct gguf_tensor *t)
{
    int rc = take_text(c, &t->name, MAX_NAME, "a tensor name");
    if (!rc)
        rc = take(c, &t->n_dims, sizeof t->n_dims, "a tensor's dimensions");
    if (rc)
        return rc;
    if (t->n_dims < 1 || t->n_dims > GGUF_MAX_DIMS)
        return ert_fail(c->err, ERT_E_FORMAT,
                        "%s: offset %zu: tensor '%.*s' has %u dimensions, 1 to 4 are allowed; the "
                        "file is damaged, fetch it again",
                        c->f->path, c->at - 4, (int)(t->name.n < 80 ? t->name.n : 80), t->name.text,
                        t->n_dims);
    rc = take(c, t->dims, t->n_dims * sizeof t->dims[0], "a tensor's dimensions");
    if (!rc)
        rc = take(c, &t->type, sizeof t->type, "a tensor's type");
    if (!rc)
        rc = take(c, &t->offset, sizeof t->offset, "a tensor's offset");
    for (uint32_t i = t->n_dims; i < GGUF_MAX_DIMS; i++)
        t->dims[i] = 1;
    return rc;
}

static int compare_text(const struct gguf_text *a, const struct gguf_text *b)
{
    size_t n = a->n < b->n ? a->n : b->n;
    int order = memcmp(a->text, b->text, n);
    return order ? order : (a->n > b->n) - (a->n < b->n);
}

/* Both records start with their name, so that one comparison serves both tables. */
_Static_assert(offsetof(struct gguf_value, key) == 0, "key first");
_Static_assert(offsetof(struct gguf_tensor, name) == 0, "name first");
static int compare_records(const void *a, const void *b)
{
    return compare_text(a, b);
}

static int sort_and_check(struct cursor *c, void *table, uint64_t n, size_t size, const char *what)
{
    if (n == 0)
        return 0;
    qsort(table, n, size, compare_records);
    for (uint64_t i = 1; i < n; i++) {
        const struct gguf_text *a = (void *)((char *)table + (i - 1) * size);
        if (compare_text(a, (void *)((char *)table + i * size)) == 0)
            return ert_fail(c->err, ERT_E_FORMAT,
                            "%s: %s '%.*s' appears twice; the file is damaged, fetch it again",
                            c->f->path, what, (int)(a->n < 80 ? a->n : 80), a->text);
    }
    return 0;
}

static int check_count(const struct cursor *c, uint64_t n, size_t min_bytes, const char *what)
{
    uint64_t most = (c->f->size - c->at) / min_bytes;
    if (n <= most)
        return 0;
    return ert_fail(c->err, ERT_E_FORMAT,
                    "%s: header: %llu %s cannot fit into the remaining %zu bytes; the file is "
                    "truncated or damaged, fetch it again",
                    c->f->path, (unsigned long long)n, what, c->f->size - c->at);
}

static int read_header(struct cursor *c)
{
    struct gguf_file *f = c->f;
    char magic[4];
    uint32_t version = 0;
    int rc = take(c, magic, sizeof magic, "the magic");
    if (rc)
        return rc;
    if (memcmp(magic, "GGUF", 4) != 0)
        return ert_fail(c->err, ERT_E_FORMAT,
                        "%s: not a GGUF file (its first bytes are not 'GGUF'); of a Hugging Face "
                        "model, give the folder",
                        f->path);
    rc = take(c, &version, sizeof version, "the version");
    if (rc)
        return rc;
    if (version != 3)
        return ert_fail(c->err, ERT_E_UNSUPPORTED,
                        "%s: GGUF version %u; version 3, little-endian, is read here: convert the "
                        "file again with a current converter",
                        f->path, version);
    rc = take(c, &f->n_tensors, sizeof f->n_tensors, "the header");
    if (!rc)
        rc = take(c, &f->n_values, sizeof f->n_values, "the header");
    if (!rc)
        rc = check_count(c, f->n_tensors, MIN_TENSOR_BYTES, "tensors");
    return rc ? rc : check_count(c, f->n_values, MIN_VALUE_BYTES, "keys");
}

static int read_tables(struct cursor *c)
{
    struct gguf_file *f = c->f;
    f->values = calloc(f->n_values + 1, sizeof *f->values);
    f->tensors = calloc(f->n_tensors + 1, sizeof *f->tensors);
    if (!f->values || !f->tensors)
        return ert_fail(c->err, ERT_E_NOMEM, "%s: no memory for its tables", f->path);
    int rc = 0;
    for (uint64_t i = 0; i < f->n_values && !rc; i++)
        rc = read_value(c, &f->values[i]);
    for (uint64_t i = 0; i < f->n_tensors && !rc; i++)
        rc = read_tensor(c, &f->tensors[i]);
    size_t end = c->at;
    if (!rc)
        rc = sort_and_check(c, f->values, f->n_values, sizeof *f->values, "key");
    if (!rc)
        rc = sort_and_check(c, f->tensors, f->n_tensors, sizeof *f->tensors, "tensor");
    f->data_offset = end;
    return rc;
}

static int place_data(struct cursor *c)
{
    struct gguf_file *f = c->f;
    const struct gguf_value *v = gguf_find(f, "general.alignment");
    f->alignment = 32;
    if (v && (v->kind != GGUF_U32 || v->array))
        return ert_fail(c->err, ERT_E_FORMAT,
                        "%s: offset %llu: general.alignment is not a 32-bit number; the file is "
                        "damaged, fetch it again",
                        f->path, (unsigned long long)v->offset);
    if (v)
        memcpy(&f->alignment, v->data, sizeof f->alignment);
    uint64_t a = f->alignment;
    if (a == 0 || (a & (a - 1)) != 0)
        return ert_fail(
            c->err, ERT_E_FORMAT,
            "%s: offset %llu: general.alignment is %u, a power of two was expected; the "
            "file is damaged, fetch it again",
            f->path, (unsigned long long)v->offset, f->alignment);
    f->data_offset = (f->data_offset + a - 1) / a * a;
    return 0;
}

int gguf_open(struct gguf_file *f, const char *path, const void *data, size_t size,
              struct ert_error *err)
{
    *f = (struct gguf_file){.path = path, .data = data, .size = size};
    struct cursor c = {f, 0, err};
    int rc = read_header(&c);
    if (!rc)
        rc = read_tables(&c);
    if (!rc)
        rc = place_data(&c);
    if (rc)
        gguf_close(f);
    return rc;
}

void gguf_close(struct gguf_file *f)
{
    free(f->values);
    free(f->tensors);
    *f = (struct gguf_file){0};
}

const struct gguf_value *gguf_find(const struct gguf_file *f, const char *key)
{
    struct gguf_value wanted = {.key = {key, strlen(key)}};
    return bsearch(&wanted, f->values, f->n_values, sizeof *f->values, compare_records);
}

struct gguf_tensor *gguf_find_tensor(const struct gguf_file *f, const char *name)
{
    struct gguf_tensor wanted = {.name = {name, strlen(name)}};
    return bsearch(&wanted, f->tensors, f->n_tensors, sizeof *f->tensors, compare_records);
}

struct gguf_text gguf_next_text(const uint8_t **cursor)
{
    uint64_t n;
    memcpy(&n, *cursor, sizeof n);
    struct gguf_text text = {(const char *)*cursor + sizeof n, n};
    *cursor += sizeof n + n;
    return text;
}
