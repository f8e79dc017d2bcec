/* team: a fixed set of threads that run one function together and meet at barriers. */
#ifndef RT_TEAM_H
#define RT_TEAM_H

#include "base/base.h"

struct rt_team;

/* Starts n - 1 threads (the caller is worker 0), 1 <= n <= 256; ERT_E_RANGE, ERT_E_NOMEM. The
 * caller frees the team; on failure *team is NULL. Idle threads sleep in the kernel. */
int rt_team_create(struct rt_team **team, unsigned n, struct ert_error *err);
void rt_team_free(struct rt_team *team); /* NULL is fine */
unsigned rt_team_size(const struct rt_team *team);

/* Runs fn(ctx, worker, n) on workers 0 .. n-1 (n at most the size) and returns when all are done.
 * Allocates nothing. Not to be called from two threads at once. */
void rt_team_run(struct rt_team *team, unsigned n,
                 void (*fn)(void *ctx, unsigned worker, unsigned n), void *ctx);
/* Inside fn: waits for the other n - 1 workers and sees what they wrote. Spins a little, then
 * yields, then sleeps (futex). */
void rt_team_barrier(struct rt_team *team);

#endif
