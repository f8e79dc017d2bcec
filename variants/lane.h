/* lane: a session that follows a schedule of points through one text after the other. */
#ifndef VAR_LANE_H
#define VAR_LANE_H

#include "variants/variants.h"

struct var_lane {
    struct rt_session *session;
    struct var_schedule schedule;
    uint32_t n_vocab;
};

/* The schedule's entries, the pack and the team must outlive the lane. On failure there is nothing
 * to close; close is harmless on {0}. */
int var_lane_open(struct var_lane *lane, const struct rt_pack *pack,
                  const struct var_schedule *schedule, const struct rt_session_config *config,
                  struct rt_team *team, struct ert_error *err);
void var_lane_close(struct var_lane *lane);

/* Goes on to position `to` of a text whose first tokens the lane has read; from 0 a new text
 * begins. A token's variant is the point's own, alone or in a chunk: the point is meant, not its
 * prefill. logits (NULL = none wanted): of positions from .. to - 1, [to - from][n_vocab]. */
int var_lane_read(struct var_lane *lane, const int32_t *ids, uint32_t from, uint32_t to,
                  float *logits, struct ert_error *err);

#endif
