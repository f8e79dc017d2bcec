"""Guarantees against RTAMT, and against a brute-force reading of Signal Temporal Logic's definition."""
import logging
import math
import pathlib
import random
import re
import subprocess
import sys

import rtamt

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from stl_by_definition import Definition
from tests import tap

driver = tap.build / "tests" / "policies" / "drive_monitor"
SECOND = 10**9
START = 3600 * SECOND
SIGNALS = {"temp.a": ("a", "C"), "temp.b": ("b", "C"), "state": ("state", "")}
NAMES = {plain: name for name, (plain, _) in SIGNALS.items()}
logging.disable(logging.WARNING)  # RTAMT warns of each undeclared output


def drive(lines):
    done = subprocess.run([driver], input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    return done.stdout.splitlines()


class Status:
    def __init__(self, line):
        verdict, decided, at, lower, upper, restarts = line.split()
        self.verdict, self.decided, self.at = verdict, decided == "1", int(at)
        self.lower, self.upper, self.restarts = float(lower), float(upper), int(restarts)


def monitored(cases):
    """[(text, samples)] -> for each a sentence, or (statuses after each sample, status at the end). A sample is
    (seconds, {signal: value})."""
    lines = []
    for text, samples in cases:
        lines.append("F " + text)
        for t, row in samples:
            values = " ".join(f"{n} {v!r}" for n, v in row.items() if n != "state")
            lines.append(f"S {START + round(t * SECOND)} {row['state']} {values}")
        lines.append("E")
    said = iter(drive(lines))
    answers = []
    for _, samples in cases:
        first = next(said)
        if first == "ok":
            answers.append(([Status(next(said)) for _ in samples], Status(next(said))))
        else:
            answers.append(first)
    return answers


# ---- random formulas: trees, printed with random superfluous and missing parentheses -------------------------

COMPARISONS = {"<": lambda x, y: y - x, "<=": lambda x, y: y - x, ">": lambda x, y: x - y, ">=": lambda x, y: x - y,
               "==": lambda x, y: -abs(x - y), "!==": lambda x, y: abs(x - y)}
UNARY = ["always", "eventually", "historically", "once"]


def random_comparison(r):
    name = r.choice(["temp.a", "temp.a", "temp.b", "temp.b", "state"])
    op = r.choice(["<", "<=", ">", ">=", "<", ">", "==", "!=="])
    if name != "state" and r.random() < 0.15:
        return f"temp.a {op} temp.b"
    value = r.randint(0, 6) if name == "state" else r.choice([r.randint(30, 60), r.randint(60, 120) / 2])
    return f"{name} {op} {value}{SIGNALS[name][1]}"


def random_window(r):
    first = r.choice([0, 0, 0, 0.25, 0.5, 1, 2])
    last = first + r.choice([0, 0.25, 0.5, 1, 1.5, 2, 4, 8])
    style = r.choice(["[{}:{}s]", "[{}s:{}s]", "[{}s,{}s]", "ms"])
    return f"[{int(first * 1000)}ms:{last}s]" if style == "ms" else style.format(first, last)


def random_formula(r, depth, window=True):
    """Text. Without window, future operators have none, as only the outermost may."""
    def sub(keep=0.7):
        text = random_formula(r, depth - 1)
        return f"({text})" if r.random() < keep else text
    if depth == 0 or (window and r.random() < 0.1):
        return random_comparison(r)
    kind = r.random()
    if not window:
        if kind < 0.6:
            return f"{r.choice(['always', 'eventually'])} {sub(1)}"
        if kind < 0.75:
            return f"{sub(1)} until {sub(1)}"
        return f"({random_formula(r, depth, False)}) {r.choice(['and', 'or', '->'])} ({random_formula(r, depth - 1, r.random() < 0.5)})"
    if kind < 0.2:
        return f"{r.choice(['not ', '!'])}{sub()}"
    if kind < 0.55:
        return f"{sub()} {r.choice(['and', 'or', '->', '&', '|', 'implies'])} {sub()}"
    if kind < 0.9:
        op = r.choice(UNARY)
        return f"{op}{random_window(r) if op in UNARY[:2] or r.random() < 0.7 else ''} {sub()}"
    return f"{sub()} until{random_window(r)} {sub()}"


def random_samples(r):
    t, samples = 0.0, []
    row = {"temp.a": 45.0, "temp.b": 45.0, "state": 0}
    for _ in range(r.randint(1, 40)):
        for name in ("temp.a", "temp.b"):
            if r.random() < 0.7:
                row[name] = r.choice([r.randint(60, 120) / 2, float(r.randint(30, 60)), row[name]])
        if r.random() < 0.5:
            row["state"] = r.randint(0, 6)
        samples.append((t, dict(row)))
        t += r.choice([0.25, 0.5, 0.5, 0.5, 0.75, 1, 3])
    return samples


def random_cases(seed, n, depth):
    r, cases = random.Random(seed), []
    while len(cases) < n:
        text = random_formula(r, r.randint(1, depth), r.random() < 0.4)
        if len(text) < 256:
            cases.append((text, random_samples(r)))
    return cases


# ---- RTAMT ---------------------------------------------------------------------------------------------------


def specification(text):
    """RTAMT's reading of a formula. Its dense-time monitors take a bound in ms for another one: it gets seconds."""
    spec = rtamt.StlDenseTimeSpecification()
    for name, (plain, _) in SIGNALS.items():
        text = text.replace(name, plain)
        spec.declare_var(plain, "float")
    spec.spec = "out = " + re.sub(r"(\d+)ms", lambda m: f"{int(m[1]) / 1000}s", text).replace("C", "")
    spec.parse()
    return spec


def rtamt_robustness(spec, samples):
    signals = [[plain, [[t, float(row[name])] for t, row in samples]] for name, (plain, _) in SIGNALS.items()]
    return spec.evaluate(*signals)[0][1]


def answered(cases):
    """The cases that are formulas of the language: one without parentheses may have an endless operator inside."""
    for case, answer in zip(cases, monitored(cases)):
        if isinstance(answer, str):
            assert "needs a window" in answer, (case[0], answer)
        else:
            yield *case, *answer


def test_robustness_and_verdict_agree_with_rtamt():
    compared, false = 0, 0
    for text, samples, _, end in answered(random_cases(1, 1000, 4)):
        expected = rtamt_robustness(specification(text), samples)
        assert end.lower == end.upper == expected, (text, samples, end.lower, expected)
        if expected != 0:  # RTAMT's sign says nothing about strictness at 0
            assert end.verdict == ("true" if expected > 0 else "false"), (text, samples, expected)
        compared += 1
        false += end.verdict == "false"
    assert compared > 900 and 200 < false < compared - 200, (compared, false)
    print(f"# {compared} pairs, {false} of them false")


def test_verdicts_follow_the_definition_where_robustness_is_zero():
    """Comparisons of equal values: strict ones are false."""
    r = random.Random(2)
    cases = [(text, [(t, {n: round(v / 10) * 10.0 if n != "state" else v for n, v in row.items()}) for t, row in samples])
             for text, samples in random_cases(3, 400, 3)]
    cases = [(re.sub(r"\d+(\.\d)?C", lambda m: f"{r.choice([30, 40, 50, 60])}C", text), s) for text, s in cases]
    zero = 0
    for text, samples, _, end in answered(cases):
        spec = specification(text)
        truth = Definition(spec, samples, NAMES, truth=True).value()[0]
        robustness = Definition(spec, samples, NAMES).value()[0]
        assert end.lower == robustness, (text, samples)
        assert end.verdict == ("true" if truth > 0 else "false"), (text, samples, truth)
        zero += robustness == 0
    assert zero > 25, zero


def test_a_verdict_comes_early_and_stays():
    """At each sample: the bounds hold whatever comes, and a verdict is never taken back or given on a guess."""
    early, open_ones = 0, 0
    for text, samples, statuses, end in answered(random_cases(4, 120, 3)):
        spec = specification(text)
        for n in range(1, len(samples) + 1, 1 + len(samples) // 6):
            now = statuses[n - 1]
            lower, upper = Definition(spec, samples[:n], NAMES, ended=False).value()
            assert now.lower <= lower and upper <= now.upper, (text, samples[:n], now, lower, upper)
            truth = Definition(spec, samples[:n], NAMES, truth=True, ended=False).value()
            possible = "true" if truth[0] > 0 else "false" if truth[1] < 0 else "undecided"
            assert now.verdict in (possible, "undecided"), (text, samples[:n], now.verdict, possible)
            early += now.verdict == possible != "undecided"
            open_ones += now.verdict != possible
        final = [s for s in statuses if s.decided]
        assert all((s.verdict, s.at) == (end.verdict, final[0].at) for s in [*final, end] if final), (text, samples)
    # What is known only out of order waits for what is before it.
    assert early > 150 and open_ones < early / 5, (early, open_ones)
    print(f"# {early} early, {open_ones} later than could be")


def test_common_guarantees_are_decided_as_early_as_can_be():
    r = random.Random(5)
    texts = ["always (temp.a < 52C)", "always (temp.a > 52C -> eventually[0:2s] (state >= 4))",
             "always (temp.a > 50C -> always[0:3s] (temp.b < 58C))", "eventually[0:5s] (temp.a > 57C)",
             "always (temp.a < 59C and eventually[0:4s] (state < 5))", "temp.a < 60C until[1s:6s] temp.b > 55C",
             "always (once[0:3s] (temp.a > 50C) -> state >= 1)", "always (temp.a < 58C) and always (temp.b < 58C)",
             "eventually (always[0:2s] (temp.a > 45C))", "not always[0:20s] (state < 6)",
             "always (historically[0:2s] (temp.a > 50C) -> state > 2)", "always (temp.a < temp.b or state > 0)"]
    decided = 0
    for text, samples, statuses, _ in answered([(text, random_samples(r)) for text in texts for _ in range(20)]):
        spec = specification(text)
        for n in range(1, len(samples) + 1):
            truth = Definition(spec, samples[:n], NAMES, truth=True, ended=False).value()
            expected = "true" if truth[0] > 0 else "false" if truth[1] < 0 else "undecided"
            assert statuses[n - 1].verdict == expected, (text, samples[:n], statuses[n - 1].verdict, expected)
            if expected != "undecided":
                assert statuses[n - 1].at == START + round(samples[n - 1][0] * SECOND)
                decided += 1
                break
    assert decided > 100, decided


def test_it_starts_with_the_last_sensor():
    samples = [(0, {"temp.a": 99.0, "state": 0}), (1, {"temp.a": 40.0, "state": 0}),
               (2, {"temp.a": 40.0, "temp.b": 41.0, "state": 0}), (3, {"temp.a": 45.0, "temp.b": 47.0, "state": 0})]
    (statuses, end), (_, never) = monitored([("always (temp.a < temp.b)", samples), ("always (temp.b < 90C)", samples[:2])])
    assert [s.verdict for s in statuses] == ["undecided"] * 4
    assert (end.verdict, end.lower) == ("true", 1.0)
    assert (never.verdict, never.lower, never.upper) == ("undecided", -math.inf, math.inf)


def test_a_storm_of_decisions_restarts_the_watch():
    """A window has room for eight decisions a poll (500 ms); more begin it anew, and a verdict stays."""
    def row(i):
        return {"temp.a": 30.0 + i % 20 + i // 20 * 0.01, "state": 0}
    text = "always (temp.a > 40C -> always[0:10s] (temp.a > 20C))"
    calm = [(i * 0.0625, row(i)) for i in range(2000)]
    storm = [(i * 0.001, row(i)) for i in range(2000)]
    broken = storm + [(2.0, {"temp.a": 10.0, "state": 0}), (2.5, {"temp.a": 50.0, "state": 0}), (3, {"temp.a": 19.0, "state": 0})]
    (_, quiet), (_, many), (statuses, ended) = monitored([(text, calm), (text, storm), (text, broken)])
    assert quiet.restarts == 0 and quiet.verdict == "true"
    assert many.restarts > 0 and many.verdict == "true"
    assert statuses[-1].verdict == ended.verdict == "false"


def test_refusals_say_where_and_what_to_do():
    cases = {
        "always (temp.a < 95)": "g:7:27: '95' has no unit, expected a temperature",
        "always (temp.a < 95W)": "g:7:27: '95W' has the wrong unit",
        "always (tmp.a < 95C)": "g:7:18: unknown sensor 'tmp.a'",
        "always (temp.cpu < 95C": "g:7:32: expected ')'",
        "always (temp.cpuu < 95C) und": "g:7:35: expected an operator or the end, got 'und'",
        "alwais (temp.a < 95C)": "g:7:10: unknown sensor 'alwais', did you mean 'always'?",
        "battery.chrage > 5%": "did you mean 'battery.charge'?",
        "always temp.a": "g:7:23: expected one of < <= > >= == !== after temp.a, got the end",
        "temp.a != 5C": "g:7:17: expected one of",
        "5C < 6C": "g:7:10: a comparison of two numbers",
        "temp.a < battery.charge": "g:7:19: 'temp.a' and 'battery.charge' have different units",
        "eventually[5s:1s] temp.a > 5C": "g:7:20: a window that ends before it begins",
        "eventually[0:5] temp.a > 5C": "g:7:21: '0' has no unit",
        "eventually[0:5C] temp.a > 5C": "has the wrong unit",
        "eventually[0 5s] temp.a > 5C": "g:7:23: expected ':' in a window, got '5s'",
        "eventually[0:] temp.a > 5C": "expected a time such as 5s",
        "eventually[0:48h] temp.a > 5C": "a window reaches at most 86400 s",
        "always eventually temp.a > 5C": "g:7:17: 'eventually' inside another temporal operator needs a window",
        "once (temp.a < 5C until temp.b > 5C)": "'until' inside another temporal operator",
        "()": "g:7:11: expected a comparison such as temp.cpu < 95C, got ')'",
        "and temp.a < 5C": "expected a comparison",
        "temp.a < 5C and": "g:7:25: expected a comparison such as temp.cpu < 95C, got the end",
        "not " * 64 + "temp.a": "longer than 255 bytes",
        "!" * 64 + "state > 0": "more than 64 operators and comparisons",
        "eventually[0:24h] eventually[0:24h] eventually[0:24h] state > 0": "make them shorter or the poll longer",
    }
    answers = monitored([(text, []) for text in cases])
    for (text, expected), answer in zip(cases.items(), answers):
        assert isinstance(answer, str) and answer.startswith("refused ") and expected in answer, (text, answer)


tap.main()
