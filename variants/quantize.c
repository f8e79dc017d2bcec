#include "variants/quantize.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/base.h"

enum { LEVELS = 15, SHRINKS = 4, REFITS = 2 };

static float level_of(float w, struct var_grid g)
{
    float h = g.d > 0 ? rintf((w + g.m) / g.d) : 0;
    return h < 0 ? 0 : h > LEVELS ? LEVELS : h;
}

static float grid_error(const float *w, struct var_grid g)
{
    float error = 0;
    for (int i = 0; i < PACK_GROUP; i++) {
        float e = w[i] - (g.d * level_of(w[i], g) - g.m);
        error += e * e;
    }
    return error;
}

static void keep_better(const float *w, struct var_grid g, struct var_grid *best, float *least)
{
    float error = grid_error(w, g);
    if (error < *least) {
        *least = error;
        *best = g;
    }
}

/* Least squares for d and m with the levels of g fixed; m stays >= 0 because u_m has no sign. */
static struct var_grid refit(const float *w, struct var_grid g)
{
    double n = PACK_GROUP, sh = 0, shh = 0, sw = 0, swh = 0;
    for (int i = 0; i < PACK_GROUP; i++) {
        double h = level_of(w[i], g), x = w[i];
        sh += h;
        shh += h * h;
        sw += x;
        swh += x * h;
    }
    double det = n * shh - sh * sh;
    if (det <= 0)
        return g;
    double d = (n * swh - sh * sw) / det, m = (sh * swh - shh * sw) / det;
    if (m < 0) {
        m = 0;
        d = shh > 0 ? swh / shh : 0;
    }
    return d > 0 ? (struct var_grid){(float)d, (float)m} : g;
}

/* The grid of least squared error: ends at the smallest and largest weight, or one of a few shrunk
 * ranges, then refitted. Fewer than 15 steps between the ends are tried too: a source's grid whose
 * outer levels a group happens not to use is found that way, with error 0. */
static struct var_grid fit_group(const float *w)
{
    float low = 0, high = -FLT_MAX, sum = 0;
    for (int i = 0; i < PACK_GROUP; i++) {
        low = fminf(low, w[i]);
        high = fmaxf(high, w[i]);
        sum += w[i] * w[i];
    }
    struct var_grid best = {(high - low) / LEVELS, -low};
    if (!(high > low))
        return (struct var_grid){0, -low};
    float least = grid_error(w, best);
    for (int steps = LEVELS - 1; steps >= 8 && least > sum * 1e-9f; steps--)
        keep_better(w, (struct var_grid){(high - low) / (float)steps, -low}, &best, &least);
    if (least <= sum * 1e-9f)
        return best;
    for (int i = 0; i < SHRINKS; i++)
        for (int j = 0; j < SHRINKS; j++) {
            float l = low * (1 - 0.04f * (float)i), h = high * (1 - 0.04f * (float)j);
            if (h > l)
                keep_better(w, (struct var_grid){(h - l) / LEVELS, -l}, &best, &least);
        }
    for (int i = 0; i < REFITS; i++)
        keep_better(w, refit(w, best), &best, &least);
    return best;
}

/* The smallest bf16 not below f >= 0. */
static uint16_t bf16_above(float f)
{
    uint16_t b = ert_f32_to_bf16(f);
    return ert_bf16_to_f32(b) < f ? (uint16_t)(b + 1) : b;
}

static int clamp(float x, int low, int high)
{
    return x < (float)low ? low : x > (float)high ? high : (int)x;
}

/* A group's scale and offset as one byte each under the row's pair: the nearest codes, or
 * neighbours that suit the weights better. */
static struct var_grid encode_grid(const float *w, struct var_grid g, float row_d, float row_m,
                                   uint8_t *u_d, uint8_t *u_m)
{
    int d0 = clamp(rintf(g.d / row_d), 1, 255),
        m0 = row_m > 0 ? clamp(rintf(g.m / row_m), 0, 255) : 0;
    struct var_grid best = {row_d * (float)d0, row_m * (float)m0};
    float least = grid_error(w, best);
    *u_d = (uint8_t)d0;
    *u_m = (uint8_t)m0;
    for (int d = d0 - 1; d <= d0 + 1; d++)
        for (int m = m0 - 1; m <= m0 + 1; m++) {
            struct var_grid near = {row_d * (float)d, row_m * (float)m};
            float error = d >= 1 && d <= 255 && m >= 0 && m <= 255 ? grid_error(w, near) : FLT_MAX;
            if (error >= least)
                continue;
            least = error;
            best = near;
            *u_d = (uint8_t)d;
            *u_m = (uint8_t)m;
        }
    return best;
}

