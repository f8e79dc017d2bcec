/* forward: the memory of a forward pass and one step through the model. Inner part of session.
 *
 * Widths: E = n_embd_pad, H = n_heads, G = n_kv_heads, P = head_pad, F = the widest MLP, C = chunk.
 */
#ifndef RT_FORWARD_H
#define RT_FORWARD_H

#include <stdatomic.h>

#include "runtime/kernels/kernels.h"
#include "runtime/pack.h"
#include "runtime/point.h"
#include "runtime/team.h"

enum {
    RT_HEAD_COLS = 8, /* columns whose logits are computed together */
    RT_FEW_COLS = 8,  /* up to so many, every worker carries the residual stream itself */
};

/* Columns of activations, as floats and quantized for the products that read them. */
struct rt_signal {
    float *f32;             /* [C][width]; NULL where they are quantized as they are made */
    struct rt_acts acts;    /* [C] columns, acts.groups apart, of width / 32 groups */
    struct rt_acts outlier; /* [C][1] group 0 in 16 bits, where acts has 8 */
    uint32_t width;
};

/* The residual stream of the step's columns and what is derived from it alone. */
struct rt_stream {
    float *turn;             /* [C][head_dim / 2][2] cosine and sine of the position's angles */
    float *x;                /* [C][E] */
    struct rt_signal normed; /* [C][E] */
};

/* Keys and values of every token at full rank: [sequence][layer][kv head][positions][P / 32]
 * groups, of positions or tiles of them (struct rt_cached). Keys are cached so that a vector has
 * several positions: scores are sums over dimensions, none over lanes. */
struct rt_kv_cache {
    uint8_t *keys, *values;
    uint32_t n_sequences, n_ctx;
    uint32_t positions; /* n_ctx rounded up to whole tiles */
    enum rt_cache_type keys_type, values_type;
};

/* What queries made of single blocks of positions, until all of theirs are done (attention.h). */
struct rt_parts {
    uint32_t blocks;        /* B: most blocks of a sequence */
    float *max, *sum;       /* [slots][RT_FEW_COLS][H / G][B] */
    float *out;             /* [slots][RT_FEW_COLS][H / G][B][P] */
    _Atomic uint32_t *done; /* [RT_FEW_COLS][G] blocks */
};

/* What one step computes; set before the workers start, read by all of them. */
struct rt_step {
    const struct rt_variant_info *variant;
    const struct rt_tier *tier;
    const int32_t *ids; /* [n_cols] */
    uint32_t n_cols;    /* tokens, 1..C */
    uint32_t position;  /* of the first */
    bool side_by_side;  /* column i is the next token of sequence i; else all follow each other */
    uint32_t n_logits;  /* of the last so many columns */
    float *logits_out;  /* [n_logits][n_vocab] or NULL */
    /* Worker 0 asks in every layer whether all columns but the first are to be dropped. Only of a
     * step of few columns that wants the logits of all; else NULL. */
    bool (*in_hurry)(void *ctx);
    void *ctx;
};

/* Position of a column's token in its sequence. */
static inline uint32_t rt_position_of(const struct rt_step *step, uint32_t col)
{
    return step->position + (step->side_by_side ? 0 : col);
}

struct rt_forward {
    const struct rt_pack *pack;
    const struct rt_kernels *kernels;
    struct rt_team *team;
    struct rt_kv_cache cache;
    struct rt_step step;
    uint32_t n_cols; /* of the step's, those that are still computed */
    uint32_t chunk;

    double *frequency;       /* [head_dim / 2] radians a position */
    struct rt_stream shared; /* of a step of many columns */
    struct rt_stream *own;   /* [workers], C = RT_FEW_COLS: of a step of few */
    float *q;                /* [C][H P] by block of 32 dims across heads */
    float *k, *v;            /* [C][G P] by head */
    float *gate;             /* [workers][2][C][32] a group of GATE b, and of UP b */
    float *out;              /* [C][E] of O and of DOWN */
    float *correction;       /* [C][E] of COMP_U */
    struct rt_signal mixed;  /* [C][H P] in O's column order */
    struct rt_signal gated;  /* [C][F] */
    struct rt_signal comp;   /* [C][largest rank] */
    float *queries;          /* [workers][RT_FEW_COLS][H / G][P] finished */
    float *scores;           /* [workers][RT_FEW_COLS][H / G][RT_CACHE_BLOCK] */
    struct rt_parts parts;   /* slots: KV heads of few columns, workers of many */
    float *logits;           /* [RT_HEAD_COLS][n_vocab_pad] */

    void *memory; /* all of the above */
    size_t bytes;
};

/* Sets the types: 16 bits (also 0), 8, or 6, which is 8 of keys and 4 of values; f32 for a pack of
 * floats; else ERT_E_RANGE. */
int rt_cache_choose(struct rt_kv_cache *cache, uint32_t bits, enum rt_pack_kind kind,
                    struct ert_error *err);

/* Allocates everything a step needs; f->memory is NULL after a failure. The caller has filled in
 * pack, team, kernels, chunk and the cache's n_sequences, n_ctx and types, all else is zero. */
int rt_forward_init(struct rt_forward *f, struct ert_error *err);
/* What rt_forward_init would allocate, as f->bytes; false if it is more than can be counted. */
bool rt_forward_count(struct rt_forward *f);
void rt_forward_release(struct rt_forward *f);

/* Runs f->step on `workers` of the team: the tokens' keys and values are in the cache then. */
void rt_forward_run(struct rt_forward *f, unsigned workers);

static inline void rt_add_bias(float *x, const float *bias, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] += bias[i];
}

/* Quantizes groups [first, first + n) of one column as the step's variant asks; f32 reads floats as
 * they are. */
void rt_quantize_groups(const struct rt_forward *f, struct rt_signal *s, uint32_t col,
                        uint32_t first, uint32_t n);

#endif
