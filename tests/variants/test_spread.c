/* MLP channels dealt out to groups: which channels a tier keeps stays as it was, and every group of
 * its share has channels of all ranks. */
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>

#include "variants/arrange.h"

enum { FF = 300, PAD = 320, TIERS = 3 };

static const uint32_t widths[TIERS] = {320, 224, 64};

struct made {
    struct var_source src;
    struct var_arrangement a;
    struct var_layer_order layer;
    struct rt_dims dims[TIERS];
    int32_t mlp[PAD];
};

/* Rank is the channel's number. */
static void make(struct made *m)
{
    *m = (struct made){.src.model.n_ff = FF, .a = {.n_layers = 1, .n_tiers = TIERS}};
    m->a.layers = &m->layer;
    m->layer.mlp = m->mlp;
    for (uint32_t t = 0; t < TIERS; t++) {
        m->dims[t].mlp = widths[t];
        m->a.dims[t] = &m->dims[t];
    }
    for (int32_t c = 0; c < PAD; c++)
        m->mlp[c] = c < FF ? c : -1;
}

static void a_tier_keeps_the_channels_it_kept(void **state)
{
    struct made m;
    (void)state;
    make(&m);
    assert_int_equal(var_spread_channels(&m.a, &m.src), 0);
    for (uint32_t t = 0; t < TIERS; t++) {
        bool kept[FF] = {false};
        for (uint32_t i = 0; i < widths[t] && i < FF; i++) {
            assert_in_range(m.mlp[i], 0, widths[t] < FF ? widths[t] - 1 : FF - 1);
            assert_false(kept[m.mlp[i]]);
            kept[m.mlp[i]] = true;
        }
    }
    for (uint32_t i = FF; i < PAD; i++)
        assert_int_equal(m.mlp[i], -1);
}

/* Groups of 64 .. 223: five, so each holds every fifth rank; the best of each comes first. */
static void ranks_are_dealt_out(void **state)
{
    struct made m;
    (void)state;
    make(&m);
    assert_int_equal(var_spread_channels(&m.a, &m.src), 0);
    for (uint32_t i = 64; i < 224; i++)
        assert_int_equal(m.mlp[i], 64 + (i - 64) % 32 * 5 + (i - 64) / 32);
    /* 224 .. 299: groups of 32, 32 and 12. */
    assert_int_equal(m.mlp[224], 224);
    assert_int_equal(m.mlp[256], 225);
    assert_int_equal(m.mlp[288], 226);
    assert_int_equal(m.mlp[224 + 12], 224 + 3 * 12);
    assert_int_equal(m.mlp[256 + 12], 224 + 3 * 12 + 1);
    assert_int_equal(m.mlp[287], 299);
}

static void a_sources_own_groups_stay(void **state)
{
    struct made m;
    (void)state;
    make(&m);
    m.src.grid = true;
    m.src.model.n_ff = 288; /* whole groups */
    assert_int_equal(var_spread_channels(&m.a, &m.src), 0);
    for (int32_t i = 0; i < FF; i++)
        assert_int_equal(m.mlp[i], i);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tier_keeps_the_channels_it_kept),
        cmocka_unit_test(ranks_are_dealt_out),
        cmocka_unit_test(a_sources_own_groups_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
