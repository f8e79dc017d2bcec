/* Computes one layer's extras for the Python tests:
 *   drive_compensate N_EMBD N_FF KEPT,RANK[:KEPT,RANK...] IN OUT, a pair per tier
 * IN holds int32 order of the residual [N_EMBD] and of the channels [N_FF], then floats: DOWN
 * [N_EMBD][N_FF], E[a], E[b], E[b b^T], E[a b^T]. OUT gets each tier's bias [pad], COMP_V
 * [rank][pad] and COMP_U [pad][rank], pad N_EMBD padded to 32 and rank the last tier's. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "runtime/pack_format.h"
#include "variants/blas.h"
#include "variants/compensate.h"

static float *take(const uint8_t **at, size_t n)
{
    float *x = (float *)(uintptr_t)*at;
    *at += n * sizeof *x;
    return x;
}

int main(int argc, char **argv)
{
    struct ert_error err = {0};
    struct ert_map in;
    if (argc != 6 || ert_map_open(&in, argv[4], &err))
        return 2;
    uint32_t e = (uint32_t)atoi(argv[1]), f = (uint32_t)atoi(argv[2]);
    uint32_t wide = pack_pad(e, PACK_GROUP);
    const uint8_t *at = in.data;
    int32_t *residual = calloc(wide, sizeof *residual);
    for (uint32_t i = 0; i < wide; i++)
        residual[i] = i < e ? ((const int32_t *)(const void *)at)[i] : -1;
    at += e * sizeof *residual;
    struct var_layer_order order = {.mlp = (int32_t *)(uintptr_t)at};
    at += f * sizeof *order.mlp;
    struct var_source_layer layer = {0};
    layer.part[VAR_DOWN] = (struct var_tensor){.name = "down",
                                               .type = var_type_of(0),
                                               .data = (uint8_t *)take(&at, (size_t)e * f),
                                               .rows = e,
                                               .cols = f};
    struct var_moments m = {.level_mean = take(&at, f), .level_mlp = take(&at, e)};
    m.level_gram = take(&at, (size_t)e * e);
    m.cross = take(&at, (size_t)f * e);
    struct var_source src = {.model = {.n_layers = 1, .n_embd = e, .n_ff = f, .n_embd_pad = wide},
                             .layers = &layer,
                             .path = argv[4]};
    struct rt_dims dims[VAR_MAX_TIERS] = {{.mlp = f}};
    struct var_arrangement a = {
        .n_layers = 1, .n_tiers = 1, .dims = {&dims[0]}, .residual = residual, .layers = &order};
    for (char *pair = strtok(argv[3], ":"); pair; pair = strtok(NULL, ":")) {
        struct rt_dims *d = a.dims[a.n_tiers] = &dims[a.n_tiers];
        if (a.n_tiers++ == VAR_MAX_TIERS - 1 || sscanf(pair, "%u,%u", &d->mlp, &d->comp) != 2)
            return 2;
    }
    struct var_extras x = {0};
    FILE *out = fopen(argv[5], "wb");
    int rc = out ? var_blas_open(&err) : -1;
    if (!rc)
        rc = var_compensate(&x, &src, &a, &m, 0, &err);
    if (!rc) {
        for (uint32_t t = 1; t < a.n_tiers; t++)
            fwrite(x.mlp_bias[t], sizeof(float), wide, out);
        if (x.rank) {
            fwrite(x.comp_v, sizeof(float), (size_t)x.rank * wide, out);
            fwrite(x.comp_u, sizeof(float), (size_t)x.rank * wide, out);
        }
    } else {
        fprintf(stderr, "%s\n", err.text);
    }
    var_extras_release(&x);
    free(residual);
    ert_map_close(&in);
    return (out && fclose(out)) || rc;
}
