/* Inside policies/: a guarantee's text as a tree. Syntax and precedence are RTAMT's, with units:
 *
 *     always (temp.cpu > 85C -> eventually[0:5s] (state >= 4))
 *
 * Signal Temporal Logic: Maler and Nickovic, "Monitoring temporal properties of continuous signals"
 * (2004). */
#ifndef POL_STL_FORMULA_H
#define POL_STL_FORMULA_H

#include "policies/policies.h"

enum { STL_MAX_NODES = 64, STL_MAX_SIGNALS = 16 };

enum stl_op {
    STL_COMPARISON,
#define O(id, word, symbol, precedence, form) STL_##id,
#include "policies/stl_operators.def"
#undef O
    STL_N_OPS
};

enum stl_comparison {
    STL_LESS,
    STL_LESS_EQUAL,
    STL_GREATER,
    STL_GREATER_EQUAL,
    STL_EQUAL,
    STL_NOT_EQUAL
};

/* The tree has no IMPLIES: "a -> b" is kept as "not a or b". UNTIL with a window [x:y] means here
 * that b comes in [t + x, t + y] and a holds from t + x on; before that stands an "always[0:x] a",
 * so that both together are the until of the text, in robustness too (Donze, Ferrere and Maler,
 * "Efficient robust monitoring for STL", 2013). A node may have two parents, then. */

/* A side of a comparison. */
struct stl_term {
    int signal;   /* index into the formula's signals, -1 = a number */
    double value; /* of a number, in the base unit of the other side's signal */
};

struct stl_node {
    enum stl_op op;
    unsigned left, right; /* indices of nodes; prefix operators have only left */
    size_t at;            /* offset in the text */
    enum stl_comparison comparison;
    struct stl_term terms[2];
    bool bounded;             /* has a window */
    int64_t begin_ns, end_ns; /* of the window: 0 <= begin <= end */
};

struct stl_formula {
    size_t n_nodes, n_signals;
    unsigned root;
    struct stl_node nodes[STL_MAX_NODES]; /* children before parents */
    struct {
        char name[DEV_NAME];
        const struct dev_signal *signal; /* NULL = "state", the state of the ladder */
    } signals[STL_MAX_SIGNALS];
};

/* Parses text (printable, one line). On failure err has the sentence without a place, and *at the
 * offset in bytes that it is about. Future operators without a window may stand only where no other
 * temporal operator is around them: elsewhere their value would never be known. */
int stl_parse(struct stl_formula *formula, const char *text, size_t *at, struct ert_error *err);

#endif
