/* switch: the word that carries an operating point from the governor to the engine.
 *
 * One publisher (the decision thread), one taker (the engine), any number of readers of the
 * acknowledgement. The claim that lets the publisher drop the L region:
 *
 *   once rt_switch_acknowledged(e) is true, the engine reads nothing that only points published
 *   before e need, until another epoch is published.
 *
 * Why it holds. By acknowledgement: the engine stores ack = e (release) after its last read at the
 * old point, and the publisher's load (acquire) sees it, so those reads happened before; the
 * engine's next take reads a word at least as new as e, since words only grow. By idleness: the
 * four accesses
 *
 *   publisher   P1: word = e        P2: read idle
 *   engine      E1: idle = false    E2: read word      (then, and only then, weights)
 *
 * are sequentially consistent. In their single order either P1 < E2, and the engine runs at e or
 * later; or E2 < P1, hence E1 < E2 < P1 < P2, and the publisher sees idle = false and waits for the
 * acknowledgement. No order has the publisher believe in idleness while the engine holds an old
 * word (this is Dekker's argument; release/acquire alone would allow it). Going idle is a release
 * store after the last read of weights.
 *
 * A failsafe taken by the watchdog was not published: its take carries epoch 0, and acknowledging
 * that changes nothing, so a publisher that comes back late does not drop what the failsafe reads.
 */
#include "runtime/point.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { INDEX_BITS = 16, POLL_NS = 200000 };

struct rt_switch {
    struct rt_point_table *table;
    /* Publisher's line. */
    _Alignas(64) _Atomic uint64_t word; /* epoch << 16 | index */
    _Atomic uint64_t deadline_ns;       /* 0 = no watchdog */
    _Atomic uint32_t failsafe;
    /* Engine's line. */
    _Alignas(64) _Atomic uint64_t ack;
    _Atomic bool idle;
};

int rt_switch_create(struct rt_switch **sw, struct rt_point_table *table, uint32_t first,
                     struct ert_error *err)
{
    *sw = NULL;
    if (first >= rt_point_table_size(table))
        return ert_fail(err, ERT_E_RANGE, "first point %u, the table has %u", first,
                        rt_point_table_size(table));
    struct rt_switch *s = aligned_alloc(_Alignof(struct rt_switch), sizeof *s);
    if (!s)
        return ert_fail(err, ERT_E_NOMEM, "no memory for the switch");
    s->table = rt_point_table_ref(table);
    atomic_init(&s->word, (uint64_t)1 << INDEX_BITS | first);
    atomic_init(&s->deadline_ns, 0);
    atomic_init(&s->failsafe, first);
    atomic_init(&s->ack, 0);
    atomic_init(&s->idle, true);
    *sw = s;
    return 0;
}

void rt_switch_free(struct rt_switch *sw)
{
    if (!sw)
        return;
    rt_point_table_unref(sw->table);
    free(sw);
}

const struct rt_point_table *rt_switch_table(const struct rt_switch *sw)
{
    return sw->table;
}

uint64_t rt_switch_publish(struct rt_switch *sw, uint32_t index)
{
    uint64_t word = atomic_load_explicit(&sw->word, memory_order_relaxed);
    uint64_t epoch = (word >> INDEX_BITS) + 1;
    atomic_store(&sw->word, epoch << INDEX_BITS | index);
    return epoch;
}

void rt_switch_beat(struct rt_switch *sw, uint64_t deadline_ns, uint32_t failsafe)
{
    /* The point before the deadline that makes it count, and before it what it stands for. */
    atomic_store_explicit(&sw->failsafe, failsafe, memory_order_release);
    atomic_store_explicit(&sw->deadline_ns, deadline_ns, memory_order_release);
}

bool rt_switch_acknowledged(const struct rt_switch *sw, uint64_t epoch)
{
    return atomic_load(&sw->idle) || atomic_load_explicit(&sw->ack, memory_order_acquire) >= epoch;
}

int rt_switch_wait(const struct rt_switch *sw, uint64_t epoch, uint64_t deadline_ns)
{
    while (!rt_switch_acknowledged(sw, epoch)) {
        uint64_t now = ert_now_ns();
        if (now >= deadline_ns)
            return -ERT_E_CANCELLED;
        ert_sleep_until_ns(deadline_ns - now < POLL_NS ? deadline_ns : now + POLL_NS);
    }
    return 0;
}

struct rt_switch_take rt_switch_take(struct rt_switch *sw, uint64_t now_ns)
{
    uint64_t deadline = atomic_load_explicit(&sw->deadline_ns, memory_order_acquire);
    if (deadline && now_ns > deadline)
        return (struct rt_switch_take){
            .index = atomic_load_explicit(&sw->failsafe, memory_order_acquire),
            .failsafe = true,
        };
    uint64_t word = atomic_load(&sw->word);
    return (struct rt_switch_take){.epoch = word >> INDEX_BITS,
                                   .index = (uint32_t)(word & ((1u << INDEX_BITS) - 1))};
}

void rt_switch_ack(struct rt_switch *sw, uint64_t epoch)
{
    if (epoch > atomic_load_explicit(&sw->ack, memory_order_relaxed))
        atomic_store_explicit(&sw->ack, epoch, memory_order_release);
}

void rt_switch_idle(struct rt_switch *sw, bool idle)
{
    atomic_store(&sw->idle, idle);
}
