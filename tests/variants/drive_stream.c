/* Runs a source over texts for the Python tests:
 *   drive_stream SOURCE IDS TEXTS LENGTH MEASURED THREADS OUT
 * IDS holds int32 ids, [TEXTS][LENGTH]. OUT gets floats: of each layer the mean and the gram of
 * each input, then the levelled moments; then the mean and gram of the head's
 * input, then the head's input of every token (padding included), then the last residual stream of
 * a branch whose first layer gives c / n_ff for every third channel c. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "variants/stream.h"

static void put_moments(const struct var_moments *m, const struct rt_model *model, FILE *out)
{
    for (unsigned i = 0; i < VAR_N_INPUTS; i++) {
        size_t n = m->width[i];
        if (n == 0)
            continue;
        fwrite(m->mean[i], sizeof(float), n, out);
        fwrite(m->gram[i], sizeof(float), n * n, out);
    }
    size_t e = model->n_embd;
    if (!m->cross)
        return;
    fwrite(m->level_mean, sizeof(float), model->n_ff, out);
    fwrite(m->level_square, sizeof(float), model->n_ff, out);
    fwrite(m->level_mlp, sizeof(float), e, out);
    fwrite(m->level_gram, sizeof(float), e * e, out);
    fwrite(m->cross, sizeof(float), model->n_ff * e, out);
}

static void branch(struct var_stream *s, const struct rt_model *model, float *x)
{
    int32_t *channels = calloc(model->n_ff, sizeof *channels);
    float *constant = calloc(model->n_ff, sizeof *constant);
    struct var_cut cut = {channels, 0, constant};
    for (uint32_t c = 0; c < model->n_ff; c += 3) {
        channels[cut.n++] = (int32_t)c;
        constant[c] = (float)c / (float)model->n_ff;
    }
    var_stream_branch(s, x, var_stream_position(s) == 0 ? &cut : NULL);
    free(channels);
    free(constant);
}

static int run(struct var_stream *s, const struct var_source *src, size_t tokens, FILE *out,
               struct ert_error *err)
{
    struct var_moments m;
    size_t floats = tokens * src->model.n_embd_pad;
    float *x = malloc(floats * sizeof *x);
    int rc = 0;
    memcpy(x, var_stream_state(s), floats * sizeof *x);
    while (var_stream_position(s) < src->model.n_layers && !rc) {
        branch(s, &src->model, x);
        rc = var_moments_init(&m, &src->model, VAR_OF_LAYER | VAR_CROSS, err);
        if (!rc)
            rc = var_stream_layer(s, &m, NULL, err);
        put_moments(&m, &src->model, out);
        var_moments_release(&m);
    }
    if (!rc)
        rc = var_moments_init(&m, &src->model, VAR_OF_MODEL, err);
    if (rc) {
        free(x);
        return rc;
    }
    var_stream_finish(s, &m);
    put_moments(&m, &src->model, out);
    var_moments_release(&m);
    fwrite(var_stream_state(s), sizeof(float), floats, out);
    fwrite(x, sizeof(float), floats, out);
    free(x);
    return 0;
}

int main(int argc, char **argv)
{
    struct ert_error err = {0};
    struct var_source *src = NULL;
    struct rt_team *team = NULL;
    struct var_stream *s = NULL;
    struct ert_map ids;
    if (argc != 8)
        return 2;
    FILE *out = fopen(argv[7], "wb");
    struct var_texts texts = {.n = (uint32_t)atoi(argv[3]),
                              .length = (uint32_t)atoi(argv[4]),
                              .n_measured = (uint32_t)atoi(argv[5])};
    int rc = out ? ert_map_open(&ids, argv[2], &err) : -1;
    if (!rc)
        rc = var_source_open(&src, argv[1], NULL, &err);
    if (!rc)
        rc = rt_team_create(&team, (unsigned)atoi(argv[6]), &err);
    texts.ids = (int32_t *)(uintptr_t)ids.data;
    if (!rc)
        rc = var_stream_open(&s, src, team, &texts, &err);
    if (!rc)
        rc = run(s, src, (size_t)texts.n * texts.length, out, &err);
    if (rc)
        fprintf(stderr, "%s\n", err.text);
    var_stream_close(s);
    rt_team_free(team);
    var_source_free(src);
    ert_map_close(&ids);
    return (out && fclose(out)) || rc;
}
