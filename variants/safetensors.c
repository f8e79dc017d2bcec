#include "variants/safetensors.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

enum {
    MAX_HEADER = 16 << 20, /* a parsed header takes some ten times its text */
    SHOWN = 80,            /* bytes of a name in a sentence */
};

static const struct st_type types[] = {
    {"F64", 64}, {"F32", 32}, {"F16", 16}, {"BF16", 16},   {"I64", 64},
    {"I32", 32}, {"I16", 16}, {"I8", 8},   {"U64", 64},    {"U32", 32},
    {"U16", 16}, {"U8", 8},   {"BOOL", 8}, {"F8_E4M3", 8}, {"F8_E5M2", 8},
};

/* What the functions here pass along: one file and its data. */
struct file_reader {
    const char *path;
    const uint8_t *data; /* behind the header */
    uint64_t size;
    struct ert_error *err;
};

static int fail_tensor(const struct file_reader *r, const char *name, const char *what)
{
    return ert_fail(r->err, ERT_E_FORMAT,
                    "%s: tensor '%.*s': %s; the file is damaged, fetch it again", r->path, SHOWN,
                    name, what);
}

static const struct st_type *type_named(const char *name)
{
    for (size_t i = 0; name && i < sizeof types / sizeof types[0]; i++)
        if (strcmp(name, types[i].name) == 0)
            return &types[i];
    return NULL;
}

