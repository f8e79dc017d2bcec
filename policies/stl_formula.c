#include "policies/stl_formula.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

enum { LONGEST_WINDOW_S = 86400 };

enum form { PREFIX, INFIX, PREFIX_WINDOW, INFIX_WINDOW };

static const struct operator
{
    const char *word, *symbol;
    int precedence;
    enum form form;
}
operators[STL_N_OPS] = {
#define O(id, word, symbol, precedence, form) [STL_##id] = {word, symbol, precedence, form},
#include "policies/stl_operators.def"
#undef O
};

/* Longest first, so that "<" does not take the beginning of "<=". */
static const struct {
    const char *text;
    enum stl_comparison comparison;
} comparisons[] = {
    {"!==", STL_NOT_EQUAL},    {"==", STL_EQUAL}, {"<=", STL_LESS_EQUAL},
    {">=", STL_GREATER_EQUAL}, {"<", STL_LESS},   {">", STL_GREATER},
};

enum token_kind { END, NAME, NUMBER, OPERATOR, COMPARISON, MARK };

struct token {
    enum token_kind kind;
    const char *start;
    size_t length;
    int id; /* of an operator, a comparison, or a mark's character */
};

struct parser {
    struct stl_formula *formula;
    const char *text;
    struct token token; /* the one ahead */
    size_t *at;
    struct ert_error *err;
};

#define FAIL_AT(p, where, code, ...)                                                               \
    (*(p)->at = (size_t)((where) - (p)->text), ert_fail((p)->err, code, __VA_ARGS__))

/* ---- tokens -------------------------------------------------------------------------------- */

static bool is_word(const char *start, size_t n, const char *word)
{
    return strlen(word) == n && !strncmp(start, word, n);
}

/* A minus belongs to a name (temp.nvme-1) unless it begins "->". */
static size_t name_length(const char *s)
{
    size_t n = 0;
    while (isalnum((unsigned char)s[n]) || s[n] == '_' || s[n] == '.' ||
           (s[n] == '-' && s[n + 1] != '>'))
        n++;
    return n;
}

/* "-4.5", "85C", "20%", "400MB". */
static size_t number_length(const char *s)
{
    size_t n = s[0] == '-';
    while (isalnum((unsigned char)s[n]) || s[n] == '.')
        n++;
    return n + (s[n] == '%');
}

static bool take_operator(struct token *t)
{
    for (int op = STL_COMPARISON + 1; op < STL_N_OPS; op++)
        if (is_word(t->start, t->length, operators[op].word) ||
            is_word(t->start, t->length, operators[op].symbol)) {
            t->kind = OPERATOR;
            t->id = op;
            return true;
        }
    return false;
}

static bool take_comparison(struct token *t)
{
    for (size_t i = 0; i < sizeof comparisons / sizeof *comparisons; i++) {
        size_t n = strlen(comparisons[i].text);
        if (!strncmp(t->start, comparisons[i].text, n)) {
            t->kind = COMPARISON;
            t->id = (int)comparisons[i].comparison;
            t->length = n;
            return true;
        }
    }
    return false;
}

static void next_token(struct parser *p)
{
    struct token *t = &p->token;
    const char *s = t->start + t->length;
    s += strspn(s, " ");
    *t = (struct token){.kind = MARK, .start = s, .length = 1, .id = *s};
    if (*s == '\0') {
        t->kind = END;
        t->length = 0;
    } else if (isdigit((unsigned char)*s) || (*s == '-' && isdigit((unsigned char)s[1]))) {
        t->kind = NUMBER;
        t->length = number_length(s);
    } else if (isalpha((unsigned char)*s) || *s == '_') {
        t->kind = NAME;
        t->length = name_length(s);
        take_operator(t);
    } else if (!take_comparison(t)) {
        t->length = !strncmp(s, "->", 2) ? 2 : 1;
        take_operator(t);
    }
}

static bool is_mark(const struct parser *p, char mark)
{
    return p->token.kind == MARK && p->token.id == mark;
}

/* The token as an error shows it. */
static const char *shown(const struct token *t, char text[40])
{
    if (t->kind == END)
        snprintf(text, 40, "the end");
    else
        snprintf(text, 40, "'%.*s'", (int)(t->length < 36 ? t->length : 36), t->start);
    return text;
}

