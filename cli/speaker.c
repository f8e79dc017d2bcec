#include "cli/speaker.h"

#include "cli/interrupt.h"

void speaker_init(struct speaker *s)
{
    *s = (struct speaker){.max_tokens = 512};
    ert_conversation_defaults(&s->options);
}

int speaker_open(struct speaker *s)
{
    struct ert_failure why;
    s->engine_options.n_ctx = s->options.n_ctx;
    s->engine_options.cache_bits = s->options.cache_bits;
    if (ert_model_open(&s->model, s->model_path, &why) == 0 &&
        ert_engine_open(&s->engine, s->model, &s->engine_options, &why) == 0 &&
        ert_conversation_open(&s->talk, s->engine, &s->options, &why) == 0) {
        interrupt_reload(s->engine);
        return CLI_OK;
    }
    speaker_close(s);
    return cli_fail(why.code, why.text);
}

int speaker_close(struct speaker *s)
{
    struct ert_failure why;
    interrupt_reload(NULL);
    ert_conversation_free(s->talk);
    int rc = ert_engine_close(s->engine, &why);
    ert_model_free(s->model);
    s->talk = NULL;
    s->engine = NULL;
    s->model = NULL;
    return rc ? cli_fail(why.code, why.text) : CLI_OK;
}
