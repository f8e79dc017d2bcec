/* Perplexity of a text, in windows as llama.cpp's perplexity tool cuts and scores them. */
#include <stdlib.h>
#include <string.h>

#include "variants/measure.h"

enum { WINDOW = 512, MIN_WINDOW = 4 };

static int check_config(const struct rt_pack *pack, const struct var_eval_config *c,
                        uint32_t window, struct ert_error *err)
{
    if (c->n_schedule == 0 || c->schedule[0].token != 0)
        return ert_fail(err, ERT_E_USAGE, "a schedule needs a point for token 0");
    for (size_t i = 0; i < c->n_schedule; i++) {
        if (i > 0 && c->schedule[i].token <= c->schedule[i - 1].token)
            return ert_fail(err, ERT_E_USAGE, "schedule entry %zu: token %u does not come after %u",
                            i + 1, c->schedule[i].token, c->schedule[i - 1].token);
        if (c->schedule[i].point.pause)
            return ert_fail(err, ERT_E_USAGE, "schedule entry %zu: 'pause' computes nothing",
                            i + 1);
    }
    if (window < MIN_WINDOW || window > pack->model.n_ctx)
        return ert_fail(err, ERT_E_RANGE,
                        "a window of %u tokens; %d to %u (the model's context) work", window,
                        MIN_WINDOW, pack->model.n_ctx);
    if (c->reference && c->reference->kind != RT_PACK_F32)
        return ert_fail(
            err, ERT_E_USAGE,
            "%s: a reference must be an f32 pack: build one from the source with f32 set",
            c->reference->path);
    return 0;
}

static int encode_text(const struct rt_pack *pack, const struct var_eval_config *c, int32_t **ids,
                       size_t *n, struct ert_error *err)
{
    struct rt_tokenizer *tokenizer;
    int rc = rt_tokenizer_create(&tokenizer, &pack->vocab, err);
    if (rc)
        return rc;
    rc = rt_encode(tokenizer, c->text, c->n_text, RT_ENCODE_BOS, ids, n, err);
    rt_tokenizer_free(tokenizer);
    return rc;
}

int var_eval(const struct rt_pack *pack, struct rt_team *team, const struct var_eval_config *config,
             struct var_eval_result *result, struct ert_error *err)
{
    struct var_windows windows = {.length = config->window ? config->window : WINDOW,
                                  .reference = config->reference};
    int rc = check_config(pack, config, windows.length, err);
    int32_t *ids = NULL;
    size_t n = 0;
    if (!rc)
        rc = encode_text(pack, config, &ids, &n, err);
    if (rc)
        return rc;
    size_t n_windows = n / windows.length;
    if (config->max_windows && n_windows > config->max_windows)
        n_windows = config->max_windows;
    windows.n = (uint32_t)n_windows;
    windows.ids = ids;
    for (size_t w = 0; w < n_windows && pack->vocab.add_bos; w++)
        ids[w * windows.length] = pack->vocab.bos;
    struct var_measured point = {pack, config->schedule, config->n_schedule, {0}};
    if (n_windows == 0)
        rc =
            ert_fail(err, ERT_E_RANGE,
                     "the text has %zu tokens, less than one window of %u; give a longer text or a "
                     "smaller window",
                     n, windows.length);
    else
        rc = var_measure(&point, 1, &windows, team, &config->progress, err);
    *result = point.result;
    free(ids);
    return rc;
}
