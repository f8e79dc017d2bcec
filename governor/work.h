/* Inside governor/: what the engine is at, for the source work:. */
#ifndef GOV_WORK_H
#define GOV_WORK_H

#include <pthread.h>

#include "governor/governor.h"

/* Set by the thread that answers, read by the governor's. Times are the decision clock's. */
struct gov_worklog {
    pthread_mutex_t lock;
    enum gov_work now;
    uint64_t since_ns, spent_ns[GOV_WORKS]; /* of now; up to since_ns */
};

void gov_worklog_init(struct gov_worklog *log);
void gov_worklog_release(struct gov_worklog *log);
enum gov_work gov_worklog_now(struct gov_worklog *log);
const char *gov_work_name(enum gov_work work); /* "decode" */
void gov_worklog_set(struct gov_worklog *log, enum gov_work work, uint64_t now_ns);

#endif
