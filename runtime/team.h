/* team: a fixed set of threads that run one function together and meet at barriers. */
#ifndef RT_TEAM_H
#define RT_TEAM_H

#include <sched.h>

#include "base/base.h"

struct rt_team;

/* Starts n - 1 threads (the caller is worker 0), 1 <= n <= 256; ERT_E_RANGE, ERT_E_NOMEM. The
 * caller frees the team; on failure *team is NULL. Idle threads sleep in the kernel. */
int rt_team_create(struct rt_team **team, unsigned n, struct ert_error *err);
void rt_team_free(struct rt_team *team); /* NULL is fine */
unsigned rt_team_size(const struct rt_team *team);

/* Lets the first n threads, the calling one among them, run on the cores in set and nowhere else. A
 * set that the kernel does not allow changes nothing. Not while a run goes on. */
void rt_team_place(struct rt_team *team, unsigned n, const cpu_set_t *set);

/* Runs fn(ctx, worker, n) on workers 0 .. n-1 (n at most the size) and returns when all are done.
 * Allocates nothing. Not to be called from two threads at once. */
void rt_team_run(struct rt_team *team, unsigned n,
                 void (*fn)(void *ctx, unsigned worker, unsigned n), void *ctx);
/* Inside fn: waits for the other n - 1 workers and sees what they wrote. Spins a little, then
 * yields, then sleeps (futex). */
void rt_team_barrier(struct rt_team *team);

enum { RT_MAX_UNITS = 65535 };

/* Inside fn, work that any worker may do: a stage of n_units (at most RT_MAX_UNITS) equal units.
 * All workers open the same stages in the same order, take until nothing is left, and meet at a
 * barrier before the next stage. A worker takes the first half of what is left of its own share,
 * again and again, and then of what the others have left: unequal cores finish together, and a
 * thread that the kernel has put aside holds up no more than the chunk it was at.
 *
 *     rt_team_stage(team, worker, n_units);
 *     while (rt_team_take(team, worker, &first, &end)) ...units first .. end - 1...
 *     rt_team_barrier(team);
 */
void rt_team_stage(struct rt_team *team, unsigned worker, uint32_t n_units);
bool rt_team_take(struct rt_team *team, unsigned worker, uint32_t *first, uint32_t *end);

#endif
