#include "cli/workbench.h"

#include <stdlib.h>
#include <unistd.h>

#include "engine/layers.h"

int workbench_open(struct workbench *bench, const char *name, unsigned threads,
                   struct ert_error *err)
{
    char *path = NULL;
    long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    *bench = (struct workbench){0};
    if (threads == 0)
        threads = cpus < 1 ? 1 : cpus > 256 ? 256 : (unsigned)cpus;
    int rc = layers_find_model(name, &path, err);
    if (!rc)
        rc = rt_pack_open(&bench->pack, path, err);
    if (!rc)
        rc = rt_team_create(&bench->team, threads, err);
    free(path);
    if (rc)
        workbench_close(bench);
    return rc;
}

void workbench_close(struct workbench *bench)
{
    rt_team_free(bench->team);
    rt_pack_free(bench->pack);
    *bench = (struct workbench){0};
}
