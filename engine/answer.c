/* The way of a token: take the point, hold if it says so, decode, sample, stream. */
#include "engine/engine.h"

#include <string.h>

#define SLICE_NS (20 * 1000000ULL) /* longest sleep before a new point or a cancel is seen */
#define NS_PER_S 1000000000.0

enum { TOKEN_BYTES = 1024 }; /* longest text of one token that is streamed; the rest is cut */

struct answering {
    struct ert_conversation *talk;
    struct ert_engine *engine;
    const struct ert_callbacks *callbacks;
    const struct rt_point *point;
    struct ert_answer *answer;
    struct rt_utf8_stream utf8;
    uint64_t counted_ns;        /* time up to here is in the use table */
    uint64_t counted_to;        /* and so are the positions up to here */
    uint32_t drafted, accepted; /* since then */
    uint64_t released_ns;       /* when the last paced token was let go, 0 = none yet */
    bool prefill;
    bool idle;
    enum gov_work told; /* what the governor believes this is at */
};

/* ---- taking a point ------------------------------------------------------------------------ */

/* Time, tokens and energy since the last count belong to the point in effect. ends: what follows is
 * another point's or another kind of work. */
static void count(struct answering *a, bool ends)
{
    uint64_t now = ert_now_ns(), position = rt_session_position(a->talk->session);
    const struct work work = {.from_ns = a->counted_ns,
                              .to_ns = now,
                              .tokens = position - a->counted_to,
                              .drafted = a->drafted,
                              .accepted = a->accepted,
                              .prefill = a->prefill,
                              .ends = ends};
    use_add(a->engine, &work);
    a->counted_ns = now;
    a->counted_to = position;
    a->answer->drafted += a->drafted;
    a->answer->accepted += a->accepted;
    a->drafted = a->accepted = 0;
}

/* What a code is taken for. */
struct taking {
    struct rt_switch_take take;
    uint32_t rung; /* of the work in hand */
    bool prefill;  /* another state than tokens are generated at, for a prompt */
    bool read;     /* the same code as before, but the prompt is read */
};

/* Why the governor (or the watchdog, or a plane that came in) chose this state. */
static void find_cause(const struct ert_engine *e, const struct taking *it,
                       struct gov_switch_event *event)
{
    event->trip[0] = event->reason[0] = '\0';
    if (it->prefill) {
        snprintf(event->reason, sizeof event->reason, "its share of the power for reading prompts");
    } else if (it->read) {
        snprintf(event->reason, sizeof event->reason, "the prompt is read");
    } else if (it->take.failsafe) {
        snprintf(event->trip, sizeof event->trip, "failsafe");
        snprintf(event->reason, sizeof event->reason, "no decision for three polls: failsafe");
    } else if (e->governor) {
        uint32_t meant = atomic_load(&e->meant[event->state]);
        gov_reason(e->governor, meant, event->trip, event->reason);
        size_t n = strlen(event->reason);
        if (meant != event->state && n)
            snprintf(event->reason + n, sizeof event->reason - n, "; %s does not fit into %.0f MB",
                     rt_point_at(e->ladders[rungs_ladder(it->rung)]->table, meant)->name,
                     (double)e->ceiling.bytes / 1e6);
    }
    if (!event->reason[0])
        snprintf(event->reason, sizeof event->reason, "its weights are in memory now");
}

/* Tells everybody who wants to know; the token path's cost is already measured. */
static void report_switch(struct answering *a, const struct taking *it, uint32_t from, uint64_t now,
                          uint64_t cost_ns)
{
    struct ert_engine *e = a->engine;
    struct gov_switch_event event = {.token = rt_session_position(a->talk->session),
                                     .time_ns = now,
                                     .cost_ns = cost_ns,
                                     .state = rungs_state(it->rung)};
    snprintf(event.from, sizeof event.from, "%s", engine_point(e, from)->name);
    snprintf(event.to, sizeof event.to, "%s", a->point->name);
    find_cause(e, it, &event);
    pthread_mutex_lock(&e->lock);
    snprintf(e->reason, sizeof e->reason, "%s", event.reason);
    use_of(e, it->rung)->entered++;
    e->switches++;
    pthread_mutex_unlock(&e->lock);
    if (e->governor)
        gov_report_switch(e->governor, &event);
    if (a->callbacks->on_swap) {
        struct ert_swap swap = {.token = event.token,
                                .from = event.from,
                                .to = event.to,
                                .state = event.state,
                                .trip = event.trip,
                                .reason = event.reason,
                                .failsafe = it->take.failsafe,
                                .t_s = (double)(now - e->opened_ns) / NS_PER_S,
                                .cost_ns = cost_ns};
        a->callbacks->on_swap(a->callbacks->ctx, &swap);
    }
}

