#include "governor/timekeeping.h"

#include <time.h>

#define NS_PER_S 1e9

/* Shorter gaps between the clocks are those of reading them one after the other. */
static const double LEAST_SLEEP_S = 0.5, LEAST_SET_S = 1;

static uint64_t read_clock(clockid_t id)
{
    struct timespec t = {0};
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * (uint64_t)NS_PER_S + (uint64_t)t.tv_nsec;
}

struct gov_clocks gov_clocks_now(void)
{
    return (struct gov_clocks){read_clock(CLOCK_MONOTONIC), read_clock(CLOCK_BOOTTIME),
                               read_clock(CLOCK_REALTIME)};
}

void gov_timekeeping_init(struct gov_timekeeping *t, struct gov_clocks now)
{
    t->last = now;
}

static double passed_s(uint64_t before_ns, uint64_t now_ns)
{
    return ((double)now_ns - (double)before_ns) / NS_PER_S;
}

bool gov_timekeeping_note(struct gov_timekeeping *t, struct gov_clocks now, uint64_t deadline_ns,
                          uint64_t poll_ns, char *words, size_t size)
{
    double awake_s = passed_s(t->last.monotonic_ns, now.monotonic_ns);
    double slept_s = passed_s(t->last.boottime_ns, now.boottime_ns) - awake_s;
    double set_s = passed_s(t->last.realtime_ns, now.realtime_ns) - awake_s - slept_s;
    double late_s = passed_s(deadline_ns, now.monotonic_ns);
    t->last = now;
    if (slept_s >= LEAST_SLEEP_S)
        snprintf(words, size, "the machine slept for %.1f s", slept_s);
    else if (late_s > 2 * (double)poll_ns / NS_PER_S)
        snprintf(words, size, "held up: this decision comes %.1f s late", late_s);
    else if (set_s >= LEAST_SET_S || set_s <= -LEAST_SET_S)
        snprintf(words, size, "the wall clock was set by %+.0f s; decisions do not follow it",
                 set_s);
    else
        return false;
    return true;
}
