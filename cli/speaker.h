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

/* Rows of a command's option table. */
#define SPEAKER_OPTIONS(s)                                                                          \
    {"model",          'm', "PACK", "pack file or name (default.edgert)", OPTION_TEXT,              \
     &(s)->model_path, 0,   0},                                                                     \
        {"policy",    'p',                                                                          \
         "NAME",      "policy to live by (balanced)",                                               \
         OPTION_TEXT, &(s)->engine_options.policy,                                                  \
         0,           0},                                                                           \
        {"policy-file",                                                                             \
         0,                                                                                         \
         "FILE",                                                                                    \
         "policies over the installed ones",                                                        \
         OPTION_TEXT,                                                                               \
         &(s)->engine_options.policy_file,                                                          \
         0,                                                                                         \
         0},                                                                                        \
        {"sensors",   0,                                                                            \
         "SOURCE",    "live, or replay:TRACE[@SPEED]",                                              \
         OPTION_TEXT, &(s)->engine_options.sensors,                                                 \
         0,           0},                                                                           \
        {"journal",   0,                                                                            \
         "FILE",      "write every decision and switch there",                                      \
         OPTION_TEXT, &(s)->engine_options.journal,                                                 \
         0,           0},                                                                           \
        {"point",     0,                                                                            \
         "POINT",     "stay at this point, without a policy",                                       \
         OPTION_TEXT, &(s)->engine_options.point,                                                   \
         0,           0},                                                                           \
        {"threads", 't', "N", "threads (all CPUs)", OPTION_COUNT, &(s)->engine_options.threads,     \
         1,         256},                                                                           \
        {"tokens",                                                                                  \
         'n',                                                                                       \
         "N",                                                                                       \
         "most tokens of an answer (512; 0 = the context)",                                         \
         OPTION_COUNT,                                                                              \
         &(s)->max_tokens,                                                                          \
         0,                                                                                         \
         1e9},                                                                                      \
        {"temperature",                                                                             \
         0,                                                                                         \
         "X",                                                                                       \
         "0 = always the likeliest token (0.6)",                                                    \
         OPTION_NUMBER,                                                                             \
         &(s)->options.temperature,                                                                 \
         0,                                                                                         \
         100},                                                                                      \
        {"top-k", 0,  "N", "keep the N likeliest (40; 0 = all)", OPTION_COUNT, &(s)->options.top_k, \
         0,       1e9},                                                                             \
        {"top-p", 0, "X", "keep this much probability (0.95)", OPTION_NUMBER, &(s)->options.top_p,  \
         0,       1},                                                                               \
        {"min-p",                                                                                   \
         0,                                                                                         \
         "X",                                                                                       \
         "drop below X times the likeliest (0.05)",                                                 \
         OPTION_NUMBER,                                                                             \
         &(s)->options.min_p,                                                                       \
         0,                                                                                         \
         1},                                                                                        \
        {"repeat-penalty",                                                                          \
         0,                                                                                         \
         "X",                                                                                       \
         "1 = off (1.1)",                                                                           \
         OPTION_NUMBER,                                                                             \
         &(s)->options.repeat_penalty,                                                              \
         0.01,                                                                                      \
         100},                                                                                      \
        {"seed", 0, "N", "of the sampling (1)", OPTION_SEED, &(s)->options.seed, 0, 0},             \
        {"context",           0, "N", "positions of the KV cache (the model's)", OPTION_COUNT,      \
         &(s)->options.n_ctx, 1, 1e9},                                                              \
        {"system", 0, "TEXT", "system message", OPTION_TEXT, &(s)->options.system, 0, 0},           \
    {                                                                                               \
        "raw", 0, NULL, "continue the text, no chat format", OPTION_FLAG, &(s)->options.raw, 0, 0   \
    }

void speaker_init(struct speaker *s);
/* Opens model, engine and conversation; prints a failure and returns its exit status, else 0. */
int speaker_open(struct speaker *s);
/* Closes them; an incomplete journal is a failure. Returns the exit status. */
int speaker_close(struct speaker *s);

#endif
