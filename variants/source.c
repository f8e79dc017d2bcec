/* Opening a source, and what the formats share. */
#include "variants/source.h"

#define XXH_STATIC_LINKING_ONLY /* the hash's state on the stack */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "runtime/pack_format.h"

enum { HASH_STEP = 16 << 20 };

static bool is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The formats of one file. */
static int read_file(struct var_source *src, const char *tokenizer, struct ert_error *err)
{
    src->maps = calloc(1, sizeof *src->maps);
    if (!src->maps)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory", src->path);
    int rc = ert_map_open(&src->maps[src->n_maps++], src->path, err);
    if (rc)
        return rc;
    return tokenizer ? var_source_read_llama2c(src, tokenizer, err)
                     : var_source_read_gguf(src, err);
}

static int read_source(struct var_source *src, const char *tokenizer, struct ert_error *err)
{
    if (!is_folder(src->path))
        return read_file(src, tokenizer, err);
    if (tokenizer)
        return ert_fail(err, ERT_E_USAGE,
                        "%s: a folder has its own tokenizer; --tokenizer is for a llama2.c file",
                        src->path);
    return var_source_read_hf(src, err);
}

/* A folder may be named with slashes behind. */
static char *copy_path(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    return strndup(path, n);
}

int var_source_open(struct var_source **source, const char *path, const char *tokenizer,
                    struct ert_error *err)
{
    *source = NULL;
    struct var_source *src = calloc(1, sizeof *src);
    if (!src)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory", path);
    src->path = copy_path(path);
    int rc = src->path ? read_source(src, tokenizer, err)
                       : ert_fail(err, ERT_E_NOMEM, "%s: no memory", path);
    if (rc) {
        var_source_free(src);
        return rc;
    }
    *source = src;
    return 0;
}

void var_source_free(struct var_source *source)
{
    if (!source)
        return;
    for (uint32_t i = 0; i < source->n_maps; i++)
        ert_map_close(&source->maps[i]);
    free(source->maps);
    free(source->rope_factors);
    free(source->store.offset);
    free(source->store.text);
    free(source->store.score);
    free(source->store.type);
    free(source->store.merge);
    free(source->chat_template);
    free(source->layers);
    free(source->names);
    free(source->path);
    free(source);
}

/* Pages of a read-only mapping: what is needed again comes back from the file. */
static void forget_pages(const uint8_t *data, size_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), begin = (uintptr_t)data / page * page;
    madvise((void *)begin, (uintptr_t)data + size - begin, MADV_DONTNEED);
}

uint64_t var_source_hash(const struct var_source *source)
{
    XXH64_state_t state;
    XXH64_reset(&state, 0);
    for (uint32_t i = 0; i < source->n_maps; i++)
        for (size_t at = 0, n; at < source->maps[i].size; at += n) {
            const struct ert_map *map = &source->maps[i];
            n = map->size - at < HASH_STEP ? map->size - at : HASH_STEP;
            XXH64_update(&state, map->data + at, n);
            forget_pages(map->data + at, n);
        }
    return XXH64_digest(&state);
}

/* Of a folder, these stand in files that var_source_hash does not see. */
uint64_t var_source_settings_hash(const struct var_source *source)
{
    const struct rt_vocab *v = &source->vocab;
    size_t factors = source->rope_factors ? source->model.head_dim / 2 : 0, n = v->n_tokens;
    const int32_t numbers[] = {v->bos,
                               v->unk,
                               v->add_bos,
                               v->nfc,
                               (int)v->n_eos,
                               v->add_space_prefix,
                               v->prefix_if_needed,
                               v->prefix_once};
    const struct {
        const void *data;
        size_t size;
    } parts[] = {
        {&source->model, sizeof source->model},
        {source->rope_factors, factors * sizeof *source->rope_factors},
        {numbers, sizeof numbers},
        {v->eos, sizeof v->eos},
        {v->model, sizeof v->model},
        {v->pre, sizeof v->pre},
        {v->offset, (n + 1) * sizeof *v->offset},
        {v->text, v->offset[n]},
        {v->score, n * sizeof *v->score},
        {v->type, n},
        {v->merge, (size_t)v->n_merges * sizeof *v->merge},
        {source->chat_template, strlen(source->chat_template)},
    };
    XXH64_state_t state;
    XXH64_reset(&state, 0);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i].size)
            XXH64_update(&state, parts[i].data, parts[i].size);
    return XXH64_digest(&state);
}

void var_tensor_forget(const struct var_tensor *t)
{
    if (t->type)
        forget_pages(t->data, (size_t)t->rows * (t->cols / t->type->block) * t->type->bytes);
}

