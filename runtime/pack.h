/* pack: an opened .edgert file, mapped and checked. Immutable after open; may be shared by threads.
 */
#ifndef RT_PACK_H
#define RT_PACK_H

#include <jansson.h>

#include "base/base.h"
#include "runtime/matmul.h"
#include "runtime/point.h"
#include "runtime/tokenizer.h"

enum rt_pack_kind { RT_PACK_NESTED, RT_PACK_H_ONLY, RT_PACK_F32 };

/* Sizes of the model; *_pad are as stored (multiples of 32, n_vocab_pad of 16). */
struct rt_model {
    char arch[32], name[128];
    uint32_t n_layers, n_embd, n_heads, n_kv_heads, head_dim, n_ff, n_vocab, n_ctx;
    uint32_t n_embd_pad, head_pad, n_vocab_pad;
    float rope_theta, rms_eps;
    bool tied;
};

/* Widths of one layer at one tier, multiples of 32. From tier to tier the first three fall, as the
 * layer loses channels, and the rank of its compensator rises. */
struct rt_dims {
    uint32_t mlp, qk, vo;
    uint32_t comp; /* 0: none */
};

/* Private extras of one layer at one tier; absent ones are NULL. */
struct rt_extras {
    const float *attn_bias, *mlp_bias; /* [n_embd_pad] */
};

struct rt_tier {
    char name[16]; /* "r100" */
    uint32_t rank_percent;
    struct rt_dims *dims;     /* [n_layers] */
    struct rt_extras *extras; /* [n_layers] */
};

struct rt_layer {
    const float *norm_attn, *norm_mlp; /* [n_embd_pad] */
    struct rt_matrix q, k, v, o, gate, up, down;
    const uint16_t *pairs; /* [n_kv_heads][head_pad / 2] RoPE frequency index */
    /* What only some architectures have; NULL in the others. */
    const float *q_bias;          /* [n_heads * qk of the widest tier], in Q's row order */
    const float *k_bias, *v_bias; /* [n_kv_heads][head_pad] */
    const float *q_norm, *k_norm; /* [n_kv_heads][head_pad], of each head, before RoPE */
    /* [R x n_embd_pad], [n_embd_pad x R], R the rank at the narrowest tier; data == NULL: none. */
    struct rt_matrix comp_v, comp_u;
};

/* What the build measured of one point on text of its own that nothing was fitted to, against the
 * source. NaN = the pack does not say. Errors are standard errors over its windows. */
struct rt_catalog_row {
    struct rt_point point;
    double bytes_per_token, resident_bytes; /* rt_pack_bytes_per_token, rt_pack_resident_bytes */
    double tokens;                          /* scored */
    double ppl, ppl_error;
    double ppl_ratio, ppl_ratio_error; /* to the source's perplexity on the same tokens */
    double kld, kld_error;             /* KL(source || point), nats per token */
    double top1, top1_error;           /* share of tokens with the source's likeliest one */
    /* Another point reads no more bytes per token and has a lower KL, beyond two standard errors.
     */
    bool dominated;
};

struct rt_pack {
    char *path;
    struct ert_map map;
    enum rt_pack_kind kind;
    struct rt_model model;
    uint32_t n_tiers;
    struct rt_tier *tiers;        /* [n_tiers], widest first */
    struct rt_layer *layers;      /* [n_layers] */
    struct rt_matrix embed, head; /* head aliases embed when tied */
    const float *norm_final;
    const float *rope_factors; /* [head_pad / 2] what the frequencies are divided by, or NULL */
    struct rt_vocab vocab;
    char *chat_template;            /* "" if the source has none */
    struct rt_catalog_row *catalog; /* [n_catalog], as META has it; NULL without */
    size_t n_catalog;
    json_t *meta;                              /* the META section, for inspect */
    size_t h_offset, h_size, l_offset, l_size; /* regions in the file; l_size 0 if absent */
};

/* Maps and checks a pack: header, tables, META, VOCAB and TENSORS with their checksums; every
 * offset, count and dimension. The planes' checksums are checked by rt_pack_verify. Errors name the
 * file, the section or tensor, the offset, and what to do. */
int rt_pack_open(struct rt_pack **pack, const char *path, struct ert_error *err);
void rt_pack_free(struct rt_pack *pack); /* NULL is fine */
/* Checksums of the planes (reads the whole file). */
int rt_pack_verify(const struct rt_pack *pack, const struct ert_progress *progress,
                   struct ert_error *err);
/* Radians that RoPE turns the pair of frequency index f < head_dim / 2 at each position; factors
 * [head_dim / 2], or NULL for all 1. */
double rt_rope_frequency(const struct rt_model *model, const float *factors, uint32_t f);
/* Bytes of weights one decoded token reads at a variant and tier (extras counted, embedding row
 * not). */
uint64_t rt_pack_bytes_per_token(const struct rt_pack *pack, unsigned variant, unsigned tier);
/* Bytes of weights that running at a variant and tier keeps coming back to: those of a token and
 * the whole embedding. What must stay in memory, the KV cache and the vocabulary aside. */
uint64_t rt_pack_resident_bytes(const struct rt_pack *pack, unsigned variant, unsigned tier);
/* What a variant costs per weight of the model (its matrices, padding not counted), in bits: all of
 * PLANES_H, with norms, tables and every tier's extras, and for w8a8 PLANES_L too. */
double rt_pack_bits_per_weight(const struct rt_pack *pack, unsigned variant);
/* The catalog's row of a point, NULL if it has none. */
const struct rt_catalog_row *rt_pack_catalog_row(const struct rt_pack *pack,
                                                 enum rt_variant variant, uint32_t tier);

/* ---- residency of the L region ------------------------------------------------------------- */

/* Brings the L region into memory in steps, checking *cancel between them. Off the token path. */
int rt_pack_populate_l(const struct rt_pack *pack, const _Atomic(bool) *cancel,
                       struct ert_error *err);
/* Gives the L region's pages back, from the mapping and the page cache. */
int rt_pack_drop_l(const struct rt_pack *pack, struct ert_error *err);
/* Unmaps every page of the pack: they no longer count as this process's, but stay in the page cache
 * and come back as they are read. */
int rt_pack_unmap(const struct rt_pack *pack, struct ert_error *err);
/* The most bytes that the mapping can have in memory: all pages of the file, or all but those that
 * hold the L region alone. */
uint64_t rt_pack_mapped_bytes(const struct rt_pack *pack, bool with_l);
/* Pages of the L region in memory (mincore), as a share of 0..1; 0 if there is none. */
double rt_pack_resident_l(const struct rt_pack *pack);

#endif
