/* Runs a source over texts for the Python tests:
 *   drive_stream SOURCE IDS TEXTS LENGTH MEASURED THREADS OUT
 * IDS holds int32 ids, [TEXTS][LENGTH]. OUT gets floats: of each layer the mean and the gram of
 * each input and the cross moments, then those of the head's input, then the head's input of every
 * token (padding included). */
#include <stdlib.h>
#include <stdio.h>

#include "variants/stream.h"

static void put_moments(const struct var_moments *m, const struct rt_model *model, FILE *out)
{
    for (unsigned i = 0; i < VAR_N_INPUTS; i++) {
        size_t n = m->width[i];
        fwrite(m->mean[i], sizeof(float), n, out);
        fwrite(m->gram[i], sizeof(float), n * n, out);
    }
    if (m->cross)
        fwrite(m->cross, sizeof(float), (size_t)model->n_ff * model->n_embd, out);
}

static int run(struct var_stream *s, const struct var_source *src, size_t tokens, FILE *out,
               struct ert_error *err)
{
    struct var_moments m;
    int rc = 0;
    while (var_stream_position(s) < src->model.n_layers && !rc) {
        rc = var_moments_init(&m, &src->model, VAR_OF_LAYER | VAR_CROSS, err);
        if (!rc)
            rc = var_stream_layer(s, &m, NULL, err);
        put_moments(&m, &src->model, out);
        var_moments_release(&m);
    }
    if (!rc)
        rc = var_moments_init(&m, &src->model, VAR_OF_MODEL, err);
    if (rc)
        return rc;
    var_stream_finish(s, &m);
    put_moments(&m, &src->model, out);
    var_moments_release(&m);
    fwrite(var_stream_state(s), sizeof(float), tokens * src->model.n_embd_pad, out);
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
