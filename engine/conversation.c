#include "engine/engine.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* A model may promise a million positions, which a small device has no memory for. */
enum { DEFAULT_CONTEXT = 4096 };

void ert_conversation_defaults(struct ert_conversation_options *options)
{
    const struct rt_sampler_config sampler = RT_SAMPLER_DEFAULT;
    *options = (struct ert_conversation_options){.temperature = sampler.temperature,
                                                 .top_k = sampler.top_k,
                                                 .top_p = sampler.top_p,
                                                 .min_p = sampler.min_p,
                                                 .repeat_penalty = sampler.repeat_penalty,
                                                 .seed = sampler.seed};
}

static int create_sampler(struct ert_conversation *talk,
                          const struct ert_conversation_options *options, struct ert_error *err)
{
    struct rt_sampler_config config = RT_SAMPLER_DEFAULT;
    config.temperature = options->temperature;
    config.top_k = options->top_k;
    config.top_p = options->top_p;
    config.min_p = options->min_p;
    config.repeat_penalty = options->repeat_penalty;
    config.seed = options->seed;
    return rt_sampler_create(&talk->sampler, &config, talk->engine->model->pack->model.n_vocab,
                             err);
}

/* As many positions as are asked for, else as are usual and fit; says what was given up. */
static int fit_context(struct ert_conversation *talk, struct rt_session_config *config,
                       struct ert_error *err)
{
    struct ert_engine *engine = talk->engine;
    const struct rt_pack *pack = engine->model->pack;
    uint32_t most = pack->model.n_ctx < DEFAULT_CONTEXT ? pack->model.n_ctx : DEFAULT_CONTEXT;
    uint32_t asked = config->n_ctx ? config->n_ctx : most;
    char words[sizeof engine->notice];
    int rc = 0;
    if (engine->ceiling.bytes)
        rc = ceiling_take(&engine->ceiling, config, most, pack, engine->team, &talk->memory, err);
    else
        config->n_ctx = asked;
    if (rc)
        return rc;
    ceiling_words(&engine->ceiling, config->n_ctx, asked, words, sizeof words);
    if (words[0])
        engine_tell(engine, words);
    return 0;
}

int ert_conversation_open(struct ert_conversation **out, struct ert_engine *engine,
                          const struct ert_conversation_options *options, struct ert_failure *why)
{
    struct ert_error err = {0};
    struct ert_conversation_options defaults;
    struct ert_conversation *talk = calloc(1, sizeof *talk);
    *out = NULL;
    if (!talk) {
        ert_fail(&err, ERT_E_NOMEM, "out of memory for a conversation");
        goto fail;
    }
    talk->engine = engine;
    ert_conversation_defaults(&defaults);
    if (!options)
        options = &defaults;
    talk->raw = options->raw;
    talk->pending = -1;
    talk->applied = -1;
    if (options->system && !(talk->system = strdup(options->system))) {
        ert_fail(&err, ERT_E_NOMEM, "out of memory for the system message");
        goto fail;
    }
    struct rt_session_config config = {.n_ctx = options->n_ctx, .cache_bits = options->cache_bits};
    if (fit_context(talk, &config, &err) || create_sampler(talk, options, &err) ||
        rt_session_create(&talk->session, engine->model->pack, engine->team, &config, &err) ||
        guesses_init(&talk->guesses, options->speculation, rt_session_capacity(talk->session),
                     &err))
        goto fail;
    *out = talk;
    return 0;
fail:
    ert_conversation_free(talk);
    return engine_failed(why, &err);
}

void ert_conversation_free(struct ert_conversation *talk)
{
    if (!talk)
        return;
    if (talk->session)
        rt_session_free(talk->session);
    if (talk->sampler)
        rt_sampler_free(talk->sampler);
    guesses_release(&talk->guesses);
    if (talk->memory) { /* what the heap keeps of it would count beside the next one's */
        talk->engine->ceiling.talks -= talk->memory;
        malloc_trim(0);
    }
    free(talk->system);
    free(talk);
}

void ert_cancel(struct ert_conversation *talk)
{
    atomic_store(&talk->cancel, true);
}

int ert_say(struct ert_conversation *talk, const char *text, uint32_t max_tokens,
            const struct ert_callbacks *callbacks, struct ert_answer *answer,
            struct ert_failure *why)
{
    struct ert_error err = {0};
    int32_t *ids = NULL;
    size_t n = 0;
    if (atomic_exchange(&talk->engine->busy, true)) {
        ert_fail(&err, ERT_E_USAGE, "another conversation of this engine is answering");
        return engine_failed(why, &err);
    }
    int rc = turn_encode(talk, text, &ids, &n, &err);
    if (!rc && n > UINT32_MAX)
        rc = ert_fail(&err, ERT_E_FULL, "the prompt has %zu tokens", n);
    if (!rc)
        rc = answer_run(talk, ids, (uint32_t)n, max_tokens, callbacks, answer, &err);
    free(ids);
    atomic_store(&talk->cancel, false);
    atomic_store(&talk->engine->busy, false);
    return rc ? engine_failed(why, &err) : 0;
}
