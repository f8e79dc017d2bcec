#include "policies/stl_run.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_RUN_NODES = 1024, /* a node with two parents counts twice */
    MAX_RUN_BYTES = 16 << 20,
    SPARE_CELLS = 4, /* half inside a window, or on their way through */
};

/* Where a node tells its values: an input of a node, or a top. */
struct sink {
    int node, input, top; /* node < 0: the top */
};

/* A node of the formula, as what turns signals into a signal. */
struct node {
    enum stl_op op;
    const struct stl_node *formula;
    struct sink sink;
    int64_t next; /* the first time whose value the sink has not been told */
    double value; /* of a comparison: its last sample's */

    /* Of those with two inputs, whose signals are joined. */
    struct stl_queue in[2];
    int64_t through[2]; /* the input is known up to here, included */
    int64_t joined;     /* the first time not joined yet */

    /* Of windows: a cell enters at its start + enter, and leaves at its end + leave. */
    struct stl_window window;
    int64_t enter, leave;
};

/* What is asked of the start of the run: an operator without a window, a bounded formula (op
 * COMPARISON), or a combination of tops. */
struct top {
    enum stl_op op;
    unsigned left, right;
    struct stl_pair seen;
};

struct stl_run {
    const struct stl_formula *formula;
    double poll_s;
    bool truth, started, finished, overflow;
    size_t n_nodes, n_tops;
    struct node *nodes;             /* parents before children */
    struct top tops[STL_MAX_NODES]; /* [0] is the formula */
    struct stl_cell cells[];        /* of all queues and windows */
};

/* ---- how much room ------------------------------------------------------------------------- */

static bool has_two(enum stl_op op)
{
    return op == STL_AND || op == STL_OR || op == STL_UNTIL;
}

static bool is_past(enum stl_op op)
{
    return op == STL_HISTORICALLY || op == STL_ONCE;
}

static bool is_window(const struct stl_node *node)
{
    return node->bounded || is_past(node->op);
}

/* How far a node's values are known behind the present, at worst and at best, in seconds; below 0
 * is ahead of it. */
struct lag {
    double worst, best;
};

static struct lag lag_of(const struct stl_formula *f, unsigned index)
{
    const struct stl_node *node = &f->nodes[index];
    double begin_s = (double)node->begin_ns * 1e-9, end_s = (double)node->end_ns * 1e-9;
    if (node->op == STL_COMPARISON)
        return (struct lag){0, 0};
    struct lag lag = lag_of(f, node->left);
    if (has_two(node->op)) {
        struct lag right = lag_of(f, node->right);
        lag.worst = fmax(lag.worst, right.worst);
        lag.best = fmin(lag.best, right.best);
    }
    if (is_past(node->op))
        return (struct lag){lag.worst - begin_s, lag.best - end_s};
    return (struct lag){lag.worst + end_s, lag.best + begin_s};
}

/* How often a node's value may change in a stretch of time. */
static double changes_of(const struct stl_formula *f, unsigned index, double span_s, double poll_s)
{
    const struct stl_node *node = &f->nodes[index];
    if (node->op == STL_COMPARISON)
        return STL_SAMPLES_PER_POLL * ceil(span_s / poll_s) + 2;
    double changes = changes_of(f, node->left, span_s, poll_s);
    if (has_two(node->op))
        changes += changes_of(f, node->right, span_s, poll_s);
    return node->bounded ? 2 * changes : changes; /* as values enter and as they leave */
}

/* Of the queue that keeps one input while the other is behind. */
static double queue_cells(const struct stl_formula *f, const struct stl_node *node, int input,
                          double poll_s)
{
    struct lag left = lag_of(f, node->left), right = lag_of(f, node->right);
    double ahead_s = fmax(left.worst, right.worst) - (input ? right.best : left.best);
    return changes_of(f, input ? node->right : node->left, fmax(ahead_s, 0), poll_s) + SPARE_CELLS;
}

