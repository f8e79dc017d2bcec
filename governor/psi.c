/* Pressure stall information: ROOT/proc/pressure/RESOURCE, lines such as
 * "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" (Linux Documentation/accounting/psi.rst). A
 * window of seconds in the place of avg10 is the share of that time, from the differences of total,
 * which the kernel brings up to date at each read. */
#include "governor/events.h"
#include "governor/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NS_PER_S 1e9
#define US_PER_S 1e6

/* Triggers of unprivileged processes must have a window of a multiple of 2 s. */
enum { TRIGGER_WINDOW_US = 2000000, LONGEST_WINDOW_S = 10 };

/* The kernel looks at a sliding estimate of the window: its share may be a little more than ours at
 * the moment when it says so. */
static const double TRIGGER_ABOVE = 1.1;

/* The number behind "KEY=" in the line that starts with "some" or "full"; cuts the text there. */
static const char *find_number(char *text, const char *line_name, const char *key)
{
    char pattern[24];
    snprintf(pattern, sizeof pattern, " %s=", key);
    char *line = strstr(text, line_name);
    if (!line)
        return NULL;
    line[strcspn(line, "\n")] = '\0';
    char *number = strstr(line, pattern);
    if (!number)
        return NULL;
    number += strlen(pattern);
    number[strcspn(number, " ")] = '\0';
    return number;
}

bool gov_pressure_number(struct gov_source *s, const char *folder, const char *file,
                         const char *line, const char *key, double *number)
{
    char text[256];
    int rc = gov_file_text(folder, file, text, sizeof text);
    if (rc)
        return gov_not_here(s, "no pressure information in %.80s/%.32s: %s", folder, file,
                            strerror(-rc));
    const char *found = find_number(text, line, key);
    return (found && ert_parse_double(found, number, NULL) == 0) ||
           gov_not_here(s, "%.80s/%.32s does not tell %s %s", folder, file, line, key);
}

static bool psi_number(struct gov_source *s, const struct gov_machine *machine, double *number)
{
    char folder[GOV_PATH];
    snprintf(folder, sizeof folder, "%.200s/proc/pressure", machine->root);
    return gov_pressure_number(s, folder, s->u.psi.resource, s->u.psi.line,
                               s->u.psi.window_s > 0 ? "total" : s->u.psi.window, number);
}

/* ---- the share of a window ------------------------------------------------------------------ */

static const struct gov_stall *stall_at(const struct gov_source *s, size_t back)
{
    return &s->u.psi.stalls[(s->u.psi.n_stalls - 1 - back) % GOV_STALLS];
}

static void keep_stall(struct gov_source *s, uint64_t now_ns, double total_us)
{
    double apart_s = s->u.psi.window_s / (GOV_STALLS / 2.0);
    if (s->u.psi.n_stalls && (double)(now_ns - stall_at(s, 0)->time_ns) < apart_s * NS_PER_S)
        return;
    s->u.psi.stalls[s->u.psi.n_stalls++ % GOV_STALLS] = (struct gov_stall){now_ns, total_us};
}

/* The total at a time between two looks that lie so far apart, by the line through both. False:
 * before the first. */
static bool total_at(const struct gov_source *s, double time_ns, double *total_us, double *apart_ns)
{
    size_t n = s->u.psi.n_stalls < GOV_STALLS ? s->u.psi.n_stalls : GOV_STALLS;
    for (size_t back = 0; back < n; back++) {
        const struct gov_stall *older = stall_at(s, back);
        if ((double)older->time_ns > time_ns)
            continue;
        const struct gov_stall *newer = back ? stall_at(s, back - 1) : &s->u.psi.now;
        *apart_ns = (double)(newer->time_ns - older->time_ns);
        double part = *apart_ns > 0 ? (time_ns - (double)older->time_ns) / *apart_ns : 0;
        *total_us = older->total_us + part * (newer->total_us - older->total_us);
        return true;
    }
    return false;
}

/* What a trigger has just told, once; 0 = nothing. */
static double take_told(struct gov_source *s)
{
    double told = s->u.psi.window_s * US_PER_S == TRIGGER_WINDOW_US ? s->u.psi.told : 0;
    s->u.psi.told = 0;
    return told;
}

