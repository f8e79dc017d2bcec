/* Every kernel of every ISA this CPU has against scalar, and all of them against references in
 * double and int64 that decode the layout from the formulas of docs/pack-format.md (kernels/).
 * EDGERT_TEST_ISAS names the ISAs to check instead, of which the last must be the best here: an
 * emulated CPU is slow, and which one it is said to be is known. */
#include "tests/runtime/kernels/check.h"

static bool is_to_be_checked(const char *isa)
{
    const char *isas = getenv("EDGERT_TEST_ISAS");
    return !isas || strstr(isas, isa);
}

/* One test per row of kernels.def: a row without a check does not link. */
#define K(op, type, ...)                                                                           \
    static void test_##op(void **state)                                                            \
    {                                                                                              \
        (void)state;                                                                               \
        for (unsigned i = 0; rt_kernels_isa(i); i++)                                               \
            if (is_to_be_checked(rt_kernels_isa(i)->isa))                                          \
                check_##op(rt_kernels_isa(i), rt_kernels_isa(0));                                  \
    }
#include "runtime/kernels/kernels.def"
#undef K

static void test_best_is_the_last_isa(void **state)
{
    (void)state;
    unsigned n = 0;
    while (rt_kernels_isa(n))
        n++;
    assert_true(n >= 1);
    assert_string_equal(rt_kernels_isa(0)->isa, "scalar");
    unsetenv("EDGERT_ISA");
    assert_ptr_equal(rt_kernels_best(), rt_kernels_isa(n - 1));
    const char *isas = getenv("EDGERT_TEST_ISAS"), *last = isas ? strrchr(isas, ' ') : NULL;
    if (isas)
        assert_string_equal(rt_kernels_best()->isa, last ? last + 1 : isas);
}

static void test_environment_only_lowers(void **state)
{
    (void)state;
    unsetenv("EDGERT_ISA");
    const struct rt_kernels *best = rt_kernels_best();
    setenv("EDGERT_ISA", "scalar", 1);
    assert_string_equal(rt_kernels_best()->isa, "scalar");
    setenv("EDGERT_ISA", "no-such-isa", 1);
    assert_ptr_equal(rt_kernels_best(), best);
    unsetenv("EDGERT_ISA");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_best_is_the_last_isa),
        cmocka_unit_test(test_environment_only_lowers),
#define K(op, type, ...) cmocka_unit_test(test_##op),
#include "runtime/kernels/kernels.def"
#undef K
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