static double window_cells(const struct stl_formula *f, const struct stl_node *node, double poll_s)
{
    double span_s = (double)(node->end_ns - node->begin_ns) * 1e-9;
    if (!node->bounded)
        return SPARE_CELLS;
    double cells = changes_of(f, node->left, span_s, poll_s) + SPARE_CELLS;
    return node->op == STL_UNTIL ? cells + changes_of(f, node->right, span_s, poll_s) : cells;
}

struct size {
    double nodes, cells;
};

static struct size size_of(const struct stl_formula *f, unsigned index, double poll_s)
{
    const struct stl_node *node = &f->nodes[index];
    struct size size = {1, is_window(node) ? window_cells(f, node, poll_s) : 0};
    if (node->op == STL_COMPARISON)
        return size;
    for (int i = 0; i < 1 + has_two(node->op) && size.nodes <= MAX_RUN_NODES; i++) {
        struct size child = size_of(f, i ? node->right : node->left, poll_s);
        size.nodes += child.nodes;
        size.cells += child.cells + (has_two(node->op) ? queue_cells(f, node, i, poll_s) : 0);
    }
    return size;
}

int stl_run_size(const struct stl_formula *formula, double poll_s, size_t *bytes,
                 struct ert_error *err)
{
    struct size size = size_of(formula, formula->root, poll_s);
    double total = (double)sizeof(struct stl_run) + size.nodes * (double)sizeof(struct node) +
                   size.cells * (double)sizeof(struct stl_cell);
    if (size.nodes > MAX_RUN_NODES || total > MAX_RUN_BYTES)
        return ert_fail(err, ERT_E_RANGE,
                        "its windows need more than %d MiB at a poll of %gs; make them shorter or "
                        "the poll longer",
                        MAX_RUN_BYTES >> 20, poll_s);
    *bytes = (size_t)total;
    return 0;
}

/* ---- from the formula's tree to nodes ------------------------------------------------------ */

/* A run being built: what is left of its cells. */
struct builder {
    struct stl_run *run;
    struct stl_cell *cells;
};

static void give_cells(struct builder *b, struct stl_queue *queue, double n)
{
    queue->cells = b->cells;
    queue->capacity = (size_t)n;
    b->cells += queue->capacity;
}

static void build_node(struct builder *b, unsigned index, struct sink sink)
{
    struct stl_run *run = b->run;
    const struct stl_formula *f = run->formula;
    const struct stl_node *formula = &f->nodes[index];
    struct node *node = &run->nodes[run->n_nodes];
    int self = (int)run->n_nodes++;
    *node = (struct node){.op = formula->op, .formula = formula, .sink = sink};
    if (is_window(formula)) {
        bool past = is_past(formula->op);
        give_cells(b, &node->window.queue, window_cells(f, formula, run->poll_s));
        node->enter = past ? formula->begin_ns : -formula->end_ns;
        node->leave = past ? formula->end_ns : -formula->begin_ns;
    }
    if (formula->op == STL_COMPARISON)
        return;
    for (int i = 0; i < 1 + has_two(formula->op); i++) {
        if (has_two(formula->op))
            give_cells(b, &node->in[i], queue_cells(f, formula, i, run->poll_s));
        build_node(b, i ? formula->right : formula->left, (struct sink){self, i, -1});
    }
}

static bool has_endless(const struct stl_formula *f, unsigned index)
{
    const struct stl_node *node = &f->nodes[index];
    if (node->op == STL_COMPARISON || is_window(node))
        return false;
    if (node->op == STL_ALWAYS || node->op == STL_EVENTUALLY || node->op == STL_UNTIL)
        return true;
    return has_endless(f, node->left) || (has_two(node->op) && has_endless(f, node->right));
}

/* Whatever an `always` is told of, in whatever order: both sides of an `and` tell it by themselves,
 * so that neither waits for the other. The same for `eventually` and `or`. */
static void feed_top(struct builder *b, unsigned index, enum stl_op splits, int top)
{
    const struct stl_node *node = &b->run->formula->nodes[index];
    if (node->op == splits) {
        feed_top(b, node->left, splits, top);
        feed_top(b, node->right, splits, top);
    } else {
        build_node(b, index, (struct sink){-1, 0, top});
    }
}