/* What the governor has to say to the person, at most once each. */
static void pass_notice(struct answering *a)
{
    char text[sizeof a->engine->notice];
    unsigned notices = atomic_load(&a->engine->notices);
    if (notices == a->talk->notices)
        return;
    a->talk->notices = notices;
    pthread_mutex_lock(&a->engine->lock);
    memcpy(text, a->engine->notice, sizeof text);
    pthread_mutex_unlock(&a->engine->lock);
    if (a->callbacks->on_notice)
        a->callbacks->on_notice(a->callbacks->ctx, text);
}

static void move_team(struct ert_engine *e, const cpu_set_t *where)
{
    if (where != e->where)
        rt_team_place(e->team, rt_team_size(e->team), where);
    e->where = where;
}

/* The team goes to the cores of the rung in hand, if those are others. */
static void place(struct ert_engine *e, uint32_t rung)
{
    const struct rungs *ladder = e->ladders[rungs_ladder(rung)];
    uint32_t state = rungs_state(rung);
    move_team(e, ladder->placed[state] ? &ladder->where[state] : &e->cpus.usable);
}

/* The thread that asked is the caller's again, on whatever core. */
static void leave_cores(struct ert_engine *e)
{
    move_team(e, &e->cpus.usable);
}

/* Reads the switch, once per step. The only place where a session's point changes. */
static void take_point(struct answering *a)
{
    struct ert_conversation *talk = a->talk;
    struct ert_engine *e = a->engine;
    pass_notice(a);
    uint64_t begin = ert_now_ns();
    struct rt_switch_take take = rt_switch_take(e->sw, begin);
    const struct taking it = {.take = take,
                              .rung = rungs_at_work(take.index, a->prefill),
                              .prefill = a->prefill && rungs_differ(take.index),
                              .read = !a->prefill && rungs_differ(take.index) &&
                                      take.index == talk->taken};
    bool moved = it.rung != e->code || take.failsafe != e->failsafe;
    if (!moved && it.rung == talk->applied && take.epoch == talk->epoch)
        return;
    a->point = engine_point(e, it.rung);
    if (!a->point->pause) {
        rt_session_set_point(talk->session, a->point);
        if (it.rung != talk->applied)
            rt_speculation_moved(&talk->guesses.speculation);
        place(e, it.rung);
    }
    rt_switch_ack(e->sw, take.epoch);
    talk->applied = it.rung;
    talk->taken = take.index;
    talk->epoch = take.epoch;
    uint64_t cost_ns = ert_now_ns() - begin;
    if (!moved)
        return;
    count(a, true);
    uint32_t from = e->code;
    pthread_mutex_lock(&e->lock);
    e->code = it.rung;
    e->failsafe = take.failsafe;
    pthread_mutex_unlock(&e->lock);
    /* The end of a failsafe at the point it was left at is no switch, nor is another ladder's rung
     * that is the same. */
    if (strcmp(engine_point(e, from)->name, a->point->name) != 0 || take.failsafe)
        report_switch(a, &it, from, begin, cost_ns);
}

/* ---- holding ------------------------------------------------------------------------------- */

/* When the next token may go: never while paused, at its time while paced, now otherwise. */
static uint64_t release_time(const struct answering *a)
{
    if (a->point->pause)
        return UINT64_MAX;
    if (a->prefill || a->point->tokens_per_second <= 0 || a->released_ns == 0)
        return 0;
    return a->released_ns + (uint64_t)(NS_PER_S / (double)a->point->tokens_per_second);
}

/* The governor is told what this is at, when that changes. */
static void tell_work(struct answering *a)
{
    enum gov_work work = a->idle ? GOV_IDLE : a->prefill ? GOV_PREFILL : GOV_DECODE;
    if (work != a->told && a->engine->governor)
        gov_report_work(a->engine->governor, work);
    a->told = work;
}

