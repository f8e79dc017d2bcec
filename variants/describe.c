#include "variants/describe.h"

#include <inttypes.h>
#include <string.h>

#include "variants/compensate.h"

static json_t *describe_model(const struct rt_model *m)
{
    return json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:b}", "arch",
                     m->arch, "n_layers", m->n_layers, "n_embd", m->n_embd, "n_heads", m->n_heads,
                     "n_kv_heads", m->n_kv_heads, "head_dim", m->head_dim, "n_ff", m->n_ff,
                     "n_vocab", m->n_vocab, "n_ctx", m->n_ctx, "rope_theta", (double)m->rope_theta,
                     "rms_eps", (double)m->rms_eps, "tied", m->tied);
}

static json_t *describe_tiers(const struct var_arrangement *a)
{
    json_t *tiers = json_array();
    for (uint32_t t = 0; t < a->n_tiers; t++) {
        char name[16];
        json_t *dims = json_array();
        for (uint32_t l = 0; l < a->n_layers; l++) {
            const struct rt_dims *d = &a->dims[t][l];
            json_array_append_new(dims, json_pack("{s:i, s:i, s:i, s:i}", "mlp", d->mlp, "qk",
                                                  d->qk, "vo", d->vo, "comp", d->comp));
        }
        snprintf(name, sizeof name, "r%u", a->rank_percent[t]);
        json_array_append_new(tiers, json_pack("{s:s, s:i, s:o}", "name", name, "rank_percent",
                                               a->rank_percent[t], "dims", dims));
    }
    return tiers;
}

static json_t *describe_tokenizer(const struct var_source *src)
{
    const struct rt_vocab *v = &src->vocab;
    json_t *eos = json_array();
    for (uint32_t i = 0; i < v->n_eos; i++)
        json_array_append_new(eos, json_integer(v->eos[i]));
    return json_pack("{s:s, s:s, s:i, s:o, s:i, s:b, s:b, s:b, s:b, s:b, s:s}", "model", v->model,
                     "pre", v->pre, "bos", v->bos, "eos", eos, "unk", v->unk, "add_bos", v->add_bos,
                     "nfc", v->nfc, "add_space_prefix", v->add_space_prefix, "prefix_if_needed",
                     v->prefix_if_needed, "prefix_once", v->prefix_once, "chat_template",
                     src->chat_template);
}

/* Its weights: one file, or all of them one after the other. */
static json_t *describe_source(const struct var_source *src)
{
    const char *base = strrchr(src->path, '/');
    char hash[17];
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < src->n_maps; i++)
        bytes += src->maps[i].size;
    snprintf(hash, sizeof hash, "%016" PRIx64, var_source_hash(src));
    return json_pack("{s:s, s:I, s:s, s:s}", "file", base ? base + 1 : src->path, "bytes",
                     (json_int_t)bytes, "xxh64", hash, "type", src->type);
}

/* How the pack was made, for people. */
static json_t *describe_recipe(const struct var_source *src, const struct var_arrangement *a,
                               const struct var_build_options *o)
{
    if (o->f32)
        return json_pack("{s:s}", "weights", "float32, as the source says");
    const char *order = a->n_tiers == 1 && (o->nearest || src->grid) ? "as in the source"
                        : src->grid  ? "groups of 32 channels by E[a^2] |down|^2"
                        : o->nearest ? "channels by E[a^2] |down|^2"
                                     : "channels by E[a^2] |down|^2, spread over groups";
    const char *rounding = o->nearest ? "to the nearest level, least squared error of the weights"
                                      : "least squared error of the products, by their inputs";
    const char *texts = o->calib ? "text of the user's" : "the model's own, from its first token";
    char ranks[64] = "rank 32 more at each tier that loses much";
    if (o->comp_rank)
        snprintf(ranks, sizeof ranks, "rank %u more at each narrower tier", o->comp_rank);
    return json_pack(
        "{s:s, s:s, s:s, s:i, s:s, s:s, s:s, s:b, s:I}", "quantizer",
        "asymmetric groups of 32, 8-bit scales and offsets", "rounding", rounding, "calibration",
        texts, "calibration_tokens", (int)(o->calib_tokens ? o->calib_tokens : VAR_CALIB_TOKENS),
        "mlp_order", order, "attention",
        o->truncate_attention ? "heads ordered by weight norms" : "whole in every tier",
        "compensators", ranks, "outlier_group", a->outliers, "seed", (json_int_t)o->seed);
}

/* A context shorter than the model's own is told. */
static void add_context(json_t *recipe, const struct var_source *src)
{
    char text[128];
    snprintf(text, sizeof text, "%u of %u tokens: attention slides beyond, which is not supported",
             src->model.n_ctx, src->n_ctx_whole);
    if (src->n_ctx_whole)
        json_object_set_new(recipe, "context", json_string(text));
}

int var_describe(json_t **meta, const struct var_source *src, const struct var_arrangement *a,
                 const struct var_build_options *options, struct ert_error *err)
{
    const char *kind = options->f32 ? "f32" : options->h_only ? "h-only" : "nested";
    *meta = json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "name", src->model.name, "kind", kind,
                      "model", describe_model(&src->model), "tiers", describe_tiers(a), "tokenizer",
                      describe_tokenizer(src), "source", describe_source(src), "recipe",
                      describe_recipe(src, a, options));
    if (!*meta)
        return ert_fail(
            err, ERT_E_FORMAT,
            "%s: its name, chat template or file name is not UTF-8 text; rename or repair "
            "the file",
            src->path);
    add_context(json_object_get(*meta, "recipe"), src);
    return 0;
}