static unsigned build_top(struct builder *b, unsigned index)
{
    struct stl_run *run = b->run;
    const struct stl_node *node = &run->formula->nodes[index];
    unsigned self = (unsigned)run->n_tops++;
    struct top *top = &run->tops[self];
    *top = (struct top){.op = node->op};
    if (!has_endless(run->formula, index)) {
        top->op = STL_COMPARISON;
        build_node(b, index, (struct sink){-1, 0, (int)self});
    } else if (node->op == STL_ALWAYS) {
        feed_top(b, node->left, STL_AND, (int)self);
    } else if (node->op == STL_EVENTUALLY) {
        feed_top(b, node->left, STL_OR, (int)self);
    } else if (node->op == STL_UNTIL) {
        build_node(b, index, (struct sink){-1, 0, (int)self});
    } else {
        top->left = build_top(b, node->left);
        if (has_two(node->op))
            top->right = build_top(b, node->right);
    }
    return self;
}

int stl_run_create(struct stl_run **run, const struct stl_formula *formula, double poll_s,
                   bool truth, struct ert_error *err)
{
    size_t bytes = sizeof **run;
    *run = NULL;
    int rc = stl_run_size(formula, poll_s, &bytes, err);
    if (rc)
        return rc;
    struct stl_run *r = calloc(1, bytes);
    if (!r)
        return ert_fail(err, ERT_E_NOMEM, "no memory for a guarantee");
    size_t n_nodes = (size_t)size_of(formula, formula->root, poll_s).nodes;
    r->formula = formula;
    r->poll_s = poll_s;
    r->truth = truth;
    r->nodes = (struct node *)((char *)r + bytes - n_nodes * sizeof *r->nodes);
    struct builder builder = {r, r->cells};
    build_top(&builder, formula->root);
    stl_run_reset(r);
    *run = r;
    return 0;
}

void stl_run_free(struct stl_run *run)
{
    free(run);
}

void stl_run_reset(struct stl_run *run)
{
    run->started = run->finished = run->overflow = false;
    for (size_t i = 0; i < run->n_nodes; i++) {
        struct node *node = &run->nodes[i];
        node->in[0].head = node->in[0].n = node->in[1].head = node->in[1].n = 0;
        stl_window_clear(&node->window);
    }
    for (size_t i = 0; i < run->n_tops; i++)
        run->tops[i].seen = stl_nothing;
}

static void start(struct stl_run *run, int64_t time_ns)
{
    run->started = true;
    for (size_t i = 0; i < run->n_nodes; i++) {
        struct node *node = &run->nodes[i];
        node->next = node->joined = time_ns;
        node->through[0] = node->through[1] = time_ns - 1;
    }
}

/* ---- values on their way up ---------------------------------------------------------------- */

/* A value as the aggregate of its operator has it: a minimum is read in low, a maximum in until. */
static struct stl_pair as_pair(enum stl_op op, double value)
{
    bool minimum = op == STL_ALWAYS || op == STL_HISTORICALLY;
    return minimum ? (struct stl_pair){value, -INFINITY} : (struct stl_pair){INFINITY, value};
}

static double as_value(enum stl_op op, struct stl_pair pair)
{
    return op == STL_ALWAYS || op == STL_HISTORICALLY ? pair.low : pair.until;
}

/* Nothing that follows can change it. */
static bool is_settled(enum stl_op op, struct stl_pair pair)
{
    if (op == STL_ALWAYS || op == STL_HISTORICALLY)
        return pair.low == -INFINITY;
    return pair.until == INFINITY || (op == STL_UNTIL && pair.low == -INFINITY);
}

static void take_pair(struct stl_run *run, struct node *node, int64_t from, int64_t through,
                      struct stl_pair pair);
static void take_input(struct stl_run *run, struct node *node, int input, int64_t from,
                       int64_t through, double value);

/* The node's value from node->next up to through is known: its sink is told. */
static void tell(struct stl_run *run, struct node *node, int64_t through, double value)
{
    int64_t from = node->next;
    node->next = through + 1;
    if (node->sink.node >= 0) {
        take_input(run, &run->nodes[node->sink.node], node->sink.input, from, through, value);
        return;
    }
    struct top *top = &run->tops[node->sink.top];
    /* A bounded formula is asked for its first value alone. */
    if (top->op != STL_COMPARISON)
        top->seen = stl_concat(top->seen, as_pair(top->op, value));
    else if (top->seen.low > top->seen.until)
        top->seen = (struct stl_pair){value, value};
}

