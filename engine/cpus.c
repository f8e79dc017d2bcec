#include "engine/cpus.h"

#include <stdlib.h>
#include <string.h>

/* Cores within a seventh of the strongest are of its kind: of equal ones some boost higher. */
#define SAME_KIND 0.86

static bool read_text(const char *root, const char *name, char *text, size_t size)
{
    char path[544];
    snprintf(path, sizeof path, "%.400s/sys/devices/%.100s", root, name);
    FILE *file = fopen(path, "re");
    bool read = file && fgets(text, (int)size, file);
    if (file)
        fclose(file);
    return read;
}

static bool read_number(const char *root, unsigned cpu, const char *name, double *number)
{
    char file[64], text[32];
    snprintf(file, sizeof file, "system/cpu/cpu%u/%s", cpu, name);
    if (!read_text(root, file, text, sizeof text))
        return false;
    *number = strtod(text, NULL);
    return *number > 0;
}

/* "0-3,8": a list as the kernel writes it. */
static bool is_listed(const char *list, unsigned cpu)
{
    while (*list >= '0' && *list <= '9') {
        char *end;
        unsigned long first = strtoul(list, &end, 10), last = first;
        if (*end == '-')
            last = strtoul(end + 1, &end, 10);
        if (cpu >= first && cpu <= last)
            return true;
        list = *end == ',' ? end + 1 : end;
    }
    return false;
}

/* 0 = nothing tells. */
static double strength_of(const char *root, const char *atoms, unsigned cpu)
{
    double strength;
    if (read_number(root, cpu, "cpu_capacity", &strength))
        return strength;
    if (*atoms)
        return is_listed(atoms, cpu) ? 1 : 2;
    return read_number(root, cpu, "cpufreq/cpuinfo_max_freq", &strength) ? strength : 0;
}

static int by_strength(const void *a, const void *b)
{
    const struct cpus_one *x = a, *y = b;
    if (x->strength != y->strength)
        return x->strength < y->strength ? -1 : 1;
    return x->number < y->number ? -1 : 1;
}

void cpus_look(struct cpus *cpus, const char *root)
{
    char atoms[256] = "";
    cpus->n = 0;
    if (sched_getaffinity(0, sizeof cpus->usable, &cpus->usable) != 0)
        CPU_ZERO(&cpus->usable);
    if (!read_text(root, "cpu_atom/cpus", atoms, sizeof atoms))
        atoms[0] = '\0';
    for (unsigned i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &cpus->usable))
            cpus->cpus[cpus->n++] = (struct cpus_one){i, strength_of(root, atoms, i)};
    qsort(cpus->cpus, cpus->n, sizeof *cpus->cpus, by_strength);
}

bool cpus_efficient(const struct cpus *cpus, unsigned n, cpu_set_t *set)
{
    double strongest = cpus->n ? cpus->cpus[cpus->n - 1].strength : 0;
    unsigned taken = 0;
    CPU_ZERO(set);
    /* What nothing tells of is not known to be weak. */
    if (!cpus->n || cpus->cpus[0].strength <= 0 || n < 1 || n > cpus->n)
        return false;
    double limit = cpus->cpus[n - 1].strength;
    if (limit >= SAME_KIND * strongest)
        return false;
    while (taken < cpus->n && cpus->cpus[taken].strength <= limit)
        CPU_SET(cpus->cpus[taken++].number, set);
    return true;
}
