#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

/* edgert.h stands on its own; its codes are base's. */
_Static_assert((int)ERT_FAILED_NOMEM == ERT_E_NOMEM && (int)ERT_FAILED_IO == ERT_E_IO &&
                   (int)ERT_FAILED_MISSING == ERT_E_MISSING &&
                   (int)ERT_FAILED_FORMAT == ERT_E_FORMAT &&
                   (int)ERT_FAILED_UNSUPPORTED == ERT_E_UNSUPPORTED &&
                   (int)ERT_FAILED_RANGE == ERT_E_RANGE && (int)ERT_FAILED_USAGE == ERT_E_USAGE &&
                   (int)ERT_FAILED_CHECK == ERT_E_CHECK &&
                   (int)ERT_FAILED_CANCELLED == ERT_E_CANCELLED &&
                   (int)ERT_FAILED_FULL == ERT_E_FULL,
               "failure codes");

int engine_failed(struct ert_failure *why, const struct ert_error *err)
{
    if (why) {
        why->code = (int)err->code;
        snprintf(why->text, sizeof why->text, "%s", err->text);
    }
    return -(int)err->code;
}

int ert_model_open(struct ert_model **out, const char *name, struct ert_failure *why)
{
    struct ert_error err = {0};
    char *path = NULL;
    struct ert_model *model = calloc(1, sizeof *model);
    *out = NULL;
    if (!model) {
        ert_fail(&err, ERT_E_NOMEM, "out of memory for a model");
        goto fail;
    }
    if (layers_find_model(name, &path, &err) || rt_pack_open(&model->pack, path, &err) ||
        rt_tokenizer_create(&model->tokenizer, &model->pack->vocab, &err))
        goto fail;
    if (model->pack->chat_template[0])
        model->chat = rt_chat_recognise(model->pack->chat_template);
    free(path);
    *out = model;
    return 0;
fail:
    free(path);
    ert_model_free(model);
    return engine_failed(why, &err);
}

void ert_model_free(struct ert_model *model)
{
    if (!model)
        return;
    rt_tokenizer_free(model->tokenizer);
    rt_pack_free(model->pack);
    free(model);
}

const char *ert_model_name(const struct ert_model *model)
{
    return model->pack->model.name;
}

const char *ert_model_path(const struct ert_model *model)
{
    return model->pack->path;
}
