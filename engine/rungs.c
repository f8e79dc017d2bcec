#include "engine/rungs.h"

#include <stdlib.h>
#include <string.h>

#include "engine/ladder.h"

_Static_assert(POL_MAX_STATES <= 1 << RUNGS_STATE_BITS, "a code has room for every state");

static int resolve(struct rungs **out, struct pol_policy *policy, const struct pol_point *points,
                   size_t n, const struct rt_pack *pack, unsigned n_threads, struct ert_error *err)
{
    struct rungs *rungs = calloc(1, sizeof *rungs);
    *out = NULL;
    if (!rungs) {
        free(policy);
        return ert_fail(err, ERT_E_NOMEM, "out of memory for a ladder");
    }
    rungs->policy = policy;
    int rc = ladder_resolve(pack, points, n, n_threads, &rungs->table, err);
    for (uint32_t i = 0; i < POL_MAX_STATES; i++)
        rungs->runs_as[i] = i;
    if (rc)
        rungs_free(rungs);
    else
        *out = rungs;
    return rc;
}

static void place_states(struct rungs *rungs, const struct cpus *cpus)
{
    for (uint32_t i = 0; i < rungs->policy->n_states; i++)
        if (rungs->policy->states[i].efficient)
            rungs->placed[i] =
                cpus_efficient(cpus, rt_point_at(rungs->table, i)->threads, &rungs->where[i]);
}

int rungs_of_policy(struct rungs **rungs, struct pol_policy *policy, const struct rt_pack *pack,
                    const struct cpus *cpus, unsigned n_threads, struct ert_error *err)
{
    int rc = resolve(rungs, policy, policy->states, policy->n_states, pack, n_threads, err);
    if (*rungs)
        place_states(*rungs, cpus);
    return rc;
}

int rungs_of_point(struct rungs **rungs, const char *point, const struct rt_pack *pack,
                   unsigned n_threads, struct ert_error *err)
{
    struct pol_point rung = {0};
    *rungs = NULL;
    if (!strcmp(point, "pause"))
        return ert_fail(err, ERT_E_USAGE, "a fixed point 'pause' would never say a word");
    snprintf(rung.name, sizeof rung.name, "%s", point);
    snprintf(rung.point, sizeof rung.point, "%s", point);
    return resolve(rungs, NULL, &rung, 1, pack, n_threads, err);
}

void rungs_free(struct rungs *rungs)
{
    if (!rungs)
        return;
    if (rungs->table)
        rt_point_table_unref(rungs->table);
    free(rungs->policy);
    free(rungs);
}
