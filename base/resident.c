#include "base/base.h"

#include <errno.h>
#include <string.h>

/* Not VmRSS of /proc/self/status: its counters are the kernel's estimate, this walks the pages. */
static const char rollup[] = "/proc/self/smaps_rollup";

int ert_resident_bytes(uint64_t *bytes, struct ert_error *err)
{
    char line[256];
    unsigned long long kib = 0;
    FILE *file = fopen(rollup, "re");
    bool found = false;
    if (!file)
        return ert_fail(err, ERT_E_UNSUPPORTED,
                        "cannot tell how much memory this process has: %s: %s", rollup,
                        strerror(errno));
    while (!found && fgets(line, sizeof line, file))
        found = sscanf(line, "Rss: %llu kB", &kib) == 1;
    fclose(file);
    if (!found)
        return ert_fail(err, ERT_E_UNSUPPORTED,
                        "cannot tell how much memory this process has: %s has no line 'Rss:'",
                        rollup);
    *bytes = kib * 1024;
    return 0;
}
