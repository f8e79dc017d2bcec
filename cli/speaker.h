/* speaker: what run and chat share: their options, and a conversation that is ready to be spoken
 * to. */
#ifndef ERT_SPEAKER_H
#define ERT_SPEAKER_H

#include "cli/options.h"
#include "engine/edgert.h"

/* Set up by speaker_init. */
struct speaker {
    const char *model_path;
    uint32_t max_tokens;
    struct ert_engine_options engine_options;
    struct ert_conversation_options options;
    struct ert_model *model;
    struct ert_engine *engine;
    struct ert_conversation *talk;
};

void speaker_init(struct speaker *s);
/* Opens model, engine and conversation; prints a failure and returns its exit status, else 0. */
int speaker_open(struct speaker *s);
/* Closes them; an incomplete journal is a failure. Returns the exit status. */
int speaker_close(struct speaker *s);

#endif
