#include "engine/engine.h"

#include <stdlib.h>
#include <string.h>

/* A list of ids that grows. */
struct ids {
    int32_t *id;
    size_t n;
};

/* Appends the encoding of text[0..n). */
static int append(struct ids *ids, const struct rt_tokenizer *t, const char *text, size_t n,
                  unsigned flags, struct ert_error *err)
{
    int32_t *more = NULL;
    size_t n_more = 0;
    int rc = n ? rt_encode(t, text, n, flags, &more, &n_more, err) : 0;
    if (rc || n_more == 0)
        goto out;
    int32_t *grown = realloc(ids->id, (ids->n + n_more) * sizeof *grown);
    if (!grown) {
        rc =
            ert_fail(err, ERT_E_NOMEM, "out of memory for a prompt of %zu tokens", ids->n + n_more);
        goto out;
    }
    ids->id = grown;
    memcpy(grown + ids->n, more, n_more * sizeof *grown);
    ids->n += n_more;
out:
    free(more);
    return rc;
}

/* A later turn: the format's text from the end of the last answer on. What came before is in the
 * cache as it was said and must not be encoded anew, so a stand-in dialogue is rendered and cut. */
static int append_turn(struct ids *ids, const struct ert_conversation *talk, const char *text,
                       struct ert_error *err)
{
    const struct ert_model *model = talk->engine->model;
    const struct rt_message messages[] = {{"user", "-"}, {"assistant", "-"}, {"user", text}};
    char *rendered = NULL;
    struct rt_span *spans = NULL;
    size_t n_spans = 0;
    int rc = rt_chat_render(model->chat, messages, 3, true, &rendered, &spans, &n_spans, err);
    if (!rc && n_spans < 2)
        rc = ert_fail(err, ERT_E_UNSUPPORTED, "the chat format %s cannot continue a dialogue",
                      rt_chat_name(model->chat));
    if (rc)
        goto out;
    struct rt_span answer = spans[n_spans - 2], user = spans[n_spans - 1];
    if (!*text) /* an empty message leaves no span */
        answer = user, user = (struct rt_span){user.offset + user.length, 0};
    size_t from = answer.offset + answer.length, after = user.offset + user.length;
    rc = append(ids, model->tokenizer, rendered + from, user.offset - from, RT_ENCODE_SPECIAL, err);
    if (!rc)
        rc = append(ids, model->tokenizer, text, user.length, 0, err);
    if (!rc)
        rc = append(ids, model->tokenizer, rendered + after, strlen(rendered + after),
                    RT_ENCODE_SPECIAL, err);
out:
    free(rendered);
    free(spans);
    return rc;
}

/* The first turn of a chat, with the system message if there is one. */
static int first_turn(struct ids *ids, const struct ert_conversation *talk, const char *text,
                      struct ert_error *err)
{
    const struct ert_model *model = talk->engine->model;
    const struct rt_message messages[] = {{"system", talk->system}, {"user", text}};
    size_t skip = talk->system ? 0 : 1;
    return rt_chat_encode(model->tokenizer, model->chat, messages + skip, 2 - skip, true, &ids->id,
                          &ids->n, err);
}

int turn_encode(const struct ert_conversation *talk, const char *text, int32_t **out, size_t *n,
                struct ert_error *err)
{
    const struct ert_model *model = talk->engine->model;
    bool begins = rt_session_position(talk->session) == 0;
    struct ids ids = {NULL, 0};
    int rc = 0;
    *out = NULL;
    *n = 0;
    if (talk->pending >= 0) {
        ids.id = malloc(sizeof *ids.id);
        if (!ids.id)
            return ert_fail(err, ERT_E_NOMEM, "out of memory for a prompt");
        ids.id[ids.n++] = talk->pending;
    }
    if (talk->raw || !model->chat)
        rc = append(&ids, model->tokenizer, text, strlen(text), begins ? RT_ENCODE_BOS : 0, err);
    else if (begins)
        rc = first_turn(&ids, talk, text, err);
    else
        rc = append_turn(&ids, talk, text, err);
    if (!rc && ids.n == 0)
        rc = ert_fail(err, ERT_E_USAGE, "the prompt is empty");
    if (rc) {
        free(ids.id);
        return rc;
    }
    *out = ids.id;
    *n = ids.n;
    return 0;
}
