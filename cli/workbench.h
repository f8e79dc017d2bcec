/* workbench: an opened pack and a thread team, for commands that measure without a policy. */
#ifndef ERT_WORKBENCH_H
#define ERT_WORKBENCH_H

#include "runtime/runtime.h"

struct workbench {
    struct rt_pack *pack;
    struct rt_team *team;
};

/* name as ert_model_open takes it; threads 0 = all CPUs. On failure there is nothing to close. */
int workbench_open(struct workbench *bench, const char *name, unsigned threads,
                   struct ert_error *err);
void workbench_close(struct workbench *bench);

#endif
