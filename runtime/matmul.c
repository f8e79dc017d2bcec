/* Rows of a matrix product: tile by tile, within a tile panel by panel. */
#include "runtime/matmul.h"

#include <string.h>

#include "base/base.h"

enum { GROUP = PACK_GROUP, TILE = PACK_TILE, LINE = 64 };

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* The 8-bit weights are what this product or row reads: a matrix without them has 4 bits always. */
static bool reads_l(const struct rt_matrix *m, unsigned weight_bits)
{
    return m->l && (weight_bits == 8 || m->l_resident);
}

static bool is_f32(const struct rt_matrix *m)
{
    return !m->pairs;
}

/* Groups that lie in panels: all but the outlier group. */
static uint32_t panel_groups_total(const struct rt_matrix *m, uint32_t cols)
{
    return cols / GROUP - (m->outlier ? 1 : 0);
}

/* Index of the first block of `tile` in the panel that starts at group `first`, and the panel's
 * width as stored. Panels are stored whole, whatever prefix is read. */
static size_t tile_in_panel(const struct rt_matrix *m, uint32_t tile, uint32_t first,
                            uint32_t *width)
{
    uint32_t left = panel_groups_total(m, m->cols) - first;
    *width = left < m->panel_groups ? left : m->panel_groups;
    return (size_t)first * (m->rows / TILE) + (size_t)tile * *width;
}

/* A bf16 of the row pairs: D[16] then M[16] per tile. */
static float pair_value(const struct rt_matrix *m, uint32_t tile, unsigned index)
{
    uint16_t bits;
    memcpy(&bits, m->pairs + (size_t)tile * PACK_PAIRS + index * sizeof bits, sizeof bits);
    return ert_bf16_to_f32(bits);
}

/* ---- products ------------------------------------------------------------------------------ */

/* What is the same for every tile of a product. */
struct product {
    const struct rt_kernels *k;
    const struct rt_matrix *m;
    const struct rt_input *x;
    rt_dot_fn *dot;
    const uint8_t *l;  /* NULL if the product does not read it */
    uint32_t n_groups; /* of the prefix, without the outlier group */
};

typedef void tiles_fn(const struct product *p, uint32_t tile, uint32_t n_tiles, uint32_t col,
                      uint32_t n_cols, float *y, uint32_t y_stride);

/* n_tiles tiles (1 to RT_TILES) of columns col .. col + n_cols - 1. */
static void nested_tiles(const struct product *p, uint32_t tile, uint32_t n_tiles, uint32_t col,
                         uint32_t n_cols, float *y, uint32_t y_stride)
{
    for (size_t c = 0; c < n_cols; c++)
        memset(y + c * y_stride, 0, (size_t)n_tiles * TILE * sizeof *y);
    uint32_t width, first_group = p->m->outlier ? 1 : 0;
    for (uint32_t first = 0; first < p->n_groups; first += width) {
        size_t block = tile_in_panel(p->m, tile, first, &width);
        const struct rt_tiles w = {
            .h = p->m->data + block * PACK_H_BLOCK,
            .l = p->l ? p->l + block * PACK_L_BLOCK : NULL,
            .pairs = p->m->pairs + (size_t)tile * PACK_PAIRS,
            .n_groups = smaller(p->n_groups - first, width),
            .n_tiles = n_tiles,
            .stride = width,
            .acc_stride = y_stride,
        };
        p->dot(&w, p->x->acts, col, n_cols, first_group + first, y);
    }
    for (size_t i = 0; p->m->outlier && i < n_tiles; i++)
        p->k->outlier(p->m->outlier + (tile + i) * PACK_OUTLIER, p->x->outlier, col, n_cols,
                      y + i * TILE, y_stride);
}

static void f32_tile(const struct product *p, uint32_t tile, uint32_t col, uint32_t n_cols,
                     float *y, uint32_t y_stride)
{
    _Alignas(LINE) float acc[RT_COLS * TILE];
    memset(acc, 0, n_cols * TILE * sizeof *acc);
    const float *x = p->x->f32 + (size_t)col * p->x->stride;
    uint32_t width;
    for (uint32_t first = 0; first < p->n_groups; first += width) {
        size_t block = tile_in_panel(p->m, tile, first, &width);
        p->k->dot_f32((const float *)(const void *)(p->m->data + block * PACK_F32_BLOCK),
                      smaller(p->n_groups - first, width), x + (size_t)first * GROUP, p->x->stride,
                      n_cols, acc);
    }
    for (size_t c = 0; c < n_cols; c++)
        memcpy(y + c * y_stride, acc + c * TILE, TILE * sizeof *acc);
}

