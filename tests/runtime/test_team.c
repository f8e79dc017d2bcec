/* The thread team: every worker runs once per run, barriers separate, idle threads sleep. */
#include "tests/test.h"

#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/base.h"
#include "runtime/team.h"

enum { MAX = 12, STEPS = 40 };

static struct rt_team *new_team(unsigned n)
{
    struct rt_team *team;
    struct ert_error err;
    assert_int_equal(rt_team_create(&team, n, &err), 0);
    assert_int_equal(rt_team_size(team), n);
    return team;
}

/* Written without atomics: only the team's own ordering makes this correct. */
struct tally {
    struct rt_team *team;
    unsigned runs[MAX], n_seen[MAX];
    unsigned steps[2][MAX]; /* written in turn, read by the neighbours after a barrier */
    unsigned wrong[MAX];
};

static void count_run(void *ctx, unsigned worker, unsigned n)
{
    struct tally *tally = ctx;
    tally->runs[worker]++;
    tally->n_seen[worker] = n;
}

static void test_every_worker_runs_once(void **state)
{
    (void)state;
    for (unsigned size = 1; size <= MAX; size += 3) {
        struct rt_team *team = new_team(size);
        struct tally tally = {.team = team};
        unsigned expected[MAX] = {0};
        for (unsigned i = 0; i < 200; i++) {
            unsigned n = 1 + i * 7 % size;
            rt_team_run(team, n, count_run, &tally);
            for (unsigned w = 0; w < n; w++) {
                expected[w]++;
                assert_int_equal(tally.n_seen[w], n);
            }
            assert_memory_equal(tally.runs, expected, sizeof expected);
        }
        rt_team_free(team);
    }
}

/* Each step every worker writes its number, meets the others, and reads what all of them wrote. */
static void step_together(void *ctx, unsigned worker, unsigned n)
{
    struct tally *tally = ctx;
    for (unsigned step = 1; step <= STEPS; step++) {
        unsigned *now = tally->steps[step % 2];
        now[worker] = step * 100 + worker;
        rt_team_barrier(tally->team);
        for (unsigned w = 0; w < n; w++)
            tally->wrong[worker] += now[w] != step * 100 + w;
    }
}

static void test_barrier_separates_steps(void **state)
{
    (void)state;
    struct rt_team *team = new_team(MAX); /* more than the cores of a small machine */
    for (unsigned i = 0; i < 30; i++) {
        struct tally tally = {.team = team};
        rt_team_run(team, 1 + i * 5 % MAX, step_together, &tally);
        for (unsigned w = 0; w < MAX; w++)
            assert_int_equal(tally.wrong[w], 0);
    }
    rt_team_free(team);
}

static double process_cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Worker 0 sleeps, so that the others go through every stage of waiting at the barrier. */
static void arrive_late(void *ctx, unsigned worker, unsigned n)
{
    struct tally *tally = ctx;
    (void)n;
    if (worker == 0)
        ert_sleep_until_ns(ert_now_ns() + 300 * 1000 * 1000);
    tally->runs[worker]++;
    rt_team_barrier(tally->team);
}

/* Three waiting threads that spun would use most of the time; the bound leaves room for slow
 * machines, not for spinning. */
static void test_waiting_threads_sleep(void **state)
{
    (void)state;
    struct rt_team *team = new_team(4);
    struct tally tally = {.team = team};
    rt_team_run(team, 4, count_run, &tally);
    uint64_t begin_ns = ert_now_ns();
    double begin_cpu = process_cpu_s();
    rt_team_run(team, 4, arrive_late, &tally);
    ert_sleep_until_ns(ert_now_ns() + 300 * 1000 * 1000);
    double elapsed_s = (double)(ert_now_ns() - begin_ns) * 1e-9;
    assert_true(process_cpu_s() - begin_cpu < 0.25 * elapsed_s);
    assert_int_equal(tally.runs[3], 2);
    rt_team_free(team);
}

