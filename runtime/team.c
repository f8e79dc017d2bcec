/* A thread team on futexes (Linux). Drepper, "Futexes Are Tricky" (2011), is the source of the
 * sleep and wake protocol. */
#include "runtime/team.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    MAX_WORKERS = 256,
    SPINS = 1000, /* some tens of microseconds: longer than a barrier between two balanced shares */
    YIELDS = 16,  /* then others may need the core to get to the barrier at all */
    LINE = 64,
};

/* A count that threads wait to see move on. */
struct gate {
    _Alignas(LINE) _Atomic uint32_t count;
    _Atomic uint32_t sleepers;
};

struct worker {
    struct gate start; /* opened once per run that needs this worker */
    /* What is left of the worker's share of a stage: stage number (32 bits), first, end. Whoever
     * comes first in a stage, the owner or another, replaces what an earlier stage left there. */
    _Alignas(LINE) _Atomic uint64_t share;
    uint32_t stage, n_units; /* the worker's own: where it is */
    struct rt_team *team;
    pthread_t thread;
    unsigned index;
};

struct rt_team {
    unsigned size, n;     /* threads, and those taking part in the current run */
    uint32_t first_stage; /* of the current run; numbers never come again */
    void (*fn)(void *ctx, unsigned worker, unsigned n);
    void *ctx;
    bool stop;
    struct gate phase; /* of the barrier */
    _Alignas(LINE) _Atomic uint32_t arrived;
    struct worker workers[]; /* [0] is the caller, never started */
};

/* ---- gates --------------------------------------------------------------------------------- */

