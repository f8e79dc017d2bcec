/* quantize: float rows to the blocks of a pack (docs/pack-format.md, "A nested matrix"). */
#ifndef VAR_QUANTIZE_H
#define VAR_QUANTIZE_H

#include "runtime/pack_format.h"
#include "variants/hessian.h"

/* Where the parts of one tile of 16 rows go. All memory is zero before. */
struct var_tile {
    uint8_t *pairs;   /* PACK_PAIRS bytes, the tile's */
    uint8_t *outlier; /* PACK_OUTLIER bytes, the tile's; NULL if group 0 is no outlier group */
    uint8_t *h, *l;   /* blocks of the whole matrix; l NULL for h-only */
    bool eight_bits;  /* every variant reads l (PACK_FLAG_L_RESIDENT): h needs not serve alone */
    uint32_t panel_groups, n_tiles, tile;
    uint32_t n_groups; /* without the outlier group */
    float *scratch;    /* var_quantize_scratch(cols) floats, the worker's own */
};

/* Index of block (tile, group) in panels of panel_groups out of n_groups. */
uint64_t var_block_index(uint32_t tile, uint32_t group, uint32_t n_tiles, uint32_t n_groups,
                         uint32_t panel_groups);

/* Floats of scratch that quantizing a tile of cols columns takes. */
size_t var_quantize_scratch(uint32_t cols);

/* Quantizes w[16][cols] (cols a multiple of 32, finite, below 6e4). With a hessian (h->n = cols)
 * the codes are those of least error in what the matrix gives out, over calibration text: GPTQ,
 * then coordinate descent (quantize.c says how). Without one (NULL) each weight goes to the nearest
 * level. A grid of 16 levels per group that a 4-bit source left in the weights is found again.
 * Depends on the 16 rows and the hessian alone. */
void var_quantize_tile(const struct var_tile *t, const float *w, uint32_t cols,
                       const struct var_hessian *h);

/* The same places for w as blocks of an f32 matrix in t->h. */
void var_store_f32_tile(const struct var_tile *t, const float *w, uint32_t cols);

#endif