static void set_idle(struct answering *a, bool idle)
{
    if (a->idle != idle)
        rt_switch_idle(a->engine->sw, idle);
    a->idle = idle;
    tell_work(a);
}

/* Takes points until one lets the next token go; false if the answer was cancelled meanwhile. */
static bool hold(struct answering *a)
{
    for (;;) {
        take_point(a);
        if (atomic_load(&a->talk->cancel))
            return false;
        uint64_t now = ert_now_ns(), due = release_time(a);
        if (now >= due && !a->idle) {
            a->released_ns = now;
            return true;
        }
        set_idle(a, a->point->pause);
        if (now >= due)
            continue; /* left idle: the switch must be read again before any weight is */
        count(a, false);
        if (a->callbacks->on_hold)
            a->callbacks->on_hold(a->callbacks->ctx);
        ert_sleep_until_ns(due - now < SLICE_NS ? due : now + SLICE_NS);
    }
}

static int between_chunks(void *ctx)
{
    struct answering *a = ctx;
    count(a, false);
    return hold(a) ? 0 : -ERT_E_CANCELLED;
}

/* ---- tokens -------------------------------------------------------------------------------- */

/* Streams what the token adds in whole characters; NULL flushes an unfinished one. */
static void stream(struct answering *a, int32_t id, bool flush)
{
    char bytes[TOKEN_BYTES], text[3 * TOKEN_BYTES + 16];
    size_t n = 0;
    if (flush) {
        n = rt_utf8_flush(&a->utf8, text);
    } else {
        size_t length =
            rt_decode_token(a->engine->model->tokenizer, id, false, bytes, sizeof bytes);
        n = rt_utf8_push(&a->utf8, bytes, length < sizeof bytes ? length : sizeof bytes, text);
    }
    text[n] = '\0';
    struct ert_token token = {.id = id,
                              .position = rt_session_position(a->talk->session),
                              .text = text,
                              .length = n,
                              .point = a->point->name};
    if (a->callbacks->on_token && (n || !flush))
        a->callbacks->on_token(a->callbacks->ctx, &token);
}

static enum pol_speculation speculation_of_rung(const struct ert_engine *e)
{
    const struct pol_policy *policy = e->ladders[rungs_ladder(e->code)]->policy;
    return policy ? policy->states[rungs_state(e->code)].speculation : POL_SPECULATION_AUTO;
}

/* Whether a new point or a cancel waits for the token in hand. */
static bool is_awaited(void *ctx)
{
    const struct answering *a = ctx;
    struct rt_switch_take take = rt_switch_take(a->engine->sw, ert_now_ns());
    return take.index != a->talk->taken || take.failsafe != a->engine->failsafe ||
           atomic_load(&a->talk->cancel);
}

/* Feeds id. It was computed with the last pass if it was guessed then; else here, with guesses of
 * the at most `most` tokens that may follow the one drawn next, which are dropped when a new point
 * comes meanwhile: it waits for this token, as it would without guesses, but for no other. */
static int decode(struct answering *a, int32_t id, uint32_t most, struct ert_error *err)
{
    struct ert_conversation *talk = a->talk;
    int32_t ids[RT_MAX_GUESSES];
    guesses_draw(&talk->guesses, id);
    if (rt_session_advance(talk->session, id)) {
        a->accepted++;
        return 0;
    }
    uint32_t made = guesses_make(&talk->guesses, speculation_of_rung(a->engine), most, ids);
    uint32_t n = made;
    uint64_t begin = ert_now_ns();
    int rc = rt_session_feed_ahead(talk->session, id, ids, &n, is_awaited, a, err);
    if (rc)
        return rc;
    if (n == made)
        rt_speculation_timed(&talk->guesses.speculation, n, ert_now_ns() - begin);
    a->drafted += n;
    return 0;
}