static void relax(void)
{
#ifdef __x86_64__
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static bool gate_moved(struct gate *gate, uint32_t from)
{
    return atomic_load_explicit(&gate->count, memory_order_acquire) != from;
}

/* The kernel compares count with from again before it sleeps, and whoever moves the count looks at
 * `sleepers` after that (both sequentially consistent): a wake cannot fall between. */
static void gate_sleep(struct gate *gate, uint32_t from)
{
    atomic_fetch_add(&gate->sleepers, 1);
    while (atomic_load(&gate->count) == from)
        syscall(SYS_futex, &gate->count, FUTEX_WAIT_PRIVATE, from, NULL, NULL, 0);
    atomic_fetch_sub(&gate->sleepers, 1);
}

/* Returns when the count is no longer `from`, having seen what was written before it moved. */
static void gate_wait(struct gate *gate, uint32_t from)
{
    for (unsigned i = 0; i < SPINS; i++, relax())
        if (gate_moved(gate, from))
            return;
    for (unsigned i = 0; i < YIELDS; i++, sched_yield())
        if (gate_moved(gate, from))
            return;
    gate_sleep(gate, from);
}

static void gate_move(struct gate *gate)
{
    atomic_fetch_add(&gate->count, 1);
    if (atomic_load(&gate->sleepers))
        syscall(SYS_futex, &gate->count, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* ---- the team ------------------------------------------------------------------------------ */

void rt_team_barrier(struct rt_team *team)
{
    unsigned n = team->n; /* before arriving: afterwards the next run may change it */
    uint32_t phase = atomic_load_explicit(&team->phase.count, memory_order_relaxed);
    if (atomic_fetch_add(&team->arrived, 1) + 1 < n) {
        gate_wait(&team->phase, phase);
        return;
    }
    atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
    gate_move(&team->phase);
}

/* ---- shares -------------------------------------------------------------------------------- */

struct span {
    uint32_t first, end;
};

static uint64_t pack_share(uint32_t stage, struct span left)
{
    return (uint64_t)stage << 32 | left.first << 16 | left.end;
}

/* What is left of worker `of`'s share in this stage, given the word found there. */
static struct span share_left(const struct rt_team *team, const struct worker *me, unsigned of,
                              uint64_t word)
{
    if ((uint32_t)(word >> 32) == me->stage)
        return (struct span){(uint32_t)word >> 16, (uint32_t)word & 0xffff};
    return (struct span){(uint32_t)((uint64_t)me->n_units * of / team->n),
                         (uint32_t)((uint64_t)me->n_units * (of + 1) / team->n)};
}

/* The first half of what worker `of` has left; false if that is nothing. */
static bool take_half(struct rt_team *team, const struct worker *me, unsigned of,
                      struct span *taken)
{
    _Atomic uint64_t *share = &team->workers[of].share;
    uint64_t word = atomic_load_explicit(share, memory_order_relaxed);
    for (;;) {
        struct span left = share_left(team, me, of, word);
        *taken = (struct span){left.first, left.first + (left.end - left.first + 1) / 2};
        if (left.first == left.end)
            return false;
        left.first = taken->end;
        /* Relaxed: barriers order the data, the word only says who does what. */
        if (atomic_compare_exchange_weak_explicit(share, &word, pack_share(me->stage, left),
                                                  memory_order_relaxed, memory_order_relaxed))
            return true;
    }
}

void rt_team_stage(struct rt_team *team, unsigned worker, uint32_t n_units)
{
    struct worker *me = &team->workers[worker];
    me->stage++;
    me->n_units = n_units;
}

bool rt_team_take(struct rt_team *team, unsigned worker, uint32_t *first, uint32_t *end)
{
    const struct worker *me = &team->workers[worker];
    struct span taken = {0};
    bool found = false;
    for (unsigned i = 0; i < team->n && !found; i++)
        found = take_half(team, me, (worker + i) % team->n, &taken);
    *first = taken.first;
    *end = taken.end;
    return found;
}

/* ---- runs ---------------------------------------------------------------------------------- */

static void run(struct rt_team *team, struct worker *me)
{
    me->stage = team->first_stage;
    team->fn(team->ctx, me->index, team->n);
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct rt_team *team = worker->team;
    for (uint32_t runs = 0;; runs++) {
        gate_wait(&worker->start, runs);
        if (team->stop)
            return NULL;
        run(team, worker);
        rt_team_barrier(team);
    }
}

void rt_team_run(struct rt_team *team, unsigned n,
                 void (*fn)(void *ctx, unsigned worker, unsigned n), void *ctx)
{
    team->n = n;
    team->fn = fn;
    team->ctx = ctx;
    for (unsigned i = 1; i < n; i++)
        gate_move(&team->workers[i].start);
    run(team, &team->workers[0]);
    rt_team_barrier(team);
    team->first_stage = team->workers[0].stage;
}

void rt_team_place(struct rt_team *team, unsigned n, const cpu_set_t *set)
{
    sched_setaffinity(0, sizeof *set, set);
    for (unsigned i = 1; i < n; i++)
        pthread_setaffinity_np(team->workers[i].thread, sizeof *set, set);
}

unsigned rt_team_size(const struct rt_team *team)
{
    return team->size;
}

/* Signals belong to the caller's threads, so the new ones block them all. */
static int start_worker(struct rt_team *team, unsigned i)
{
    struct worker *worker = &team->workers[i];
    sigset_t all, before;
    worker->team = team;
    worker->index = i;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = pthread_create(&worker->thread, NULL, work, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failure;
}

int rt_team_create(struct rt_team **team, unsigned n, struct ert_error *err)
{
    *team = NULL;
    if (n < 1 || n > MAX_WORKERS)
        return ert_fail(err, ERT_E_RANGE, "a team of %u threads: expected 1 to %d", n, MAX_WORKERS);
    size_t size = sizeof **team + n * sizeof(struct worker);
    struct rt_team *made = aligned_alloc(LINE, (size + LINE - 1) / LINE * LINE);
    if (!made)
        return ert_fail(err, ERT_E_NOMEM, "no memory for a team of %u threads", n);
    memset(made, 0, size);
    for (made->size = 1; made->size < n; made->size++) {
        int failure = start_worker(made, made->size);
        if (failure) {
            ert_fail(err, ERT_E_NOMEM, "starting thread %u of %u: error %d; use fewer threads",
                     made->size + 1, n, failure);
            rt_team_free(made);
            return -ERT_E_NOMEM;
        }
    }
    *team = made;
    return 0;
}

void rt_team_free(struct rt_team *team)
{
    if (!team)
        return;
    team->stop = true;
    for (unsigned i = 1; i < team->size; i++)
        gate_move(&team->workers[i].start);
    for (unsigned i = 1; i < team->size; i++)
        pthread_join(team->workers[i].thread, NULL);
    free(team);
}
