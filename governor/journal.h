/* Inside governor/: the journal, JSON lines as docs/journal.md has them. Lines are written into a
 * buffer that start allocates and handed to the kernel once a decision. A failure ends journaling,
 * not the run. Used by the governor's thread alone. */
#ifndef GOV_JOURNAL_H
#define GOV_JOURNAL_H

#include "governor/source.h"

struct gov_journal {
    int fd; /* -1 = there is none, or writing failed */
    char *path, *buffer;
    size_t used;
    uint64_t written, limit; /* bytes of this file; limit 0 = it cannot be put aside */
    uint64_t segment;        /* files put aside so far */
    struct dev_reading last[POL_MAX_SENSORS]; /* as in the last input line */
    bool was_fresh[POL_MAX_SENSORS];          /* and taken at its time */
    bool has_input;
    char failure[GOV_WHY];
};

/* Creates the file and writes the start line; path NULL = no journal. limit_bytes: past them the
 * file is put aside; 0 = the default. */
int gov_journal_open(struct gov_journal *j, const char *path, uint64_t limit_bytes,
                     const struct pol_policy *policy, uint64_t poll_ns, struct ert_error *err);
/* Between two decisions: if the file is full, goes on in a new one, which begins with what the
 * decisions remember, so that it can be replayed without the one before. */
void gov_journal_rotate(struct gov_journal *j, const struct pol_policy *policy, uint64_t poll_ns,
                        const struct pol_state *state);
/* Another policy holds from here on. */
int gov_journal_policy(struct gov_journal *j, double t_s, const struct pol_policy *policy,
                       uint64_t poll_ns, struct ert_error *err);
/* Journaling ends here, for that reason. */
void gov_journal_fail(struct gov_journal *j, const char *why);
void gov_journal_input(struct gov_journal *j, const struct pol_policy *policy, uint64_t now_ns,
                       const struct dev_reading *raw, unsigned state);
void gov_journal_decision(struct gov_journal *j, const struct pol_policy *policy, double t_s,
                          const struct pol_decision *decision);
/* Another source serves a sensor from now on; to "" = none. */
void gov_journal_source(struct gov_journal *j, double t_s, const char *sensor, const char *from,
                        const char *to, const char *why);
void gov_journal_switch(struct gov_journal *j, const struct pol_policy *policy, double t_s,
                        const struct gov_switch_event *event, const struct dev_reading *readings);
/* What the engine is at and has done so far. */
void gov_journal_progress(struct gov_journal *j, double t_s, enum gov_work work,
                          const struct gov_progress *progress);
/* Something that made a decision come early or late, in words. */
void gov_journal_event(struct gov_journal *j, double t_s, const char *what);
/* Guarantee number i is false from now on. */
void gov_journal_guarantee(struct gov_journal *j, const struct pol_policy *policy, double t_s,
                           unsigned i, const struct pol_guarantee_status *status, unsigned state,
                           const struct dev_reading *readings);
/* Hands the lines to the kernel. */
void gov_journal_flush(struct gov_journal *j);
/* Flushes and releases; the error is the failure that ended journaling, if one did. */
int gov_journal_close(struct gov_journal *j, struct ert_error *err);

#endif
