/* llama2.c's legacy FP32 export (github.com/karpathy/llama2.c, export.py and run.c): seven int32,
 * then the weights matrix kind by matrix kind, and a tokenizer file of scores and texts beside it.
 */
#include "variants/vocab.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER_BYTES = 28, BOS = 1, EOS = 2 };

static const char *const part_names[VAR_N_PARTS] = {
    [VAR_NORM_ATTN] = "rms_att_weight",
    [VAR_NORM_MLP] = "rms_ffn_weight",
    [VAR_Q] = "wq",
    [VAR_K] = "wk",
    [VAR_V] = "wv",
    [VAR_O] = "wo",
    [VAR_GATE] = "w1",
    [VAR_UP] = "w3",
    [VAR_DOWN] = "w2",
};

/* The next tensor of the file; `at` moves on. */
static int take_tensor(struct var_source *src, size_t *at, const char *name, uint32_t rows,
                       uint32_t cols, struct var_tensor *t, struct ert_error *err)
{
    uint64_t bytes = (uint64_t)rows * cols * sizeof(float);
    if (bytes > src->maps[0].size - *at)
        return ert_fail(
            err, ERT_E_FORMAT,
            "%s: offset %zu: %s needs %llu bytes and the file ends at %zu; it is truncated "
            "or no llama2.c model",
            src->path, *at, name, (unsigned long long)bytes, src->maps[0].size);
    *t = (struct var_tensor){name, var_type_of(0), src->maps[0].data + *at, rows, cols, 0};
    *at += bytes;
    return 0;
}

static int read_header(struct var_source *src, bool *tied, struct ert_error *err)
{
    int32_t h[7];
    if (src->maps[0].size < HEADER_BYTES)
        return ert_fail(err, ERT_E_FORMAT, "%s: %zu bytes are too few for a llama2.c model",
                        src->path, src->maps[0].size);
    memcpy(h, src->maps[0].data, sizeof h);
    *tied = h[5] > 0;
    for (int i = 0; i < 7; i++)
        if (h[i] == 0 || (h[i] < 0 && i != 5) || h[i] == INT32_MIN)
            return ert_fail(err, ERT_E_FORMAT,
                            "%s: offset %d: header field %d is %d, a positive number was expected; "
                            "only the legacy FP32 export of llama2.c is read",
                            src->path, 4 * i, i, h[i]);
    struct rt_model *m = &src->model;
    m->n_embd = (uint32_t)h[0];
    m->n_ff = (uint32_t)h[1];
    m->n_layers = (uint32_t)h[2];
    m->n_heads = (uint32_t)h[3];
    m->n_kv_heads = (uint32_t)h[4];
    m->n_vocab = (uint32_t)abs(h[5]);
    m->n_ctx = (uint32_t)h[6];
    m->tied = *tied;
    m->rope_theta = 10000.0f;
    m->rms_eps = 1e-5f;
    if (m->n_embd % m->n_heads != 0)
        return ert_fail(err, ERT_E_FORMAT, "%s: offset 0: width %u is not a multiple of %u heads",
                        src->path, m->n_embd, m->n_heads);
    m->head_dim = m->n_embd / m->n_heads;
    return var_source_check_model(src, err);
}

/* All layers of one kind of matrix lie together. */
static int take_part(struct var_source *src, size_t *at, enum var_part part, uint32_t rows,
                     uint32_t cols, struct ert_error *err)
{
    int rc = 0;
    for (uint32_t l = 0; l < src->model.n_layers && !rc; l++)
        rc = take_tensor(src, at, part_names[part], rows, cols, &src->layers[l].part[part], err);
    return rc;
}

static int read_weights(struct var_source *src, struct ert_error *err)
{
    const struct rt_model *m = &src->model;
    uint32_t kv = m->n_kv_heads * m->head_dim;
    size_t at = HEADER_BYTES;
    const struct {
        enum var_part part;
        uint32_t rows, cols;
    } order[] = {
        {VAR_NORM_ATTN, 1, m->n_embd},  {VAR_Q, m->n_embd, m->n_embd},
        {VAR_K, kv, m->n_embd},         {VAR_V, kv, m->n_embd},
        {VAR_O, m->n_embd, m->n_embd},  {VAR_NORM_MLP, 1, m->n_embd},
        {VAR_GATE, m->n_ff, m->n_embd}, {VAR_DOWN, m->n_embd, m->n_ff},
        {VAR_UP, m->n_ff, m->n_embd},
    };
    int rc =
        take_tensor(src, &at, "token_embedding_table", m->n_vocab, m->n_embd, &src->embed, err);
    for (size_t i = 0; i < sizeof order / sizeof order[0] && !rc; i++)
        rc = take_part(src, &at, order[i].part, order[i].rows, order[i].cols, err);
    if (!rc)
        rc = take_tensor(src, &at, "rms_final_weight", 1, m->n_embd, &src->norm_final, err);
    struct var_tensor tables; /* cos and sin of RoPE, which the runtime computes itself */
    if (!rc)
        rc = take_tensor(src, &at, "freq_cis", m->n_ctx, m->head_dim, &tables, err);
    src->head = src->embed;
    if (!rc && !m->tied)
        rc = take_tensor(src, &at, "wcls", m->n_vocab, m->n_embd, &src->head, err);
    if (!rc && at != src->maps[0].size)
        rc = ert_fail(
            err, ERT_E_FORMAT,
            "%s: offset %zu: %zu bytes after the last tensor; this is no legacy FP32 export "
            "of llama2.c",
            src->path, at, src->maps[0].size - at);
    return rc;
}