static int expect_mark(struct parser *p, char mark, const char *expected)
{
    char text[40];
    if (!is_mark(p, mark))
        return FAIL_AT(p, p->token.start, ERT_E_FORMAT, "expected %s, got %s", expected,
                       shown(&p->token, text));
    next_token(p);
    return 0;
}

/* ---- nodes --------------------------------------------------------------------------------- */

static int add_node(struct parser *p, const char *where, struct stl_node node, unsigned *index)
{
    struct stl_formula *f = p->formula;
    if (f->n_nodes == STL_MAX_NODES)
        return FAIL_AT(p, where, ERT_E_RANGE, "more than %d operators and comparisons",
                       STL_MAX_NODES);
    node.at = (size_t)(where - p->text);
    *index = (unsigned)f->n_nodes;
    f->nodes[f->n_nodes++] = node;
    return 0;
}

static int unknown_name(struct parser *p, const char *name, const char *where)
{
    const char *words[STL_N_OPS + 1] = {"state"};
    size_t n = 1;
    for (int op = STL_COMPARISON + 1; op < STL_N_OPS; op++)
        words[n++] = operators[op].word;
    const char *near = ert_nearest_name(name, words, n);
    near = near ? near : dev_signal_nearest(name);
    return FAIL_AT(p, where, ERT_E_FORMAT, "unknown sensor '%s'%s%s%s", name,
                   near ? ", did you mean '" : "", near ? near : "", near ? "'?" : "");
}

static int find_signal(struct parser *p, const struct token *t, int *index)
{
    struct stl_formula *f = p->formula;
    char name[DEV_NAME];
    if (t->length >= sizeof name)
        return FAIL_AT(p, t->start, ERT_E_RANGE, "a name longer than %d bytes", DEV_NAME - 1);
    snprintf(name, sizeof name, "%.*s", (int)t->length, t->start);
    for (size_t i = 0; i < f->n_signals; i++)
        if (!strcmp(f->signals[i].name, name)) {
            *index = (int)i;
            return 0;
        }
    const struct dev_signal *signal = dev_signal_find(name);
    if (!signal && strcmp(name, "state") != 0)
        return unknown_name(p, name, t->start);
    if (f->n_signals == STL_MAX_SIGNALS)
        return FAIL_AT(p, t->start, ERT_E_RANGE, "more than %d sensors", STL_MAX_SIGNALS);
    *index = (int)f->n_signals;
    memcpy(f->signals[f->n_signals].name, name, sizeof name);
    f->signals[f->n_signals++].signal = signal;
    return 0;
}

static enum ert_unit unit_of(const struct stl_formula *f, int signal)
{
    const struct dev_signal *known = f->signals[signal].signal;
    return known ? known->unit : ERT_UNIT_NONE;
}

static int read_number(struct parser *p, const struct token *t, enum ert_unit unit, double *value)
{
    char text[64];
    struct ert_error why;
    snprintf(text, sizeof text, "%.*s", (int)(t->length < 63 ? t->length : 63), t->start);
    if (ert_parse_quantity(text, unit, value, &why))
        return FAIL_AT(p, t->start, ERT_E_FORMAT, "%s", why.text);
    return 0;
}

/* ---- grammar ------------------------------------------------------------------------------- */

/* A number takes the unit of the signal on the other side. */
static int resolve_terms(struct parser *p, const struct token sides[2], struct stl_term terms[2])
{
    struct stl_formula *f = p->formula;
    int rc = 0;
    for (int i = 0; !rc && i < 2; i++) {
        terms[i] = (struct stl_term){.signal = -1};
        if (sides[i].kind == NAME)
            rc = find_signal(p, &sides[i], &terms[i].signal);
    }
    if (!rc && terms[0].signal < 0 && terms[1].signal < 0)
        rc = FAIL_AT(p, sides[0].start, ERT_E_FORMAT,
                     "a comparison of two numbers, expected a sensor or state on one side");
    for (int i = 0; !rc && i < 2; i++)
        if (terms[i].signal < 0)
            rc = read_number(p, &sides[i], unit_of(f, terms[!i].signal), &terms[i].value);
    if (!rc && terms[0].signal >= 0 && terms[1].signal >= 0 &&
        unit_of(f, terms[0].signal) != unit_of(f, terms[1].signal))
        rc = FAIL_AT(p, sides[1].start, ERT_E_FORMAT, "'%s' and '%s' have different units",
                     f->signals[terms[0].signal].name, f->signals[terms[1].signal].name);
    return rc;
}

