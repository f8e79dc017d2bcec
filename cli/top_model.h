/* top_model: a journal as a page of text that changes with it. Nothing here draws. */
#ifndef ERT_TOP_MODEL_H
#define ERT_TOP_MODEL_H

#include "base/base.h"

enum { TOP_COLUMNS = 250, TOP_ROWS = 100 }; /* more are not filled */

enum top_tone { TOP_PLAIN, TOP_STRONG, TOP_FAINT, TOP_TITLE };

/* One row of the page, UTF-8 without control characters, at most as wide as the screen. */
struct top_row {
    enum top_tone tone;
    char text[4 * TOP_COLUMNS + 1];
};

struct top_screen {
    int columns, rows;
    bool unicode;   /* else only ASCII is written */
    double quiet_s; /* how long the journal has not grown */
};

struct top;

/* name: what the page and errors call the journal; must outlive *out, which top_free frees. */
int top_create(struct top **out, const char *name, struct ert_error *err);
void top_free(struct top *top); /* NULL is fine */
/* The journal's next line, n bytes. A start line begins a new journal or, after a full file was put
 * aside, goes on with it. Errors: as of sim_journal_take, and ERT_E_FORMAT for what is no JSON. */
int top_take(struct top *top, const char *text, size_t n, struct ert_error *err);
/* The page, from its top; returns how many of rows[screen->rows] were filled. */
size_t top_page(const struct top *top, const struct top_screen *screen, struct top_row *rows);

#endif
