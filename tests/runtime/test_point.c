/* Names of points, their table, and what a pack says of itself. Widths and sizes are computed by
 * hand from the shapes that tools/packtool gives a random pack: 2 layers, E = 96, 4 heads, 2 KV
 * heads, head 64, MLP 192, vocabulary 200 (208 as stored), untied; EMBED and K keep L in the H
 * region. */
#include "tests/runtime/random_pack.h"

#include <string.h>

static struct rt_pack *nested, *h_only, *f32;

static int open_packs(void **state)
{
    (void)state;
    nested = random_pack("nested");
    h_only = random_pack("h-only");
    f32 = random_pack("f32");
    return 0;
}

static int close_packs(void **state)
{
    (void)state;
    rt_pack_free(nested);
    rt_pack_free(h_only);
    rt_pack_free(f32);
    return 0;
}

static void names_are_parsed_against_a_pack(void **state)
{
    (void)state;
    const struct {
        const char *text;
        struct rt_pack *pack;
        const char *name; /* NULL: refused */
        enum rt_variant variant;
        uint32_t tier;
    } cases[] = {
        {"w8a8", nested, "w8a8", RT_W8A8, 0},
        {"w4a16", nested, "w4a16", RT_W4A16, 0},
        {"w4a16-r100", nested, "w4a16", RT_W4A16, 0},
        {"w4a16-r80", nested, "w4a16-r80", RT_W4A16, 2},
        {"w8a8-r70", nested, "w8a8-r70", RT_W8A8, 3},
        {"w4a16-r90", h_only, "w4a16-r90", RT_W4A16, 1},
        {"w4a8", nested, "w4a8", RT_W4A8, 0},
        {"w4a8-r80", nested, "w4a8-r80", RT_W4A8, 2},
        {"w4a8-r90", h_only, "w4a8-r90", RT_W4A8, 1},
        {"f32-r90", f32, "f32-r90", RT_F32, 1},
        {"w4a16-r80", NULL, "w4a16-r80", RT_W4A16, 0},
        {"f32", nested, NULL, 0, 0},
        {"w8a8", h_only, NULL, 0, 0},
        {"w8a8", f32, NULL, 0, 0},
        {"w4a8", f32, NULL, 0, 0},
        {"w4a16-r85", nested, NULL, 0, 0},
        {"w4a16-80", nested, NULL, 0, 0},
        {"w4a16-r", nested, NULL, 0, 0},
        {"w4a16-r 80", nested, NULL, 0, 0},
        {"w4a16-r+80", NULL, NULL, 0, 0},
        {"w4a16-r80x", nested, NULL, 0, 0},
        {"w4a16-r0", NULL, NULL, 0, 0},
        {"w4a16-r101", NULL, NULL, 0, 0},
        {"w4a167", nested, NULL, 0, 0},
        {"W8A8", NULL, NULL, 0, 0},
        {"", NULL, NULL, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct rt_point p;
        struct ert_error err = {0};
        int rc = rt_point_parse(cases[i].text, cases[i].pack, &p, &err);
        if (!cases[i].name) {
            if (rc == 0)
                fail_msg("\"%s\" was taken as %s", cases[i].text, p.name);
            continue;
        }
        assert_int_equal(rc, 0);
        assert_string_equal(p.name, cases[i].name);
        assert_int_equal(p.variant, cases[i].variant);
        assert_int_equal(p.prefill_variant, cases[i].variant);
        assert_int_equal(p.tier, cases[i].tier);
        assert_false(p.pause);
    }
}

static void an_unknown_point_lists_those_there_are(void **state)
{
    (void)state;
    struct rt_point p;
    struct ert_error err = {0};
    assert_int_equal(rt_point_parse("w2a8", nested, &p, &err), -ERT_E_MISSING);
    assert_non_null(strstr(err.text, "w2a8"));
    assert_non_null(strstr(err.text, "w8a8, w8a8-r90, w8a8-r80, w8a8-r70, w4a16, w4a16-r90, "
                                     "w4a16-r80, w4a16-r70, w4a8, w4a8-r90, w4a8-r80, "
                                     "w4a8-r70, pause"));
}

static void assert_points_to_measure(const struct rt_pack *pack, const char *const *names)
{
    struct rt_point p, parsed;
    uint32_t i = 0;
    for (; names[i]; i++) {
        assert_true(rt_point_to_measure(pack, i, &p));
        assert_string_equal(p.name, names[i]);
        assert_int_equal(rt_point_parse(names[i], pack, &parsed, NULL), 0);
        assert_int_equal(p.variant, parsed.variant);
        assert_int_equal(p.prefill_variant, parsed.variant);
        assert_int_equal(p.tier, parsed.tier);
        assert_false(p.pause);
    }
    assert_false(rt_point_to_measure(pack, i, &p));
}

static void points_to_measure_are_all_but_tiers_of_the_same_weights(void **state)
{
    (void)state;
    static const char *const of_nested[] = {"w8a8",  "w8a8-r90",  "w8a8-r80",  "w8a8-r70",
                                            "w4a16", "w4a16-r90", "w4a16-r80", "w4a16-r70",
                                            "w4a8",  NULL};
    static const char *const of_f32[] = {"f32", "f32-r90", "f32-r80", "f32-r70", NULL};
    assert_points_to_measure(nested, of_nested);
    assert_points_to_measure(h_only, of_nested + 4);
    assert_points_to_measure(f32, of_f32);
}

static void pause_needs_no_weights(void **state)
{
    (void)state;
    struct rt_point p;
    assert_int_equal(rt_point_parse("pause", nested, &p, NULL), 0);
    assert_true(p.pause);
    assert_string_equal(p.name, "pause");
    assert_false(rt_point_needs_l(&p));
}

static void l_is_needed_by_8_bit_points_only(void **state)
{
    (void)state;
    struct rt_point p;
    assert_int_equal(rt_point_parse("w8a8-r70", nested, &p, NULL), 0);
    assert_true(rt_point_needs_l(&p));
    assert_int_equal(rt_point_parse("w4a8", nested, &p, NULL), 0);
    assert_false(rt_point_needs_l(&p));
    assert_int_equal(rt_point_parse("w4a16", nested, &p, NULL), 0);
    assert_false(rt_point_needs_l(&p));
    p.prefill_variant = RT_W8A8;
    assert_true(rt_point_needs_l(&p));
}

static void a_table_keeps_its_points_until_the_last_holder_leaves(void **state)
{
    (void)state;
    struct rt_point points[2] = {{.name = "w8a8"}, {.name = "pause", .pause = true}};
    struct rt_point_table *table = NULL;
    assert_int_equal(rt_point_table_create(&table, points, 0, NULL), -ERT_E_RANGE);
    assert_int_equal(rt_point_table_create(&table, points, 2, NULL), 0);
    points[1].name[0] = 'x';
    struct rt_point_table *second = rt_point_table_ref(table);
    rt_point_table_unref(table);
    assert_int_equal(rt_point_table_size(second), 2);
    assert_string_equal(rt_point_at(second, 1)->name, "pause");
    assert_null(rt_point_at(second, 2));
    rt_point_table_unref(second);
    rt_point_table_unref(NULL);
}

/* Blocks x (H 288 + L 256) + tiles x pairs 64 of a rows x cols matrix without an outlier group. */
static uint64_t bytes_of(uint64_t rows, uint64_t cols, bool with_l)
{
    return rows / 16 * (cols / 32) * (288 + (with_l ? 256 : 0)) + rows / 16 * 64;
}

static void bytes_per_token_add_up(void **state)
{
    (void)state;
    /* f32: 4 bytes a weight. Q 256, K and V 128, O, gate, up, down 192, head 208 rows. */
    uint64_t layer = (256 + 128 + 128 + 256 + 3 * 192) * 96, norms = 5 * 96;
    assert_int_equal(rt_pack_bytes_per_token(f32, RT_F32, 0), 4 * (2 * layer + norms + 208 * 96));
    /* A tier of 32/32/32: Q 128, O 128, MLP 32; a bias each; COMP of rank 64 in layer 0. */
    layer = (128 + 128 + 128 + 128 + 3 * 32) * 96 + 2 * 96;
    assert_int_equal(rt_pack_bytes_per_token(f32, RT_F32, 3),
                     4 * (2 * layer + norms + 208 * 96 + 2 * 64 * 96));
    /* Outlier groups in some matrices are all that keeps a nested pack from these sums: an outlier
     * block takes 576 bytes where H alone takes 288, and H and L 544. */
    for (unsigned bits = 4; bits <= 8; bits += 4) {
        enum rt_variant v = bits == 8 ? RT_W8A8 : RT_W4A16;
        bool l = bits == 8;
        uint64_t base = bytes_of(208, 96, l) + norms * 4;
        base += 2 * (bytes_of(256, 96, l) + bytes_of(128, 96, true) + bytes_of(128, 96, l));
        base += 2 * (bytes_of(96, 256, l) + 2 * bytes_of(192, 96, l) + bytes_of(96, 192, l));
        uint64_t got = rt_pack_bytes_per_token(nested, v, 0);
        /* 2 layers of at most 7 such matrices of up to 16 tiles, and the head. */
        assert_in_range(got, base, base + (2 * (16 + 8 + 8 + 6 + 12 + 12 + 6) + 13) * 288);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_parsed_against_a_pack),
        cmocka_unit_test(an_unknown_point_lists_those_there_are),
        cmocka_unit_test(points_to_measure_are_all_but_tiers_of_the_same_weights),
        cmocka_unit_test(pause_needs_no_weights),
        cmocka_unit_test(l_is_needed_by_8_bit_points_only),
        cmocka_unit_test(a_table_keeps_its_points_until_the_last_holder_leaves),
        cmocka_unit_test(bytes_per_token_add_up),
    };
    return cmocka_run_group_tests(tests, open_packs, close_packs);
}
