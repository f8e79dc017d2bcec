/* This process's memory control group, of the unified hierarchy under ROOT/sys/fs/cgroup (Linux
 * Documentation/admin-guide/cgroup-v2.rst) or of one for memory alone (cgroup-v1/memory.rst): what
 * is left until the nearest limit of it and its ancestors; how often a limit was met and its own
 * pressure, which the unified one tells. */
#include "governor/events.h"
#include "governor/source.h"

#include <stdlib.h>
#include <string.h>

enum { ROOM, CURRENT, EVENTS, PRESSURE, N_ITEMS };
static const char *const items[N_ITEMS] = {"memory.room", "memory.current", "memory.events",
                                           "memory.pressure"};

#define BYTES_PER_MB 1e6
#define NS_PER_S     1e9

/* Over this long a rate of events is taken. */
static const uint64_t RATE_INTERVAL_NS = 1000000000U;

/* Where a kind of hierarchy has what. Keys of memory.stat are those that count the groups below. */
struct gov_hierarchy {
    const char *line, *folder; /* of /proc/self/cgroup, up to the path; where it is mounted */
    const char *used, *limits[2], *inactive, *mapped;
};
static const struct gov_hierarchy hierarchies[] = {
    {":memory:/",
     "sys/fs/cgroup/memory",
     "memory.usage_in_bytes",
     {"memory.limit_in_bytes", NULL},
     "total_inactive_file",
     "total_mapped_file"},
    {"\n0::/",
     "sys/fs/cgroup",
     "memory.current",
     {"memory.max", "memory.high"},
     "inactive_file",
     "file_mapped"},
};
enum { N_HIERARCHIES = sizeof hierarchies / sizeof *hierarchies };

/* The folder of the group at path, which ends at the line's end, in a hierarchy. */
static bool set_folder(struct gov_source *s, const struct gov_machine *machine,
                       const struct gov_hierarchy *hierarchy, const char *path)
{
    int base =
        snprintf(s->u.cgroup.folder, GOV_PATH, "%.200s/%s", machine->root, hierarchy->folder);
    size_t n = strcspn(path, "\n");
    n = n > 1 ? n : 0; /* "/" */
    s->u.cgroup.hierarchy = hierarchy;
    s->u.cgroup.base = (size_t)base;
    if ((size_t)base + n >= GOV_PATH - 16)
        return gov_not_here(s, "the control group's path is too long");
    memcpy(s->u.cgroup.folder + base, path, n);
    s->u.cgroup.folder[(size_t)base + n] = '\0';
    return true;
}

/* This process's group: of the first hierarchy that has its memory, else of the unified one. */
static bool find_group(struct gov_source *s, const struct gov_machine *machine)
{
    char folder[GOV_PATH], text[4096] = "\n";
    const char *line = NULL;
    snprintf(folder, sizeof folder, "%.200s/proc/self", machine->root);
    int rc = gov_file_text(folder, "cgroup", text + 1, sizeof text - 1);
    for (size_t i = 0; !rc && i < N_HIERARCHIES; i++) {
        long long used;
        line = strstr(text, hierarchies[i].line);
        if (!line)
            continue;
        if (!set_folder(s, machine, &hierarchies[i], line + strlen(hierarchies[i].line) - 1))
            return false;
        if (gov_file_number(s->u.cgroup.folder, hierarchies[i].used, &used) == 0)
            return true;
    }
    return line || gov_not_here(s, "no control group of memory (%.80s/cgroup names none)", folder);
}

enum { MAX_KEYS = 3 };

/* The numbers behind "KEY " at the start of a line, of up to MAX_KEYS keys (NULL: no more); those
 * that are not there stay as they are. False if none is. */
static bool flat_numbers(const char *folder, const char *file, const char *const keys[MAX_KEYS],
                         double values[MAX_KEYS])
{
    char text[4096] = "\n", label[40];
    bool any = false;
    if (gov_file_text(folder, file, text + 1, sizeof text - 1) != 0)
        return false;
    for (size_t i = 0; i < MAX_KEYS && keys[i]; i++) {
        int length = snprintf(label, sizeof label, "\n%s ", keys[i]);
        const char *line = strstr(text, label);
        char *end;
        double value = line ? (double)strtoull(line + length, &end, 10) : 0;
        if (!line || end == line + length)
            continue;
        values[i] = value;
        any = true;
    }
    return any;
}

/* Bytes in use that could not be given back at once: file pages that nobody used lately could. What
 * is mapped is in use, such as the planes of a model, though the kernel has it among the inactive
 * pages until reclaim looks at it. */
static bool used_bytes(const struct gov_hierarchy *hierarchy, const char *folder, double *used)
{
    long long current;
    const char *const keys[MAX_KEYS] = {hierarchy->inactive, hierarchy->mapped};
    double bytes[MAX_KEYS] = {0};
    if (gov_file_number(folder, hierarchy->used, &current) != 0 || current < 0)
        return false;
    flat_numbers(folder, "memory.stat", keys, bytes);
    double idle = bytes[0] > bytes[1] ? bytes[0] - bytes[1] : 0;
    *used = (double)current > idle ? (double)current - idle : 0;
    return true;
}

/* The lower of them; "max" is no number and no limit, and neither is one of exabytes, which says
 * the same in a hierarchy for memory alone. (Its soft limit holds nobody back.) */
