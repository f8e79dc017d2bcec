/* cpus: which cores of the machine are the efficient ones. */
#ifndef ERT_CPUS_H
#define ERT_CPUS_H

#include <sched.h>

#include "base/base.h"

struct cpus {
    cpu_set_t usable; /* by this process */
    unsigned n;       /* of them, at most CPU_SETSIZE */
    struct cpus_one {
        unsigned number;
        double strength; /* compared with the others; of one kind of core the same */
    } cpus[CPU_SETSIZE]; /* weakest first */
};

/* What the kernel tells of the cores, under root ("" = the real /sys): cpu_capacity (arm64), the
 * cpu_atom PMU (Intel's hybrids), else the greatest clock. */
void cpus_look(struct cpus *cpus, const char *root);
/* The weakest kinds of cores, as many as n threads need; false if the machine has one kind, or if
 * that would be all of them. */
bool cpus_efficient(const struct cpus *cpus, unsigned n, cpu_set_t *set);

#endif
