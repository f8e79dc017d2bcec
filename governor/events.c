#include "governor/events.h"

#include <errno.h>
#include <fnmatch.h>
#include <linux/netlink.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <unistd.h>

#define NS_PER_S 1000000000ULL

enum { POKE, UEVENTS, FILES, N_FIXED };

/* A folder's files count when they are whole. */
static const uint32_t FOLDER_CHANGES = IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_DELETE;

/* ---- open and close ------------------------------------------------------------------------- */

/* The kernel's own multicast group of uevents; anybody may listen. -1 where not. */
static int open_uevents(void)
{
    enum { KERNEL_GROUP = 1 };
    const struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = KERNEL_GROUP};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
    if (fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

int gov_events_open(struct gov_events *e, bool live, struct ert_error *err)
{
    *e = (struct gov_events){.n = N_FIXED};
    e->fds[POKE] = (struct pollfd){eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), POLLIN, 0};
    e->fds[UEVENTS] = (struct pollfd){live ? open_uevents() : -1, POLLIN, 0};
    e->fds[FILES] = (struct pollfd){inotify_init1(IN_CLOEXEC | IN_NONBLOCK), POLLIN, 0};
    if (e->fds[POKE].fd >= 0 && e->fds[FILES].fd >= 0)
        return 0;
    int rc = ert_fail(err, ERT_E_IO, "cannot wait for events: %s", strerror(errno));
    gov_events_close(e);
    return rc;
}

void gov_events_close(struct gov_events *e)
{
    for (size_t i = 0; i < e->n; i++)
        if (e->fds[i].fd >= 0)
            close(e->fds[i].fd);
    e->n = 0;
}

void gov_events_poke(struct gov_events *e)
{
    static const uint64_t one = 1;
    int before = errno; /* a signal handler must leave it */
    /* A counter that is full has woken the thread already. */
    if (write(e->fds[POKE].fd, &one, sizeof one) < 0)
        errno = before;
    errno = before;
}

void gov_events_ask_reload(struct gov_events *e)
{
    atomic_store(&e->reload, true);
    gov_events_poke(e);
}

/* ---- triggers and files --------------------------------------------------------------------- */

void gov_events_add_trigger(struct gov_events *e, int fd, const char *words, double *told,
                            double value)
{
    size_t i = e->n - N_FIXED;
    if (i == GOV_MAX_TRIGGERS) {
        close(fd);
        return;
    }
    struct gov_trigger *trigger = &e->triggers[i];
    snprintf(trigger->words, sizeof trigger->words, "%s", words);
    trigger->told = told;
    trigger->value = value;
    e->fds[e->n++] = (struct pollfd){fd, POLLPRI, 0};
}

static void watch(struct gov_events *e, const char *path, uint32_t changes,
                  const struct gov_watched *what)
{
    if (e->n_watched == GOV_MAX_WATCHED)
        return;
    int number = inotify_add_watch(e->fds[FILES].fd, path, changes);
    if (number < 0)
        return;
    e->watched[e->n_watched] = *what;
    e->watched[e->n_watched++].number = number;
}

void gov_events_watch_file(struct gov_events *e, const char *path, enum gov_event event,
                           const char *words)
{
    struct gov_watched what = {.event = event};
    snprintf(what.words, sizeof what.words, "%s", words);
    watch(e, path, IN_MODIFY, &what);
}

void gov_events_watch_folder(struct gov_events *e, const char *folder, const char *pattern,
                             enum gov_event event)
{
    struct gov_watched what = {.event = event, .folder = true};
    snprintf(what.words, sizeof what.words, "%s", pattern);
    watch(e, folder, FOLDER_CHANGES, &what);
}

void gov_events_disarm(struct gov_events *e, enum gov_event event)
{
    size_t kept = 0;
    while (e->n > N_FIXED)
        close(e->fds[--e->n].fd);
    for (size_t i = 0; i < e->n_watched; i++)
        if (e->watched[i].event == event)
            inotify_rm_watch(e->fds[FILES].fd, e->watched[i].number);
        else
            e->watched[kept++] = e->watched[i];
    e->n_watched = kept;
}

/* ---- waiting -------------------------------------------------------------------------------- */

/* The value of KEY= in a message of lines that end in NUL, NULL if it has none. The kernel's begin
 * with "ACTION@PATH", those of udev with a header of their own; both are passed over. */
static const char *value_of(const char *message, size_t n, const char *key)
{
    size_t length = strlen(key);
    for (const char *at = message; at && at + length < message + n;) {
        if (!strncmp(at, key, length))
            return at + length;
        at = memchr(at, '\0', n - (size_t)(at - message));
        at = at ? at + 1 : NULL;
    }
    return NULL;
}

