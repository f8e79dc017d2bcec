/* What the engine's tests act on: a random pack, a trace that swings, a policy that follows it. */
#ifndef ERT_TEST_STAGE_H
#define ERT_TEST_STAGE_H

#include <string.h>

#include "engine/engine.h"
#include "tests/test.h"

enum { PROMPT_TOKENS = 5, MAX_SWAPS = 4096, MAX_TOKENS = 512 };
#define PROMPT "abcde"
/* The same in the random pack's vocabulary. */
static const int32_t prompt_ids[PROMPT_TOKENS] = {3 + 'a' - 33, 3 + 'b' - 33, 3 + 'c' - 33,
                                                  3 + 'd' - 33, 3 + 'e' - 33};

/* What an answer told. */
struct heard {
    struct {
        uint64_t token;
        uint32_t to;
        bool failsafe;
        char from[48], name[48];
    } swaps[MAX_SWAPS];
    int32_t ids[MAX_TOKENS];
    char text[8 * MAX_TOKENS];
    size_t n_swaps, n_tokens, holds, n_notices;
    char notice[256];              /* the last one */
    struct ert_conversation *talk; /* to cancel, after cancel_after tokens (0 = never) */
    size_t cancel_after;
    void (*at_token)(struct heard *heard); /* may be NULL */
};

static inline const char *stage_path(const char *name)
{
    static char paths[8][4400];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s-%ld-%s", test_build("engine"), (long)getpid(), name);
    return path;
}

