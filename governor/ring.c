#include "governor/ring.h"

void gov_ring_init(struct gov_ring *ring)
{
    for (uint64_t i = 0; i < GOV_RING; i++)
        atomic_init(&ring->cells[i].turn, i);
    atomic_init(&ring->head, 0);
    atomic_init(&ring->lost, 0);
    ring->tail = 0;
}

void gov_ring_put(struct gov_ring *ring, const struct gov_switch_event *event)
{
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    for (;;) {
        struct gov_ring_cell *cell = &ring->cells[head % GOV_RING];
        uint64_t turn = atomic_load_explicit(&cell->turn, memory_order_acquire);
        if (turn < head) { /* still unread from the last time round */
            atomic_fetch_add_explicit(&ring->lost, 1, memory_order_relaxed);
            return;
        }
        if (turn == head &&
            atomic_compare_exchange_weak_explicit(&ring->head, &head, head + 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            cell->event = *event;
            atomic_store_explicit(&cell->turn, head + 1, memory_order_release);
            return;
        }
        if (turn > head)
            head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    }
}

bool gov_ring_take(struct gov_ring *ring, struct gov_switch_event *event)
{
    struct gov_ring_cell *cell = &ring->cells[ring->tail % GOV_RING];
    if (atomic_load_explicit(&cell->turn, memory_order_acquire) != ring->tail + 1)
        return false;
    *event = cell->event;
    atomic_store_explicit(&cell->turn, ring->tail + GOV_RING, memory_order_release);
    ring->tail++;
    return true;
}