static int parse_comparison(struct parser *p, unsigned *index)
{
    char text[40];
    int known, rc;
    struct stl_node node = {.op = STL_COMPARISON};
    struct token sides[2] = {p->token};
    if (sides[0].kind == NAME && (rc = find_signal(p, &sides[0], &known)))
        return rc; /* before asking what follows it: it may be a misspelt operator */
    next_token(p);
    struct token between = p->token;
    if (between.kind != COMPARISON)
        return FAIL_AT(p, between.start, ERT_E_FORMAT,
                       "expected one of < <= > >= == !== after %.*s, got %s", (int)sides[0].length,
                       sides[0].start, shown(&between, text));
    next_token(p);
    sides[1] = p->token;
    if (sides[1].kind != NAME && sides[1].kind != NUMBER)
        return FAIL_AT(p, sides[1].start, ERT_E_FORMAT,
                       "expected a sensor, state or a number with its unit, got %s",
                       shown(&sides[1], text));
    next_token(p);
    node.comparison = (enum stl_comparison)between.id;
    rc = resolve_terms(p, sides, node.terms);
    return rc ? rc : add_node(p, sides[0].start, node, index);
}

static bool has_unit(const struct token *t)
{
    return !isdigit((unsigned char)t->start[t->length - 1]);
}

/* unit_from is the other bound, whose unit stands in for a missing one. */
static int read_bound(struct parser *p, const struct token *t, const struct token *unit_from,
                      int64_t *ns)
{
    char text[96];
    double seconds = 0;
    struct ert_error why;
    size_t digits = has_unit(t) ? unit_from->length : strspn(unit_from->start, "0123456789.");
    snprintf(text, sizeof text, "%.*s%.*s", (int)(t->length < 40 ? t->length : 40), t->start,
             (int)(unit_from->length - digits < 40 ? unit_from->length - digits : 40),
             unit_from->start + digits);
    if (ert_parse_quantity(text, ERT_UNIT_SECOND, &seconds, &why))
        return FAIL_AT(p, t->start, ERT_E_FORMAT, "%s", why.text);
    if (!(seconds >= 0 && seconds <= LONGEST_WINDOW_S))
        return FAIL_AT(p, t->start, ERT_E_RANGE, "a window reaches at most %d s", LONGEST_WINDOW_S);
    *ns = (int64_t)llround(seconds * 1e9);
    return 0;
}

/* "[0:5s]" or "[0s,5s]"; a bound without a unit takes that of the other. */
static int parse_window(struct parser *p, struct stl_node *node)
{
    char text[40];
    struct token bounds[2];
    const char *start = p->token.start;
    if (!is_mark(p, '['))
        return 0;
    for (int i = 0; i < 2; i++) {
        next_token(p);
        bounds[i] = p->token;
        if (bounds[i].kind != NUMBER)
            return FAIL_AT(p, bounds[i].start, ERT_E_FORMAT,
                           "expected a time such as 5s in a window [0:5s], got %s",
                           shown(&bounds[i], text));
        next_token(p);
        if (i == 0 && !is_mark(p, ':') && !is_mark(p, ','))
            return FAIL_AT(p, p->token.start, ERT_E_FORMAT, "expected ':' in a window, got %s",
                           shown(&p->token, text));
    }
    int rc = expect_mark(p, ']', "']' after a window");
    if (!rc)
        rc = read_bound(p, &bounds[0], &bounds[1], &node->begin_ns);
    if (!rc)
        rc = read_bound(p, &bounds[1], &bounds[0], &node->end_ns);
    if (!rc && node->end_ns < node->begin_ns)
        rc = FAIL_AT(p, start, ERT_E_FORMAT, "a window that ends before it begins");
    node->bounded = true;
    return rc;
}

static int parse_expression(struct parser *p, int precedence, unsigned *index);

static int parse_prefix(struct parser *p, unsigned *index)
{
    const struct token op = p->token;
    struct stl_node node = {.op = (enum stl_op)op.id};
    next_token(p);
    int rc = operators[op.id].form == PREFIX_WINDOW ? parse_window(p, &node) : 0;
    if (!rc)
        rc = parse_expression(p, operators[op.id].precedence, &node.left);
    return rc ? rc : add_node(p, op.start, node, index);
}

