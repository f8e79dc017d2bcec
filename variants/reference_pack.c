/* The source's logits from its f32 pack, run over the windows as they are asked for. */
#include <stdlib.h>

#include "variants/lane.h"
#include "variants/measure.h"

struct pack_reference {
    struct var_lane lane;
    struct var_schedule_entry point;
    const struct var_windows *windows;
    uint32_t window; /* that the lane has read the beginning of */
};

static int pack_logits(void *ctx, uint32_t window, uint32_t from, uint32_t n, float *out,
                       struct ert_error *err)
{
    struct pack_reference *r = ctx;
    const int32_t *ids = r->windows->ids + (size_t)window * r->windows->length;
    uint32_t read = window == r->window ? rt_session_position(r->lane.session) : 0;
    r->window = window;
    int rc = var_lane_read(&r->lane, ids, read, from, NULL, err);
    return rc ? rc : var_lane_read(&r->lane, ids, from, from + n, out, err);
}

int var_reference_open(struct var_reference *reference, const struct rt_pack *f32,
                       const struct var_windows *windows, struct rt_team *team,
                       struct ert_error *err)
{
    *reference = (struct var_reference){0};
    if (f32->kind != RT_PACK_F32)
        return ert_fail(err, ERT_E_USAGE,
                        "%s: a reference must be an f32 pack: build one from the source with --f32",
                        f32->path);
    struct pack_reference *r = calloc(1, sizeof *r);
    if (!r)
        return ert_fail(err, ERT_E_NOMEM, "%s: no memory for a reference", f32->path);
    r->windows = windows;
    int rc = rt_point_parse("f32", f32, &r->point.point, err);
    if (!rc)
        rc = var_lane_open(&r->lane, f32, &(struct var_schedule){&r->point, 1},
                           &(struct rt_session_config){.n_ctx = windows->length}, team, err);
    if (rc) {
        free(r);
        return rc;
    }
    *reference = (struct var_reference){pack_logits, r};
    return 0;
}

void var_reference_close(struct var_reference *reference)
{
    struct pack_reference *r = reference->ctx;
    if (r)
        var_lane_close(&r->lane);
    free(r);
    *reference = (struct var_reference){0};
}