static void f32_tiles(const struct product *p, uint32_t tile, uint32_t n_tiles, uint32_t col,
                      uint32_t n_cols, float *y, uint32_t y_stride)
{
    for (uint32_t i = 0; i < n_tiles; i++, y += TILE)
        f32_tile(p, tile + i, col, n_cols, y, y_stride);
}

static rt_dot_fn *dot_of(const struct rt_kernels *k, bool w8, unsigned act_bits)
{
    if (act_bits == 8)
        return w8 ? k->dot_w8a8 : k->dot_w4a8;
    return w8 ? k->dot_w8a16 : k->dot_w4a16;
}

static struct product product_init(const struct rt_kernels *k, const struct rt_matrix *m,
                                   const struct rt_input *x, uint32_t cols)
{
    bool w8 = reads_l(m, x->weight_bits);
    return (struct product){
        .k = k,
        .m = m,
        .x = x,
        .dot = dot_of(k, w8, x->act_bits), /* of an f32 matrix not used */
        .l = w8 ? m->l : NULL,
        .n_groups = panel_groups_total(m, cols),
    };
}

void rt_matmul(const struct rt_kernels *k, const struct rt_matrix *m, const struct rt_input *x,
               uint32_t first_row, uint32_t rows, uint32_t cols, float *y, uint32_t y_stride)
{
    struct product p = product_init(k, m, x, cols);
    tiles_fn *multiply = is_f32(m) ? f32_tiles : nested_tiles;
    uint32_t first = first_row / TILE, end = first + rows / TILE;
    for (uint32_t tile = first; tile < end; tile += RT_TILES)
        for (uint32_t col = 0; col < x->n_cols; col += RT_COLS)
            multiply(&p, tile, smaller(end - tile, RT_TILES), col,
                     smaller(x->n_cols - col, RT_COLS),
                     y + (size_t)col * y_stride + (size_t)(tile - first) * TILE, y_stride);
}

/* ---- rows ---------------------------------------------------------------------------------- */

/* The scales of one row of one block. */
struct row_scale {
    float d, m;
};

static uint8_t nibble(const uint8_t *plane, unsigned row, unsigned col)
{
    uint8_t byte = plane[(col % 16 / 4 * TILE + row) * 4 + col % 4];
    return col < 16 ? byte & 15 : byte >> 4;
}

/* 32 weights of a row: W8 with an L plane, W4 without. */
static void row_of_planes(const uint8_t *h, const uint8_t *l, unsigned row, struct row_scale s,
                          float *out)
{
    for (unsigned i = 0; i < GROUP; i++)
        out[i] = l ? s.d * 0.0625F * (float)(16 * nibble(h, row, i) + nibble(l, row, i)) -
                         (s.m + s.d * 0.5F)
                   : s.d * (float)nibble(h, row, i) - s.m;
}

static void outlier_row(const uint8_t *block, unsigned row, float *out)
{
    uint16_t d, m;
    memcpy(&d, block + sizeof d * row, sizeof d);
    memcpy(&m, block + sizeof m * (TILE + row), sizeof m);
    const uint8_t *h = block + sizeof d * 2 * TILE;
    struct row_scale s = {ert_f16_to_f32(d), ert_f16_to_f32(m)};
    row_of_planes(h, h + PACK_NIBBLES, row, s, out);
}

static void nested_row(const struct rt_matrix *m, bool w8, size_t block, uint32_t tile,
                       unsigned row, float *out)
{
    const uint8_t *h = m->data + block * PACK_H_BLOCK;
    struct row_scale s = {pair_value(m, tile, row) * (float)h[row],
                          pair_value(m, tile, TILE + row) * (float)h[TILE + row]};
    row_of_planes(h + 2 * TILE, w8 ? m->l + block * PACK_L_BLOCK : NULL, row, s, out);
}

static void f32_row(const struct rt_matrix *m, size_t block, unsigned row, float *out)
{
    const uint8_t *values = m->data + block * PACK_F32_BLOCK + sizeof *out * row;
    for (unsigned i = 0; i < GROUP; i++)
        memcpy(out + i, values + sizeof *out * TILE * i, sizeof *out);
}

void rt_matrix_row(const struct rt_matrix *m, unsigned weight_bits, uint32_t row, float *out)
{
    uint32_t tile = row / TILE, in_tile = row % TILE, n = panel_groups_total(m, m->cols), width;
    bool w8 = reads_l(m, weight_bits);
    if (m->outlier) {
        outlier_row(m->outlier + (size_t)tile * PACK_OUTLIER, in_tile, out);
        out += GROUP;
    }
    for (uint32_t first = 0; first < n; first += width) {
        size_t block = tile_in_panel(m, tile, first, &width);
        for (uint32_t g = 0; g < width; g++, block++, out += GROUP)
            if (is_f32(m))
                f32_row(m, block, in_tile, out);
            else
                nested_row(m, w8, block, tile, in_tile, out);
    }
}
