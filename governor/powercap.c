/* Energy counters of ROOT/sys/class/powercap (Linux Documentation/power/powercap/powercap.rst):
 * RAPL's packages, cores, memory. A counter gives the mean power between two reads and wraps at
 * max_energy_range_uj. Most distributions let only root read it (CVE-2020-8694). */
#include "governor/powercap.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define UJ_PER_J 1e6
#define NS_PER_S 1e9

/* Nearer together than this two reads tell no power: the counters move about once a millisecond. */
static const uint64_t LEAST_INTERVAL_NS = 20000000;
static const uint64_t POWER_LASTS_NS = 10000000000U;

/* "package" stands for all of package-0, package-1, ...; other names for themselves. */
static bool is_asked_for(const char *asked, const char *name)
{
    size_t n = strlen(asked);
    bool numbered =
        !strncmp(name, asked, n) && name[n] == '-' && name[n + 1] >= '0' && name[n + 1] <= '9';
    return !strcmp(asked, name) || (numbered && !strcmp(asked, "package"));
}

/* Names of what never draws nothing; parts of it may be gated. */
static bool is_whole(const char *name)
{
    return !strncmp(name, "package", 7) || !strcmp(name, "psys");
}

/* The same package appears twice where both MSRs and MMIO tell it; sub-zones have the names of
 * their kind only, one for each package, and are added up. */
static bool is_double(const struct gov_powercap *p, const char *name)
{
    for (size_t i = 0; is_whole(name) && i < p->n; i++)
        if (!strcmp(p->zones[i].name, name))
            return true;
    return false;
}

static void add_zone(struct gov_powercap *p, const char *folder, const char *asked)
{
    struct gov_powercap_zone *zone = &p->zones[p->n];
    long long range_uj;
    if (gov_file_text(folder, "name", zone->name, sizeof zone->name) != 0 ||
        !is_asked_for(asked, zone->name) || is_double(p, zone->name))
        return;
    snprintf(zone->folder, sizeof zone->folder, "%s", folder);
    bool wraps = gov_file_number(folder, "max_energy_range_uj", &range_uj) == 0 && range_uj > 0;
    zone->range_uj = wraps ? (double)range_uj : 0;
    zone->has_last = false;
    p->n++;
}

static int folders_before_others(const struct dirent **a, const struct dirent **b)
{
    /* intel-rapl:0 before intel-rapl-mmio:0, so that the MSR's counter is the one that counts. */
    bool mmio_a = strstr((*a)->d_name, "mmio"), mmio_b = strstr((*b)->d_name, "mmio");
    return mmio_a != mmio_b ? mmio_a - mmio_b : strcmp((*a)->d_name, (*b)->d_name);
}

static int is_zone(const struct dirent *entry)
{
    return strchr(entry->d_name, ':') != NULL;
}

bool gov_powercap_open(struct gov_powercap *p, const struct gov_machine *machine, const char *asked,
                       char why[GOV_WHY])
{
    char folder[GOV_PATH], zone[GOV_PATH];
    struct dirent **entries;
    memset(p, 0, sizeof *p);
    snprintf(folder, sizeof folder, "%.200s/sys/class/powercap", machine->root);
    int n = scandir(folder, &entries, is_zone, folders_before_others);
    for (int i = 0; i < n; i++) {
        int length = snprintf(zone, sizeof zone, "%s/%.60s", folder, entries[i]->d_name);
        if (p->n < GOV_POWERCAP_ZONES && length > 0 && length < GOV_PATH)
            add_zone(p, zone, asked);
        free(entries[i]);
    }
    if (n >= 0)
        free(entries);
    if (n < 0)
        snprintf(why, GOV_WHY, "the kernel counts no energy (no %.80s)", folder);
    else if (p->n == 0)
        snprintf(why, GOV_WHY, "no energy counter '%.40s' in %.80s", asked, folder);
    return p->n > 0;
}

bool gov_powercap_count(struct gov_powercap *p, double *joules, char why[GOV_WHY])
{
    double sum_uj = 0;
    for (size_t i = 0; i < p->n; i++) {
        struct gov_powercap_zone *zone = &p->zones[i];
        long long energy_uj;
        int rc = gov_file_number(zone->folder, "energy_uj", &energy_uj);
        if (rc || energy_uj < 0) {
            snprintf(why, GOV_WHY,
                     rc == -EACCES ? "%.90s/energy_uj: %s (root may read it)"
                                   : "%.90s/energy_uj: %s",
                     zone->folder, rc ? strerror(-rc) : "is negative");
            return false;
        }
        double now_uj = (double)energy_uj;
        /* Fell: it wrapped, or without a known range it was set back and tells nothing now. */
        if (zone->has_last && now_uj < zone->last_uj && zone->range_uj > zone->last_uj)
            zone->sum_uj += zone->range_uj - zone->last_uj + now_uj;
        else if (zone->has_last && now_uj >= zone->last_uj)
            zone->sum_uj += now_uj - zone->last_uj;
        zone->last_uj = now_uj;
        zone->has_last = true;
        sum_uj += zone->sum_uj;
    }
    *joules = sum_uj / UJ_PER_J;
    return true;
}

/* ---- the source ----------------------------------------------------------------------------- */

static bool powercap_probe(struct gov_source *s, const struct gov_machine *machine)
{
    double joules;
    if (!gov_powercap_open(&s->u.powercap.counters, machine, s->address, s->why))
        return false;
    s->u.powercap.since_ns = s->u.powercap.watts_ns = 0;
    return gov_powercap_count(&s->u.powercap.counters, &joules, s->why);
}

static struct dev_reading powercap_read(struct gov_source *s, const struct gov_machine *machine,
                                        uint64_t now_ns)
{
    (void)machine;
    double joules;
    if (!gov_powercap_count(&s->u.powercap.counters, &joules, s->why))
        return (struct dev_reading){.time_ns = now_ns, .why = DEV_READ_FAILED};
    uint64_t passed_ns = now_ns - s->u.powercap.since_ns;
    if (!s->u.powercap.since_ns || passed_ns >= LEAST_INTERVAL_NS) {
        if (s->u.powercap.since_ns) {
            s->u.powercap.watts = (joules - s->u.powercap.joules) / ((double)passed_ns / NS_PER_S);
            s->u.powercap.watts_ns = now_ns;
        }
        s->u.powercap.since_ns = now_ns;
        s->u.powercap.joules = joules;
    }
    if (!s->u.powercap.watts_ns || now_ns - s->u.powercap.watts_ns > POWER_LASTS_NS)
        return gov_absent(s, DEV_NO_SAMPLE, now_ns, "a power needs two samples some time apart");
    if (s->u.powercap.watts <= 0 && is_whole(s->address))
        return gov_absent(s, DEV_STUCK, now_ns, "the counter of %.40s stands still", s->address);
    return gov_present(s->u.powercap.watts, s->u.powercap.watts_ns);
}

const struct gov_source_kind gov_source_powercap = {.probe = powercap_probe, .read = powercap_read};
