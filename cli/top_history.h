/* top_history: the last values of a quantity, and a line of blocks that shows them. */
#ifndef ERT_TOP_HISTORY_H
#define ERT_TOP_HISTORY_H

#include <stdbool.h>
#include <stddef.h>

enum { TOP_HISTORY = 240 };

/* {0} is empty. */
struct top_history {
    size_t n; /* put so far; the last TOP_HISTORY are kept */
    double values[TOP_HISTORY];
};

/* NaN = there was none. */
void top_history_put(struct top_history *h, double value);
/* The last `cells` values, one a cell, oldest first and blank before the first, scaled from their
 * least to their greatest; blank where there was none. Appends to text[size]. */
void top_history_draw(const struct top_history *h, size_t cells, bool unicode, char *text,
                      size_t size);

#endif
