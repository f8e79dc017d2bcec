#include "variants/widths.h"

#include <stdlib.h>
#include <string.h>

#include "variants/progress.h"

enum { CANDIDATES = 8 };

static const double SHARE_OF_WEIGHING = 0.6; /* of the time */

/* Different widths from different draws; how many. */
static uint32_t make_candidates(struct var_arrangement *a, const struct rt_model *m, uint32_t tier,
                                struct var_sensitivity *s, uint32_t comp_rank, uint32_t *widths)
{
    uint32_t n = 0, layers = a->n_layers;
    for (uint32_t draw = 0; draw < CANDIDATES; draw++) {
        uint32_t *mine = widths + (size_t)n * layers;
        bool known = false;
        var_sensitivity_draw(s, draw);
        var_allocate_widths(a, m, tier, s, comp_rank);
        for (uint32_t l = 0; l < layers; l++)
            mine[l] = a->dims[tier][l].mlp;
        for (uint32_t i = 0; i < n && !known; i++)
            known = memcmp(widths + (size_t)i * layers, mine, layers * sizeof *mine) == 0;
        n += !known;
    }
    return n;
}

static int take_best(struct var_arrangement *a, const struct var_weighing *w, uint32_t tier,
                     const uint32_t *widths, uint32_t n, const struct ert_progress *progress,
                     struct ert_error *err)
{
    double kld[CANDIDATES];
    uint32_t best = 0;
    int rc = var_sensitivity_compare(kld, w, widths, n, progress, err);
    if (rc)
        return rc;
    for (uint32_t i = 1; i < n; i++)
        if (kld[i] < kld[best])
            best = i;
    for (uint32_t l = 0; l < a->n_layers; l++)
        a->dims[tier][l].mlp = widths[(size_t)best * a->n_layers + l];
    return 0;
}

/* The layers weighed on a part of the texts, at the tier above. */
static int weigh(struct var_sensitivity *s, const struct var_weighing *w, uint32_t tier,
                 const struct ert_progress *progress, struct ert_error *err)
{
    struct var_texts part = *w->texts;
    struct var_weighing mine = *w;
    part.n = (part.n + 3) / 4;
    mine.texts = &part;
    return var_sensitivity_measure(
        s, &mine, tier - 1, var_depth_of_tier(w->order, &w->src->model, tier), progress, err);
}

int var_widths_choose(struct var_arrangement *a, const struct var_weighing *w, uint32_t tier,
                      uint32_t comp_rank, const struct ert_progress *progress,
                      struct ert_error *err)
{
    struct var_part_progress parts[] = {{progress, 0, SHARE_OF_WEIGHING, NULL},
                                        {progress, SHARE_OF_WEIGHING, 1 - SHARE_OF_WEIGHING, NULL}};
    const struct ert_progress weighing = var_part_progress(&parts[0]),
                              comparing = var_part_progress(&parts[1]);
    struct var_sensitivity s;
    uint32_t *widths = calloc((size_t)CANDIDATES * a->n_layers, sizeof *widths);
    int rc = widths ? weigh(&s, w, tier, &weighing, err)
                    : ert_fail(err, ERT_E_NOMEM, "no memory for %u layers", a->n_layers);
    if (!rc) {
        uint32_t n = make_candidates(a, &w->src->model, tier, &s, comp_rank, widths);
        var_sensitivity_release(&s);
        rc = take_best(a, w, tier, widths, n, &comparing, err);
    }
    free(widths);
    return rc;
}
