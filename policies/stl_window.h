/* Inside policies/: a window that slides over a piecewise constant signal.
 *
 * A queue made of two stacks, the front one with the aggregates of its cells up to its end, gives
 * push, pop and aggregate in O(1) amortized for any associative operation (Tangwongsan, Hirzel and
 * Schneider, "General incremental sliding-window aggregation", 2015). Both stacks lie in one ring
 * that is never reallocated. */
#ifndef POL_STL_WINDOW_H
#define POL_STL_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* After every time that a decision can have; sums of two do not overflow. */
#define STL_FOREVER (INT64_MAX / 4)
#define STL_NEVER   INT64_MAX

/* What a stretch of time comes to: the least value of a signal f on it, and the robustness of
 * "f until g" on it. It serves the other windows as well: a minimum is {f, anything} and read in
 * low, a maximum {+inf, g} and read in until. */
struct stl_pair {
    double low;   /* min f */
    double until; /* max over t of min(g(t), min of f up to t) */
};

/* A stretch followed by a later one. Associative. */
struct stl_pair stl_concat(struct stl_pair a, struct stl_pair b);
extern const struct stl_pair stl_nothing; /* of an empty stretch */

/* A stretch of constant value, to the start of the next cell. */
struct stl_cell {
    int64_t start; /* ns */
    struct stl_pair pair;
};

/* A ring of cells in the caller's memory. */
struct stl_queue {
    struct stl_cell *cells; /* [capacity] */
    size_t capacity, head, n;
};
struct stl_cell *stl_queue_at(const struct stl_queue *queue, size_t i);
/* False if it is full. A cell of the value of the last one is left out: it goes on. */
bool stl_queue_push(struct stl_queue *queue, int64_t start, struct stl_pair pair);
void stl_queue_pop(struct stl_queue *queue);
/* Where the first cell ends: at the start of the second, else STL_NEVER. */
int64_t stl_queue_first_end(const struct stl_queue *queue);

struct stl_window {
    struct stl_queue queue;
    size_t front;                 /* of the queue's cells, whose pairs are aggregates */
    struct stl_pair back, newest; /* aggregate of the other cells; value of the last cell */
};
void stl_window_clear(struct stl_window *window);
bool stl_window_push(struct stl_window *window, int64_t start, struct stl_pair pair);
void stl_window_pop(struct stl_window *window);
struct stl_pair stl_window_aggregate(const struct stl_window *window);

#endif
