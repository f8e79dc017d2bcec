/* The switch: epochs, the acknowledgement, idleness, the watchdog, and two threads at once. */
#include "tests/test.h"

#include <pthread.h>
#include <stdatomic.h>

#include "runtime/point.h"

enum { N_POINTS = 3, W8 = 0, W4 = 1, FAILSAFE = 2, ROUNDS = 20000 };

static struct rt_switch *new_switch(void)
{
    const struct rt_point points[N_POINTS] = {
        {.name = "w8a8", .variant = RT_W8A8, .prefill_variant = RT_W8A8},
        {.name = "w4a16", .variant = RT_W4A16, .prefill_variant = RT_W4A16},
        {.name = "w4a16-r80", .variant = RT_W4A16, .prefill_variant = RT_W4A16, .tier = 1},
    };
    struct rt_point_table *table = NULL;
    struct rt_switch *sw = NULL;
    assert_int_equal(rt_point_table_create(&table, points, N_POINTS, NULL), 0);
    assert_int_equal(rt_switch_create(&sw, table, N_POINTS, NULL), -ERT_E_RANGE);
    assert_int_equal(rt_switch_create(&sw, table, W8, NULL), 0);
    rt_point_table_unref(table); /* the switch holds its own reference */
    return sw;
}

static void the_newest_point_is_taken(void **state)
{
    (void)state;
    struct rt_switch *sw = new_switch();
    struct rt_switch_take first = rt_switch_take(sw, 1);
    assert_int_equal(first.index, W8);
    assert_false(first.failsafe);
    uint64_t a = rt_switch_publish(sw, W4), b = rt_switch_publish(sw, FAILSAFE);
    assert_true(first.epoch < a && a < b);
    struct rt_switch_take take = rt_switch_take(sw, 1);
    assert_int_equal(take.epoch, b);
    assert_int_equal(take.index, FAILSAFE);
    assert_string_equal(rt_point_at(rt_switch_table(sw), take.index)->name, "w4a16-r80");
    rt_switch_free(sw);
}

static void an_epoch_counts_when_taken_or_idle(void **state)
{
    (void)state;
    struct rt_switch *sw = new_switch();
    uint64_t e = rt_switch_publish(sw, W4);
    assert_true(rt_switch_acknowledged(sw, e)); /* idle from the start */
    rt_switch_idle(sw, false);
    assert_false(rt_switch_acknowledged(sw, e));
    assert_int_equal(rt_switch_wait(sw, e, ert_now_ns() + 2000000), -ERT_E_CANCELLED);
    rt_switch_ack(sw, rt_switch_take(sw, 1).epoch);
    assert_true(rt_switch_acknowledged(sw, e));
    assert_int_equal(rt_switch_wait(sw, e, 0), 0);
    uint64_t later = rt_switch_publish(sw, W8);
    assert_true(rt_switch_acknowledged(sw, e));
    assert_false(rt_switch_acknowledged(sw, later));
    rt_switch_ack(sw, e); /* an old one takes nothing back and moves nothing on */
    assert_false(rt_switch_acknowledged(sw, later));
    rt_switch_idle(sw, true);
    assert_int_equal(rt_switch_wait(sw, later, 0), 0);
    rt_switch_free(sw);
}

static void the_watchdog_falls_back(void **state)
{
    (void)state;
    struct rt_switch *sw = new_switch();
    rt_switch_idle(sw, false);
    rt_switch_beat(sw, 1000, FAILSAFE);
    assert_int_equal(rt_switch_take(sw, 1000).index, W8);
    uint64_t e = rt_switch_publish(sw, W4);
    struct rt_switch_take take = rt_switch_take(sw, 1001);
    assert_true(take.failsafe);
    assert_int_equal(take.index, FAILSAFE);
    /* What the engine runs then is not what was published: that is not acknowledged. */
    rt_switch_ack(sw, take.epoch);
    assert_false(rt_switch_acknowledged(sw, e));
    rt_switch_beat(sw, 2000, FAILSAFE);
    take = rt_switch_take(sw, 1001);
    assert_false(take.failsafe);
    assert_int_equal(take.index, W4);
    rt_switch_beat(sw, 0, FAILSAFE); /* off */
    assert_false(rt_switch_take(sw, UINT64_MAX).failsafe);
    rt_switch_free(sw);
}