/* One size of the model and the range that a pack can hold. */
struct limit {
    const char *name;
    uint64_t value, min, max;
};

static int check_limits(const struct var_source *src, struct ert_error *err)
{
    const struct rt_model *m = &src->model;
    const struct limit limits[] = {
        {"layers", m->n_layers, 1, 1024},       {"embedding width", m->n_embd, 1, 1 << 16},
        {"heads", m->n_heads, 1, 1024},         {"KV heads", m->n_kv_heads, 1, m->n_heads},
        {"head width", m->head_dim, 2, 1024},   {"feed-forward width", m->n_ff, 1, 1 << 20},
        {"vocabulary", m->n_vocab, 1, 1 << 22}, {"context length", m->n_ctx, 1, 1 << 20},
    };
    for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
        if (limits[i].value < limits[i].min || limits[i].value > limits[i].max)
            return ert_fail(
                err, ERT_E_FORMAT,
                "%s: %s of the model is %llu, expected %llu to %llu; the file is damaged "
                "or no model",
                src->path, limits[i].name, (unsigned long long)limits[i].value,
                (unsigned long long)limits[i].min, (unsigned long long)limits[i].max);
    return 0;
}

int var_source_check_model(struct var_source *src, struct ert_error *err)
{
    struct rt_model *m = &src->model;
    int rc = check_limits(src, err);
    if (rc)
        return rc;
    if (m->n_heads % m->n_kv_heads != 0)
        return ert_fail(err, ERT_E_FORMAT,
                        "%s: %u heads are not a multiple of %u KV heads; the file is damaged",
                        src->path, m->n_heads, m->n_kv_heads);
    if (m->head_dim % 2 != 0)
        return ert_fail(err, ERT_E_UNSUPPORTED,
                        "%s: head width %u is odd; RoPE needs pairs, use another model", src->path,
                        m->head_dim);
    if (!(m->rms_eps >= 0) || m->rms_eps > 1 || !(m->rope_theta >= 1) || !isfinite(m->rope_theta))
        return ert_fail(
            err, ERT_E_FORMAT,
            "%s: RMS epsilon %g or RoPE base %g is out of range (0 to 1, at least 1); the "
            "file is damaged",
            src->path, (double)m->rms_eps, (double)m->rope_theta);
    m->n_embd_pad = pack_pad(m->n_embd, PACK_GROUP);
    m->head_pad = pack_pad(m->head_dim, PACK_GROUP);
    m->n_vocab_pad = pack_pad(m->n_vocab, PACK_TILE);
    return 0;
}

void var_source_limit_context(struct var_source *src, uint32_t window)
{
    if (window == 0 || window >= src->model.n_ctx)
        return;
    src->n_ctx_whole = src->model.n_ctx;
    src->model.n_ctx = window;
}

/* Index of the first weight of a row that is no number of at most `most`; n if all are. */
static uint32_t first_bad(const float *row, uint32_t n, float most)
{
    uint32_t i = 0;
    while (i < n && fabsf(row[i]) <= most)
        i++;
    return i;
}

int var_source_fail_weight(const struct var_source *src, const struct var_tensor *t, float most,
                           struct ert_error *err)
{
    struct var_tensor as_stored = *t;
    float *row = malloc(t->cols * sizeof *row);
    char place[64] = "";
    as_stored.halves = 0;
    for (uint32_t r = 0; row && r < t->rows && !*place; r++) {
        var_tensor_row(&as_stored, r, row);
        uint32_t c = first_bad(row, t->cols, most);
        if (c < t->cols)
            snprintf(place, sizeof place, ", %g at row %u, column %u", (double)row[c], r, c);
    }
    free(row);
    return ert_fail(err, ERT_E_FORMAT,
                    "%s: tensor '%s' holds a weight that is no number below %g%s; the file is "
                    "damaged or the model broken",
                    src->path, t->name, (double)most, place);
}

/* The type of most weights speaks for the file. No single tensor could: a mix like Q4_K_M keeps V
 * and down of every few layers at more bits. */
void var_source_describe_type(struct var_source *src)
{
    uint64_t weights[VAR_TYPE_NUMBERS] = {0};
    const struct var_type *most = NULL;
    for (uint32_t l = 0; l < src->model.n_layers; l++)
        for (int p = 0; p < VAR_N_PARTS; p++) {
            const struct var_tensor *t = &src->layers[l].part[p];
            if (!t->type)
                continue;
            weights[t->type->id] += (uint64_t)t->rows * t->cols;
            most = !most || weights[t->type->id] > weights[most->id] ? t->type : most;
        }
    if (!most)
        return;
    snprintf(src->type, sizeof src->type, "%s", most->name);
    src->grid = most->grid;
}
