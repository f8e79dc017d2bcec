/* Weighs the layers of a source for the Python tests:
 *   drive_sensitivity SOURCE IN TEXTS LENGTH DEPTH [PERCENT]
 * IN holds int32: ids [TEXTS][LENGTH], then the MLP widths [layers] of the tier and of another, the
 * order of the channels [layers][n_ff]; then floats: what a dropped channel becomes,
 * [layers][n_ff]. Prints as JSON, by draw: the tier's KL, the widths and the KL of each layer at
 * each, null where it was not measured; and the KL of both tiers as they compare. With PERCENT,
 * instead: the widths of a next tier that keeps as much, as the mean of the first quarter of the
 * texts has them, and as they are chosen. */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "variants/widths.h"

enum { N_DRAWS = 3 };

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

static json_t *listed(const struct var_sensitivity *s)
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
    return json_pack("{s:f, s:o, s:o}", "tier", s->tier_kld, "widths", widths, "kld", layers);
}

static void print(struct var_sensitivity *s, const double compared[2])
{
    json_t *draws = json_array();
    for (uint32_t draw = 0; draw < N_DRAWS; draw++) {
        var_sensitivity_draw(s, draw);
        json_array_append_new(draws, listed(s));
    }
    json_t *all =
        json_pack("{s:o, s:[f, f]}", "draws", draws, "compared", compared[0], compared[1]);
    json_dumpf(all, stdout, JSON_COMPACT);
    json_decref(all);
}

static json_t *widths_of(const struct var_arrangement *a)
{
    json_t *widths = json_array();
    for (uint32_t l = 0; l < a->n_layers; l++)
        json_array_append_new(widths, json_integer(a->dims[1][l].mlp));
    return widths;
}

/* The next tier's widths by the mean of the first quarter of the texts, and as they are chosen. */
static int choose(const struct var_weighing *w, struct var_arrangement *a, struct ert_error *err)
{
    const struct rt_model *m = &w->src->model;
    struct var_texts part = *w->texts;
    struct var_weighing on_part = *w;
    struct var_sensitivity s;
    part.n /= 4;
    on_part.texts = &part;
    int rc = var_sensitivity_measure(&s, &on_part, 0, var_depth_of_tier(a, m, 1), NULL, err);
    if (rc)
        return rc;
    var_allocate_widths(a, m, 1, &s, 0);
    var_sensitivity_release(&s);
    json_t *plain = widths_of(a);
    rc = var_widths_choose(a, w, 1, 0, NULL, err);
    json_t *all = json_pack("{s:o, s:o}", "plain", plain, "chosen", widths_of(a));
    if (!rc)
        json_dumpf(all, stdout, JSON_COMPACT);
    json_decref(all);
    return rc;
}

static int weigh(const struct var_weighing *w, const uint32_t *widths, uint32_t depth,
                 struct ert_error *err)
{
    struct var_sensitivity s;
    double compared[2];
    int rc = var_sensitivity_compare(compared, w, widths, 2, NULL, err);
    if (!rc)
        rc = var_sensitivity_measure(&s, w, 0, depth, NULL, err);
    if (!rc) {
        print(&s, compared);
        var_sensitivity_release(&s);
    }
    return rc;
}

/* Reads IN behind the ids, and does what is asked for. */
static int drive(struct var_source *src, struct rt_team *team, const struct var_texts *texts,
                 char **argv, struct ert_error *err)
{
    const struct rt_model *m = &src->model;
    int32_t *at = texts->ids + (size_t)texts->n * texts->length, *width = at;
    struct rt_dims *dims = calloc(2 * (size_t)m->n_layers, sizeof *dims);
    struct var_layer_order *order = calloc(m->n_layers, sizeof *order);
    double *lost = calloc(m->n_ff + PACK_GROUP + 1, sizeof *lost);
    at += 2 * (size_t)m->n_layers;
    for (uint32_t i = 0; i <= m->n_ff + PACK_GROUP; i++)
        lost[i] = m->n_ff + PACK_GROUP - i;
    for (uint32_t l = 0; l < m->n_layers; l++, at += m->n_ff) {
        dims[l].mlp = (uint32_t)width[l];
        order[l] = (struct var_layer_order){.mlp = at, .lost = lost};
    }
    struct made made = {m, (const float *)(const void *)at};
    const struct var_moments_store store = {load, &made};
    struct var_arrangement a = {.n_layers = m->n_layers,
                                .n_tiers = 2,
                                .rank_percent = {100, argv[6] ? (uint32_t)atoi(argv[6]) : 0},
                                .dims = {dims, dims + m->n_layers},
                                .layers = order};
    const struct var_weighing w = {src, &a, &store, texts, team};
    int rc = argv[6] ? choose(&w, &a, err)
                     : weigh(&w, (const uint32_t *)width, (uint32_t)atoi(argv[5]), err);
    free(dims);
    free(order);
    free(lost);
    return rc;
}

int main(int argc, char **argv)
{
    struct ert_error err = {0};
    struct var_source *src = NULL;
    struct rt_team *team = NULL;
    struct ert_map in;
    if (argc < 6 || argc > 7 || ert_map_open(&in, argv[2], &err))
        return 2;
    const struct var_texts texts = {.ids = (int32_t *)(uintptr_t)in.data,
                                    .n = (uint32_t)atoi(argv[3]),
                                    .length = (uint32_t)atoi(argv[4])};
    int rc = var_source_open(&src, argv[1], NULL, &err);
    if (!rc)
        rc = rt_team_create(&team, 2, &err);
    if (!rc)
        rc = drive(src, team, &texts, argv, &err);
    if (rc)
        fprintf(stderr, "%s\n", err.text);
    rt_team_free(team);
    var_source_free(src);
    ert_map_close(&in);
    return rc != 0;
}
