/* view: what a person or a program sees of an answer. One of three kinds, chosen once. */
#ifndef ERT_VIEW_H
#define ERT_VIEW_H

#include <stdbool.h>

#include "cli/status_line.h"
#include "engine/edgert.h"

/* {0} before view_open. */
struct view {
    struct ert_engine *engine;
    struct ert_callbacks callbacks; /* for ert_say */
    bool json;
    bool at_line_start; /* nothing of the answer stands on stdout's line */
    struct status_line line;
};

/* json: one object a line on stdout. Otherwise text on stdout, and a status line where stdout and
 * stderr are terminals, or a line on stderr for each switch where they are not. */
void view_open(struct view *view, struct ert_engine *engine, bool json);
/* Ends the line of the answer, so that what follows starts a new one. */
void view_end_answer(struct view *view);
/* Takes the status line away. */
void view_close(struct view *view);

/* The closing table on stderr, or the summary line of --json on stdout. */
void view_summary(struct view *view, const struct ert_answer *answer);

#endif
