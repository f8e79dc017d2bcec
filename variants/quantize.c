/* A tile's way: the grids of its groups fitted to the weights, which fixes the row pairs; the codes
 * by GPTQ, the grid of each group fitted again to the weights as they are when its turn comes; then
 * coordinate descent on the codes, and on the grids given the codes. The residual l comes last, the
 * same way on sixteenths of the step, between the levels that h leaves it. */
#include "variants/quantize.h"

#include <math.h>
#include <string.h>

#include "base/base.h"
#include "variants/descend.h"

/* ROUNDS and L_SWEEPS are matters of time: docs/quality.md has what more of them gain. */
enum { WIDE_SPAN = 255, ROUNDS = 4, L_SWEEPS = 4 };

/* What an error beyond the residual's reach counts while h is chosen, beside its square; and beyond
 * half a step of the outlier group, which would meet the errors of 4 bits that w8 does not have:
 * docs/quality.md compares. */
static const float REACH[2] = {20, 40};

/* One tile at work. */
struct job {
    const struct var_tile *tile;
    struct var_rows rows;
    uint32_t n_groups, first; /* with the outlier group; the first that is none */
    struct var_grid *grids;   /* [n_groups] */
    struct var_grid_codes *codes;
    struct var_pairs pairs;
};

enum {
    FLOATS_PER_COL = 2 * VAR_LANES + 2 * VAR_LANES / sizeof(float),
    FLOATS_PER_GROUP = 2 * VAR_LANES +
                       (sizeof(struct var_grid) + sizeof(struct var_grid_codes)) / sizeof(float) + 2
};

size_t var_quantize_scratch(uint32_t cols)
{
    return (size_t)cols * FLOATS_PER_COL + (size_t)cols / PACK_GROUP * FLOATS_PER_GROUP;
}

static void place_scratch(struct job *j, float *at, uint32_t cols)
{
    uint32_t groups = cols / PACK_GROUP;
    j->rows.target = (struct var_lanes *)at;
    j->rows.work = j->rows.target + cols;
    j->rows.step = j->rows.work + cols;
    j->rows.offset = j->rows.step + groups;
    j->grids = (struct var_grid *)(j->rows.offset + groups);
    j->rows.code = (struct var_code_lanes *)(j->grids + groups);
    j->rows.low = j->rows.code + cols;
    j->codes = (struct var_grid_codes *)(j->rows.low + cols);
    j->rows.span = (uint8_t *)(j->codes + groups);
}

static void set_levels(struct job *j, uint32_t group)
{
    var_grid_levels(&j->grids[group], &j->rows.step[group], &j->rows.offset[group]);
    j->rows.span[group] = j->grids[group].wide ? WIDE_SPAN : VAR_NARROW_SPAN;
}

/* ---- grids --------------------------------------------------------------------------------- */

/* How much the columns of a group count in a fit that looks at each alone: the diagonal of H. */
static void fit_weights(const struct var_hessian *h, uint32_t group, float weight[PACK_GROUP])
{
    for (uint32_t c = 0; c < PACK_GROUP; c++)
        weight[c] = 1;
    if (!h)
        return;
    const struct var_slice *s = h->slices;
    uint32_t first = group * PACK_GROUP;
    while (first >= s->from + s->n)
        s++;
    for (uint32_t c = 0; c < PACK_GROUP; c++) {
        size_t at = first - s->from + c;
        weight[c] = sqrtf(s->gram[at * s->n + at]);
    }
}

/* The smallest bf16 not below f >= 0. */
static float bf16_above(float f)
{
    uint16_t b = ert_f32_to_bf16(f);
    return ert_bf16_to_f32(ert_bf16_to_f32(b) < f ? (uint16_t)(b + 1) : b);
}

/* The pairs D, M, from the grids of the groups. A scale is at least the step of the offsets, so
 * that what is lost in rounding an offset stays within the residual's reach. */
