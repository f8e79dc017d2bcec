/* ROOT/sys/devices/system/cpu/cpufreq/policyN (Linux Documentation/admin-guide/pm/cpufreq.rst): the
 * present clock and what it may be. A kernel that throttles lowers scaling_max_freq (its thermal
 * cooling devices do) or, where firmware does it, only the clock that is reached. */
#include "governor/source.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CURRENT, SHARE, CAP, N_ITEMS };
static const char *const items[N_ITEMS] = {"current", "share", "cap"};

#define KHZ_PER_MHZ 1000.0

/* Where the folder of policy or CPU `number` is: older kernels have no folder of policies but one
 * in each CPU. */
static bool policy_folder(const struct gov_source *s, const struct gov_machine *machine,
                          unsigned number, char folder[GOV_PATH])
{
    int n = snprintf(folder, GOV_PATH,
                     s->u.cpufreq.in_cpus ? "%.200s/sys/devices/system/cpu/cpu%u/cpufreq"
                                          : "%.200s/sys/devices/system/cpu/cpufreq/policy%u",
                     machine->root, number);
    return n > 0 && n < GOV_PATH;
}

static void add_policy(struct gov_source *s, const struct gov_machine *machine, unsigned number)
{
    char folder[GOV_PATH];
    long long max_khz;
    if (s->u.cpufreq.n == GOV_CLOCKS || !policy_folder(s, machine, number, folder) ||
        gov_file_number(folder, "cpuinfo_max_freq", &max_khz) != 0 || max_khz <= 0)
        return;
    s->u.cpufreq.policies[s->u.cpufreq.n++] = (struct gov_clock){number, -1, (double)max_khz};
}

/* At most as many as there is room for: where each CPU has its own policy, they are alike. */
static void collect_policies(struct gov_source *s, const struct gov_machine *machine, bool in_cpus)
{
    char folder[GOV_PATH];
    struct dirent *entry;
    s->u.cpufreq.in_cpus = in_cpus;
    snprintf(folder, sizeof folder, "%.200s/sys/devices/system/cpu%s", machine->root,
             in_cpus ? "" : "/cpufreq");
    DIR *dir = opendir(folder);
    while (dir && (entry = readdir(dir))) {
        unsigned number;
        int end = 0;
        if (sscanf(entry->d_name, in_cpus ? "cpu%u%n" : "policy%u%n", &number, &end) == 1 &&
            !entry->d_name[end])
            add_policy(s, machine, number);
    }
    if (dir)
        closedir(dir);
}

static void close_clock(struct gov_clock *clock)
{
    if (clock->fd >= 0)
        close(clock->fd);
    clock->fd = -1;
}

static void cpufreq_close(struct gov_source *s)
{
    while (s->u.cpufreq.n > 0)
        close_clock(&s->u.cpufreq.policies[--s->u.cpufreq.n]);
}

/* The number of a policy in kHz; the kernel writes <unknown> or <unsupported> where it has none.
 * The file of a CPU that was taken offline is dead for good: the one that comes with it again is
 * new. */
static bool khz_of(struct gov_source *s, const struct gov_machine *machine, size_t i, double *khz)
{
    struct gov_clock *clock = &s->u.cpufreq.policies[i];
    char folder[GOV_PATH];
    long long number = 0;
    if (clock->fd < 0 && policy_folder(s, machine, clock->policy, folder))
        clock->fd = gov_file_open(folder, s->u.cpufreq.item == CAP ? "scaling_max_freq"
                                                                   : "scaling_cur_freq");
    int rc = clock->fd < 0 ? clock->fd : gov_file_number_again(clock->fd, &number);
    if (rc)
        close_clock(clock);
    if (rc || number <= 0)
        return false;
    *khz = (double)number;
    return true;
}

/* The fastest present clock, and its share of that policy's maximum. */
static bool present_clock(struct gov_source *s, const struct gov_machine *machine, double *khz,
                          double *share)
{
    bool any = false;
    for (size_t i = 0; i < s->u.cpufreq.n; i++) {
        double now_khz;
        if (!khz_of(s, machine, i, &now_khz) || (any && now_khz <= *khz))
            continue;
        *khz = now_khz;
        *share = 100 * now_khz / s->u.cpufreq.policies[i].max_khz;
        any = true;
    }
    return any;
}

/* The least share of its maximum that any policy may use. */
static bool lowest_cap(struct gov_source *s, const struct gov_machine *machine, double *cap)
{
    bool any = false;
    for (size_t i = 0; i < s->u.cpufreq.n; i++) {
        double limit_khz;
        if (!khz_of(s, machine, i, &limit_khz))
            continue;
        double share = 100 * limit_khz / s->u.cpufreq.policies[i].max_khz;
        *cap = any && *cap < share ? *cap : share;
        any = true;
    }
    return any;
}

static struct dev_reading cpufreq_read(struct gov_source *s, const struct gov_machine *machine,
                                       uint64_t now_ns)
{
    double khz = 0, share = 0, cap = 0;
    bool known = s->u.cpufreq.item == CAP ? lowest_cap(s, machine, &cap)
                                          : present_clock(s, machine, &khz, &share);
    if (!known)
        return gov_absent(s, DEV_READ_FAILED, now_ns, "cpufreq does not tell its %s", s->address);
    return gov_present(s->u.cpufreq.item == CAP     ? cap
                       : s->u.cpufreq.item == SHARE ? share
                                                    : khz / KHZ_PER_MHZ,
                       now_ns);
}

static bool cpufreq_probe(struct gov_source *s, const struct gov_machine *machine)
{
    s->u.cpufreq.item = gov_item(s->address, items, N_ITEMS);
    if (s->u.cpufreq.item == N_ITEMS)
        return gov_not_here(s, "'%.40s': expected current, share or cap", s->address);
    cpufreq_close(s);
    collect_policies(s, machine, false);
    if (!s->u.cpufreq.n)
        collect_policies(s, machine, true);
    if (s->u.cpufreq.n && cpufreq_read(s, machine, 0).why == DEV_PRESENT)
        return true;
    if (!s->u.cpufreq.n)
        gov_not_here(s, "the kernel does not scale the CPUs' clocks here (no cpufreq)");
    cpufreq_close(s);
    return false;
}

const struct gov_source_kind gov_source_cpufreq = {
    .probe = cpufreq_probe, .read = cpufreq_read, .close = cpufreq_close};
