/* Opening a source, and what both formats share. */
#include "variants/source.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/pack_format.h"

int var_source_open(struct var_source **source, const char *path, const char *tokenizer,
                    struct ert_error *err)
{
    *source = NULL;
    struct var_source *src = calloc(1, sizeof *src);
    if (!src)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory", path);
    src->map.fd = -1;
    src->path = strdup(path);
    int rc = src->path ? ert_map_open(&src->map, path, err)
                       : ert_fail(err, ERT_E_NOMEM, "%s: no memory", path);
    if (!rc)
        rc = tokenizer ? var_source_read_llama2c(src, tokenizer, err)
                       : var_source_read_gguf(src, err);
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
    ert_map_close(&source->map);
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

int var_vocab_reserve(struct var_source *src, uint32_t n, size_t text_bytes, struct ert_error *err)
{
    struct var_vocab_store *s = &src->store;
    if (text_bytes > UINT32_MAX)
        return ert_fail(err, ERT_E_FORMAT, "%s: token texts of %zu bytes; the file is damaged",
                        src->path, text_bytes);
    s->offset = calloc((size_t)n + 1, sizeof *s->offset);
    s->text = malloc(text_bytes + 1);
    s->score = calloc(n + 1, sizeof *s->score);
    s->type = malloc(n + 1);
    if (!s->offset || !s->text || !s->score || !s->type)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for %u tokens", src->path, n);
    memset(s->type, RT_TOKEN_NORMAL, n);
    src->vocab.n_tokens = n;
    src->vocab.offset = s->offset;
    src->vocab.text = s->text;
    src->vocab.score = s->score;
    src->vocab.type = s->type;
    return 0;
}
