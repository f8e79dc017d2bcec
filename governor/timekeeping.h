/* Inside governor/: what the clocks say between two decisions, in words. Pure but for
 * gov_clocks_now. */
#ifndef GOV_TIMEKEEPING_H
#define GOV_TIMEKEEPING_H

#include "base/base.h"

/* CLOCK_MONOTONIC stands while the machine sleeps, CLOCK_BOOTTIME goes on; the wall clock is set.
 */
struct gov_clocks {
    uint64_t monotonic_ns, boottime_ns, realtime_ns;
};
struct gov_clocks gov_clocks_now(void);

struct gov_timekeeping {
    struct gov_clocks last;
};
void gov_timekeeping_init(struct gov_timekeeping *t, struct gov_clocks now);
/* A sleep of the machine; a decision that came more than two polls after its deadline; a wall clock
 * that was set by more than a second, which changes nothing. False: none of these. */
bool gov_timekeeping_note(struct gov_timekeeping *t, struct gov_clocks now, uint64_t deadline_ns,
                          uint64_t poll_ns, char *words, size_t size);

#endif
