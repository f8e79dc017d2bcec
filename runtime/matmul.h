/* matmul: products of one matrix with a few columns of activations, some of its rows. */
#ifndef RT_MATMUL_H
#define RT_MATMUL_H

#include "runtime/kernels/kernels.h"

/* A matrix of a pack, resolved to pointers. */
struct rt_matrix {
    const uint8_t *data;    /* H blocks or f32 blocks */
    const uint8_t *l;       /* L blocks, NULL if the pack has none: 4 bits in every variant */
    const uint8_t *pairs;   /* bf16 D[16], M[16] per tile; NULL for f32 */
    const uint8_t *outlier; /* outlier blocks, NULL if none */
    uint32_t rows, cols;    /* as stored: multiples of 16 and 32 */
    uint32_t panel_groups;  /* groups per column panel, never 0 here */
    bool l_resident;        /* L is read by every variant */
};

/* What a product reads: the activations in the representation of the variant. */
struct rt_input {
    unsigned weight_bits;          /* 4, 8, or 0 = f32 */
    unsigned act_bits;             /* 16, 8, or 0 = f32 */
    const struct rt_acts *acts;    /* quantized columns, or */
    const struct rt_acts *outlier; /* their group 0 in 16 bits; acts itself if that has as many */
    const float *f32;              /* f32 columns [n_cols][stride]; NULL unless act_bits is 0 */
    uint32_t stride;               /* floats between f32 columns */
    uint32_t n_cols;
};

/* y[c][r] = (W x_c)[r] for rows first_row .. first_row + rows - 1 (both multiples of 16) and the
 * first `cols` columns (multiple of 32) of m; y is [n_cols][y_stride], of these rows. Same bits
 * however rows and columns of activations are shared out. Reads m->l, where there is one, if
 * weight_bits is 8 or m->l_resident. */
void rt_matmul(const struct rt_kernels *k, const struct rt_matrix *m, const struct rt_input *x,
               uint32_t first_row, uint32_t rows, uint32_t cols, float *y, uint32_t y_stride);

/* Row `row` of m as m->cols floats, as W8 (where m->l is read: see above), W4 or f32. */
void rt_matrix_row(const struct rt_matrix *m, unsigned weight_bits, uint32_t row, float *out);

#endif
