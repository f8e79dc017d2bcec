/* arrange: in which order a pack stores the inner dimensions of a model, and how many of them each
 * tier keeps. Pure bookkeeping: no weights are changed, only renumbered. */
#ifndef VAR_ARRANGE_H
#define VAR_ARRANGE_H

#include "variants/moments.h"
#include "variants/variants.h"

/* Maps from stored to source index; -1 is padding. */
struct var_layer_order {
    int32_t *q, *k, *v; /* rows: [n_heads * qk[0]], [n_kv_heads * head_pad] twice */
    int32_t *o;         /* columns: [n_heads * vo[0]] */
    int32_t *head;      /* values of the norms of heads: [n_kv_heads * head_pad] */
    int32_t *mlp;       /* rows of gate and up, columns of down: [pad(n_ff)] */
    double *lost;       /* importance of all channels of mlp from a place on: [pad(n_ff) + 1] */
    uint16_t *pairs;    /* RoPE frequency of each stored pair: [n_kv_heads * head_pad / 2] */
};

struct var_arrangement {
    uint32_t n_layers, n_tiers;
    uint32_t rank_percent[VAR_MAX_TIERS];
    struct rt_dims *dims[VAR_MAX_TIERS]; /* [n_layers] each */
    int32_t *residual;                   /* [n_embd_pad] */
    bool outliers; /* the residual's first 32 channels are an outlier group of what reads it */
    struct var_layer_order *layers; /* [n_layers] */
};

/* Orders by importance: from the moments of each layer where given, else from the weights alone.
 * Channels of a source with 16-level groups move in whole groups of 32, so that the pack finds the
 * source's grid again. The caller frees *a. */
int var_arrange(struct var_arrangement **a, const struct var_source *src,
                const struct var_build_options *options, const struct var_moments_store *moments,
                struct ert_error *err);
/* Once the widths are final and moments were given: deals the MLP channels of each tier's share out
 * to its groups by rank, so that groups are of like importance and every tier keeps the channels
 * that it kept. -1 without memory. A source's own groups stay. */
int var_spread_channels(struct var_arrangement *a, const struct var_source *src);
void var_arrangement_free(struct var_arrangement *a); /* NULL is fine */

/* Fills a->dims (tiers.c) for a->rank_percent; a's arrays are allocated. */
void var_choose_widths(struct var_arrangement *a, const struct rt_model *m,
                       bool truncate_attention);

#endif
