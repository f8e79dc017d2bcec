/* Weighs the layers of a source for the Python tests:
 *   drive_sensitivity SOURCE IN TEXTS LENGTH DEPTH
 * IN holds int32: ids [TEXTS][LENGTH], then the tier's MLP widths [layers], the order of the
 * channels [layers][n_ff]; then floats: what a dropped channel becomes, [layers][n_ff]. Prints as
 * JSON the tier's KL, the widths and the KL of each layer at each, null where it was not measured.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "variants/sensitivity.h"

struct made {
    const struct rt_model *model;
    const float *constant; /* [layers][n_ff] */
};

static int load(void *ctx, uint32_t layer, struct var_moments *m, struct ert_error *err)
{
    const struct made *made = ctx;
    int rc = var_moments_init(m, made->model, VAR_OF_LAYER, err);
    if (!rc)
        memcpy(m->level_mean, made->constant + (size_t)layer * made->model->n_ff,
               made->model->n_ff * sizeof *m->level_mean);
    return rc;
}

static json_t *number(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static void print(const struct var_sensitivity *s)
{
    json_t *widths = json_array(), *layers = json_array();
    for (unsigned i = 0; i < VAR_CUTS; i++)
        json_array_append_new(widths, json_integer(s->width[i]));
    for (uint32_t l = 0; l < s->n_layers; l++) {
        json_t *kld = json_array();
        for (unsigned i = 0; i < VAR_CUTS; i++)
            json_array_append_new(kld, number(s->kld[l][i]));
        json_array_append_new(layers, kld);
    }
    json_t *all =
        json_pack("{s:f, s:o, s:o}", "tier", s->tier_kld, "widths", widths, "kld", layers);
    json_dumpf(all, stdout, JSON_COMPACT);
    json_decref(all);
}

/* Reads IN behind the ids and weighs. */
static int weigh(struct var_source *src, struct rt_team *team, const struct var_texts *texts,
                 uint32_t depth, struct ert_error *err)
{
    const struct rt_model *m = &src->model;
    int32_t *at = texts->ids + (size_t)texts->n * texts->length, *width = at;
    struct rt_dims *dims = calloc(m->n_layers, sizeof *dims);
    struct var_layer_order *order = calloc(m->n_layers, sizeof *order);
    struct var_sensitivity s;
    at += m->n_layers;
    for (uint32_t l = 0; l < m->n_layers; l++, at += m->n_ff) {
        dims[l].mlp = (uint32_t)width[l];
        order[l].mlp = at;
    }
    struct made made = {m, (const float *)(const void *)at};
    const struct var_moments_store store = {load, &made};
    const struct var_arrangement a = {
        .n_layers = m->n_layers, .n_tiers = 1, .dims = {dims}, .layers = order};
    int rc = var_sensitivity_measure(&s, src, &a, 0, depth, &store, texts, team, NULL, err);
    if (!rc) {
        print(&s);
        var_sensitivity_release(&s);
    }
    free(dims);
    free(order);
    return rc;
}

int main(int argc, char **argv)
{
    struct ert_error err = {0};
    struct var_source *src = NULL;
    struct rt_team *team = NULL;
    struct ert_map in;
    if (argc != 6 || ert_map_open(&in, argv[2], &err))
        return 2;
    const struct var_texts texts = {.ids = (int32_t *)(uintptr_t)in.data,
                                    .n = (uint32_t)atoi(argv[3]),
                                    .length = (uint32_t)atoi(argv[4])};
    int rc = var_source_open(&src, argv[1], NULL, &err);
    if (!rc)
        rc = rt_team_create(&team, 2, &err);
    if (!rc)
        rc = weigh(src, team, &texts, (uint32_t)atoi(argv[5]), &err);
    if (rc)
        fprintf(stderr, "%s\n", err.text);
    rt_team_free(team);
    var_source_free(src);
    ert_map_close(&in);
    return rc != 0;
}
