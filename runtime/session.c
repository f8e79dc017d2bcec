/* session: one conversation. Feeds tokens through forward.c in chunks and keeps the point. */
#include "runtime/session.h"

#include <stdlib.h>
#include <string.h>

#include "runtime/forward.h"

enum { DEFAULT_CHUNK = RT_COLS, MAX_CHUNK = 512 };

_Static_assert((int)RT_MAX_GUESSES < RT_FEW_COLS && (int)RT_MAX_GUESSES < RT_HEAD_COLS,
               "a token and its guesses are few columns, and forward.logits has all of theirs");

/* What the last pass computed past the position: keys and values are in the cache, logits in
 * forward.logits, the row of guess i in row i + 1. */
struct ahead {
    int32_t guess[RT_MAX_GUESSES];
    uint32_t n, at; /* the next one is guess[at], if at < n */
};

struct rt_session {
    struct rt_forward forward;
    struct rt_point point;
    uint32_t position;
    const float *logits; /* of the last token, in forward.logits */
    struct ahead ahead;
};

/* The best variant of each kind of pack, at full rank: what a session has before it is told. */
static struct rt_point first_point(const struct rt_pack *pack)
{
    enum rt_variant v = pack->kind == RT_PACK_NESTED   ? RT_W8A8
                        : pack->kind == RT_PACK_H_ONLY ? RT_W4A16
                                                       : RT_F32;
    return (struct rt_point){.variant = v, .prefill_variant = v};
}

/* What a session of that config asks of the forward pass; nothing is allocated. */
static int lay_out(struct rt_forward *f, const struct rt_pack *pack, struct rt_team *team,
                   const struct rt_session_config *config, struct ert_error *err)
{
    uint32_t n_ctx = config->n_ctx ? config->n_ctx : pack->model.n_ctx;
    uint32_t chunk = config->chunk ? config->chunk : DEFAULT_CHUNK;
    if (n_ctx > pack->model.n_ctx)
        return ert_fail(err, ERT_E_RANGE, "a context of %u tokens: %s has at most %u", n_ctx,
                        pack->model.name, pack->model.n_ctx);
    if (chunk > MAX_CHUNK)
        return ert_fail(err, ERT_E_RANGE, "a prefill chunk of %u tokens: expected 1 to %d", chunk,
                        MAX_CHUNK);
    *f = (struct rt_forward){.pack = pack,
                             .team = team,
                             .kernels = config->kernels ? config->kernels : rt_kernels_best(),
                             .cache = {.n_sequences = 1, .n_ctx = n_ctx},
                             .chunk = chunk};
    return rt_cache_choose(&f->cache, config->cache_bits, pack->kind, err);
}

int rt_session_need(size_t *bytes, const struct rt_pack *pack, struct rt_team *team,
                    const struct rt_session_config *config, struct ert_error *err)
{
    struct rt_forward f;
    int rc = lay_out(&f, pack, team, config, err);
    if (!rc)
        *bytes = rt_forward_count(&f) ? sizeof(struct rt_session) + f.bytes : SIZE_MAX;
    return rc;
}

int rt_session_create(struct rt_session **s, const struct rt_pack *pack, struct rt_team *team,
                      const struct rt_session_config *config, struct ert_error *err)
{
    *s = NULL;
    struct rt_session *new = calloc(1, sizeof *new);
    if (!new)
        return ert_fail(err, ERT_E_NOMEM, "no memory for a session");
    int rc = lay_out(&new->forward, pack, team, config, err);
    if (!rc)
        rc = rt_forward_init(&new->forward, err);
    if (rc) {
        free(new);
        return rc;
    }
    new->point = first_point(pack);
    new->logits = new->forward.logits;
    *s = new;
    return 0;
}

void rt_session_free(struct rt_session *s)
{
    if (!s)
        return;
    rt_forward_release(&s->forward);
    free(s);
}

void rt_session_set_point(struct rt_session *s, const struct rt_point *point)
{
    const struct rt_point *old = &s->point;
    if (point->variant != old->variant || point->tier != old->tier ||
        point->threads != old->threads)
        s->ahead.n = 0; /* what a token is booked to is what computed it */
    s->point = *point;
}

static unsigned workers_of(const struct rt_session *s)
{
    unsigned all = rt_team_size(s->forward.team);
    return s->point.threads && s->point.threads < all ? s->point.threads : all;
}

