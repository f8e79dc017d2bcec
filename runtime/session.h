/* session: one conversation: KV cache at full rank, the forward pass, the current point. */
#ifndef RT_SESSION_H
#define RT_SESSION_H

#include "runtime/pack.h"
#include "runtime/point.h"
#include "runtime/team.h"

struct rt_session;

struct rt_session_config {
    uint32_t n_ctx; /* positions of the cache; 0 = the model's, at most the model's */
    uint32_t chunk; /* tokens per prefill chunk, 1..512; 0 = 96 */
    /* Of a cached key or value: 16 (also 0), 8, or 6, which is keys in 8 and values in 4; an f32
     * pack keeps f32. */
    uint32_t cache_bits;
    const struct rt_kernels *kernels; /* NULL = best */
};

/* The pack and the team must outlive the session. All memory is allocated here; prefill, decode and
 * rt_session_set_point allocate nothing. */
int rt_session_create(struct rt_session **s, const struct rt_pack *pack, struct rt_team *team,
                      const struct rt_session_config *config, struct ert_error *err);
/* What rt_session_bytes of such a session would be; SIZE_MAX: more than can be counted. The same
 * errors, and nothing is allocated. */
int rt_session_need(size_t *bytes, const struct rt_pack *pack, struct rt_team *team,
                    const struct rt_session_config *config, struct ert_error *err);
void rt_session_free(struct rt_session *s);

/* The point of all tokens from now on; O(1). point->pause is the caller's business and ignored. */
void rt_session_set_point(struct rt_session *s, const struct rt_point *point);

/* Feeds n tokens after those in the cache, in chunks, with the point's prefill variant (n > 1) or
 * variant (n == 1). between (may be NULL) runs before each chunk (there a new point may be set) and
 * may return non-zero to stop, which is returned; the tokens fed so far stay (rt_session_position).
 * logits_out (NULL = last token only): [n][n_vocab] floats, rows of all tokens.
 * ERT_E_FULL when the cache has no room, ERT_E_RANGE for an id outside the vocabulary: nothing fed.
 */
int rt_session_feed(struct rt_session *s, const int32_t *ids, uint32_t n, int (*between)(void *ctx),
                    void *ctx, float *logits_out, struct ert_error *err);
/* Most guesses that a pass may carry. */
enum { RT_MAX_GUESSES = 7 };

/* Feeds one token at the point's variant and, in the same pass, guesses of the tokens after it (at
 * most RT_MAX_GUESSES; those that the context or the chunk has no room for are left out). The
 * session then stands after the one token, whose logits it has. What it computed of the guesses is
 * kept until something else is fed, an earlier token is forgotten, or the point computes in another
 * way: rt_session_advance. in_hurry (may be NULL) is asked in every layer of a pass with guesses,
 * by the calling thread; once it says true the rest of the pass is that of the token alone, so that
 * it ends hardly later than it would without guesses. *n_guesses becomes how many were computed.
 * Logits and cache are the same bits as of tokens fed one by one, so a caller who draws each token
 * from its own logits, and goes on from a guess only if it is the token drawn, says what it would
 * say without guesses (Leviathan et al. 2023, arXiv 2211.17192, of which this is the case where the
 * draft is certain of itself). ERT_E_FULL and ERT_E_RANGE (of the token or a guess): nothing fed.
 */
int rt_session_feed_ahead(struct rt_session *s, int32_t id, const int32_t *guesses,
                          uint32_t *n_guesses, bool (*in_hurry)(void *ctx), void *ctx,
                          struct ert_error *err);
/* True if id is the next guess: the session then stands after it, with its logits, and nothing is
 * computed. Else all guesses are forgotten and id has yet to be fed. */
bool rt_session_advance(struct rt_session *s, int32_t id);
/* Logits of the last token fed, [n_vocab], the session's; valid until the next feed. After a feed
 * that was stopped there are none until the next one ends: computing them would read weights after
 * the engine has said that it is idle. */
const float *rt_session_logits(const struct rt_session *s);

uint32_t rt_session_position(const struct rt_session *s);
/* Forgets all tokens from position on (at most the current one). */
void rt_session_rewind(struct rt_session *s, uint32_t position);
uint32_t rt_session_capacity(const struct rt_session *s);
size_t rt_session_bytes(const struct rt_session *s); /* memory it holds, cache included */

#endif
