#include "policies/stl_window.h"

#include <math.h>

const struct stl_pair stl_nothing = {INFINITY, -INFINITY};

struct stl_pair stl_concat(struct stl_pair a, struct stl_pair b)
{
    return (struct stl_pair){fmin(a.low, b.low), fmax(a.until, fmin(a.low, b.until))};
}

struct stl_cell *stl_queue_at(const struct stl_queue *queue, size_t i)
{
    size_t at = queue->head + i;
    return &queue->cells[at < queue->capacity ? at : at - queue->capacity];
}

static bool same(struct stl_pair a, struct stl_pair b)
{
    return a.low == b.low && a.until == b.until;
}

static bool append(struct stl_queue *queue, int64_t start, struct stl_pair pair)
{
    if (queue->n == queue->capacity)
        return false;
    *stl_queue_at(queue, queue->n++) = (struct stl_cell){start, pair};
    return true;
}

bool stl_queue_push(struct stl_queue *queue, int64_t start, struct stl_pair pair)
{
    if (queue->n && same(stl_queue_at(queue, queue->n - 1)->pair, pair))
        return true;
    return append(queue, start, pair);
}

void stl_queue_pop(struct stl_queue *queue)
{
    queue->head = queue->head + 1 < queue->capacity ? queue->head + 1 : 0;
    queue->n--;
}

int64_t stl_queue_first_end(const struct stl_queue *queue)
{
    return queue->n > 1 ? stl_queue_at(queue, 1)->start : STL_NEVER;
}

void stl_window_clear(struct stl_window *window)
{
    window->queue.head = window->queue.n = window->front = 0;
    window->back = stl_nothing;
}

bool stl_window_push(struct stl_window *window, int64_t start, struct stl_pair pair)
{
    if (window->queue.n && same(window->newest, pair))
        return true;
    window->newest = pair;
    window->back = stl_concat(window->back, pair);
    return append(&window->queue, start, pair);
}

/* The back stack becomes the front one: every cell takes in those after it. */
static void turn_over(struct stl_window *window)
{
    struct stl_queue *queue = &window->queue;
    struct stl_pair after = stl_nothing;
    for (size_t i = queue->n; i-- > 0;) {
        struct stl_cell *cell = stl_queue_at(queue, i);
        after = cell->pair = stl_concat(cell->pair, after);
    }
    window->front = queue->n;
    window->back = stl_nothing;
}

void stl_window_pop(struct stl_window *window)
{
    if (window->front == 0)
        turn_over(window);
    stl_queue_pop(&window->queue);
    window->front--;
}

struct stl_pair stl_window_aggregate(const struct stl_window *window)
{
    return window->front ? stl_concat(stl_queue_at(&window->queue, 0)->pair, window->back)
                         : window->back;
}
