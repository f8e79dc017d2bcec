/* status_line: two rows at the bottom of the terminal, outside the scrolling region, so that the
 * answer above may wrap and scroll as it likes (DECSTBM, as apt's progress bar does). */
#ifndef ERT_STATUS_LINE_H
#define ERT_STATUS_LINE_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/edgert.h"

struct status_line {
    bool open;
    int rows, columns; /* of the terminal when last drawn */
    uint64_t drawn_ns;
    uint64_t rate_ns, rate_tokens, tokens; /* the rate counts tokens since rate_ns */
    double tok_s;
    char note[256]; /* stands in the place of the last switch's reason */
    uint64_t note_until_ns;
    char restore[64]; /* what gives the terminal back */
};

/* Sets the region up; stays closed where the terminal is too small. */
void status_line_open(struct status_line *line);
void status_line_close(struct status_line *line);
/* One token more. */
void status_line_token(struct status_line *line);
/* Shows a sentence for a while. */
void status_line_note(struct status_line *line, const char *text);
/* Draws, at most ten times a second unless now. */
void status_line_draw(struct status_line *line, struct ert_engine *engine, bool now);

#endif