/* Both nibble planes of one row of a block (docs/pack-format.md gives the order). */
static void store_codes(const float *w, struct var_grid g, uint32_t row, uint8_t *h, uint8_t *l)
{
    for (uint32_t c = 0; c < PACK_GROUP; c++) {
        float level = level_of(w[c], g);
        float rest = g.d > 0 ? (w[c] - (g.d * level - g.m)) * 16 / g.d : 0;
        unsigned shift = c < 16 ? 0 : 4, i = c & 15;
        size_t at = ((i / 4) * 16 + row) * 4 + i % 4;
        h[at] |= (uint8_t)((unsigned)level << shift);
        if (l)
            l[at] |= (uint8_t)((unsigned)clamp(rintf(rest) + 8, 0, 15) << shift);
    }
}

uint64_t var_block_index(uint32_t tile, uint32_t group, uint32_t n_tiles, uint32_t n_groups,
                         uint32_t panel_groups)
{
    uint32_t panel = group / panel_groups, first = panel * panel_groups;
    uint32_t width = n_groups - first < panel_groups ? n_groups - first : panel_groups;
    return (uint64_t)first * n_tiles + (uint64_t)tile * width + (group - first);
}

/* The pair D, M of a row, from the grids of its groups. A scale is at least the step of the
 * offsets, so that what is lost in rounding an offset stays within the residual's reach. */
static void choose_pair(const struct var_tile *t, uint16_t pair[2])
{
    float max_d = 0, max_m = 0;
    for (uint32_t g = 0; g < t->n_groups; g++)
        max_m = fmaxf(max_m, t->grids[g].m);
    pair[1] = bf16_above(max_m / 255);
    for (uint32_t g = 0; g < t->n_groups; g++) {
        t->grids[g].d = fmaxf(t->grids[g].d, ert_bf16_to_f32(pair[1]));
        max_d = fmaxf(max_d, t->grids[g].d);
    }
    pair[0] = bf16_above(max_d / 255);
}

static void store_row(const struct var_tile *t, const float *w, uint32_t row)
{
    uint16_t pair[2];
    for (uint32_t g = 0; g < t->n_groups; g++)
        t->grids[g] = fit_group(w + (size_t)g * PACK_GROUP);
    choose_pair(t, pair);
    if (pair[0] == 0)
        return; /* a zero row has zero pairs and zero codes */
    memcpy(t->pairs + 2 * (size_t)row, &pair[0], 2);
    memcpy(t->pairs + 2 * (size_t)(PACK_TILE + row), &pair[1], 2);
    for (uint32_t g = 0; g < t->n_groups; g++) {
        uint64_t at = var_block_index(t->tile, g, t->n_tiles, t->n_groups, t->panel_groups);
        uint8_t *block = t->h + at * PACK_H_BLOCK;
        const float *group = w + (size_t)g * PACK_GROUP;
        struct var_grid grid =
            encode_grid(group, t->grids[g], ert_bf16_to_f32(pair[0]), ert_bf16_to_f32(pair[1]),
                        &block[row], &block[PACK_TILE + row]);
        store_codes(group, grid, row, block + 2 * PACK_TILE,
                    t->l ? t->l + at * PACK_L_BLOCK : NULL);
    }
}

static void store_outlier_row(uint8_t *block, const float *w, uint32_t row)
{
    struct var_grid g = fit_group(w);
    uint16_t d = ert_f32_to_f16(g.d), m = ert_f32_to_f16(g.m);
    if (g.d > 0 && d == 0)
        d = 1; /* the smallest f16: a range that small still keeps its order */
    memcpy(block + 2 * (size_t)row, &d, 2);
    memcpy(block + 2 * (size_t)(PACK_TILE + row), &m, 2);
    g = (struct var_grid){ert_f16_to_f32(d), ert_f16_to_f32(m)};
    store_codes(w, g, row, block + PACK_PAIRS, block + PACK_PAIRS + PACK_NIBBLES);
}

void var_quantize_tile(const struct var_tile *t, const float *w, uint32_t cols)
{
    uint32_t skip = t->outlier ? PACK_GROUP : 0;
    for (uint32_t row = 0; row < PACK_TILE; row++) {
        const float *x = w + (size_t)row * cols;
        if (t->outlier)
            store_outlier_row(t->outlier, x, row);
        store_row(t, x + skip, row);
    }
}

void var_store_f32_tile(const struct var_tile *t, const float *w, uint32_t cols)
{
    for (uint32_t g = 0; g < t->n_groups; g++) {
        uint64_t at = var_block_index(t->tile, g, t->n_tiles, t->n_groups, t->panel_groups);
        uint8_t *block = t->h + at * PACK_F32_BLOCK;
        for (uint32_t c = 0; c < PACK_GROUP; c++)
            for (uint32_t row = 0; row < PACK_TILE; row++)
                memcpy(block + (c * PACK_TILE + row) * sizeof(float),
                       &w[(size_t)row * cols + g * PACK_GROUP + c], sizeof(float));
    }
}