static void choose_pairs(struct job *j)
{
    for (int r = 0; r < VAR_LANES; r++) {
        float max_d = 0, max_m = 0;
        for (uint32_t g = j->first; g < j->n_groups; g++)
            max_m = fmaxf(max_m, j->grids[g].m.v[r]);
        j->pairs.m.v[r] = bf16_above(max_m / 255);
        for (uint32_t g = j->first; g < j->n_groups; g++) {
            j->grids[g].d.v[r] = fmaxf(j->grids[g].d.v[r], j->pairs.m.v[r]);
            max_d = fmaxf(max_d, j->grids[g].d.v[r]);
        }
        j->pairs.d.v[r] = bf16_above(max_d / 255);
    }
}

/* Scale and offset of an outlier group are f16. */
static void round_outliers(struct var_grid *g)
{
    for (int r = 0; r < VAR_LANES; r++) {
        uint16_t d = ert_f32_to_f16(g->d.v[r]);
        if (g->d.v[r] > 0 && d == 0)
            d = 1; /* the smallest f16: a range that small still keeps its order */
        g->d.v[r] = ert_f16_to_f32(d);
        g->m.v[r] = ert_f16_to_f32(ert_f32_to_f16(g->m.v[r]));
    }
}

static void fit_all(struct job *j)
{
    float weight[PACK_GROUP];
    for (uint32_t g = 0; g < j->n_groups; g++) {
        j->grids[g].wide = g < j->first || j->tile->eight_bits;
        fit_weights(j->rows.hessian, g, weight);
        var_grid_fit(&j->grids[g], j->rows.target + (size_t)g * PACK_GROUP, weight);
    }
    if (j->first)
        round_outliers(&j->grids[0]);
    choose_pairs(j);
}

/* The grid of a group on the weights as they are when its turn comes. */
static void begin_group(void *ctx, struct var_rows *rows, uint32_t group, const struct var_lanes *w)
{
    struct job *j = ctx;
    if (group >= j->first) {
        float own[PACK_GROUP];
        fit_weights(rows->hessian, group, own);
        var_grid_fit(&j->grids[group], w, own);
        var_grid_encode(&j->grids[group], &j->codes[group], &j->pairs, w, own);
    }
    set_levels(j, group);
}

/* ---- grids given the codes ----------------------------------------------------------------- */

/* f as a quadratic of changes of d and m of one group: a d^2 - 2 b d m + c m^2 - 2 gd d + 2 gm m.
 */
struct bowl {
    struct var_lanes a, b, gd, gm;
    float c;
};

static struct bowl bowl_of(const struct job *j, const struct var_slice *s, uint32_t group)
{
    const struct var_code_lanes *h = j->rows.code + (size_t)group * PACK_GROUP;
    const struct var_lanes *gradient = j->rows.work + (size_t)group * PACK_GROUP;
    uint32_t first = group * PACK_GROUP - s->from;
    struct bowl x = {0};
    for (uint32_t i = 0; i < PACK_GROUP; i++) {
        const float *row = s->gram + (size_t)(first + i) * s->n + first;
        struct var_lanes hh = {{0}};
        float ones = 0;
        for (uint32_t k = 0; k < PACK_GROUP; k++) {
            ones += row[k];
            for (int r = 0; r < VAR_LANES; r++)
                hh.v[r] += row[k] * (float)h[k].v[r];
        }
        x.c += ones;
        for (int r = 0; r < VAR_LANES; r++) {
            float code = (float)h[i].v[r];
            x.a.v[r] += code * hh.v[r];
            x.b.v[r] += code * ones;
            x.gd.v[r] += code * gradient[i].v[r];
            x.gm.v[r] += gradient[i].v[r];
        }
    }
    return x;
}

/* The u_m that suits a change of d best, and what f becomes. */
static float best_m(const struct bowl *x, int r, float delta_d, float unit, int *u_m)
{
    int old = *u_m;
    float want = (x->b.v[r] * delta_d - x->gm.v[r]) / x->c;
    float u = unit > 0 ? (float)old + want / unit : 0;
    *u_m = u < 0 ? 0 : u > 255 ? 255 : (int)(u + 0.5f);
    float m = (float)(*u_m - old) * unit;
    return x->a.v[r] * delta_d * delta_d - 2 * x->b.v[r] * delta_d * m + x->c * m * m -
           2 * x->gd.v[r] * delta_d + 2 * x->gm.v[r] * m;
}

