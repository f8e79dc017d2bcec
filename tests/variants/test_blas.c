/* OpenBLAS computes with kernels of this CPU's, whatever it knows of the CPU, unless the user chose
 * others. */
#include "tests/test.h"

#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "variants/blas.h"

/* What a process that begins with these settings gets: its name into name[64]. */
static void core_in_child(const char *chosen, char *name)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (chosen)
            setenv("OPENBLAS_CORETYPE", chosen, true);
        else
            unsetenv("OPENBLAS_CORETYPE");
        struct ert_error err;
        const char *core = var_blas_open(&err) ? err.text : var_blas()->openblas_get_corename();
        _exit(write(ends[1], core, strlen(core)) < 0);
    }
    close(ends[1]);
    ssize_t n = read(ends[0], name, 63);
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    assert_true(n > 0);
    name[n] = '\0';
}

static void kernels_fit_the_cpu(void **state)
{
    char name[64];
    (void)state;
    core_in_child(NULL, name);
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        assert_string_equal(name, "SkylakeX");
    else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        assert_string_equal(name, "Haswell");
#endif
}

static void the_user_may_choose(void **state)
{
    char name[64];
    (void)state;
#ifdef __x86_64__
    core_in_child("Nehalem", name);
    assert_string_equal(name, "Nehalem");
#else
    skip();
#endif
}

/* Products of shapes that are no multiple of a share, against plain sums. */
static void products_are_right(void **state)
{
    enum { N = 5, ROWS = 300, DEPTH = 70 };
    static float x[N * DEPTH], w[ROWS * DEPTH], y[N * ROWS];
    struct ert_error err;
    struct rt_team *team;
    (void)state;
    for (int i = 0; i < N * DEPTH; i++)
        x[i] = (float)(i % 13 - 6);
    for (int i = 0; i < ROWS * DEPTH; i++)
        w[i] = (float)(i % 11 - 5);
    assert_int_equal(var_blas_open(&err), 0);
    assert_int_equal(rt_team_create(&team, 2, &err), 0);
    const struct var_view in = {x, N, DEPTH, DEPTH}, rows = {w, ROWS, DEPTH, DEPTH},
                          out = {y, N, ROWS, ROWS};
    var_blas_product(team, &in, &rows, &out, false);
    for (int i = 0; i < N; i++)
        for (int r = 0; r < ROWS; r++) {
            float sum = 0; /* small integers: exact in any order */
            for (int k = 0; k < DEPTH; k++)
                sum += x[i * DEPTH + k] * w[r * DEPTH + k];
            assert_true(y[i * ROWS + r] == sum);
        }
    rt_team_free(team);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kernels_fit_the_cpu),
        cmocka_unit_test(the_user_may_choose),
        cmocka_unit_test(products_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
