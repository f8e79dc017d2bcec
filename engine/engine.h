/* engine: the inside of the room. What edgert.h keeps opaque. */
#ifndef ERT_ENGINE_H
#define ERT_ENGINE_H

#include <pthread.h>
#include <stdatomic.h>

#include "engine/ceiling.h"
#include "engine/edgert.h"
#include "engine/guesses.h"
#include "engine/layers.h"
#include "engine/planes.h"
#include "engine/rungs.h"
#include "governor/governor.h"
#include "runtime/runtime.h"

struct ert_model {
    struct rt_pack *pack;
    struct rt_tokenizer *tokenizer;
    const struct rt_chat_format *chat; /* NULL: prompts are fed as they are */
};

struct ert_engine {
    struct ert_model *model;
    struct rt_team *team;
    struct rt_switch *sw;          /* carries codes, rungs.h */
    struct planes *planes;         /* NULL at a fixed point */
    struct gov_governor *governor; /* at a fixed point it reads the battery; may be NULL there */
    atomic_bool busy;              /* a conversation is answering */
    struct cpus cpus;
    const cpu_set_t *where; /* of the answering thread: the cores that the team is on */
    uint64_t opened_ns;
    struct ceiling ceiling; /* of the memory */
    /* What the governor meant last where a rung runs: itself, or one that does not fit. */
    _Atomic uint32_t meant[POL_MAX_STATES];

    /* Ladders in the order of their coming; each is there before a code of it is published. */
    struct rungs *ladders[RUNGS_LADDERS];
    /* Of the governor's thread: the ladder that decisions mean, one that is read and not yet
     * adopted, and what reading again needs. */
    uint32_t ladder;
    struct rungs *pending;
    char *policy_name, *policy_file, *sensor_root;
    bool replayed;       /* a trace stands in for the machine */
    atomic_uint notices; /* counts what is to be said to the person */

    pthread_mutex_t lock; /* of all below: other threads read them through ert_get_* */
    bool has_lock;
    uint32_t code; /* rung in effect, of the work in hand */
    bool failsafe;
    uint64_t switches;
    char reason[POL_REASON];
    char notice[256];
    size_t n_use;
    struct ert_point_use *use; /* [n_use], one for each name of a rung */
    struct spending {
        struct gov_meter *meter; /* of the answering thread; not under lock */
        uint64_t taken_ns;       /* when it was read last */
        /* Of the answer that runs, and of about the last second's decoding. */
        struct ert_energy prefill, decode, recent;
        uint64_t decoded, recent_tokens;
        struct gov_progress progress; /* of all answers */
        char why[GOV_ENERGY_WHY];
    } spending;
};

struct ert_conversation {
    struct ert_engine *engine;
    struct rt_session *session;
    struct rt_sampler *sampler;
    struct guesses guesses;
    char *system; /* NULL = the chat format's own */
    bool raw;
    atomic_bool cancel;
    uint64_t memory;  /* bytes of the ceiling that it has */
    int32_t pending;  /* last token of an answer that ended before it was fed, -1 = none */
    uint64_t epoch;   /* last one acknowledged */
    uint32_t taken;   /* code that came with it */
    int64_t applied;  /* of the rung at which the session is, -1 = none yet */
    unsigned notices; /* how many were said */
};

/* Fills why from err; returns err's code, negative. */
int engine_failed(struct ert_failure *why, const struct ert_error *err);

/* Has the next answer, or the one that runs, tell text to the person. From any thread. */
void engine_tell(struct ert_engine *engine, const char *text);

/* The tokens of a turn: chat format around text (system first if the conversation is new), or text
 * as it is. *out, n ids, is the caller's to free. */
int turn_encode(const struct ert_conversation *talk, const char *text, int32_t **out, size_t *n,
                struct ert_error *err);

/* The point to generate at that a code stands for. */
static inline const struct rt_point *engine_point(const struct ert_engine *engine, uint32_t code)
{
    return rt_point_at(engine->ladders[rungs_ladder(code)]->table, rungs_state(code));
}

/* Feeds ids and answers. */
int answer_run(struct ert_conversation *talk, const int32_t *ids, uint32_t n, uint32_t max_tokens,
               const struct ert_callbacks *callbacks, struct ert_answer *answer,
               struct ert_error *err);

/* Where what is done at a rung is counted; under the engine's lock. */
struct ert_point_use *use_of(struct ert_engine *engine, uint32_t code);
/* Gives each rung of a new ladder its place there, by its name. */
int use_add_rungs(struct ert_engine *engine, struct rungs *rungs, struct ert_error *err);
/* A stretch of work at the point in effect. */
struct work {
    uint64_t from_ns, to_ns, tokens;
    uint32_t drafted, accepted;
    bool prefill; /* else decoding */
    bool ends;    /* what follows is another point's or another kind of work */
};
/* Adds it to the point in effect, and the energy if the stretch ends or the meter was not read
 * lately. */
void use_add(struct ert_engine *engine, const struct work *work);
/* An answer begins: what was spent until now counts for nobody. */
void use_begin(struct ert_engine *engine);

#endif
