/* A Hugging Face folder: which files hold the weights, and what the tensors are called. */
#include "variants/hf_model.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define ONE_FILE "model.safetensors"
#define INDEX    "model.safetensors.index.json"

enum { MAX_JSON = 64 << 20, MAX_SHARDS = 1024 };

/* ---- files --------------------------------------------------------------------------------- */

char *hf_path(const struct hf_reader *r, const char *name)
{
    size_t room = strlen(r->src->path) + strlen(name) + 2;
    char *path = malloc(room);
    if (path)
        snprintf(path, room, "%s/%s", r->src->path, name);
    return path;
}

/* Whatever bears the name: what cannot be read is then told. */
bool hf_has_file(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static int fail_memory(const struct hf_reader *r)
{
    return ert_fail(r->err, ERT_E_NOMEM, "%s: no memory to read the model", r->src->path);
}

/* Parses a mapped file, which is no FIFO and has a size, unlike what a stream may be. */
static int parse_json(const struct hf_reader *r, const char *path, const struct ert_map *map,
                      json_t **out)
{
    json_error_t bad;
    if (map->size > MAX_JSON)
        return ert_fail(r->err, ERT_E_RANGE, "%s: %zu bytes, at most %d are read", path, map->size,
                        MAX_JSON);
    *out = json_loadb((const char *)map->data, map->size, JSON_REJECT_DUPLICATES, &bad);
    if (json_is_object(*out))
        return 0;
    return ert_fail(
        r->err, ERT_E_FORMAT,
        "%s: no JSON object: %.120s (line %d, column %d); the file is damaged, fetch it "
        "again",
        path, *out ? "something else" : bad.text, *out ? 1 : bad.line, *out ? 1 : bad.column);
}

int hf_read_json(const struct hf_reader *r, const char *name, bool needed, json_t **out)
{
    struct ert_map map;
    char *path = hf_path(r, name);
    *out = NULL;
    if (!path)
        return fail_memory(r);
    int rc = 0;
    if (needed || hf_has_file(path))
        rc = ert_map_open(&map, path, r->err);
    else
        map = (struct ert_map){.fd = -1};
    if (!rc && map.fd >= 0)
        rc = parse_json(r, path, &map, out);
    ert_map_close(&map);
    free(path);
    return rc;
}

static int open_file(struct hf_reader *r, const char *name)
{
    struct var_source *src = r->src;
    char *path = hf_path(r, name);
    if (!path)
        return fail_memory(r);
    r->shards[src->n_maps] = path;
    int rc = ert_map_open(&src->maps[src->n_maps++], path, r->err);
    return rc ? rc : st_add_file(&r->tensors, path, &src->maps[src->n_maps - 1], r->err);
}

/* Room for n files. */
static int reserve_files(struct hf_reader *r, size_t n)
{
    r->src->maps = calloc(n, sizeof *r->src->maps);
    r->shards = calloc(n, sizeof(char *));
    return r->src->maps && r->shards ? 0 : fail_memory(r);
}

/* ---- shards -------------------------------------------------------------------------------- */

/* A file of the folder itself: an index must not lead elsewhere. */
static bool is_plain_name(const char *name)
{
    return name && *name && !strchr(name, '/') && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* names[json_object_size(map)]: the different files of the map, sorted. */
static int list_shards(const struct hf_reader *r, json_t *map, const char **names, size_t *n)
{
    const char *tensor;
    json_t *file;
    size_t all = 0;
    json_object_foreach(map, tensor, file)
    {
        if (!is_plain_name(json_string_value(file)))
            return ert_fail(
                r->err, ERT_E_FORMAT,
                "%s/" INDEX ": tensor '%.80s' is said to be in '%.80s', which is no file "
                "of the folder; the index is damaged, fetch it again",
                r->src->path, tensor, json_is_string(file) ? json_string_value(file) : "");
        names[all++] = json_string_value(file);
    }
    qsort(names, all, sizeof *names, compare_texts);
    *n = 0;
    for (size_t i = 0; i < all; i++)
        if (i == 0 || strcmp(names[i], names[*n - 1]) != 0)
            names[(*n)++] = names[i];
    if (*n == 0 || *n > MAX_SHARDS)
        return ert_fail(r->err, ERT_E_FORMAT,
                        "%s/" INDEX
                        ": %zu files, 1 to %d were expected; the index is damaged, fetch "
                        "it again",
                        r->src->path, *n, MAX_SHARDS);
    return 0;
}

/* The index and the files must tell the same. */
static int check_index(const struct hf_reader *r, json_t *map)
{
    const char *name;
    json_t *file;
    json_object_foreach(map, name, file)
    {
        const struct st_tensor *t = st_find(&r->tensors, name);
        if (!t || strcmp(strrchr(t->path, '/') + 1, json_string_value(file)) != 0)
            return ert_fail(r->err, ERT_E_FORMAT,
                            "%s/" INDEX ": tensor '%.80s' is not in '%.80s'; the files belong to "
                            "different models, fetch them again",
                            r->src->path, name, json_string_value(file));
    }
    return 0;
}

static int open_shards(struct hf_reader *r, json_t *map)
{
    const char **names = calloc(json_object_size(map) + 1, sizeof(char *));
    size_t n = 0;
    int rc = names ? list_shards(r, map, names, &n) : fail_memory(r);
    if (!rc)
        rc = reserve_files(r, n);
    for (size_t i = 0; i < n && !rc; i++)
        rc = open_file(r, names[i]);
    free(names);
    if (!rc)
        rc = st_sort(&r->tensors, r->err);
    return rc ? rc : check_index(r, map);
}

static int open_index(struct hf_reader *r)
{
    json_t *index;
    int rc = hf_read_json(r, INDEX, false, &index);
    json_t *map = json_object_get(index, "weight_map");
    if (!rc && !index)
        rc = ert_fail(r->err, ERT_E_MISSING,
                      "%s: neither " ONE_FILE " nor " INDEX " is there; a model in safetensors is "
                      "needed",
                      r->src->path);
    else if (!rc && !json_is_object(map))
        rc = ert_fail(r->err, ERT_E_FORMAT,
                      "%s/" INDEX
                      ": there is no \"weight_map\"; the index is damaged, fetch it again",
                      r->src->path);
    if (!rc)
        rc = open_shards(r, map);
    json_decref(index);
    return rc;
}

/* One file where there is one, as transformers does; else those that the index names. */
static int open_weights(struct hf_reader *r)
{
    char *path = hf_path(r, ONE_FILE);
    if (!path)
        return fail_memory(r);
    bool one = hf_has_file(path);
    free(path);
    if (!one)
        return open_index(r);
    int rc = reserve_files(r, 1);
    if (!rc)
        rc = open_file(r, ONE_FILE);
    return rc ? rc : st_sort(&r->tensors, r->err);
}

/* ---- tensors ------------------------------------------------------------------------------- */

static bool has_tensor(void *ctx, const char *name)
{
    const struct hf_reader *r = ctx;
    return st_find(&r->tensors, name) != NULL;
}

static int fail_shape(const struct hf_reader *r, const struct st_tensor *t, uint32_t rows,
                      uint32_t cols)
{
    char shape[100] = "";
    for (uint32_t i = 0, n = 0; i < t->n_dims; i++)
        n += (uint32_t)snprintf(shape + n, sizeof shape - n, i ? " x %llu" : "%llu",
                                (unsigned long long)t->dims[i]);
    return ert_fail(r->err, ERT_E_FORMAT,
                    "%s: tensor '%s' is [%s], config.json asks for %u x %u; the files belong to "
                    "different models, fetch them again",
                    t->path, t->name, shape, rows, cols);
}

/* Vectors have one size, matrices two. */
static bool has_shape(const struct st_tensor *t, uint32_t rows, uint32_t cols)
{
    return t->n_dims == 2 ? t->dims[0] == rows && t->dims[1] == cols
                          : t->n_dims == 1 && rows == 1 && t->dims[0] == cols;
}

/* Safetensors' types that are GGUF's as well, by the same names. */
static const struct var_type *type_of(const struct st_tensor *t)
{
    static const char *const read[] = {"F32", "F16", "BF16"};
    for (size_t i = 0; i < sizeof read / sizeof read[0]; i++)
        if (strcmp(t->type->name, read[i]) == 0)
            for (uint32_t id = 0; id < VAR_TYPE_NUMBERS; id++)
                if (var_type_of(id) && strcmp(var_type_name(id), read[i]) == 0)
                    return var_type_of(id);
    return NULL;
}

static int take_tensor(void *ctx, const char *name, uint32_t rows, uint32_t cols,
                       struct var_tensor *out)
{
    const struct hf_reader *r = ctx;
    struct st_tensor *t = st_find(&r->tensors, name);
    if (!t)
        return ert_fail(r->err, ERT_E_MISSING,
                        "%s: tensor '%s' is missing; the model is incomplete, fetch it again",
                        r->src->path, name);
    if (!has_shape(t, rows, cols))
        return fail_shape(r, t, rows, cols);
    const struct var_type *type = type_of(t);
    if (!type)
        return ert_fail(r->err, ERT_E_UNSUPPORTED,
                        "%s: tensor '%s' is of type %s; supported: F32, F16, BF16: save the model "
                        "in one of these",
                        t->path, name, t->type->name);
    t->used = true;
    *out = (struct var_tensor){out->name, type, t->data, rows, cols, 0};
    return 0;
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

/* A tensor nobody took would silently change the model. Two kinds do not: tables of RoPE, which old
 * checkpoints hold, and a head beside an embedding that config.json says to use instead. */
static int check_all_used(const struct hf_reader *r)
{
    for (size_t i = 0; i < r->tensors.n; i++) {
        const struct st_tensor *t = &r->tensors.tensors[i];
        bool known =
            ends_with(t->name, ".rotary_emb.inv_freq") ||
            (r->src->model.tied && strcmp(t->name, var_model_names[VAR_NAMES_HF].head) == 0);
        if (!t->used && !known)
            return ert_fail(
                r->err, ERT_E_UNSUPPORTED,
                "%s: tensor '%.80s' is not part of a plain %s model (adapters, heads of "
                "other tasks and biases elsewhere than in Q, K and V are not supported)",
                t->path, t->name, r->architecture->hf);
    }
    return 0;
}

/* ---- all of it ----------------------------------------------------------------------------- */

/* The folder's own name, which "." and a trailing slash hide. */
static int read_name(struct hf_reader *r)
{
    char *whole = realpath(r->src->path, NULL);
    if (!whole)
        return fail_memory(r);
    const char *base = strrchr(whole, '/');
    snprintf(r->src->model.name, sizeof r->src->model.name, "%.120s", base ? base + 1 : whole);
    free(whole);
    return 0;
}

static int read_model(struct hf_reader *r)
{
    const struct var_tensors tensors = {r, has_tensor, take_tensor};
    int rc = hf_read_config(r);
    if (!rc)
        rc = var_source_check_model(r->src, r->err);
    if (!rc)
        rc = hf_read_rope(r);
    if (!rc)
        rc = hf_read_json(r, "generation_config.json", false, &r->generation);
    if (!rc)
        rc = open_weights(r);
    if (!rc)
        rc = var_take_tensors(r->src, r->architecture, VAR_NAMES_HF, true, &tensors, r->err);
    if (!rc)
        rc = check_all_used(r);
    if (!rc)
        rc = hf_read_tokenizer(r);
    return rc ? rc : read_name(r);
}

int var_source_read_hf(struct var_source *src, struct ert_error *err)
{
    struct hf_reader r = {.src = src, .err = err};
    int rc = read_model(&r);
    if (!rc)
        var_source_describe_type(src);
    for (uint32_t i = 0; i < src->n_maps && r.shards; i++)
        free(r.shards[i]);
    free(r.shards);
    st_release(&r.tensors);
    json_decref(r.config);
    json_decref(r.generation);
    return rc;
}
