/* Pressure stall information: ROOT/proc/pressure/RESOURCE, lines such as
 * "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" (Linux Documentation/accounting/psi.rst). */
#include "governor/source.h"

#include <string.h>

/* The number behind "avg10=" in the line that starts with "some"; cuts the text there. */
static const char *find_average(const struct gov_source *s, char *text)
{
    char key[24];
    snprintf(key, sizeof key, " %s=", s->u.psi.window);
    char *line = strstr(text, s->u.psi.line);
    if (!line)
        return NULL;
    line[strcspn(line, "\n")] = '\0';
    char *number = strstr(line, key);
    if (!number)
        return NULL;
    number += strlen(key);
    number[strcspn(number, " ")] = '\0';
    return number;
}

/* The share in percent, or a sentence in s->why. */
static bool psi_average(struct gov_source *s, const struct gov_machine *machine, double *percent)
{
    char folder[GOV_PATH], text[256];
    snprintf(folder, sizeof folder, "%.200s/proc/pressure", machine->root);
    int rc = gov_file_text(folder, s->u.psi.resource, text, sizeof text);
    if (rc)
        return gov_not_here(s, "no pressure information in %.80s/%s: %s", folder, s->u.psi.resource,
                            strerror(-rc));
    const char *number = find_average(s, text);
    return (number && ert_parse_double(number, percent, NULL) == 0) ||
           gov_not_here(s, "%.80s/%s does not tell %s %s", folder, s->u.psi.resource, s->u.psi.line,
                        s->u.psi.window);
}

static bool psi_probe(struct gov_source *s, const struct gov_machine *machine)
{
    double percent = 0;
    if (sscanf(s->address, "%31[a-z]/%7[a-z]/%15[a-z0-9]", s->u.psi.resource, s->u.psi.line,
               s->u.psi.window) != 3)
        return gov_not_here(s, "'%.60s': expected such as memory/some/avg10", s->address);
    return psi_average(s, machine, &percent);
}

static struct dev_reading psi_read(struct gov_source *s, const struct gov_machine *machine,
                                   uint64_t now_ns)
{
    double percent = 0;
    if (!psi_average(s, machine, &percent))
        return (struct dev_reading){.time_ns = now_ns, .why = DEV_READ_FAILED};
    return gov_present(percent, now_ns);
}

const struct gov_source_kind gov_source_psi = {.probe = psi_probe, .read = psi_read};
