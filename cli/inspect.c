/* edgert inspect: what a pack holds. */
#include <stdlib.h>
#include <string.h>

#include "cli/catalog_view.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "engine/layers.h"
#include "runtime/runtime.h"

static const char *const kinds[] = {
    [RT_PACK_NESTED] = "nested", [RT_PACK_H_ONLY] = "h-only", [RT_PACK_F32] = "f32"};

/* The range of a width over the layers of a tier. */
static void width_range(const struct rt_pack *pack, const struct rt_tier *tier,
                        uint32_t (*width)(const struct rt_dims *), char out[32])
{
    uint32_t least = width(&tier->dims[0]), most = least;
    for (uint32_t i = 1; i < pack->model.n_layers; i++) {
        uint32_t w = width(&tier->dims[i]);
        least = w < least ? w : least;
        most = w > most ? w : most;
    }
    if (least == most)
        snprintf(out, 32, "%u", most);
    else
        snprintf(out, 32, "%u-%u", least, most);
}

static uint32_t mlp_width(const struct rt_dims *d)
{
    return d->mlp;
}

static uint32_t qk_width(const struct rt_dims *d)
{
    return d->qk;
}

static uint32_t vo_width(const struct rt_dims *d)
{
    return d->vo;
}

static void print_tiers(const struct rt_pack *pack)
{
    printf("\n%-8s %8s %12s %12s %12s\n", "tier", "weights", "mlp", "qk", "vo");
    for (uint32_t t = 0; t < pack->n_tiers; t++) {
        char mlp[32], qk[32], vo[32];
        const struct rt_tier *tier = &pack->tiers[t];
        width_range(pack, tier, mlp_width, mlp);
        width_range(pack, tier, qk_width, qk);
        width_range(pack, tier, vo_width, vo);
        printf("%-8s %7u%% %12s %12s %12s\n", tier->name, tier->rank_percent, mlp, qk, vo);
    }
}

/* f32 packs offer f32 alone, h-only ones no w8a8. */
static bool offers(const struct rt_pack *pack, enum rt_variant v)
{
    return (v == RT_F32) == (pack->kind == RT_PACK_F32) &&
           !(v == RT_W8A8 && pack->kind == RT_PACK_H_ONLY);
}

static void print_bits(const struct rt_pack *pack)
{
    const char *between = "bits per weight: ";
    for (enum rt_variant v = 0; v < RT_N_VARIANTS; v++)
        if (offers(pack, v)) {
            printf("%s%s %.3f", between, rt_variants[v].name, rt_pack_bits_per_weight(pack, v));
            between = ", ";
        }
    printf("\n");
}

static json_t *list_bits(const struct rt_pack *pack)
{
    json_t *bits = json_object();
    for (enum rt_variant v = 0; v < RT_N_VARIANTS; v++)
        if (offers(pack, v))
            json_object_set_new(bits, rt_variants[v].name,
                                json_real(rt_pack_bits_per_weight(pack, v)));
    return bits;
}

static int print_text(const struct rt_pack *pack)
{
    const struct rt_model *m = &pack->model;
    printf("%s: %s, %s, %.1f MB\n", pack->path, m->name, kinds[pack->kind],
           (double)pack->map.size / 1e6);
    printf("model: %s, %u layers, %u wide, %u heads of %u (%u for keys and values), MLP %u, "
           "vocabulary %u%s, context %u\n",
           m->arch, m->n_layers, m->n_embd, m->n_heads, m->head_dim, m->n_kv_heads, m->n_ff,
           m->n_vocab, m->tied ? " (tied)" : "", m->n_ctx);
    printf("tokenizer: %s %s, %u merges; chat format: ", pack->vocab.model, pack->vocab.pre,
           pack->vocab.n_merges);
    const struct rt_chat_format *chat =
        pack->chat_template[0] ? rt_chat_recognise(pack->chat_template) : NULL;
    printf("%s\n", chat ? rt_chat_name(chat) : "none, prompts are continued as they are");
    printf("planes: H %.1f MB, L %.1f MB (%.0f%% in memory)\n", (double)pack->h_size / 1e6,
           (double)pack->l_size / 1e6, 100 * rt_pack_resident_l(pack));
    print_bits(pack);
    print_tiers(pack);
    struct ert_error err;
    if (catalog_print(pack, &err))
        return cli_fail_error(&err);
    return cli_finish_output();
}

/* META as it is, without the bulk of the chat template's siblings, and what the file adds. */
static int print_json(const struct rt_pack *pack, bool verified)
{
    json_t *all = json_deep_copy(pack->meta);
    if (all) {
        json_object_set_new(all, "path", json_string(pack->path));
        json_object_set_new(all, "bytes", json_integer((json_int_t)pack->map.size));
        json_object_set_new(all, "h_bytes", json_integer((json_int_t)pack->h_size));
        json_object_set_new(all, "l_bytes", json_integer((json_int_t)pack->l_size));
        json_object_set_new(all, "bits_per_weight", list_bits(pack));
        json_object_set_new(all, "l_resident", json_real(rt_pack_resident_l(pack)));
        json_object_set_new(all, "verified", verified ? json_true() : json_null());
    }
    return cli_print_json(all, JSON_INDENT(1));
}

static int verify(const struct rt_pack *pack)
{
    struct progress_bar bar;
    struct ert_error err;
    struct ert_progress progress = progress_open(&bar);
    int rc = rt_pack_verify(pack, &progress, &err);
    progress_close(&bar);
    return rc ? cli_fail_error(&err) : CLI_OK;
}

int command_inspect(int argc, char **argv)
{
    bool json = false, check = false;
    const char *plot = NULL;
    const struct option_row rows[] = {
        {"verify", 0, NULL, "check the checksums of the planes too", OPTION_FLAG, &check, 0, 0},
        {"plot", 0, "FILE.svg", "quality against bytes as a picture", OPTION_TEXT, &plot, 0, 0},
        {"json", 0, NULL, "as JSON (docs/json.md)", OPTION_FLAG, &json, 0, 0},
        OPTION_HELP,
    };
    struct command_line line = {
        .usage = "edgert inspect [OPTION]... [PACK]",
        .about = "Shows the model, tiers, sizes and catalog of a pack (default.edgert).",
        .rows = rows,
        .n_rows = sizeof rows / sizeof *rows,
        .max_arguments = 1,
    };
    int status = options_parse(&line, argc, argv);
    if (status >= 0)
        return status;
    char *path = NULL;
    struct rt_pack *pack = NULL;
    struct ert_error err;
    if (layers_find_model(line.n_arguments ? line.arguments[0] : NULL, &path, &err) ||
        rt_pack_open(&pack, path, &err)) {
        free(path);
        return cli_fail_error(&err);
    }
    status = check ? verify(pack) : CLI_OK;
    if (status == CLI_OK && plot && catalog_plot(pack, plot, &err))
        status = cli_fail_error(&err);
    if (status == CLI_OK)
        status = json ? print_json(pack, check) : print_text(pack);
    if (status == CLI_OK && check && !json)
        fprintf(stderr, "checksums hold\n");
    rt_pack_free(pack);
    free(path);
    return status;
}