/* Where the looks around the window's begin lie too far apart to say what of the stalls between was
 * in it, the kernel's word stands, if there is one; closer looks know better than its estimate. */
static struct dev_reading window_read(struct gov_source *s, uint64_t now_ns, double total_us)
{
    double before_us = 0, apart_ns = 0, window_ns = s->u.psi.window_s * NS_PER_S;
    double told = take_told(s);
    if (s->u.psi.n_stalls && total_us < stall_at(s, 0)->total_us)
        s->u.psi.n_stalls = 0; /* counted anew */
    s->u.psi.now = (struct gov_stall){now_ns, total_us};
    bool known = total_at(s, (double)now_ns - window_ns, &before_us, &apart_ns);
    keep_stall(s, now_ns, total_us);
    if (!known && told == 0)
        return gov_absent(s, DEV_NO_SAMPLE, now_ns, "the first %g s are not over",
                          s->u.psi.window_s);
    double percent = known ? 100 * (total_us - before_us) / (s->u.psi.window_s * US_PER_S) : told;
    if (percent < told && apart_ns > window_ns / 2)
        percent = told;
    return gov_present(percent < 100 ? percent : 100, now_ns);
}

/* ---- the source ----------------------------------------------------------------------------- */

/* "2s": the window's length; 0 for a name such as avg10. */
static double window_seconds(const char *window)
{
    char *end;
    double seconds = strtod(window, &end);
    return end != window && !strcmp(end, "s") && seconds >= 1 && seconds <= LONGEST_WINDOW_S
               ? seconds
               : 0;
}

static bool psi_probe(struct gov_source *s, const struct gov_machine *machine)
{
    double number = 0;
    if (sscanf(s->address, "%31[a-z]/%7[a-z]/%15[a-z0-9]", s->u.psi.resource, s->u.psi.line,
               s->u.psi.window) != 3)
        return gov_not_here(s, "'%.60s': expected such as memory/some/avg10 or memory/some/2s",
                            s->address);
    s->u.psi.window_s = window_seconds(s->u.psi.window);
    return psi_number(s, machine, &number);
}

static struct dev_reading psi_read(struct gov_source *s, const struct gov_machine *machine,
                                   uint64_t now_ns)
{
    double number = 0;
    if (!psi_number(s, machine, &number))
        return (struct dev_reading){.time_ns = now_ns, .why = DEV_READ_FAILED};
    return s->u.psi.window_s > 0 ? window_read(s, now_ns, number) : gov_present(number, now_ns);
}

/* Only the real file takes a trigger: written to another root's it would replace the text. */
static void psi_arm(struct gov_source *s, const struct gov_machine *machine,
                    struct gov_events *events, double percent)
{
    char path[GOV_PATH], trigger[64], words[GOV_EVENT_WORDS];
    if (machine->root[0])
        return;
    double stall_us = percent / 100 * TRIGGER_ABOVE * TRIGGER_WINDOW_US;
    stall_us = stall_us < 1000 ? 1000 : stall_us < TRIGGER_WINDOW_US ? stall_us : TRIGGER_WINDOW_US;
    snprintf(path, sizeof path, "/proc/pressure/%s", s->u.psi.resource);
    int n =
        snprintf(trigger, sizeof trigger, "%s %.0f %d", s->u.psi.line, stall_us, TRIGGER_WINDOW_US);
    int fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return;
    /* The kernel wants the end of the string too, or it would take the last digit for it. */
    if (write(fd, trigger, (size_t)n + 1) < 0) {
        close(fd);
        return;
    }
    snprintf(words, sizeof words, "pressure: %s of %s above %.3g%% of 2s", s->u.psi.line,
             s->u.psi.resource, percent);
    gov_events_add_trigger(events, fd, words, &s->u.psi.told, 100 * stall_us / TRIGGER_WINDOW_US);
}

const struct gov_source_kind gov_source_psi = {
    .probe = psi_probe, .read = psi_read, .arm = psi_arm};