/* Decodes until something ends the answer. The logits of the prompt's last token are there. */
static int answer_tokens(struct answering *a, uint32_t max_tokens, struct ert_answer *answer,
                         struct ert_error *err)
{
    struct ert_conversation *talk = a->talk;
    for (;;) {
        int32_t id = rt_sample(talk->sampler, rt_session_logits(talk->session));
        answer->end = ERT_END_STOP;
        if (rt_is_eos(a->engine->model->tokenizer, id))
            return 0;
        stream(a, id, false);
        talk->pending = id;
        answer->tokens++;
        answer->end = ERT_END_LENGTH;
        if (answer->tokens == max_tokens)
            return 0;
        answer->end = ERT_END_CONTEXT;
        if (rt_session_position(talk->session) >= rt_session_capacity(talk->session))
            return 0;
        answer->end = ERT_END_CANCELLED;
        if (!hold(a))
            return 0;
        int rc = decode(a, id, max_tokens ? max_tokens - answer->tokens - 1 : UINT32_MAX, err);
        if (rc)
            return rc;
        talk->pending = -1;
        count(a, false);
    }
}

static void say_end(const struct answering *a, struct ert_answer *answer)
{
    static const char *const words[] = {[ERT_END_STOP] = "end of answer",
                                        [ERT_END_LENGTH] = "as many tokens as asked for",
                                        [ERT_END_CANCELLED] = "cancelled",
                                        [ERT_END_CONTEXT] = "context full"};
    snprintf(answer->reason, sizeof answer->reason, "%s", words[answer->end]);
    if (answer->end == ERT_END_CONTEXT)
        snprintf(answer->reason, sizeof answer->reason, "context full: %u positions",
                 rt_session_capacity(a->talk->session));
}

static int prefill(struct answering *a, const int32_t *ids, uint32_t n, struct ert_error *err)
{
    struct ert_conversation *talk = a->talk;
    if (n > rt_session_capacity(talk->session) - rt_session_position(talk->session))
        return ert_fail(err, ERT_E_FULL,
                        "the prompt has %u tokens, the context room for %u of its %u positions: "
                        "shorten it, start anew or ask for a longer context",
                        n, rt_session_capacity(talk->session) - rt_session_position(talk->session),
                        rt_session_capacity(talk->session));
    uint32_t start = rt_session_position(talk->session);
    int rc = rt_session_feed(talk->session, ids, n, between_chunks, a, NULL, err);
    count(a, true);
    a->prefill = false;
    tell_work(a);
    a->released_ns = 0;
    if (rc) { /* half a prompt would be worse than none */
        rt_session_rewind(talk->session, start);
        a->counted_to = start;
        return rc;
    }
    for (uint32_t i = talk->pending >= 0; i < n; i++)
        rt_sampler_accept(talk->sampler, ids[i]);
    guesses_read(&talk->guesses, start, ids, n);
    talk->pending = -1;
    return 0;
}

int answer_run(struct ert_conversation *talk, const int32_t *ids, uint32_t n, uint32_t max_tokens,
               const struct ert_callbacks *callbacks, struct ert_answer *answer,
               struct ert_error *err)
{
    static const struct ert_callbacks none = {0};
    uint64_t begin = ert_now_ns();
    struct answering a = {.talk = talk,
                          .engine = talk->engine,
                          .callbacks = callbacks ? callbacks : &none,
                          .answer = answer,
                          .point = engine_point(talk->engine, talk->engine->code),
                          .counted_ns = begin,
                          .counted_to = rt_session_position(talk->session),
                          .prefill = true,
                          .idle = true};
    *answer = (struct ert_answer){.prompt_tokens = n};
    set_idle(&a, false);
    place(talk->engine, talk->engine->code);
    use_begin(talk->engine);
    int rc = prefill(&a, ids, n, err);
    uint64_t prefilled = ert_now_ns();
    if (rc == 0)
        rc = answer_tokens(&a, max_tokens, answer, err);
    if (rc == -ERT_E_CANCELLED) {
        answer->end = ERT_END_CANCELLED;
        rc = 0;
    }
    count(&a, true);
    set_idle(&a, true);
    leave_cores(talk->engine);
    stream(&a, -1, true);
    answer->prefill_s = (double)(prefilled - begin) / NS_PER_S;
    answer->decode_s = (double)(ert_now_ns() - prefilled) / NS_PER_S;
    const struct spending *spending = &talk->engine->spending;
    answer->prefill_energy = spending->prefill;
    answer->decode_energy = spending->decode;
    answer->each_j = ert_energy_each(&spending->decode, spending->decoded);
    say_end(&a, answer);
    return rc;
}
