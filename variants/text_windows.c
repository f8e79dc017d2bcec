#include "variants/text_windows.h"

#include <stdlib.h>

enum { WINDOW = 512, MIN_WINDOW = 4 };

static int check_config(const struct rt_pack *pack, const struct var_eval_config *c,
                        uint32_t window, struct ert_error *err)
{
    const struct rt_pack *reference = c->reference;
    if (window < MIN_WINDOW || window > pack->model.n_ctx)
        return ert_fail(err, ERT_E_RANGE,
                        "a window of %u tokens; %d to %u (the model's context) work", window,
                        MIN_WINDOW, pack->model.n_ctx);
    if (reference && reference->model.n_vocab != pack->model.n_vocab)
        return ert_fail(err, ERT_E_USAGE,
                        "%s: its vocabulary of %u tokens differs from that of %s (%u); give a "
                        "reference made from the same source",
                        reference->path, reference->model.n_vocab, pack->path, pack->model.n_vocab);
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

int var_text_windows(const struct rt_pack *pack, const struct var_eval_config *c,
                     struct var_windows *windows, int32_t **ids, struct ert_error *err)
{
    size_t n;
    *ids = NULL;
    *windows = (struct var_windows){.length = c->window ? c->window : WINDOW};
    int rc = check_config(pack, c, windows->length, err);
    if (!rc)
        rc = encode_text(pack, c, ids, &n, err);
    if (rc)
        return rc;
    size_t n_windows = n / windows->length;
    if (n_windows == 0)
        return ert_fail(err, ERT_E_RANGE,
                        "the text has %zu tokens, less than one window of %u; give a longer text "
                        "or a smaller window",
                        n, windows->length);
    if (c->max_windows && n_windows > c->max_windows)
        n_windows = c->max_windows;
    for (size_t w = 0; w < n_windows && pack->vocab.add_bos; w++)
        (*ids)[w * windows->length] = pack->vocab.bos;
    windows->n = (uint32_t)n_windows;
    windows->ids = *ids;
    return 0;
}

int var_measure_windows(const struct var_eval_config *config, const struct var_windows *windows,
                        struct var_measured *points, size_t n, struct rt_team *team,
                        struct ert_error *err)
{
    struct var_reference reference = {0};
    int rc = 0;
    if (config->reference)
        rc = var_reference_open(&reference, config->reference, windows, team, err);
    if (!rc)
        rc = var_measure(points, n, windows, config->reference ? &reference : NULL, team,
                         &config->progress, err);
    var_reference_close(&reference);
    return rc;
}
