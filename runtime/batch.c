#include "runtime/batch.h"

#include <stdlib.h>

#include "runtime/forward.h"

struct rt_batch {
    struct rt_forward forward;
    struct rt_point point;
    uint32_t position;
};

int rt_batch_create(struct rt_batch **b, const struct rt_pack *pack, struct rt_team *team,
                    const struct rt_batch_config *config, struct ert_error *err)
{
    *b = NULL;
    uint32_t n = config->n_sequences, n_ctx = config->n_ctx;
    if (n < 1 || n > RT_MAX_SEQUENCES || n_ctx < 1 || n_ctx > pack->model.n_ctx)
        return ert_fail(err, ERT_E_RANGE,
                        "%u texts of %u tokens: 1 to %d texts of 1 to %u tokens are possible with "
                        "%s",
                        n, n_ctx, RT_MAX_SEQUENCES, pack->model.n_ctx, pack->model.name);
    struct rt_batch *made = calloc(1, sizeof *made);
    if (!made)
        return ert_fail(err, ERT_E_NOMEM, "no memory for %u texts", n);
    made->point = config->point;
    made->forward = (struct rt_forward){.pack = pack,
                                        .team = team,
                                        .kernels = rt_kernels_best(),
                                        .cache = {.n_sequences = n, .n_ctx = n_ctx},
                                        .chunk = n};
    int rc = rt_cache_choose(&made->forward.cache, config->cache_bits, pack->kind, err);
    if (!rc)
        rc = rt_forward_init(&made->forward, err);
    if (rc) {
        free(made);
        return rc;
    }
    *b = made;
    return 0;
}

void rt_batch_free(struct rt_batch *b)
{
    if (!b)
        return;
    rt_forward_release(&b->forward);
    free(b);
}

void rt_batch_restart(struct rt_batch *b)
{
    b->position = 0;
}

static int check_step(const struct rt_batch *b, const int32_t *ids, struct ert_error *err)
{
    const struct rt_forward *f = &b->forward;
    if (b->position == f->cache.n_ctx)
        return ert_fail(err, ERT_E_FULL,
                        "the texts have %u tokens already, there is no room for "
                        "more: begin new ones",
                        b->position);
    for (uint32_t i = 0; i < f->chunk; i++)
        if (ids[i] < 0 || (uint32_t)ids[i] >= f->pack->model.n_vocab)
            return ert_fail(err, ERT_E_RANGE,
                            "text %u goes on with the id %d, the vocabulary has 0 to %u", i, ids[i],
                            f->pack->model.n_vocab - 1);
    return 0;
}

int rt_batch_step(struct rt_batch *b, const int32_t *ids, float *logits, struct ert_error *err)
{
    struct rt_forward *f = &b->forward;
    int rc = check_step(b, ids, err);
    if (rc)
        return rc;
    f->step = (struct rt_step){.variant = &rt_variants[b->point.variant],
                               .tier = &f->pack->tiers[b->point.tier],
                               .ids = ids,
                               .n_cols = f->chunk,
                               .position = b->position++,
                               .side_by_side = true,
                               .n_logits = f->chunk,
                               .logits_out = logits};
    rt_forward_run(f, rt_team_size(f->team));
    return 0;
}
