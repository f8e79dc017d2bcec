/* descend: the codes of a tile's rows on given grids, chosen so that what the rows give out errs
 * least: f = e^T H e per row, e = w - level. */
#ifndef VAR_DESCEND_H
#define VAR_DESCEND_H

#include "variants/grid.h"
#include "variants/hessian.h"
#include "variants/push.h"

enum { VAR_NARROW_SPAN = 15 };

/* The codes of one column, a row each. */
struct var_code_lanes {
    uint8_t v[VAR_LANES];
};

/* 16 rows being quantized: arrays are [column][row] and [group][row]. */
struct var_rows {
    uint32_t cols;
    const struct var_hessian *hessian; /* NULL: every weight to its nearest level */
    var_push_fn *push;                 /* with a hessian: var_push_best() */
    struct var_lanes *target;          /* the weights */
    struct var_lanes *work;            /* weights with what earlier columns lost, or the gradient */
    struct var_lanes *step, *offset;   /* [cols / 32]: level = step code - offset */
    struct var_code_lanes *code, *low; /* low <= code <= low + span of the group */
    uint8_t *span;                     /* [cols / 32] */
    float reach[2]; /* what it costs when an error leaves half a step, a factor beside H_jj: of
                       narrow groups, whose residual ends there, and of wider ones, which have none
                       and serve w8 as they are; 0 = nothing */
};

/* Calls before the first column of each group, w[32] being the weights to be met; may change the
 * group's step and offset. */
typedef void var_group_fn(void *ctx, struct var_rows *rows, uint32_t group,
                          const struct var_lanes *w);

/* GPTQ (arXiv 2210.17323): columns in order, each rounded, the error met by the columns after it in
 * its slice. */
void var_descend_feed(struct var_rows *rows, var_group_fn *begin_group, void *ctx);

/* Fills work with the gradient H e, for sweeps. */
void var_descend_gradient(struct var_rows *rows);

/* Coordinate descent (as in QuantEase, arXiv 2309.01885): column by column, the code that makes f
 * least with all others fixed. work is the gradient before and after. */
void var_descend_sweep(struct var_rows *rows);

/* Adds delta[32] to the errors of a group: keeps the gradient. */
void var_descend_move(struct var_rows *rows, uint32_t group, const struct var_lanes *delta);

#endif