static bool limit_bytes(const struct gov_hierarchy *hierarchy, const char *folder, double *limit)
{
    static const long long NO_LIMIT = 1LL << 60;
    bool any = false;
    for (size_t i = 0; i < 2 && hierarchy->limits[i]; i++) {
        long long number;
        if (gov_file_number(folder, hierarchy->limits[i], &number) != 0 || number < 0 ||
            number >= NO_LIMIT)
            continue;
        *limit = any && *limit < (double)number ? *limit : (double)number;
        any = true;
    }
    return any;
}

/* From the group up to the root of the hierarchy: the least that any limit leaves. */
static bool least_room(struct gov_source *s, double *megabytes)
{
    char folder[GOV_PATH];
    bool any = false;
    memcpy(folder, s->u.cgroup.folder, sizeof folder);
    for (;;) {
        double limit, used;
        if (limit_bytes(s->u.cgroup.hierarchy, folder, &limit) &&
            used_bytes(s->u.cgroup.hierarchy, folder, &used)) {
            double room = (limit > used ? limit - used : 0) / BYTES_PER_MB;
            *megabytes = any && *megabytes < room ? *megabytes : room;
            any = true;
        }
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < s->u.cgroup.base)
            break;
        *slash = '\0';
    }
    return any || gov_not_here(s, "no memory limit on %.100s or above it", s->u.cgroup.folder);
}

/* How often memory met a limit: high throttles, max reclaims, oom is the end of it. */
static bool count_events(const struct gov_source *s, double *count)
{
    static const char *const kinds[MAX_KEYS] = {"high", "max", "oom"};
    double n[MAX_KEYS] = {0};
    bool any = flat_numbers(s->u.cgroup.folder, "memory.events", kinds, n);
    *count = n[0] + n[1] + n[2];
    return any;
}

/* Events a second: at once when there are some, over a second otherwise. */
static struct dev_reading rate_read(struct gov_source *s, uint64_t now_ns)
{
    double count;
    if (!count_events(s, &count))
        return gov_absent(s, DEV_READ_FAILED, now_ns, "%.100s/memory.events cannot be read",
                          s->u.cgroup.folder);
    uint64_t passed_ns = now_ns - s->u.cgroup.since_ns;
    if (!s->u.cgroup.since_ns || count < s->u.cgroup.count) {
        s->u.cgroup.rate = 0;
    } else if (passed_ns >= RATE_INTERVAL_NS || count > s->u.cgroup.count) {
        double seconds = (double)passed_ns / NS_PER_S;
        s->u.cgroup.rate = (count - s->u.cgroup.count) / (seconds > 1 ? seconds : 1);
    } else {
        return gov_present(s->u.cgroup.rate, now_ns);
    }
    s->u.cgroup.since_ns = now_ns;
    s->u.cgroup.count = count;
    return gov_present(s->u.cgroup.rate, now_ns);
}

static struct dev_reading cgroup_read(struct gov_source *s, const struct gov_machine *machine,
                                      uint64_t now_ns)
{
    (void)machine;
    double value = 0;
    long long bytes = 0;
    bool known = true;
    switch (s->u.cgroup.item) {
    case EVENTS:
        return rate_read(s, now_ns);
    case ROOM:
        known = least_room(s, &value);
        break;
    case PRESSURE:
        known = gov_pressure_number(s, s->u.cgroup.folder, "memory.pressure", s->u.cgroup.line,
                                    s->u.cgroup.window, &value);
        break;
    default:
        known = gov_file_number(s->u.cgroup.folder, s->u.cgroup.hierarchy->used, &bytes) == 0 ||
                gov_not_here(s, "%.100s/%s cannot be read", s->u.cgroup.folder,
                             s->u.cgroup.hierarchy->used);
        value = (double)bytes / BYTES_PER_MB;
    }
    if (!known)
        return (struct dev_reading){.time_ns = now_ns, .why = DEV_READ_FAILED};
    return gov_present(value, now_ns);
}

static bool cgroup_probe(struct gov_source *s, const struct gov_machine *machine)
{
    char word[32];
    size_t n = strcspn(s->address, "/");
    snprintf(word, sizeof word, "%.*s", (int)n, s->address);
    s->u.cgroup.item = gov_item(word, items, N_ITEMS);
    bool pressure =
        s->u.cgroup.item == PRESSURE &&
        sscanf(s->address + n, "/%7[a-z]/%15[a-z0-9]", s->u.cgroup.line, s->u.cgroup.window) == 2;
    if (s->u.cgroup.item == N_ITEMS || pressure != (s->address[n] != '\0') ||
        pressure != (s->u.cgroup.item == PRESSURE))
        return gov_not_here(s,
                            "'%.60s': expected memory.room, memory.current, memory.events or such "
                            "as memory.pressure/some/avg10",
                            s->address);
    return find_group(s, machine) && cgroup_read(s, machine, 0).why == DEV_PRESENT;
}

/* The kernel marks memory.events as modified when one happens. */
static void cgroup_arm(struct gov_source *s, const struct gov_machine *machine,
                       struct gov_events *events, double threshold)
{
    (void)machine;
    (void)threshold;
    char path[GOV_PATH + 16];
    snprintf(path, sizeof path, "%s/memory.events", s->u.cgroup.folder);
    if (s->u.cgroup.item != PRESSURE)
        gov_events_watch_file(events, path, GOV_EVENT_PRESSURE,
                              "pressure: the control group met a memory limit");
}

const struct gov_source_kind gov_source_cgroup = {
    .probe = cgroup_probe, .read = cgroup_read, .arm = cgroup_arm};
