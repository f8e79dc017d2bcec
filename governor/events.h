/* Inside governor/: what ends the wait between two decisions before its time. A poke from another
 * thread, a stall that the kernel reports (PSI triggers), its word of batteries, thermal zones and
 * chips (uevents), a file that changed (inotify). One poll(2) for all, on the governor's thread. */
#ifndef GOV_EVENTS_H
#define GOV_EVENTS_H

#include <poll.h>

#include "base/base.h"

enum gov_event {
    GOV_EVENT_POKE = 1,     /* gov_events_poke */
    GOV_EVENT_PRESSURE = 2, /* tasks stall, or a control group met its limit */
    GOV_EVENT_DEVICE = 4,   /* a battery, zone or chip changed */
    GOV_EVENT_HOTPLUG = 8,  /* one came or went */
    GOV_EVENT_POLICY = 16,  /* a policy file changed, or somebody asked to read them again */
};

enum { GOV_MAX_TRIGGERS = 16, GOV_MAX_WATCHED = 32, GOV_EVENT_WORDS = 128 };

struct gov_events {
    struct pollfd fds[3 + GOV_MAX_TRIGGERS]; /* poke, uevents, files, then triggers; -1 = none */
    size_t n;
    struct gov_trigger {
        char words[GOV_EVENT_WORDS]; /* what it is */
        double *told, value;         /* *told = value when it fires */
    } triggers[GOV_MAX_TRIGGERS];
    size_t n_watched;
    struct gov_watched {
        int number; /* inotify's; two patterns of a folder share one */
        enum gov_event event;
        char words[GOV_EVENT_WORDS]; /* of a file's event; the pattern of a folder */
        bool folder;
    } watched[GOV_MAX_WATCHED];
    char what[GOV_EVENT_WORDS]; /* the last event but a poke, in words */
    _Atomic bool reload;        /* somebody asked to read the policy again */
};

/* live: also listen to the kernel's uevents; where that is not allowed the poll has to do. */
int gov_events_open(struct gov_events *events, bool live, struct ert_error *err);
void gov_events_close(struct gov_events *events);

/* Wakes the waiting thread. From any thread, and from a signal handler. */
void gov_events_poke(struct gov_events *events);
void gov_events_ask_reload(struct gov_events *events);

/* Takes fd, which signals POLLPRI; closes it at once where there is no room. Whenever it does,
 * value goes to *told, which must last until the triggers are disarmed. */
void gov_events_add_trigger(struct gov_events *events, int fd, const char *words, double *told,
                            double value);
/* Watches a file that is written to. */
void gov_events_watch_file(struct gov_events *events, const char *path, enum gov_event event,
                           const char *words);
/* Watches for files of a folder, of names that fit a pattern, that are written, moved there or
 * removed. */
void gov_events_watch_folder(struct gov_events *events, const char *folder, const char *pattern,
                             enum gov_event event);
/* Forgets all triggers, and what was watched for an event of that kind. */
void gov_events_disarm(struct gov_events *events, enum gov_event event);

/* Until the monotonic time deadline_ns or an event; returns the events (enum gov_event), 0 = none,
 * and leaves the last one's words in events->what. */
unsigned gov_events_wait(struct gov_events *events, uint64_t deadline_ns);

#endif
