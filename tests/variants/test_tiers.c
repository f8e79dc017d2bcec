/* Tier widths against an exhaustive search: of all widths that save as much, none costs less. */
#include "tests/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "variants/tiers.h"

enum { LAYERS = 4, FF = 256, UNIT = 32, UNITS = FF / UNIT, TIERS = 3 };

struct made {
    struct rt_model model;
    struct var_arrangement a;
    struct var_layer_order layers[LAYERS];
    struct rt_dims dims[TIERS][LAYERS];
    double lost[LAYERS][FF + 1];
    const double (*alone)[VAR_CUTS];
    double kld[LAYERS][VAR_CUTS];
    struct var_sensitivity s;
};

/* Layers whose channels matter by their own measure; KL between measured widths goes with `lost`,
 * which here falls evenly, so that costs are straight lines between measured widths. kld is what a
 * layer costs alone; here costs add up. */
static void make(struct made *m, const double kld[LAYERS][VAR_CUTS], const uint32_t *percent)
{
    *m = (struct made){
        .model = {.n_layers = LAYERS, .n_embd = 4096, .n_heads = 1, .n_kv_heads = 1, .n_ff = FF},
        .a = {.n_layers = LAYERS, .n_tiers = TIERS, .layers = m->layers},
        .s = {.n_layers = LAYERS, .width = {192, 128, 64, 32}, .kld = m->kld}};
    m->alone = kld;
    for (unsigned t = 0; t < TIERS; t++) {
        m->a.dims[t] = m->dims[t];
        m->a.rank_percent[t] = percent[t];
        for (unsigned l = 0; l < LAYERS; l++)
            m->dims[t][l] = (struct rt_dims){FF, 64, 64, 0};
    }
    for (unsigned l = 0; l < LAYERS; l++) {
        m->layers[l].lost = m->lost[l];
        for (unsigned c = 0; c <= FF; c++)
            m->lost[l][c] = (double)(FF - c) * (l + 1);
    }
}

/* A layer's cost where its measured widths are corners of a convex, straight-lined curve. */
static double cost(const double *kld, uint32_t width)
{
    static const uint32_t corner[] = {FF, 192, 128, 64, 32};
    const double at[] = {0, kld[0], kld[1], kld[2], kld[3]};
    unsigned segment = 0;
    while (width < corner[segment + 1])
        segment++;
    double share = (double)(corner[segment] - width) / (corner[segment] - corner[segment + 1]);
    return at[segment] + (at[segment + 1] - at[segment]) * share;
}

static double cost_of(const double kld[LAYERS][VAR_CUTS], const uint32_t *width)
{
    double sum = 0;
    for (unsigned l = 0; l < LAYERS; l++)
        sum += cost(kld[l], width[l]);
    return sum;
}

/* What a measurement at the tier above would find, and the widths that follow from it. */
static void allocate(struct made *m, uint32_t tier)
{
    uint32_t width[LAYERS];
    for (unsigned l = 0; l < LAYERS; l++)
        width[l] = m->dims[tier - 1][l].mlp;
    m->s.tier_kld = cost_of(m->alone, width);
    for (unsigned l = 0; l < LAYERS; l++)
        for (unsigned i = 0; i < VAR_CUTS; i++) {
            uint32_t own = width[l];
            width[l] = m->s.width[i];
            m->kld[l][i] = own > width[l] ? cost_of(m->alone, width) : 0;
            width[l] = own;
        }
    var_allocate_widths(&m->a, &m->model, tier, &m->s, 0);
}

static void allocate_all(struct made *m)
{
    for (uint32_t t = 1; t < TIERS; t++)
        allocate(m, t);
}

