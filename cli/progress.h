/* progress: a bar with the time left, on a terminal, for jobs that take more than a second. Ctrl-C
 * asks the job to stop. */
#ifndef ERT_PROGRESS_H
#define ERT_PROGRESS_H

#include "base/base.h"

struct progress_bar {
    char stage[64];
    uint64_t begin_ns, drawn_ns;
    uint64_t pace_ns; /* since when the pace is judged, from which share */
    double pace_share, share;
    bool terminal, drawn;
};

/* What a long job reports to; bar must stay valid as long. Catches Ctrl-C. */
struct ert_progress progress_open(struct progress_bar *bar);
/* Clears the bar. */
void progress_close(struct progress_bar *bar);

#endif