/* The codes of one row's grid of least f among the neighbours of the optimum. */
static void improve_codes(const struct job *j, const struct bowl *x, uint32_t group, int r)
{
    struct var_grid_codes *codes = &j->codes[group];
    float unit_d = j->pairs.d.v[r], unit_m = j->pairs.m.v[r];
    float det = x->a.v[r] * x->c - x->b.v[r] * x->b.v[r];
    if (!(det > 0) || !(unit_d > 0))
        return;
    int old_d = codes->d[r], old_m = codes->m[r], low = (int)ceilf(unit_m / unit_d);
    float want = (x->c * x->gd.v[r] - x->b.v[r] * x->gm.v[r]) / det;
    int middle = old_d + (int)rintf(fminf(fmaxf(want / unit_d, -255), 255));
    float least = 0;
    for (int d = middle - 1; d <= middle + 1; d++) {
        int u_d = d < low ? low : d > 255 ? 255 : d, u_m = old_m;
        u_d = u_d < 1 ? 1 : u_d > 255 ? 255 : u_d;
        float f = best_m(x, r, (float)(u_d - old_d) * unit_d, unit_m, &u_m);
        if (f < least) {
            least = f;
            codes->d[r] = (uint8_t)u_d;
            codes->m[r] = (uint8_t)u_m;
        }
    }
}

static void improve_grid(struct job *j, const struct var_slice *s, uint32_t group)
{
    struct bowl x = bowl_of(j, s, group);
    struct var_grid *g = &j->grids[group], old = *g;
    for (int r = 0; r < VAR_LANES; r++) {
        improve_codes(j, &x, group, r);
        g->d.v[r] = j->pairs.d.v[r] * (float)j->codes[group].d[r];
        g->m.v[r] = j->pairs.m.v[r] * (float)j->codes[group].m[r];
    }
    struct var_lanes delta[PACK_GROUP];
    for (uint32_t c = 0; c < PACK_GROUP; c++)
        for (int r = 0; r < VAR_LANES; r++) {
            float code = (float)j->rows.code[group * PACK_GROUP + c].v[r];
            delta[c].v[r] = (old.d.v[r] - g->d.v[r]) * code - (old.m.v[r] - g->m.v[r]);
        }
    set_levels(j, group);
    var_descend_move(&j->rows, group, delta);
}

static void improve_grids(struct job *j)
{
    const struct var_hessian *h = j->rows.hessian;
    for (uint32_t i = 0; i < h->n_slices; i++) {
        const struct var_slice *s = &h->slices[i];
        for (uint32_t g = s->from / PACK_GROUP; g < (s->from + s->n) / PACK_GROUP; g++)
            if (!j->grids[g].wide)
                improve_grid(j, s, g);
    }
}

/* ---- the codes ----------------------------------------------------------------------------- */

static void choose_h(struct job *j)
{
    if (!j->tile->eight_bits)
        memcpy(j->rows.reach, REACH, sizeof REACH);
    var_descend_feed(&j->rows, begin_group, j);
    if (!j->rows.hessian)
        return;
    var_descend_gradient(&j->rows);
    for (int i = 0; i < ROUNDS; i++) {
        var_descend_sweep(&j->rows);
        improve_grids(j);
    }
    var_descend_sweep(&j->rows);
}

/* From h to 16 h + l; an outlier group has its l already. */
static void widen(struct job *j)
{
    for (uint32_t g = 0; g < j->n_groups; g++) {
        bool narrow = !j->grids[g].wide;
        j->grids[g].wide = true;
        set_levels(j, g);
        j->rows.span[g] = narrow ? VAR_NARROW_SPAN : 0;
        for (uint32_t c = g * PACK_GROUP; c < (g + 1) * PACK_GROUP; c++)
            for (int r = 0; r < VAR_LANES; r++)
                j->rows.low[c].v[r] = (uint8_t)(j->rows.code[c].v[r] * (narrow ? 16 : 1));
    }
}

static void choose_l(struct job *j)
{
    memset(j->rows.reach, 0, sizeof j->rows.reach);
    if (!j->tile->eight_bits) {
        widen(j);
        var_descend_feed(&j->rows, NULL, NULL);
    }
    if (!j->rows.hessian)
        return;
    var_descend_gradient(&j->rows);
    for (int i = 0; i < L_SWEEPS; i++)
        var_descend_sweep(&j->rows);
}