/* The least cost of all widths that keep `units` in all. */
static double least_cost(const double kld[LAYERS][VAR_CUTS], uint32_t units)
{
    double best = INFINITY;
    for (unsigned i = 0; i < UNITS * UNITS * UNITS; i++) {
        uint32_t w[LAYERS] = {1 + i % UNITS, 1 + i / UNITS % UNITS, 1 + i / UNITS / UNITS, 0};
        if (w[0] + w[1] + w[2] >= units || units - w[0] - w[1] - w[2] > UNITS)
            continue;
        w[3] = units - w[0] - w[1] - w[2];
        for (unsigned l = 0; l < LAYERS; l++)
            w[l] *= UNIT;
        best = fmin(best, cost_of(kld, w));
    }
    return best;
}

static const double convex[LAYERS][VAR_CUTS] = {
    {0.5, 1.5, 4, 6}, {0.01, 0.03, 0.2, 0.4}, {0.02, 0.06, 0.1, 0.15}, {0.03, 0.07, 0.3, 0.6}};

static void test_no_widths_cost_less(void **state)
{
    static const uint32_t percent[TIERS] = {100, 90, 65};
    struct made m;
    (void)state;
    make(&m, convex, percent);
    allocate_all(&m);
    for (unsigned t = 1; t < TIERS; t++) {
        uint32_t width[LAYERS], units = 0;
        for (unsigned l = 0; l < LAYERS; l++) {
            width[l] = m.dims[t][l].mlp;
            units += width[l] / UNIT;
            assert_true(width[l] <= m.dims[t - 1][l].mlp && width[l] % UNIT == 0 && width[l] > 0);
        }
        assert_float_equal(cost_of(convex, width), least_cost(convex, units), 1e-9);
    }
}

/* What a tier adds to a layer that keeps so many channels, in rows of n_embd weights: a bias of
 * floats, and a compensator of rank 32 on either side where it takes an eighth at most of what
 * goes. */
static double extras(uint32_t kept)
{
    uint32_t lost = FF - kept;
    return (lost > 0 ? sizeof(float) : 0) + (3.0 * lost >= 8 * 64 ? 64 : 0);
}

/* head_dim 0 leaves nothing but the MLP: a tier's channels and extras are its weights. */
static void test_extras_count(void **state)
{
    static const uint32_t percent[TIERS] = {100, 90, 65};
    struct made m;
    (void)state;
    make(&m, convex, percent);
    allocate_all(&m);
    for (unsigned t = 1; t < TIERS; t++) {
        double all = 3.0 * LAYERS * FF, kept = 0, group = 3.0 * UNIT;
        for (unsigned l = 0; l < LAYERS; l++)
            kept += 3.0 * m.dims[t][l].mlp + extras(m.dims[t][l].mlp);
        assert_true(kept <= all * percent[t] / 100);
        assert_true(kept > all * percent[t] / 100 - group);
    }
}

/* A dip behind a steep step is worth its whole price: the step is taken to its end or not at all,
 * but where the budget ends. */
static void test_steps_follow_the_hull(void **state)
{
    static const double dip[LAYERS][VAR_CUTS] = {
        {0.3, 0.31, 0.32, 0.9}, {0.2, 0.6, 2, 5}, {0.2, 0.6, 2, 5}, {0.2, 0.6, 2, 5}};
    static const uint32_t percent[TIERS] = {100, 84, 75};
    struct made m;
    (void)state;
    make(&m, dip, percent);
    allocate_all(&m);
    assert_int_equal(m.dims[1][0].mlp, 64);
    for (unsigned l = 1; l < LAYERS; l++)
        assert_int_equal(m.dims[1][l].mlp, FF);
}

static void test_all_layers_end_at_one_group(void **state)
{
    static const uint32_t percent[TIERS] = {100, 2, 1};
    struct made m;
    (void)state;
    make(&m, convex, percent);
    allocate_all(&m);
    for (unsigned l = 0; l < LAYERS; l++)
        assert_int_equal(m.dims[2][l].mlp, UNIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_widths_cost_less),
        cmocka_unit_test(test_extras_count),
        cmocka_unit_test(test_steps_follow_the_hull),
        cmocka_unit_test(test_all_layers_end_at_one_group),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
