/* ROOT/proc: free memory and how busy the processors are (proc(5),
 * Documentation/filesystems/proc.rst). */
#include "governor/source.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { MEMINFO, STAT, STAT_OTHERS, N_ITEMS };
static const char *const items[N_ITEMS] = {"meminfo", "stat", "stat-others"};

/* Fewer ticks than this (at 100 a second) tell no percentage. */
enum { ENOUGH_TICKS = 5 };
static const uint64_t LOAD_LASTS_NS = 10000000000U;

static void proc_folder(const struct gov_machine *machine, char folder[GOV_PATH])
{
    snprintf(folder, GOV_PATH, "%.200s/proc", machine->root);
}

static bool meminfo_read(struct gov_source *s, const struct gov_machine *machine, double *megabytes)
{
    char folder[GOV_PATH], text[4096] = "\n", label[72];
    proc_folder(machine, folder);
    int rc = gov_file_text(folder, "meminfo", text + 1, sizeof text - 1);
    if (rc)
        return gov_not_here(s, "%.80s/meminfo: %s", folder, strerror(-rc));
    snprintf(label, sizeof label, "\n%s:", s->u.procfs.key);
    const char *line = strstr(text, label);
    if (!line)
        return gov_not_here(s, "%.80s/meminfo has no line %.40s", folder, s->u.procfs.key);
    char *end;
    unsigned long long kib = strtoull(line + strlen(label), &end, 10);
    if (strncmp(end, " kB", 3) != 0)
        return gov_not_here(s, "%.80s/meminfo: %.40s is not in kB", folder, s->u.procfs.key);
    *megabytes = (double)kib * 1.024e-3;
    return true;
}

/* Ticks since boot of the whole machine. user already contains guest. */
static bool machine_ticks(const char *folder, uint64_t *busy, uint64_t *total)
{
    char text[256];
    if (gov_file_text(folder, "stat", text, sizeof text) != 0 || strncmp(text, "cpu ", 4) != 0)
        return false;
    enum { USER, NICE, SYSTEM, IDLE, IOWAIT, IRQ, SOFTIRQ, STEAL, N_FIELDS };
    uint64_t ticks[N_FIELDS] = {0};
    char *p = text + 4;
    unsigned n = 0;
    for (char *end; n < N_FIELDS; n++, p = end) {
        ticks[n] = strtoull(p, &end, 10);
        if (end == p)
            break;
    }
    *total = 0;
    for (unsigned i = 0; i < N_FIELDS; i++)
        *total += ticks[i];
    *busy = *total - ticks[IDLE] - ticks[IOWAIT];
    return n > IDLE;
}

/* utime + stime of this process: fields 14 and 15; the name in field 2 may hold anything. */
static bool own_ticks(const char *folder, uint64_t *own)
{
    char text[512];
    if (gov_file_text(folder, "self/stat", text, sizeof text) != 0)
        return false;
    char *p = strrchr(text, ')');
    for (unsigned field = 2; p && field < 14; field++)
        p = strchr(p + 1, ' ');
    if (!p)
        return false;
    char *end;
    *own = strtoull(p, &end, 10);
    *own += strtoull(end, NULL, 10);
    return true;
}

struct sample {
    uint64_t busy, total, own;
};

static bool take_sample(struct gov_source *s, const struct gov_machine *machine, struct sample *now)
{
    char folder[GOV_PATH];
    proc_folder(machine, folder);
    *now = (struct sample){0};
    if (!machine_ticks(folder, &now->busy, &now->total))
        return gov_not_here(s, "%.80s/stat cannot be read", folder);
    if (s->u.procfs.item == STAT_OTHERS && !own_ticks(folder, &now->own))
        return gov_not_here(s, "%.80s/self/stat cannot be read", folder);
    return true;
}

static void keep_sample(struct gov_source *s, const struct sample *now)
{
    s->u.procfs.busy = now->busy;
    s->u.procfs.total = now->total;
    s->u.procfs.own = now->own;
}

/* Percent of the machine's time between the last sample and this one. */
static double load_between(const struct gov_source *s, const struct sample *now)
{
    double total = (double)(now->total - s->u.procfs.total);
    double busy = (double)now->busy - (double)s->u.procfs.busy;
    double own = (double)now->own - (double)s->u.procfs.own;
    double percent = 100 * (busy - own) / total;
    /* The three counters are read one after the other, so that a difference may be a tick off. */
    return percent < 0 ? 0 : percent > 100 ? 100 : percent;
}

static struct dev_reading load_read(struct gov_source *s, const struct gov_machine *machine,
                                    uint64_t now_ns)
{
    struct sample now;
    if (!take_sample(s, machine, &now))
        return (struct dev_reading){.time_ns = now_ns, .why = DEV_READ_FAILED};
    if (now.total < s->u.procfs.total)
        keep_sample(s, &now);
    if (now.total - s->u.procfs.total >= ENOUGH_TICKS) {
        s->u.procfs.load = load_between(s, &now);
        s->u.procfs.load_ns = now_ns;
        keep_sample(s, &now);
    }
    if (!s->u.procfs.load_ns || now_ns - s->u.procfs.load_ns > LOAD_LASTS_NS)
        return gov_absent(s, DEV_NO_SAMPLE, now_ns, "a load needs two samples some time apart");
    return gov_present(s->u.procfs.load, s->u.procfs.load_ns);
}

static bool procfs_probe(struct gov_source *s, const struct gov_machine *machine)
{
    char word[32];
    size_t n = strcspn(s->address, "/");
    snprintf(word, sizeof word, "%.*s", (int)n, s->address);
    s->u.procfs.item = gov_item(word, items, N_ITEMS);
    if (s->u.procfs.item == MEMINFO && s->address[n] == '/') {
        double megabytes = 0;
        snprintf(s->u.procfs.key, sizeof s->u.procfs.key, "%.60s", s->address + n + 1);
        return meminfo_read(s, machine, &megabytes);
    }
    if (s->u.procfs.item == N_ITEMS || s->u.procfs.item == MEMINFO || s->address[n])
        return gov_not_here(s, "'%.60s': expected meminfo/KEY, stat or stat-others", s->address);
    struct sample first;
    if (!take_sample(s, machine, &first))
        return false;
    keep_sample(s, &first);
    return true;
}

static struct dev_reading procfs_read(struct gov_source *s, const struct gov_machine *machine,
                                      uint64_t now_ns)
{
    double megabytes = 0;
    if (s->u.procfs.item != MEMINFO)
        return load_read(s, machine, now_ns);
    if (!meminfo_read(s, machine, &megabytes))
        return (struct dev_reading){.time_ns = now_ns, .why = DEV_READ_FAILED};
    return gov_present(megabytes, now_ns);
}

const struct gov_source_kind gov_source_procfs = {.probe = procfs_probe, .read = procfs_read};
