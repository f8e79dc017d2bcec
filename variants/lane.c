#include "variants/lane.h"

int var_lane_open(struct var_lane *lane, const struct rt_pack *pack,
                  const struct var_schedule *schedule, const struct rt_session_config *config,
                  struct rt_team *team, struct ert_error *err)
{
    *lane = (struct var_lane){.schedule = *schedule, .n_vocab = pack->model.n_vocab};
    return rt_session_create(&lane->session, pack, team, config, err);
}

void var_lane_close(struct var_lane *lane)
{
    rt_session_free(lane->session);
    *lane = (struct var_lane){0};
}

/* The point of position pos, and how far it reaches. */
static const struct rt_point *point_at(const struct var_schedule *s, uint32_t pos, uint32_t *until)
{
    size_t i = 0;
    while (i + 1 < s->n && s->entries[i + 1].token <= pos)
        i++;
    *until = i + 1 < s->n ? s->entries[i + 1].token : UINT32_MAX;
    return &s->entries[i].point;
}

int var_lane_read(struct var_lane *lane, const int32_t *ids, uint32_t from, uint32_t to,
                  float *logits, struct ert_error *err)
{
    int rc = 0;
    rt_session_rewind(lane->session, from);
    for (uint32_t pos = from, end; pos < to && !rc; pos = end) {
        struct rt_point point = *point_at(&lane->schedule, pos, &end);
        float *out = logits ? logits + (size_t)(pos - from) * lane->n_vocab : NULL;
        point.prefill_variant = point.variant;
        end = end < to ? end : to;
        rt_session_set_point(lane->session, &point);
        rc = rt_session_feed(lane->session, ids + pos, end - pos, NULL, NULL, out, err);
    }
    return rc;
}
