#include "base/base.h"

#include <errno.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_S      1000000000ULL
#define SHORT_TURN_NS 100000U /* the shortest that the kernel grants */

uint64_t ert_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

void ert_sleep_until_ns(uint64_t deadline_ns)
{
    struct timespec t = {.tv_sec = (time_t)(deadline_ns / NS_PER_S),
                         .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
}

/* As sched_setattr(2) has it; its header does not go together with <sched.h> before glibc 2.41. */
struct turns {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

void ert_take_short_turns(void)
{
    int before = errno;
    struct turns turns = {.size = sizeof turns};
    if (syscall(SYS_sched_getattr, 0, &turns, sizeof turns, 0) == 0 && turns.policy == 0) {
        turns.runtime_ns = SHORT_TURN_NS;
        syscall(SYS_sched_setattr, 0, &turns, 0);
    }
    errno = before;
}