/* Tells what the window comes to, up to known, and as far as settled while nothing to come can
 * change it; cells leave as time goes by. */
static void slide(struct stl_run *run, struct node *node, int64_t known, int64_t settled)
{
    struct stl_window *window = &node->window;
    for (;;) {
        struct stl_pair pair = stl_window_aggregate(window);
        int64_t limit = is_settled(node->op, pair) ? settled : known;
        int64_t first_end = stl_queue_first_end(&window->queue);
        if (node->next > limit)
            return;
        if (first_end != STL_NEVER && first_end + node->leave <= node->next) {
            stl_window_pop(window);
            continue;
        }
        int64_t last = first_end != STL_NEVER ? first_end + node->leave - 1 : limit;
        tell(run, node, last < limit ? last : limit, as_value(node->op, pair));
    }
}

/* A window over all of the past keeps no cells. */
static void take_pair(struct stl_run *run, struct node *node, int64_t from, int64_t through,
                      struct stl_pair pair)
{
    struct stl_window *window = &node->window;
    if (!node->formula->bounded) {
        window->back = stl_concat(window->back, pair);
        slide(run, node, through, is_settled(node->op, window->back) ? STL_FOREVER : through);
        return;
    }
    slide(run, node, from - 1 + node->enter, from - 1 + node->leave);
    if (!stl_window_push(window, from, pair))
        run->overflow = true;
    slide(run, node, through + node->enter, through + node->leave);
}

/* Joins the two inputs of a node as far as they decide it. */
static void join(struct stl_run *run, struct node *node);

static void take_input(struct stl_run *run, struct node *node, int input, int64_t from,
                       int64_t through, double value)
{
    if (node->op == STL_NOT) {
        tell(run, node, through, -value);
    } else if (!has_two(node->op)) {
        take_pair(run, node, from, through, as_pair(node->op, value));
    } else {
        if (!stl_queue_push(&node->in[input], from, (struct stl_pair){value, value}))
            run->overflow = true;
        node->through[input] = through;
        join(run, node);
    }
}

/* An input alone, where it decides: the least of an `and`, the greatest of an `or`, the end of an
 * until's left side. */
static bool decides_alone(enum stl_op op, int input, double value)
{
    if (op == STL_UNTIL)
        return input == 0 && value == -INFINITY;
    return value == (op == STL_AND ? -INFINITY : INFINITY);
}

static void tell_joined(struct stl_run *run, struct node *node, int64_t through, double left,
                        double right)
{
    int64_t from = node->joined;
    node->joined = through + 1;
    struct stl_pair pair = {left, fmin(left, right)};
    if (node->op == STL_AND)
        tell(run, node, through, fmin(left, right));
    else if (node->op == STL_OR)
        tell(run, node, through, fmax(left, right));
    else if (node->formula->bounded)
        take_pair(run, node, from, through, pair);
    else
        run->tops[node->sink.top].seen = stl_concat(run->tops[node->sink.top].seen, pair);
}

static void join(struct stl_run *run, struct node *node)
{
    for (;;) {
        double value[2];
        bool decided[2], known[2];
        int64_t until[2];
        for (int i = 0; i < 2; i++) {
            struct stl_queue *in = &node->in[i];
            while (stl_queue_first_end(in) <= node->joined)
                stl_queue_pop(in);
            known[i] = node->through[i] >= node->joined;
            int64_t end = stl_queue_first_end(in);
            until[i] = end != STL_NEVER ? end - 1 : node->through[i];
            value[i] = known[i] ? stl_queue_at(in, 0)->pair.low : 0;
            decided[i] = known[i] && decides_alone(node->op, i, value[i]);
        }
        if (known[0] && known[1])
            tell_joined(run, node, until[0] < until[1] ? until[0] : until[1], value[0], value[1]);
        else if (decided[0] || decided[1])
            tell_joined(run, node, until[decided[1]], value[decided[1]], value[decided[1]]);
        else
            return;
    }
}