enum { STAGES = 50, UNITS = 97 };

/* Units of stage i: i * 31 % UNITS, so that some stages have fewer than workers, or none. */
struct shared_work {
    struct rt_team *team;
    unsigned done[STAGES][UNITS]; /* not atomic: each unit has one taker, and barriers follow */
    unsigned wrong;
    _Atomic unsigned finished;
};

static void share_stages(void *ctx, unsigned worker, unsigned n)
{
    struct shared_work *work = ctx;
    uint32_t first, end;
    (void)n;
    for (unsigned i = 0; i < STAGES; i++) {
        rt_team_stage(work->team, worker, i * 31 % UNITS);
        while (rt_team_take(work->team, worker, &first, &end))
            for (; first < end; first++)
                work->done[i][first]++;
        rt_team_barrier(work->team);
        for (unsigned u = 0; worker == 0 && u < UNITS; u++)
            work->wrong += work->done[i][u] != (u < i * 31 % UNITS);
    }
}

static void test_every_unit_is_taken_once(void **state)
{
    (void)state;
    for (unsigned size = 1; size <= MAX; size += 3) {
        struct rt_team *team = new_team(size);
        for (unsigned run = 0; run < 8; run++) {
            struct shared_work work = {.team = team};
            rt_team_run(team, 1 + run * 5 % size, share_stages, &work);
            assert_int_equal(work.wrong, 0);
        }
        rt_team_free(team);
    }
}

/* Worker 0 keeps its first chunk until the others have done all the rest: it ends only if they take
 * what worker 0 has left. */
static void hold_a_chunk(void *ctx, unsigned worker, unsigned n)
{
    struct shared_work *work = ctx;
    uint32_t first, end;
    (void)n;
    rt_team_stage(work->team, worker, UNITS);
    while (rt_team_take(work->team, worker, &first, &end)) {
        while (worker == 0 && atomic_load(&work->finished) + (end - first) < UNITS)
            ert_sleep_until_ns(ert_now_ns() + 100 * 1000);
        atomic_fetch_add(&work->finished, end - first);
    }
}

static void test_others_take_what_a_slow_worker_has_left(void **state)
{
    (void)state;
    struct rt_team *team = new_team(3);
    for (unsigned n = 2; n <= 3; n++) {
        struct shared_work work = {.team = team};
        rt_team_run(team, n, hold_a_chunk, &work);
        assert_int_equal(work.finished, UNITS);
    }
    rt_team_free(team);
}

static void test_wrong_sizes_are_refused(void **state)
{
    (void)state;
    struct rt_team *team = (struct rt_team *)state;
    struct ert_error err;
    assert_int_equal(rt_team_create(&team, 0, &err), -ERT_E_RANGE);
    assert_null(team);
    assert_int_equal(rt_team_create(&team, 257, &err), -ERT_E_RANGE);
    assert_non_null(strstr(err.text, "257"));
    rt_team_free(NULL);
}

static void add_one(void *ctx, unsigned worker, unsigned n)
{
    (void)worker, (void)n;
    atomic_fetch_add((_Atomic unsigned *)ctx, 1);
}

static void test_largest_team(void **state)
{
    (void)state;
    struct rt_team *team = new_team(256), *unused = new_team(2);
    _Atomic unsigned total = 0;
    rt_team_run(team, 256, add_one, &total);
    assert_int_equal(total, 256);
    rt_team_free(team);
    rt_team_free(unused); /* without ever having run */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_worker_runs_once),
        cmocka_unit_test(test_barrier_separates_steps),
        cmocka_unit_test(test_waiting_threads_sleep),
        cmocka_unit_test(test_every_unit_is_taken_once),
        cmocka_unit_test(test_others_take_what_a_slow_worker_has_left),
        cmocka_unit_test(test_wrong_sizes_are_refused),
        cmocka_unit_test(test_largest_team),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
