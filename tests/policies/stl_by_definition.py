"""Signal Temporal Logic by its definition: every value at every instant of a grid, every window searched.

Works on the tree of RTAMT's parser, shares no code with its monitors. Times are multiples of STEP; a signal is a list
of (lower, upper) bounds of its robustness per instant, and holds its last entry forever. Bounds differ where the
future is not known yet: the interval semantics of Deshmukh et al., "Robust online monitoring of signal temporal
logic" (2017).
"""
import math

from rtamt.syntax.node.unary_node import UnaryNode

STEP = 0.25
INFINITE = float("inf")
OPERATORS = ["<", "<=", "==", "!==", ">", ">="]  # in the order of RTAMT's enumeration
UNKNOWN = (-INFINITE, INFINITE)


def steps(seconds):
    n = seconds / STEP
    assert n == int(n), seconds
    return int(n)


def children(node):
    """RTAMT's `not` has its child twice."""
    return node.children[:1] if isinstance(node, UnaryNode) else node.children


class Definition:
    def __init__(self, spec, samples, names, truth=False, ended=True):
        """samples: (seconds, {signal: value}), names: {RTAMT's name: signal}. With truth, comparisons are infinite.
        Unless ended, values after the last sample are unknown."""
        self.ast, self.names, self.truth = spec.ast, names, truth
        self.samples, self.ended = samples, ended
        self.root = spec.ast.specs[-1]
        self.length = steps(samples[-1][0]) + 2 + self.reach(self.root)

    def value(self):
        return self.signal(self.root)[0]

    def window(self, node):
        scale = {"": None, "s": 1.0, "ms": 1e-3}
        begin, end = scale[node.begin_unit], scale[node.end_unit]
        return steps(float(node.begin) * (begin or end)), steps(float(node.end) * (end or begin))

    def reach(self, node):
        own = self.window(node)[1] if type(node).__name__.startswith("Timed") else 0
        return own + sum(self.reach(child) for child in children(node))

    def signal(self, node):
        kind = type(node).__name__
        if kind == "Predicate":
            return self.comparison(node)
        inputs = [self.signal(child) for child in children(node)]
        if kind.startswith("Timed"):
            return getattr(self, kind[5:].lower())(*inputs, *self.window(node))
        if kind in ("Always", "Eventually", "Until"):
            return getattr(self, kind.lower())(*inputs, 0, self.length)
        if kind in ("Historically", "Once"):
            return getattr(self, kind.lower())(*inputs, 0, self.length)
        return getattr(self, kind.lower())(*inputs)

    # ---- comparisons ----

    def term(self, node):
        if type(node).__name__ == "Constant":
            return [float(node.val)] * self.length
        name = self.names[node.var]
        values, held = [], None
        at = {steps(t): row[name] for t, row in self.samples}
        for k in range(self.length):
            held = at.get(k, held)
            values.append(float(held))
        return values

    def comparison(self, node):
        left, right = map(self.term, node.children)
        compare = {"<": lambda x, y: (y - x, x < y), "<=": lambda x, y: (y - x, x <= y), ">": lambda x, y: (x - y, x > y),
                   ">=": lambda x, y: (x - y, x >= y), "==": lambda x, y: (-abs(x - y), x == y),
                   "!==": lambda x, y: (abs(x - y), x != y)}[OPERATORS[node.operator.value]]
        last = steps(self.samples[-1][0])
        signal = []
        for k in range(self.length):
            robustness, holds = compare(left[k], right[k])
            if self.truth:
                robustness = INFINITE if holds else -INFINITE
            signal.append((robustness, robustness) if self.ended or k <= last else UNKNOWN)
        return signal

    # ---- operators ----

    def neg(self, a):
        return [(-upper, -lower) for lower, upper in a]

    def conjunction(self, a, b):
        return [(min(x[0], y[0]), min(x[1], y[1])) for x, y in zip(a, b)]

    def disjunction(self, a, b):
        return [(max(x[0], y[0]), max(x[1], y[1])) for x, y in zip(a, b)]

    def implies(self, a, b):
        return self.disjunction(self.neg(a), b)

    def future(self, a, k, begin, end):
        """The signal from k + begin to k + end; beyond its length it holds."""
        last = self.length - 1
        return a[min(k + begin, last):min(k + end, last) + 1]

    def always(self, a, begin, end):
        return [tuple(map(min, zip(*self.future(a, k, begin, end)))) for k in range(self.length)]

    def eventually(self, a, begin, end):
        return [tuple(map(max, zip(*self.future(a, k, begin, end)))) for k in range(self.length)]

    def past(self, a, k, begin, end):
        return a[max(k - end, 0):k - begin + 1] if k >= begin else []

    def historically(self, a, begin, end):
        return [tuple(map(min, zip(*[(INFINITE, INFINITE), *self.past(a, k, begin, end)]))) for k in range(self.length)]

    def once(self, a, begin, end):
        return [tuple(map(max, zip(*[(-INFINITE, -INFINITE), *self.past(a, k, begin, end)]))) for k in range(self.length)]

    def until(self, a, b, begin, end):
        """The greatest, over the instants of the window, of b there and a from here to there, both included."""
        last = self.length - 1
        out = []
        for k in range(self.length):
            best = []
            for bound in range(2):
                low, value = INFINITE, -INFINITE
                for j in range(k, min(k + end, last) + 1):
                    low = min(low, a[j][bound])
                    if j >= min(k + begin, last):
                        value = max(value, min(low, b[j][bound]))
                best.append(value)
            out.append(tuple(best))
        return out