/* ---- samples ------------------------------------------------------------------------------- */

static double side(const struct stl_term *term, const double *values)
{
    return term->signal < 0 ? term->value : values[term->signal];
}

/* Robustness of a comparison as RTAMT has it; its sign cannot tell strict from not. */
static double robustness(enum stl_comparison comparison, double left, double right)
{
    switch (comparison) {
    case STL_LESS:
    case STL_LESS_EQUAL:
        return right - left;
    case STL_GREATER:
    case STL_GREATER_EQUAL:
        return left - right;
    case STL_EQUAL:
        return -fabs(left - right);
    default:
        return fabs(left - right);
    }
}

static bool holds(enum stl_comparison comparison, double left, double right)
{
    switch (comparison) {
    case STL_LESS:
        return left < right;
    case STL_LESS_EQUAL:
        return left <= right;
    case STL_GREATER:
        return left > right;
    case STL_GREATER_EQUAL:
        return left >= right;
    case STL_EQUAL:
        return left == right;
    default:
        return left != right;
    }
}

static double compare(const struct stl_run *run, const struct stl_node *node, const double *values)
{
    double left = side(&node->terms[0], values), right = side(&node->terms[1], values);
    if (!run->truth)
        return robustness(node->comparison, left, right);
    return holds(node->comparison, left, right) ? INFINITY : -INFINITY;
}

bool stl_run_sample(struct stl_run *run, int64_t time_ns, const double *values)
{
    bool first = !run->started;
    if (first)
        start(run, time_ns);
    for (size_t i = 0; i < run->n_nodes; i++) {
        struct node *node = &run->nodes[i];
        if (node->op != STL_COMPARISON)
            continue;
        double value = compare(run, node->formula, values);
        if (!first && value != node->value && node->next < time_ns)
            tell(run, node, time_ns - 1, node->value);
        node->value = value;
        tell(run, node, time_ns, value);
    }
    return !run->overflow;
}

bool stl_run_finish(struct stl_run *run)
{
    for (size_t i = 0; run->started && i < run->n_nodes; i++)
        if (run->nodes[i].op == STL_COMPARISON)
            tell(run, &run->nodes[i], STL_FOREVER, run->nodes[i].value);
    run->finished = run->started;
    return !run->overflow;
}

/* ---- bounds -------------------------------------------------------------------------------- */

static struct stl_bounds bounds_of_seen(const struct stl_run *run, const struct top *top)
{
    struct stl_pair seen = top->seen;
    if (top->op == STL_COMPARISON)
        return seen.low > seen.until ? (struct stl_bounds){-INFINITY, INFINITY}
                                     : (struct stl_bounds){seen.low, seen.low};
    if (run->finished) {
        double value = as_value(top->op, seen);
        return (struct stl_bounds){value, value};
    }
    if (top->op == STL_ALWAYS)
        return (struct stl_bounds){-INFINITY, seen.low};
    return (struct stl_bounds){seen.until,
                               top->op == STL_UNTIL ? fmax(seen.low, seen.until) : INFINITY};
}

static struct stl_bounds bounds_of(const struct stl_run *run, unsigned index)
{
    const struct top *top = &run->tops[index];
    if (top->op != STL_NOT && top->op != STL_AND && top->op != STL_OR)
        return bounds_of_seen(run, top);
    struct stl_bounds left = bounds_of(run, top->left);
    if (top->op == STL_NOT)
        return (struct stl_bounds){-left.upper, -left.lower};
    struct stl_bounds right = bounds_of(run, top->right);
    return top->op == STL_AND
               ? (struct stl_bounds){fmin(left.lower, right.lower), fmin(left.upper, right.upper)}
               : (struct stl_bounds){fmax(left.lower, right.lower), fmax(left.upper, right.upper)};
}

struct stl_bounds stl_run_bounds(const struct stl_run *run)
{
    return run->started ? bounds_of(run, 0) : (struct stl_bounds){-INFINITY, INFINITY};
}
