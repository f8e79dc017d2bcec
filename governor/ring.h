/* Inside governor/: switch events on their way from the engine's threads to the journal. Bounded,
 * many writers, one reader, nobody waits (D. Vyukov's bounded MPMC queue: every cell carries the
 * turn at which it may be written or read). */
#ifndef GOV_RING_H
#define GOV_RING_H

#include <stdatomic.h>

#include "governor/governor.h"

enum { GOV_RING = 256 }; /* cells, a power of two */

struct gov_ring {
    struct gov_ring_cell {
        _Atomic uint64_t turn;
        struct gov_switch_event event;
    } cells[GOV_RING];
    _Atomic uint64_t head, lost; /* next turn to write; events that found no room */
    uint64_t tail;               /* next turn to read, the reader's */
};

void gov_ring_init(struct gov_ring *ring);
void gov_ring_put(struct gov_ring *ring, const struct gov_switch_event *event);
bool gov_ring_take(struct gov_ring *ring, struct gov_switch_event *event);

#endif
