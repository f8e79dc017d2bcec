/* What firmware calls this machine: ROOT/sys/class/dmi/id on x86, ROOT/proc/device-tree on boards.
 */
#include "governor/source.h"

#include <string.h>

static const char *const places[POL_N_IDENTITIES] = {
#define I(name, where) [POL_IDENTITY_##name] = where,
#include "policies/identity.def"
#undef I
};

/* Strings one after another, each with its NUL; the first is the board itself. */
static void split_compatible(struct pol_identity *machine, const char *bytes, size_t n)
{
    for (const char *at = bytes; at < bytes + n && machine->n_compatible < POL_COMPATIBLES;
         at += strlen(at) + 1)
        if (*at)
            snprintf(machine->compatible[machine->n_compatible++], POL_IDENTITY, "%.*s",
                     POL_IDENTITY - 1, at);
}

void gov_identify(const char *root, struct pol_identity *machine)
{
    char bytes[1024];
    size_t n;
    memset(machine, 0, sizeof *machine);
    root = root ? root : "";
    for (int i = 0; i < POL_N_IDENTITIES; i++)
        gov_file_text(root, places[i], machine->text[i], POL_IDENTITY);
    if (gov_file_bytes(root, "proc/device-tree/compatible", bytes, sizeof bytes, &n) == 0)
        split_compatible(machine, bytes, n);
}
