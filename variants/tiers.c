/* Tier widths: how many weights a tier keeps, spread over the layers. */
#include "variants/tiers.h"

#include <math.h>

#include "runtime/pack_format.h"
#include "variants/compensate.h"

enum { MIN_PROTECTED_LAYERS = 6 };

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

/* Where nothing is measured: the first and the last layer suffer most from losing channels, so they
 * lose none as long as the others can pay for them. */
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
    uint32_t full = pack_pad(m->n_ff, PACK_GROUP), unit = var_width_step(m);
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
            a->dims[t][l] = (struct rt_dims){pack_pad(m->n_ff, PACK_GROUP), width, width, 0};
        if (t > 0)
            choose_mlp(a, m, t, lost > paid ? (lost - paid) / size.channel : 0);
    }
}

/* ---- widths by measured divergence --------------------------------------------------------- */

/* What the model costs with a layer at each width below the one it was measured from. */
struct curve {
    uint32_t unit; /* widths are multiples of it */
    uint32_t from; /* the tier's width, and what that tier costs */
    double from_kld;
    const double *lost; /* by stored channels kept (variants/arrange.h) */
    const uint32_t *width;
    const double *kld; /* at width[VAR_CUTS], where narrower than `from` */
};

/* KL at a width: between two measured widths it follows the importance of what is lost. */
static double cost_at(const struct curve *c, uint32_t width)
{
    uint32_t wide = c->from;
    double high = c->from_kld;
    for (unsigned i = 0; i < VAR_CUTS; i++) {
        uint32_t narrow = c->width[i];
        if (narrow >= wide)
            continue;
        double low = fmax(c->kld[i], high);
        if (low == INFINITY) /* not measured, not taken */
            return width == wide ? high : low;
        if (width >= narrow) {
            double all = c->lost[narrow] - c->lost[wide];
            double share = all > 0 ? (c->lost[width] - c->lost[wide]) / all : 1;
            return high + (low - high) * share;
        }
        high = low;
        wide = narrow;
    }
    return high;
}

/* The next step down on the lower convex hull of a layer's costs. */
struct hull_step {
    uint32_t to;  /* channels kept */
    double price; /* KL per channel */
};

static struct hull_step next_step(const struct curve *c, uint32_t width)
{
    struct hull_step best = {width, INFINITY};
    double here = cost_at(c, width);
    for (uint32_t to = c->unit; to < width; to += c->unit) {
        double price = (cost_at(c, to) - here) / (width - to);
        if (price < best.price)
            best = (struct hull_step){to, price};
    }
    return best;
}

static struct curve curve_of(const struct var_arrangement *a, const struct rt_model *m,
                             const struct var_sensitivity *s, uint32_t tier, uint32_t layer)
{
    return (struct curve){.unit = var_width_step(m),
                          .from = a->dims[tier - 1][layer].mlp,
                          .from_kld = s->tier_kld,
                          .lost = a->layers[layer].lost,
                          .width = s->width,
                          .kld = s->kld[layer]};
}

/* Narrows the layer where a channel costs least, by no more groups than `channels` need; false when
 * there is none. */
static bool narrow_cheapest(struct var_arrangement *a, const struct rt_model *m,
                            const struct var_sensitivity *s, uint32_t tier, uint64_t channels)
{
    struct hull_step best = {0, INFINITY};
    uint32_t at = 0;
    for (uint32_t l = 0; l < a->n_layers; l++) {
        const struct curve c = curve_of(a, m, s, tier, l);
        struct hull_step step = next_step(&c, a->dims[tier][l].mlp);
        if (step.price < best.price) {
            best = step;
            at = l;
        }
    }
    if (best.price == INFINITY)
        return false;
    uint32_t *width = &a->dims[tier][at].mlp;
    uint64_t enough = (channels + PACK_GROUP - 1) / PACK_GROUP * PACK_GROUP;
    uint64_t step = *width - best.to;
    *width -= (uint32_t)(step < enough ? step : enough);
    return true;
}

/* What a tier has less than the whole model, its extras counted, in weights. */
static int64_t saved_weights(const struct var_arrangement *a, const struct rt_model *m,
                             uint32_t tier, uint32_t comp_rank)
{
    int64_t saved = 0, embd = m->n_embd;
    for (uint32_t l = 0; l < a->n_layers; l++) {
        uint32_t lost = var_lost_channels(a, m, tier, l);
        uint32_t rank = var_compensator_rank(a, m, tier, l, comp_rank);
        saved += (int64_t)lost * 3 * embd;
        saved -= lost ? embd * (int64_t)(sizeof(float) + 2 * rank) : 0; /* 1 byte a weight */
    }
    return saved;
}

uint32_t var_depth_of_tier(const struct var_arrangement *a, const struct rt_model *m, uint32_t tier)
{
    struct layer_size size = size_of(m);
    uint64_t all = size.attention + size.channel * m->n_ff;
    uint64_t lost = all * (a->rank_percent[tier - 1] - a->rank_percent[tier]) / 100 / size.channel;
    uint32_t least = m->n_ff / 2, much = (uint32_t)(lost < m->n_ff ? 3 * lost : m->n_ff);
    return much > least ? much : least;
}

void var_allocate_widths(struct var_arrangement *a, const struct rt_model *m, uint32_t tier,
                         const struct var_sensitivity *s, uint32_t comp_rank)
{
    struct layer_size size = size_of(m);
    int64_t all = (int64_t)((size.attention + size.channel * m->n_ff) * a->n_layers);
    int64_t wanted = all * (100 - a->rank_percent[tier]) / 100, missing;
    for (uint32_t l = 0; l < a->n_layers; l++)
        a->dims[tier][l] = a->dims[tier - 1][l];
    while ((missing = wanted - saved_weights(a, m, tier, comp_rank)) > 0 &&
           narrow_cheapest(a, m, s, tier, (uint64_t)missing / size.channel + 1))
        ;
}
