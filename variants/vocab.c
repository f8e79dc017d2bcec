#include "variants/vocab.h"

#include <stdlib.h>
#include <string.h>

int var_vocab_reserve(struct var_source *src, uint32_t n, size_t text_bytes, struct ert_error *err)
{
    struct var_vocab_store *s = &src->store;
    if (text_bytes > UINT32_MAX)
        return ert_fail(err, ERT_E_FORMAT, "%s: token texts of %zu bytes; the file is damaged",
                        src->path, text_bytes);
    s->offset = calloc((size_t)n + 1, sizeof *s->offset);
    s->text = malloc(text_bytes + 1);
    s->score = calloc((size_t)n + 1, sizeof *s->score);
    s->type = malloc((size_t)n + 1);
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

int var_vocab_reserve_merges(struct var_source *src, uint32_t n, struct ert_error *err)
{
    src->store.merge = malloc(((size_t)n + 1) * sizeof *src->store.merge);
    if (!src->store.merge)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for %u merges", src->path, n);
    src->vocab.n_merges = n;
    src->vocab.merge = (const uint32_t(*)[2])src->store.merge;
    return 0;
}

/* ---- looking up ---------------------------------------------------------------------------- */

static int compare_texts(const char *a, size_t n_a, const char *b, size_t n_b)
{
    int order = memcmp(a, b, n_a < n_b ? n_a : n_b);
    return order ? order : (n_a > n_b) - (n_a < n_b);
}

static size_t length_of(const struct rt_vocab *v, uint32_t id)
{
    return v->offset[id + 1] - v->offset[id];
}

static int compare_tokens(const void *a, const void *b, void *vocab)
{
    const struct rt_vocab *v = vocab;
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return compare_texts(v->text + v->offset[x], length_of(v, x), v->text + v->offset[y],
                         length_of(v, y));
}

struct var_token_index var_token_index(const struct rt_vocab *v)
{
    struct var_token_index index = {v, malloc(((size_t)v->n_tokens + 1) * sizeof *index.ids)};
    for (uint32_t i = 0; index.ids && i < v->n_tokens; i++)
        index.ids[i] = i;
    if (index.ids)
        qsort_r(index.ids, v->n_tokens, sizeof *index.ids, compare_tokens, (void *)(uintptr_t)v);
    return index;
}

int64_t var_token_find(const struct var_token_index *index, const char *text, size_t n)
{
    const struct rt_vocab *v = index->vocab;
    uint32_t low = 0, high = v->n_tokens;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2, id = index->ids[middle];
        int order = compare_texts(v->text + v->offset[id], length_of(v, id), text, n);
        if (order == 0)
            return id;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return -1;
}

/* ---- ends ---------------------------------------------------------------------------------- */

void var_vocab_add_eos(struct rt_vocab *v, int64_t id)
{
    for (uint32_t i = 0; i < v->n_eos; i++)
        if (v->eos[i] == id)
            return;
    if (id >= 0 && v->n_eos < sizeof v->eos / sizeof v->eos[0])
        v->eos[v->n_eos++] = (int32_t)id;
}

void var_vocab_add_known_ends(struct rt_vocab *v)
{
    static const char *const ends[] = {"<|im_end|>",    "<|eot_id|>",    "<|end|>",
                                       "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>"};
    for (uint32_t id = 0; id < v->n_tokens; id++)
        for (size_t e = 0; e < sizeof ends / sizeof ends[0]; e++)
            if (v->type[id] == RT_TOKEN_CONTROL &&
                compare_texts(v->text + v->offset[id], length_of(v, id), ends[e],
                              strlen(ends[e])) == 0)
                var_vocab_add_eos(v, id);
}