/* ---- storing ------------------------------------------------------------------------------- */

/* Nibbles in the order of docs/pack-format.md: those of bits shift .. shift + 3 of the codes. */
static void store_nibbles(uint8_t *to, const struct var_code_lanes *codes, unsigned shift)
{
    for (uint32_t c = 0; c < PACK_GROUP; c++)
        for (uint32_t r = 0; r < PACK_TILE; r++) {
            unsigned i = c & 15, nibble = codes[c].v[r] >> shift & 15u;
            to[((i / 4) * 16 + r) * 4 + i % 4] |= (uint8_t)(nibble << (c < 16 ? 0 : 4));
        }
}

static void store_pairs(const struct job *j)
{
    for (int r = 0; r < VAR_LANES; r++) {
        uint16_t d = ert_f32_to_bf16(j->pairs.d.v[r]), m = ert_f32_to_bf16(j->pairs.m.v[r]);
        if (d == 0)
            continue; /* a zero row has zero pairs and zero codes */
        memcpy(j->tile->pairs + 2 * (size_t)r, &d, 2);
        memcpy(j->tile->pairs + 2 * (size_t)(PACK_TILE + r), &m, 2);
    }
}

uint64_t var_block_index(uint32_t tile, uint32_t group, uint32_t n_tiles, uint32_t n_groups,
                         uint32_t panel_groups)
{
    uint32_t panel = group / panel_groups, first = panel * panel_groups;
    uint32_t width = n_groups - first < panel_groups ? n_groups - first : panel_groups;
    return (uint64_t)first * n_tiles + (uint64_t)tile * width + (group - first);
}

/* shift: how far above bit 0 h lies in the codes. */
static void store_groups(const struct job *j, unsigned shift)
{
    const struct var_tile *t = j->tile;
    for (uint32_t g = 0; g < t->n_groups; g++) {
        uint64_t at = var_block_index(t->tile, g, t->n_tiles, t->n_groups, t->panel_groups);
        uint8_t *block = t->h + at * PACK_H_BLOCK;
        const struct var_code_lanes *codes = j->rows.code + (size_t)(g + j->first) * PACK_GROUP;
        memcpy(block, j->codes[g + j->first].d, PACK_TILE);
        memcpy(block + PACK_TILE, j->codes[g + j->first].m, PACK_TILE);
        store_nibbles(block + 2 * PACK_TILE, codes, shift);
        if (t->l)
            store_nibbles(t->l + at * PACK_L_BLOCK, codes, 0);
    }
}

static void store_outliers(const struct job *j)
{
    uint8_t *block = j->tile->outlier;
    for (int r = 0; r < VAR_LANES; r++) {
        uint16_t d = ert_f32_to_f16(j->grids[0].d.v[r]), m = ert_f32_to_f16(j->grids[0].m.v[r]);
        memcpy(block + 2 * (size_t)r, &d, 2);
        memcpy(block + 2 * (size_t)(PACK_TILE + r), &m, 2);
    }
    store_nibbles(block + PACK_PAIRS, j->rows.code, 4);
    store_nibbles(block + PACK_PAIRS + PACK_NIBBLES, j->rows.code, 0);
}

/* ---- all of it ----------------------------------------------------------------------------- */

void var_quantize_tile(const struct var_tile *t, const float *w, uint32_t cols,
                       const struct var_hessian *h)
{
    struct job j = {.tile = t, .rows = {.cols = cols, .hessian = h, .push = var_push_best()}};
    j.n_groups = cols / PACK_GROUP;
    j.first = t->outlier ? 1 : 0;
    memset(t->scratch, 0, var_quantize_scratch(cols) * sizeof *t->scratch);
    place_scratch(&j, t->scratch, cols);
    for (uint32_t c = 0; c < cols; c++)
        for (uint32_t r = 0; r < PACK_TILE; r++)
            j.rows.target[c].v[r] = w[(size_t)r * cols + c];
    fit_all(&j);
    choose_h(&j);
    bool both = t->l != NULL;
    if (both)
        choose_l(&j);
    store_pairs(&j);
    store_groups(&j, both ? 4 : 0);
    if (t->outlier)
        store_outliers(&j);
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