/* ---- two threads --------------------------------------------------------------------------- */

/* The L region, as a plain variable: ThreadSanitizer reports any read that the protocol lets run
 * beside the publisher's drop, and the engine counts reads of a dropped region. */
struct shared {
    struct rt_switch *sw;
    int l_region; /* 1 while it is there */
    uint64_t reads_of_dropped, order_broken;
    _Atomic uint64_t reads;
    _Atomic bool stop;
};

static void *engine(void *ctx)
{
    struct shared *s = ctx;
    uint64_t seen = 0;
    for (uint32_t token = 0; !atomic_load_explicit(&s->stop, memory_order_relaxed); token++) {
        if (token % 7 == 0) { /* an answer ends, the next begins */
            rt_switch_idle(s->sw, true);
            rt_switch_idle(s->sw, false);
        }
        struct rt_switch_take take = rt_switch_take(s->sw, 1);
        s->order_broken += take.epoch < seen;
        seen = take.epoch;
        rt_switch_ack(s->sw, take.epoch);
        if (take.index == W8) {
            atomic_fetch_add_explicit(&s->reads, 1, memory_order_relaxed);
            s->reads_of_dropped += s->l_region != 1;
        }
    }
    rt_switch_idle(s->sw, true);
    return NULL;
}

static void l_is_never_read_after_its_drop(void **state)
{
    (void)state;
    struct shared s = {.sw = new_switch(), .l_region = 1};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, engine, &s), 0);
    for (int round = 0; round < ROUNDS || atomic_load(&s.reads) == 0; round++) {
        uint64_t e = rt_switch_publish(s.sw, W4);
        while (!rt_switch_acknowledged(s.sw, e))
            sched_yield();
        s.l_region = 0; /* demotion: drop */
        s.l_region = 1; /* promotion: populate, then publish */
        rt_switch_publish(s.sw, W8);
        if (round % 4 == 0)
            sched_yield();
    }
    atomic_store(&s.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(s.reads_of_dropped, 0);
    assert_int_equal(s.order_broken, 0);
    rt_switch_free(s.sw);
}

/* ---- every order of the four accesses ------------------------------------------------------ */

/* Going idle and a demotion, as steps of two threads; all interleavings are run on the real calls.
 * Engine: leave idle, take, (read L if at W8), end. Publisher: publish W4, look, (drop). */
static void no_interleaving_reads_a_dropped_region(void **state)
{
    (void)state;
    unsigned drops = 0, reads = 0;
    for (unsigned order = 0; order < 1u << 5; order++) {
        if (__builtin_popcount(order) != 3) /* 3 steps of the engine, 2 of the publisher */
            continue;
        struct rt_switch *sw = new_switch();
        struct rt_switch_take take = {0};
        uint64_t epoch = 0;
        bool dropped = false;
        for (unsigned i = 0, e = 0, p = 0; i < 5; i++) {
            if (order >> i & 1) {
                if (e == 0)
                    rt_switch_idle(sw, false);
                else if (e == 1)
                    take = rt_switch_take(sw, 1);
                else if (take.index == W8) {
                    assert_false(dropped);
                    reads++;
                }
                e++;
            } else if (p++ == 0) {
                epoch = rt_switch_publish(sw, W4);
            } else {
                dropped = rt_switch_acknowledged(sw, epoch);
                drops += dropped;
            }
        }
        rt_switch_free(sw);
    }
    assert_true(drops > 0 && reads > 0); /* both ends of the argument were visited */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_point_is_taken),
        cmocka_unit_test(an_epoch_counts_when_taken_or_idle),
        cmocka_unit_test(the_watchdog_falls_back),
        cmocka_unit_test(l_is_never_read_after_its_drop),
        cmocka_unit_test(no_interleaving_reads_a_dropped_region),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