static unsigned judge_uevent(struct gov_events *e, const char *message, size_t n)
{
    static const char *const subsystems[] = {"power_supply", "thermal", "hwmon"};
    const char *subsystem = value_of(message, n, "SUBSYSTEM=");
    const char *action = value_of(message, n, "ACTION=");
    const char *path = value_of(message, n, "DEVPATH=");
    const char *name = path ? strrchr(path, '/') : NULL;
    for (size_t i = 0; subsystem && i < sizeof subsystems / sizeof *subsystems; i++) {
        if (strcmp(subsystem, subsystems[i]) != 0)
            continue;
        snprintf(e->what, sizeof e->what, "%s %.48s: %.20s", subsystem, name ? name + 1 : "device",
                 action ? action : "change");
        return action && strcmp(action, "change") != 0 ? GOV_EVENT_DEVICE | GOV_EVENT_HOTPLUG
                                                       : GOV_EVENT_DEVICE;
    }
    return 0;
}

static unsigned take_uevents(struct gov_events *e)
{
    enum { LONGEST = 8192 };
    char message[LONGEST + 1];
    unsigned events = 0;
    ssize_t n;
    while ((n = recv(e->fds[UEVENTS].fd, message, LONGEST, MSG_DONTWAIT)) > 0) {
        message[n] = '\0';
        events |= judge_uevent(e, message, (size_t)n);
    }
    return events;
}

static unsigned judge_change(struct gov_events *e, const struct inotify_event *change)
{
    const char *name = change->len ? change->name : "";
    unsigned events = 0;
    for (size_t i = 0; i < e->n_watched; i++) {
        const struct gov_watched *w = &e->watched[i];
        if (w->number != change->wd || (w->folder && fnmatch(w->words, name, 0) != 0))
            continue;
        events |= w->event;
        if (w->folder)
            snprintf(e->what, sizeof e->what, "%.80s was changed", name);
        else
            snprintf(e->what, sizeof e->what, "%s", w->words);
    }
    return events;
}

static unsigned take_files(struct gov_events *e)
{
    _Alignas(struct inotify_event) char buffer[4096];
    unsigned events = 0;
    ssize_t n;
    while ((n = read(e->fds[FILES].fd, buffer, sizeof buffer)) > 0) {
        const struct inotify_event *change;
        for (ssize_t at = 0; at < n; at += (ssize_t)(sizeof *change + change->len)) {
            change = (const struct inotify_event *)(const void *)(buffer + at);
            events |= judge_change(e, change);
        }
    }
    return events;
}

/* A trigger whose resource went away reports an error for ever: it goes too. */
static unsigned take_triggers(struct gov_events *e)
{
    unsigned events = 0;
    for (size_t i = N_FIXED; i < e->n; i++) {
        if (e->fds[i].revents & POLLPRI) {
            events |= GOV_EVENT_PRESSURE;
            snprintf(e->what, sizeof e->what, "%s", e->triggers[i - N_FIXED].words);
            *e->triggers[i - N_FIXED].told = e->triggers[i - N_FIXED].value;
        } else if (e->fds[i].revents) {
            close(e->fds[i].fd);
            e->fds[i].fd = -1; /* which poll passes over */
        }
    }
    return events;
}

static unsigned take_poke(struct gov_events *e)
{
    uint64_t count;
    if (read(e->fds[POKE].fd, &count, sizeof count) < 0)
        return 0;
    if (!atomic_exchange(&e->reload, false))
        return GOV_EVENT_POKE;
    snprintf(e->what, sizeof e->what, "somebody asked to read the policy again");
    return GOV_EVENT_POLICY;
}

static bool wait_once(struct gov_events *e, uint64_t deadline_ns)
{
    uint64_t now_ns = ert_now_ns(), left_ns = deadline_ns > now_ns ? deadline_ns - now_ns : 0;
    const struct timespec left = {.tv_sec = (time_t)(left_ns / NS_PER_S),
                                  .tv_nsec = (long)(left_ns % NS_PER_S)};
    return ppoll(e->fds, e->n, &left, NULL) > 0;
}

unsigned gov_events_wait(struct gov_events *e, uint64_t deadline_ns)
{
    unsigned events = 0;
    do {
        if (!wait_once(e, deadline_ns))
            continue;
        if (e->fds[POKE].revents)
            events |= take_poke(e);
        if (e->fds[UEVENTS].revents)
            events |= take_uevents(e);
        if (e->fds[FILES].revents)
            events |= take_files(e);
        events |= take_triggers(e);
    } while (!events && ert_now_ns() < deadline_ns);
    return events;
}