/* One record of the tokenizer file. */
struct piece {
    float score;
    uint32_t n;
    const char *text;
};

static int next_piece(const char *path, const struct ert_map *map, size_t *at, struct piece *p,
                      struct ert_error *err)
{
    size_t left = map->size - *at;
    if (left >= 8) {
        memcpy(&p->score, map->data + *at, 4);
        memcpy(&p->n, map->data + *at + 4, 4);
        p->text = (const char *)map->data + *at + 8;
        if (p->n <= left - 8) {
            *at += 8 + p->n;
            return 0;
        }
    }
    return ert_fail(err, ERT_E_FORMAT,
                    "%s: offset %zu: the file ends inside a token; it is truncated or belongs to a "
                    "model with another vocabulary",
                    path, *at);
}

/* SentencePiece writes a space as U+2581, which the export turned into ' '. */
static size_t copy_piece(const struct piece *p, char *out)
{
    size_t n = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        if (p->text[i] == ' ')
            n += ert_utf8_encode(0x2581, out + n);
        else
            out[n++] = p->text[i];
    }
    return n;
}

static enum rt_token_type type_of(uint32_t id, const struct piece *p)
{
    if (id == 0)
        return RT_TOKEN_UNKNOWN;
    if (id == BOS || id == EOS)
        return RT_TOKEN_CONTROL;
    return p->n == 6 && memcmp(p->text, "<0x", 3) == 0 && p->text[5] == '>' ? RT_TOKEN_BYTE
                                                                            : RT_TOKEN_NORMAL;
}

static int read_tokenizer(struct var_source *src, const char *path, const struct ert_map *map,
                          struct ert_error *err)
{
    uint32_t n = src->model.n_vocab;
    if (map->size < 4 + 8 * (size_t)n)
        return ert_fail(err, ERT_E_FORMAT, "%s: %zu bytes are too few for %u tokens", path,
                        map->size, n);
    int rc = var_vocab_reserve(src, n, 3 * map->size, err);
    size_t at = 4, used = 0;
    for (uint32_t i = 0; i < n && !rc; i++) {
        struct piece p = {0};
        rc = next_piece(path, map, &at, &p, err);
        if (rc)
            break;
        src->store.offset[i] = (uint32_t)used;
        used += copy_piece(&p, src->store.text + used);
        src->store.score[i] = isfinite(p.score) ? p.score : 0;
        src->store.type[i] = (uint8_t)type_of(i, &p);
    }
    if (!rc)
        src->store.offset[n] = (uint32_t)used;
    return rc;
}

static void describe_vocab(struct rt_vocab *v)
{
    snprintf(v->model, sizeof v->model, "llama");
    v->bos = BOS;
    v->eos[0] = EOS;
    v->n_eos = 1;
    v->unk = 0;
    v->add_bos = true;
    v->add_space_prefix = true;
}

int var_source_read_llama2c(struct var_source *src, const char *tokenizer, struct ert_error *err)
{
    bool tied;
    int rc = read_header(src, &tied, err);
    if (rc)
        return rc;
    src->layers = calloc(src->model.n_layers, sizeof *src->layers);
    src->chat_template = strdup("");
    if (!src->layers || !src->chat_template)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory", src->path);
    rc = read_weights(src, err);
    if (rc)
        return rc;
    struct ert_map map;
    rc = ert_map_open(&map, tokenizer, err);
    if (rc)
        return rc;
    rc = read_tokenizer(src, tokenizer, &map, err);
    ert_map_close(&map);
    describe_vocab(&src->vocab);
    const char *base = strrchr(src->path, '/');
    snprintf(src->model.name, sizeof src->model.name, "%.127s", base ? base + 1 : src->path);
    snprintf(src->model.arch, sizeof src->model.arch, "llama");
    snprintf(src->type, sizeof src->type, "F32");
    return rc;
}
