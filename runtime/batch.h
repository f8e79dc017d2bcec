/* batch: several texts side by side, one token of each a step, so that a step reads each weight
 * once for all of them. */
#ifndef RT_BATCH_H
#define RT_BATCH_H

#include "runtime/pack.h"
#include "runtime/point.h"
#include "runtime/team.h"

struct rt_batch;

enum { RT_MAX_SEQUENCES = 512 };

struct rt_batch_config {
    uint32_t n_sequences; /* 1 .. RT_MAX_SEQUENCES */
    uint32_t n_ctx;       /* positions of each; at most the model's */
    uint32_t cache_bits;  /* as of a session */
    struct rt_point point;
};

/* The pack and the team must outlive the batch; the caller frees it. All memory is allocated here.
 */
int rt_batch_create(struct rt_batch **b, const struct rt_pack *pack, struct rt_team *team,
                    const struct rt_batch_config *config, struct ert_error *err);
void rt_batch_free(struct rt_batch *b); /* NULL is fine */

/* Forgets all tokens: the next step begins new texts. */
void rt_batch_restart(struct rt_batch *b);

/* Feeds ids[n_sequences], the next token of each text; logits gets [n_sequences][n_vocab] floats,
 * the same bits as a session of each text alone would give. ERT_E_FULL and ERT_E_RANGE as of
 * rt_session_feed: nothing fed. */
int rt_batch_step(struct rt_batch *b, const int32_t *ids, float *logits, struct ert_error *err);

#endif