static inline void stage_write(const char *path, const char *text)
{
    FILE *f = fopen(path, "we");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

/* Makes and opens a random pack; the file stays until stage_clear. */
static inline struct ert_model *stage_model(const char *kind)
{
    char command[4600];
    const char *path = stage_path("pack.edgert");
    struct ert_model *model;
    struct ert_failure why;
    if (system("python3 -c 'import numpy, xxhash' 2>/dev/null") != 0) {
        print_message("# needs numpy and xxhash of Python\n");
        skip();
    }
    /* Sections on 2 MiB, as a build puts PLANES_L: the kernel evicts a large folio whole or not at
     * all. Pages that were never written back cannot be dropped at all. No token ends an answer. */
    snprintf(command, sizeof command,
             "python3 -c 'from tools import packtool as p; from tools.packtool.random_pack import "
             "random_pack; p.layout.PAGE = 2 << 20; pack = random_pack(7, kind=\"%s\"); "
             "pack.meta[\"tokenizer\"][\"eos\"] = []; p.layout.write_pack(pack, \"%s\")' && "
             "sync '%s'",
             kind, path, path);
    assert_int_equal(system(command), 0);
    if (ert_model_open(&model, path, &why))
        fail_msg("%s", why.text);
    return model;
}

static inline void stage_clear(void)
{
    static const char *const names[] = {"pack.edgert", "trace.csv", "policy.yaml", "journal.jsonl"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(stage_path(names[i]));
}

/* An engine whose governor beats, decides and journals, but leaves the swapping to the test: its
 * one trip asks at a load that the trace never has. ladder: the points, as in a policy file. */
static inline struct ert_engine *stage_calm_engine(struct ert_model *model, const char *ladder)
{
    char policy[1024], sensors[4500];
    struct ert_engine *engine;
    struct ert_failure why;
    int n = snprintf(policy, sizeof policy,
                     "edgert: 1\n"
                     "ladders: {l: %s}\n"
                     "policies:\n"
                     "  calm:\n"
                     "    ladder: l\n"
                     "    poll: 10s\n"
                     "    trips:\n"
                     "      - {name: busy, sensor: cpu.load.others, above: 90%%, states: 1}\n",
                     ladder);
    assert_true(n > 0 && (size_t)n < sizeof policy);
    stage_write(stage_path("policy.yaml"), policy);
    stage_write(stage_path("trace.csv"), "# device: none\n# source: this test\n# licence: CC0-1.0\n"
                                         "time_s,cpu.load.others_%\n0,5\n3600,5\n");
    snprintf(sensors, sizeof sensors, "replay:%s", stage_path("trace.csv"));
    struct ert_engine_options options = {.policy = "calm",
                                         .policy_file = stage_path("policy.yaml"),
                                         .sensors = sensors,
                                         .journal = stage_path("journal.jsonl"),
                                         .threads = 2};
    if (ert_engine_open(&engine, model, &options, &why))
        fail_msg("%s", why.text);
    return engine;
}

static inline void stage_close(struct ert_model *model, struct ert_engine *engine)
{
    struct ert_failure why;
    if (ert_engine_close(engine, &why))
        fail_msg("%s", why.text);
    ert_model_free(model);
    stage_clear();
}

static inline void heard_token(void *ctx, const struct ert_token *token)
{
    struct heard *h = ctx;
    if (token->id < 0)
        return;
    assert_true(h->n_tokens < MAX_TOKENS);
    h->ids[h->n_tokens++] = token->id;
    strncat(h->text, token->text, sizeof h->text - strlen(h->text) - 1);
    if (h->at_token)
        h->at_token(h);
    if (h->cancel_after && h->n_tokens == h->cancel_after)
        ert_cancel(h->talk);
}

static inline void heard_swap(void *ctx, const struct ert_swap *swap)
{
    struct heard *h = ctx;
    assert_true(h->n_swaps < MAX_SWAPS);
    assert_true(swap->reason[0] != '\0');
    h->swaps[h->n_swaps].token = swap->token;
    h->swaps[h->n_swaps].to = swap->state;
    h->swaps[h->n_swaps].failsafe = swap->failsafe;
    snprintf(h->swaps[h->n_swaps].from, 48, "%s", swap->from);
    snprintf(h->swaps[h->n_swaps++].name, 48, "%s", swap->to);
}

static inline void heard_hold(void *ctx)
{
    struct heard *h = ctx;
    h->holds++;
}

static inline void heard_notice(void *ctx, const char *text)
{
    struct heard *h = ctx;
    snprintf(h->notice, sizeof h->notice, "%s", text);
    h->n_notices++;
}

static inline struct ert_callbacks heard_callbacks(struct heard *h)
{
    return (struct ert_callbacks){h, heard_token, heard_swap, heard_hold, heard_notice};
}

/* A greedy conversation that continues its prompts as they are; tokens are guessed when
 * `speculation` says, NULL = as the rungs do. */
static inline struct ert_conversation *stage_talk_guessing(struct ert_engine *engine,
                                                           const char *speculation)
{
    struct ert_conversation *talk;
    struct ert_conversation_options options;
    struct ert_failure why;
    ert_conversation_defaults(&options);
    options.temperature = 0;
    options.repeat_penalty = 1;
    options.raw = true;
    options.speculation = speculation;
    if (ert_conversation_open(&talk, engine, &options, &why))
        fail_msg("%s", why.text);
    return talk;
}

static inline struct ert_conversation *stage_talk(struct ert_engine *engine)
{
    return stage_talk_guessing(engine, NULL);
}

static inline int32_t likeliest(const float *logits, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return (int32_t)best;
}

/* The reference: feeds the prompt and h's tokens to a session of its own, at each position the
 * point that the swaps say, and checks that every token is the likeliest one. Starts at the point
 * `first`. No engine, no switch, no governor. */
static inline void check_against_schedule(const struct rt_pack *pack,
                                          const struct rt_point_table *table, uint32_t first,
                                          const struct heard *h)
{
    struct rt_team *team;
    struct rt_session *session;
    struct rt_session_config config = {0};
    struct ert_error err;
    assert_int_equal(rt_team_create(&team, 1, &err), 0);
    assert_int_equal(rt_session_create(&session, pack, team, &config, &err), 0);
    uint32_t index = first;
    size_t next = 0;
    for (uint32_t p = 0; p + 1 < PROMPT_TOKENS + h->n_tokens; p++) {
        while (next < h->n_swaps && h->swaps[next].token <= p)
            index = h->swaps[next++].to;
        if (!rt_point_at(table, index)->pause)
            rt_session_set_point(session, rt_point_at(table, index));
        int32_t id = p < PROMPT_TOKENS ? prompt_ids[p] : h->ids[p - PROMPT_TOKENS];
        assert_int_equal(rt_session_feed(session, &id, 1, NULL, NULL, NULL, &err), 0);
        if (p + 1 >= PROMPT_TOKENS)
            assert_int_equal(likeliest(rt_session_logits(session), pack->model.n_vocab),
                             h->ids[p + 1 - PROMPT_TOKENS]);
    }
    rt_session_free(session);
    rt_team_free(team);
}

#endif