static int check_feed(const struct rt_session *s, const int32_t *ids, uint32_t n,
                      struct ert_error *err)
{
    const struct rt_forward *f = &s->forward;
    if (n > f->cache.n_ctx - s->position)
        return ert_fail(err, ERT_E_FULL,
                        "the conversation has %u of %u tokens, there is no room for %u more: start "
                        "a new one or ask for a longer context",
                        s->position, f->cache.n_ctx, n);
    for (uint32_t i = 0; i < n; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= f->pack->model.n_vocab)
            return ert_fail(err, ERT_E_RANGE, "token %u has the id %d, the vocabulary has 0 to %u",
                            i, ids[i], f->pack->model.n_vocab - 1);
    return 0;
}

/* Results do not depend on it; how soon a prompt makes way for a new point does. */
static uint32_t chunk_of(const struct rt_session *s)
{
    uint32_t chunk = s->point.prefill_chunk;
    return chunk && chunk < s->forward.chunk ? chunk : s->forward.chunk;
}

static const float *logits_row(const struct rt_session *s, uint32_t row)
{
    return s->forward.logits + (size_t)row * s->forward.pack->model.n_vocab_pad;
}

/* One pass at the point that holds now, from the position on. */
static void run_pass(struct rt_session *s, const struct rt_step *pass, bool prefill)
{
    struct rt_forward *f = &s->forward;
    f->step = *pass;
    f->step.variant = &rt_variants[prefill ? s->point.prefill_variant : s->point.variant];
    f->step.tier = &f->pack->tiers[s->point.tier];
    f->step.position = s->position;
    s->ahead.n = 0;
    rt_forward_run(f, workers_of(s));
}

static void feed_chunk(struct rt_session *s, const struct rt_step *chunk, bool prefill)
{
    run_pass(s, chunk, prefill);
    s->position += chunk->n_cols;
    if (chunk->n_logits)
        s->logits = logits_row(s, (chunk->n_logits - 1) % RT_HEAD_COLS);
}

int rt_session_feed(struct rt_session *s, const int32_t *ids, uint32_t n, int (*between)(void *ctx),
                    void *ctx, float *logits_out, struct ert_error *err)
{
    int rc = check_feed(s, ids, n, err);
    if (rc)
        return rc;
    size_t n_vocab = s->forward.pack->model.n_vocab;
    for (uint32_t at = 0, count; at < n; at += count) {
        rc = between ? between(ctx) : 0;
        if (rc)
            return rc;
        count = n - at < chunk_of(s) ? n - at : chunk_of(s);
        struct rt_step chunk = {
            .ids = ids + at,
            .n_cols = count,
            .n_logits = logits_out ? count : at + count == n,
            .logits_out = logits_out ? logits_out + at * n_vocab : NULL,
        };
        feed_chunk(s, &chunk, n > 1);
    }
    return 0;
}

static uint32_t at_most(uint32_t n, uint32_t most)
{
    return n < most ? n : most;
}

int rt_session_feed_ahead(struct rt_session *s, int32_t id, const int32_t *guesses,
                          uint32_t *n_guesses, bool (*in_hurry)(void *ctx), void *ctx,
                          struct ert_error *err)
{
    int32_t ids[1 + RT_MAX_GUESSES] = {id};
    uint32_t room = s->forward.cache.n_ctx - s->position;
    uint32_t n = at_most(*n_guesses, RT_MAX_GUESSES);
    n = at_most(n, s->forward.chunk - 1);
    n = at_most(n, room ? room - 1 : 0);
    memcpy(ids + 1, guesses, n * sizeof *ids);
    int rc = check_feed(s, ids, 1 + n, err);
    if (rc)
        return rc;
    const struct rt_step pass = {
        .ids = ids, .n_cols = 1 + n, .n_logits = 1 + n, .in_hurry = in_hurry, .ctx = ctx};
    run_pass(s, &pass, false);
    n = s->forward.n_cols - 1;
    s->position++;
    s->logits = logits_row(s, 0);
    s->ahead = (struct ahead){.n = n};
    memcpy(s->ahead.guess, guesses, n * sizeof *guesses);
    *n_guesses = n;
    return 0;
}

bool rt_session_advance(struct rt_session *s, int32_t id)
{
    struct ahead *ahead = &s->ahead;
    if (ahead->at >= ahead->n || ahead->guess[ahead->at] != id) {
        ahead->n = 0;
        return false;
    }
    s->position++;
    s->logits = logits_row(s, ++ahead->at);
    return true;
}

const float *rt_session_logits(const struct rt_session *s)
{
    return s->logits;
}

uint32_t rt_session_position(const struct rt_session *s)
{
    return s->position;
}

void rt_session_rewind(struct rt_session *s, uint32_t position)
{
    if (position >= s->position)
        return;
    s->position = position;
    s->ahead.n = 0;
}

uint32_t rt_session_capacity(const struct rt_session *s)
{
    return s->forward.cache.n_ctx;
}

size_t rt_session_bytes(const struct rt_session *s)
{
    return sizeof *s + s->forward.bytes;
}