/* A size or an offset; false for what is no whole number from 0 on. */
static bool take_size(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static int read_shape(const struct file_reader *r, const json_t *shape, struct st_tensor *t,
                      uint64_t *bytes)
{
    uint64_t bits = t->type->bits;
    t->n_dims = (uint32_t)json_array_size(shape);
    if (!json_is_array(shape) || json_array_size(shape) > ST_MAX_DIMS)
        return fail_tensor(r, t->name, "its shape is no list of up to 4 sizes");
    for (uint32_t i = 0; i < t->n_dims; i++)
        if (!take_size(json_array_get(shape, i), &t->dims[i]) ||
            __builtin_mul_overflow(bits, t->dims[i], &bits))
            return fail_tensor(r, t->name, "its shape holds a size that no file can have");
    *bytes = bits / 8;
    return 0;
}

static int read_tensor(const struct file_reader *r, const json_t *record, struct st_tensor *t)
{
    const char *type = json_string_value(json_object_get(record, "dtype"));
    const json_t *offsets = json_object_get(record, "data_offsets");
    uint64_t bytes = 0;
    char what[200];
    if (!type || !json_is_array(offsets) || json_array_size(offsets) != 2)
        return fail_tensor(r, t->name, "it has no dtype and two data_offsets");
    t->type = type_named(type);
    if (!t->type)
        return ert_fail(r->err, ERT_E_UNSUPPORTED,
                        "%s: tensor '%.*s' is of type %.20s, which is not known here; save the "
                        "model as bfloat16, float16 or float32",
                        r->path, SHOWN, t->name, type);
    int rc = read_shape(r, json_object_get(record, "shape"), t, &bytes);
    if (rc)
        return rc;
    if (!take_size(json_array_get(offsets, 0), &t->begin) ||
        !take_size(json_array_get(offsets, 1), &t->end) || t->begin > t->end || t->end > r->size) {
        snprintf(what, sizeof what,
                 "its data_offsets do not lie in the %llu bytes behind the header",
                 (unsigned long long)r->size);
        return fail_tensor(r, t->name, what);
    }
    if (t->end - t->begin != bytes) {
        snprintf(what, sizeof what,
                 "its shape asks for %llu bytes, its data_offsets are %llu apart",
                 (unsigned long long)bytes, (unsigned long long)(t->end - t->begin));
        return fail_tensor(r, t->name, what);
    }
    t->data = r->data + t->begin;
    return 0;
}

static int compare_begins(const void *a, const void *b)
{
    const struct st_tensor *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* The tensors lie one behind the other and fill the file: none overlap, nothing is hidden. */
static int check_layout(const struct file_reader *r, struct st_tensor *tensors, size_t n)
{
    uint64_t end = 0;
    qsort(tensors, n, sizeof *tensors, compare_begins);
    for (size_t i = 0; i < n; end = tensors[i++].end)
        if (tensors[i].begin != end)
            return fail_tensor(r, tensors[i].name,
                               tensors[i].begin < end ? "its bytes overlap those of another tensor"
                                                      : "bytes before it belong to no tensor");
    if (end != r->size)
        return ert_fail(
            r->err, ERT_E_FORMAT,
            "%s: %llu bytes behind the last tensor; the file is damaged, fetch it again", r->path,
            (unsigned long long)(r->size - end));
    return 0;
}

static int read_header(const struct file_reader *r, const json_t *header, struct st_table *table)
{
    size_t first = table->n;
    const char *name;
    json_t *record;
    int rc = 0;
    json_object_foreach((json_t *)(uintptr_t)header, name, record)
    {
        struct st_tensor *t = &table->tensors[table->n];
        if (strcmp(name, "__metadata__") == 0)
            continue;
        *t = (struct st_tensor){.name = strdup(name), .path = r->path};
        if (!t->name)
            return ert_fail(r->err, ERT_E_NOMEM, "%s: no memory for its table", r->path);
        table->n++;
        rc = read_tensor(r, record, t);
        if (rc)
            return rc;
    }
    return check_layout(r, table->tensors + first, table->n - first);
}

static int reserve(struct st_table *t, size_t more)
{
    size_t room = t->n + more;
    struct st_tensor *bigger = realloc(t->tensors, (room + 1) * sizeof *bigger);
    if (!bigger)
        return -1;
    t->tensors = bigger;
    t->room = room;
    return 0;
}

int st_add_file(struct st_table *t, const char *path, const struct ert_map *map,
                struct ert_error *err)
{
    uint64_t n = 0;
    if (map->size >= sizeof n)
        memcpy(&n, map->data, sizeof n);
    if (map->size < sizeof n || n > map->size - sizeof n || n > MAX_HEADER)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: the first 8 bytes say a header of %llu bytes, the file has %zu and %d "
                        "are allowed; it is truncated or no safetensors file, fetch it again",
                        path, (unsigned long long)n, map->size, MAX_HEADER);
    json_error_t bad;
    json_t *header =
        json_loadb((const char *)map->data + sizeof n, n, JSON_REJECT_DUPLICATES, &bad);
    if (!json_is_object(header)) {
        int rc =
            ert_fail(err, ERT_E_FORMAT,
                     "%s: the header is no JSON object: %.120s (byte %d); the file is damaged, "
                     "fetch it again",
                     path, header ? "something else" : bad.text, header ? 0 : bad.position);
        json_decref(header);
        return rc;
    }
    const struct file_reader r = {path, map->data + sizeof n + n, map->size - sizeof n - n, err};
    int rc = reserve(t, json_object_size(header))
                 ? ert_fail(err, ERT_E_NOMEM, "%s: no memory for its table", path)
                 : read_header(&r, header, t);
    json_decref(header);
    return rc;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct st_tensor *)a)->name, ((const struct st_tensor *)b)->name);
}

int st_sort(struct st_table *t, struct ert_error *err)
{
    qsort(t->tensors, t->n, sizeof *t->tensors, compare_names);
    for (size_t i = 1; i < t->n; i++)
        if (strcmp(t->tensors[i - 1].name, t->tensors[i].name) == 0)
            return ert_fail(err, ERT_E_FORMAT,
                            "%s: tensor '%.*s' is in %s as well; the files belong to different "
                            "models, fetch them again",
                            t->tensors[i].path, SHOWN, t->tensors[i].name, t->tensors[i - 1].path);
    return 0;
}

struct st_tensor *st_find(const struct st_table *t, const char *name)
{
    struct st_tensor wanted = {.name = (char *)(uintptr_t)name};
    return t->n ? bsearch(&wanted, t->tensors, t->n, sizeof wanted, compare_names) : NULL;
}

void st_release(struct st_table *t)
{
    for (size_t i = 0; i < t->n; i++)
        free(t->tensors[i].name);
    free(t->tensors);
    *t = (struct st_table){0};
}
