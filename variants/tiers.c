/* Tier widths: how many weights a tier keeps, spread over the layers. */
#include "variants/arrange.h"

#include "runtime/pack_format.h"

enum { PANEL = 128, WIDE = 1024, MIN_PROTECTED_LAYERS = 6 };

/* 64-bit sizes of one layer's parts, in weights. */
struct layer_size {
    uint64_t attention, channel; /* channel: gate row, up row and down column */
};

static struct layer_size size_of(const struct rt_model *m)
{
    uint64_t heads = 2 * ((uint64_t)m->n_heads + m->n_kv_heads);
    return (struct layer_size){heads * m->head_dim * m->n_embd, (uint64_t)3 * m->n_embd};
}

/* Head widths come in steps of 32 only, so the nearest is taken. */
static uint32_t head_width(const struct rt_model *m, uint32_t percent)
{
    uint32_t width = (m->head_pad * percent + 50 * PACK_GROUP) / (100 * PACK_GROUP) * PACK_GROUP;
    return width < PACK_GROUP ? PACK_GROUP : width;
}

static uint64_t truncated_attention(const struct rt_model *m, uint32_t width)
{
    uint32_t lost = width < m->head_dim ? m->head_dim - width : 0;
    return (uint64_t)2 * m->n_heads * lost * m->n_embd; /* Q rows and O columns */
}

/* The first and the last layer suffer most from losing channels (measured: shared with tiers.md),
 * so they lose none as long as the others can pay for them. */
static bool is_protected(uint32_t layer, uint32_t n_layers)
{
    return n_layers >= MIN_PROTECTED_LAYERS && (layer == 0 || layer == n_layers - 1);
}

static uint32_t clamp_width(uint64_t width, uint32_t least, uint32_t most)
{
    return width < least ? least : width > most ? most : (uint32_t)width;
}

/* Spreads `units` over n layers as evenly as whole units allow: layer i's share. */
static uint64_t even_share(uint64_t units, uint32_t i, uint32_t n)
{
    return (i + 1) * units / n - i * units / n;
}

static void choose_mlp(struct var_arrangement *a, const struct rt_model *m, uint32_t tier,
                       uint64_t removed_channels)
{
    uint32_t full = pack_pad(m->n_ff, PACK_GROUP), unit = full >= WIDE ? PANEL : PACK_GROUP;
    uint32_t n_free = 0;
    for (uint32_t l = 0; l < a->n_layers; l++)
        n_free += !is_protected(l, a->n_layers);
    uint64_t all = (uint64_t)n_free * m->n_ff;
    uint64_t kept = removed_channels < all ? all - removed_channels : 0;
    uint64_t units = (kept + unit / 2) / unit;
    for (uint32_t l = 0, i = 0; l < a->n_layers; l++) {
        struct rt_dims *dims = &a->dims[tier][l];
        if (is_protected(l, a->n_layers))
            dims->mlp = full;
        else
            dims->mlp = clamp_width(even_share(units, i++, n_free) * unit, PACK_GROUP,
                                    a->dims[tier - 1][l].mlp);
    }
}

void var_choose_widths(struct var_arrangement *a, const struct rt_model *m, bool truncate_attention)
{
    struct layer_size size = size_of(m);
    uint64_t per_layer = size.attention + size.channel * m->n_ff;
    for (uint32_t t = 0; t < a->n_tiers; t++) {
        uint32_t width = truncate_attention ? head_width(m, a->rank_percent[t]) : m->head_pad;
        uint64_t lost = per_layer * a->n_layers / 100 * (100 - a->rank_percent[t]);
        uint64_t paid = truncated_attention(m, width) * a->n_layers;
        for (uint32_t l = 0; l < a->n_layers; l++)
            a->dims[t][l] = (struct rt_dims){pack_pad(m->n_ff, PACK_GROUP), width, width};
        if (t > 0)
            choose_mlp(a, m, t, lost > paid ? (lost - paid) / size.channel : 0);
    }
}
