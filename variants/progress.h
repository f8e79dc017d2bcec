/* progress: a part of a longer job reports as that part of the whole. */
#ifndef VAR_PROGRESS_H
#define VAR_PROGRESS_H

#include "base/base.h"

struct var_part_progress {
    const struct ert_progress *whole; /* reported to as `done` of 1; NULL: nobody listens */
    double begin, size;               /* the part, of 1 */
    const char *stage;                /* what the part is called; NULL: as it calls itself */
};

/* What the part is to report to; *part must live as long. */
struct ert_progress var_part_progress(struct var_part_progress *part);

#endif