static int parse_primary(struct parser *p, unsigned *index)
{
    char text[40];
    const struct token t = p->token;
    if (t.kind == NAME || t.kind == NUMBER)
        return parse_comparison(p, index);
    bool prefix = t.kind == OPERATOR &&
                  (operators[t.id].form == PREFIX || operators[t.id].form == PREFIX_WINDOW);
    if (prefix)
        return parse_prefix(p, index);
    if (!is_mark(p, '('))
        return FAIL_AT(p, t.start, ERT_E_FORMAT,
                       "expected a comparison such as temp.cpu < 95C, got %s", shown(&t, text));
    next_token(p);
    int rc = parse_expression(p, 0, index);
    return rc ? rc : expect_mark(p, ')', "')' or an operator such as 'and'");
}

static bool is_infix(const struct token *t)
{
    return t->kind == OPERATOR &&
           (operators[t->id].form == INFIX || operators[t->id].form == INFIX_WINDOW);
}

/* As the header says: "a -> b" is "not a or b"; "a until[x:y] b" with x > 0 gets "always[0:x] a".
 */
static int rewrite(struct parser *p, const char *where, struct stl_node *node)
{
    struct stl_node extra = {.op = STL_NOT, .left = node->left};
    int rc = 0;
    if (node->op == STL_IMPLIES) {
        node->op = STL_OR;
        rc = add_node(p, where, extra, &node->left);
    } else if (node->op == STL_UNTIL && node->begin_ns > 0) {
        struct stl_node both = {.op = STL_AND};
        extra.op = STL_ALWAYS;
        extra.bounded = true;
        extra.end_ns = node->begin_ns;
        rc = add_node(p, where, extra, &both.left);
        if (!rc)
            rc = add_node(p, where, *node, &both.right);
        *node = both;
    }
    return rc;
}

static int parse_infix(struct parser *p, unsigned *index)
{
    const struct token op = p->token;
    struct stl_node node = {.op = (enum stl_op)op.id, .left = *index};
    next_token(p);
    int rc = operators[op.id].form == INFIX_WINDOW ? parse_window(p, &node) : 0;
    if (!rc)
        rc = parse_expression(p, operators[op.id].precedence + 1, &node.right);
    if (!rc)
        rc = rewrite(p, op.start, &node);
    return rc ? rc : add_node(p, op.start, node, index);
}

/* Precedence climbing: an expression of operators that bind at least that tight. */
static int parse_expression(struct parser *p, int precedence, unsigned *index)
{
    int rc = parse_primary(p, index);
    while (!rc && is_infix(&p->token) && operators[p->token.id].precedence >= precedence)
        rc = parse_infix(p, index);
    return rc;
}

/* ---- the formula --------------------------------------------------------------------------- */

static bool is_temporal(enum stl_op op)
{
    return operators[op].form == PREFIX_WINDOW || operators[op].form == INFIX_WINDOW;
}

/* A future operator without a window among temporal ones, -1 if there is none. */
static int find_endless(const struct stl_formula *f, unsigned index, bool inside)
{
    const struct stl_node *node = &f->nodes[index];
    if (node->op == STL_COMPARISON)
        return -1;
    bool future = node->op == STL_ALWAYS || node->op == STL_EVENTUALLY || node->op == STL_UNTIL;
    if (future && !node->bounded && inside)
        return (int)index;
    inside = inside || is_temporal(node->op);
    int found = find_endless(f, node->left, inside);
    bool two = operators[node->op].form == INFIX || operators[node->op].form == INFIX_WINDOW;
    return found < 0 && two ? find_endless(f, node->right, inside) : found;
}

int stl_parse(struct stl_formula *formula, const char *text, size_t *at, struct ert_error *err)
{
    char shown_text[40];
    memset(formula, 0, sizeof *formula);
    *at = 0;
    struct parser p = {
        .formula = formula, .text = text, .token = {.start = text}, .at = at, .err = err};
    next_token(&p);
    int rc = parse_expression(&p, 0, &formula->root);
    if (!rc && p.token.kind != END)
        rc = FAIL_AT(&p, p.token.start, ERT_E_FORMAT, "expected an operator or the end, got %s",
                     shown(&p.token, shown_text));
    int endless = rc ? -1 : find_endless(formula, formula->root, false);
    if (endless >= 0) {
        *at = formula->nodes[endless].at;
        rc = ert_fail(err, ERT_E_FORMAT,
                      "'%s' inside another temporal operator needs a window such as [0:5s]",
                      operators[formula->nodes[endless].op].word);
    }
    return rc;
}
