/* view: what a person or a program sees of answers. One of three kinds, chosen once. */
#ifndef ERT_VIEW_H
#define ERT_VIEW_H

#include <stdbool.h>

#include "cli/status_line.h"
#include "cli/swap_trace.h"
#include "cli/wrap.h"
#include "engine/edgert.h"

/* Set up by view_init. */
struct view {
    struct ert_engine *engine;
    struct ert_callbacks callbacks; /* for ert_say */
    bool json;
    bool wraps;         /* stdout is a terminal */
    bool on_terminal;   /* and so is stderr */
    bool at_line_start; /* nothing of the answer stands on stdout's line */
    struct wrap wrap;
    struct status_line line;
    struct swap_trace trace; /* of all answers, where they are on a terminal */
};

/* json: one object a line on stdout. Otherwise text on stdout, wrapped where that is a terminal;
 * and where stderr is one too a status line, or else a line on stderr for each switch. */
void view_init(struct view *view, struct ert_engine *engine, bool json);
/* Before ert_say: the status line appears. */
void view_begin_answer(struct view *view);
/* Ends the line of the answer, so that what follows starts a new one, and takes the status line
 * away. */
void view_end_answer(struct view *view);

/* The closing table on stderr, followed by the swaps that only the status line has told; or the
 * summary line of --json on stdout. */
void view_summary(struct view *view, const struct ert_answer *answer);

#endif
