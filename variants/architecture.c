#include "variants/architecture.h"

#include <stdlib.h>
#include <string.h>

enum { MAX_TENSOR_NAME = 64 };

#define ORDER_PAIRS  false
#define ORDER_HALVES true
static const struct var_architecture architectures[] = {
#define A(name, hf, order, bias, norm) {name, hf, ORDER_##order, VAR_##bias, VAR_##norm},
#include "runtime/architectures.def"
#undef A
};

enum { N_ARCHITECTURES = sizeof architectures / sizeof architectures[0] };

const struct var_model_names var_model_names[] = {
    [VAR_NAMES_GGUF] = {"token_embd.weight", "output.weight", "output_norm.weight"},
    [VAR_NAMES_HF] = {"model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"},
};

static const char *const layer_prefixes[] = {
    [VAR_NAMES_GGUF] = "blk",
    [VAR_NAMES_HF] = "model.layers",
};

static const char *called(enum var_naming naming, int i)
{
    return naming == VAR_NAMES_GGUF ? architectures[i].name : architectures[i].hf;
}

const struct var_architecture *var_architecture_of(enum var_naming naming, const char *name)
{
    for (int i = 0; i < N_ARCHITECTURES; i++)
        if (strcmp(called(naming, i), name) == 0)
            return &architectures[i];
    return NULL;
}

void var_architecture_list(enum var_naming naming, char *text, size_t room)
{
    size_t used = 0;
    for (int i = 0; i < N_ARCHITECTURES && used < room; i++) {
        if (var_architecture_of(naming, called(naming, i)) != &architectures[i])
            continue; /* a second row of the same name */
        int n = snprintf(text + used, room - used, "%s%s", i ? ", " : "", called(naming, i));
        used += n > 0 ? (size_t)n : 0;
    }
}

/* ---- tensors ------------------------------------------------------------------------------- */

enum extent { ONE, EMBD, HEADS, KV_HEADS, HEAD, FF };
enum condition { ALWAYS, BIAS, NORM };

static const struct part {
    const char *names[2]; /* by enum var_naming */
    enum extent rows, cols;
    bool turned;
    enum condition condition;
} parts[VAR_N_PARTS] = {
#define P(id, gguf, hf, rows, cols, turned, need)                                                  \
    [VAR_##id] = {{gguf, hf}, rows, cols, turned, need},
#include "variants/parts.def"
#undef P
};

static uint32_t extent_of(const struct rt_model *m, enum extent e)
{
    switch (e) {
    case ONE:
        return 1;
    case EMBD:
        return m->n_embd;
    case HEADS:
        return m->n_heads * m->head_dim;
    case KV_HEADS:
        return m->n_kv_heads * m->head_dim;
    case HEAD:
        return m->head_dim;
    case FF:
        return m->n_ff;
    }
    return 0;
}

static enum var_need need_of(const struct var_architecture *a, enum condition c)
{
    return c == BIAS ? a->biases : c == NORM ? a->norms : VAR_MUST;
}

/* What the functions here pass along. */
struct taker {
    struct var_source *src;
    const struct var_architecture *architecture;
    enum var_naming naming;
    bool halves;
    const struct var_tensors *from;
    struct ert_error *err;
};

static int take_part(const struct taker *t, uint32_t layer, enum var_part p, char *name)
{
    const struct part *part = &parts[p];
    const struct rt_model *m = &t->src->model;
    enum var_need need = need_of(t->architecture, part->condition);
    struct var_tensor *out = &t->src->layers[layer].part[p];
    snprintf(name, MAX_TENSOR_NAME, "%s.%u.%s", layer_prefixes[t->naming], layer,
             part->names[t->naming]);
    if (need == VAR_NOT || (need == VAR_MAY && !t->from->has(t->from->ctx, name)))
        return 0;
    out->name = name;
    int rc =
        t->from->take(t->from->ctx, name, extent_of(m, part->rows), extent_of(m, part->cols), out);
    if (rc)
        return rc;
    out->halves = part->turned && t->halves ? m->head_dim : 0;
    if (out->halves && out->rows == 1 && out->type->block != 1)
        return ert_fail(t->err, ERT_E_UNSUPPORTED,
                        "%s: tensor '%s' is of type %s; biases and norms of heads are read as F32, "
                        "F16 or BF16: convert the model to one of these",
                        t->src->path, name, out->type->name);
    return 0;
}

static int take_whole(const struct taker *t, const char *name, uint32_t rows,
                      struct var_tensor *out)
{
    out->name = name;
    return t->from->take(t->from->ctx, name, rows, t->src->model.n_embd, out);
}

int var_take_tensors(struct var_source *src, const struct var_architecture *a,
                     enum var_naming naming, bool halves, const struct var_tensors *from,
                     struct ert_error *err)
{
    const struct taker t = {src, a, naming, halves, from, err};
    const struct rt_model *m = &src->model;
    const struct var_model_names *names = &var_model_names[naming];
    src->layers = calloc(m->n_layers, sizeof *src->layers);
    src->names = calloc((size_t)m->n_layers * VAR_N_PARTS, MAX_TENSOR_NAME);
    if (!src->layers || !src->names)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for %u layers", src->path, m->n_layers);
    int rc = take_whole(&t, names->embed, m->n_vocab, &src->embed);
    if (!rc)
        rc = take_whole(&t, names->norm_final, 1, &src->norm_final);
    src->head = src->embed;
    if (!rc && !m->tied)
        rc = take_whole(&t, names->head, m->n_vocab, &src->head);
    char *name = src->names;
    for (uint32_t l = 0; l < m->n_layers; l++)
        for (int p = 0; p < VAR_N_PARTS && !rc; p++, name += MAX_TENSOR_NAME)
            rc = take_part(&t, l, (enum var_part)p, name);
    return rc;
}
