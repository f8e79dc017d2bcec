"""eval --mcq against the golden model: the log-likelihoods of the choices by packtool's numpy forward pass on
HF-style token splits, the choices they mean, and the intervals by another formula."""
import json
import math

import numpy as np

from tests import tap
from tests.cli import stage
from tests.cli.stage import run
from tools import packtool
from tools.packtool.random_pack import random_pack
from tools.packtool.reference import reference_forward

LETTERS = list("abcdefghijklmnopqrstuvwxyz")
made = {}


def pack():
    if not made:
        made["pack"] = random_pack(7)
        made["path"] = stage.folder / "questions.edgert"
        packtool.layout.write_pack(made["pack"], made["path"])
    return made["path"]


def random_text(rng, n):
    return "".join(rng.choice(LETTERS + [" "], n))


def questions(n=8, seed=3):
    """Choices of very different lengths, prompts that end in blanks or not, one with letters beyond ASCII."""
    rng, out = np.random.default_rng(seed), []
    for q in range(n):
        n_choices = int(rng.integers(2, 5))
        prompt = "q" + random_text(rng, int(rng.integers(5, 30))).strip() + ":" + ("  " if q % 3 == 2 else "")
        gold = int(rng.integers(n_choices))
        for c in range(n_choices):
            words = random_text(rng, int(rng.integers(2, 4 + 8 * c))).strip() or "x"
            out.append({"id": f"q{q}_c{c}", "question_id": f"q{q}", "prompt": prompt, "choice_idx": c, "gold": gold,
                        "continuation": ("" if q % 3 == 2 else " ") + words + ("é½" if q == 1 else "")})
    return out


def write(entries, name="questions.json"):
    path = stage.folder / name
    path.write_text(entries if isinstance(entries, str) else json.dumps(entries, ensure_ascii=False))
    return path


def tokens(text):
    return json.loads(run("tokenize", "-m", pack(), "--json", text).stdout)["ids"]


def log_likelihood(entry, points):
    """As lm-evaluation-harness does: blanks that end the context belong to the continuation, and the tokens
    of both together are cut at the length of the context's own."""
    context = entry["prompt"].rstrip()
    whole = tokens(entry["prompt"] + entry["continuation"])
    at = len(tokens(context))
    x = reference_forward(made["pack"], whole[:-1], points[:len(whole) - 1]).astype("f8")
    lp = x - np.log(np.exp(x - x.max(axis=1, keepdims=True)).sum(axis=1, keepdims=True)) - x.max(axis=1, keepdims=True)
    return sum(lp[i - 1, whole[i]] for i in range(at, len(whole)))


def golden(entries, points):
    """([choice], [choice per character], [gold]) and the least margin of the two best of any question."""
    got, got_norm, gold, margin = [], [], [], math.inf
    for q in dict.fromkeys(e["question_id"] for e in entries):
        choices = [e for e in entries if e["question_id"] == q]
        sums = np.array([log_likelihood(e, points) for e in choices])
        norms = sums / [len(e["continuation"].lstrip()) for e in choices]
        for values, out in ((sums, got), (norms, got_norm)):
            out.append(int(np.argmax(values)))
            margin = min(margin, np.diff(np.sort(values)[-2:])[0])
        gold.append(choices[0]["gold"])
    return got, got_norm, gold, margin


def asked(*options, entries=None):
    got = run("eval", pack(), "--mcq", write(entries or questions()), "--json", *options)
    assert got.returncode == 0, got.stderr
    return json.loads(got.stdout)["questions"][0]["results"]


def wilson(k, n):
    """The roots of (share - p)^2 = z^2 p (1 - p) / n."""
    z2, p = 1.959963984540054 ** 2, k / n
    return np.sort(np.roots([1 + z2 / n, -2 * p - z2 / n, p * p]).real)


def check(result, points):
    choices, norm, gold, margin = golden(questions(), points)
    assert margin > 0.02, f"questions too close to call for this test: {margin}"
    assert result["answers"] == choices and result["answers_norm"] == norm, (result, choices, norm)
    for key, given in (("acc", choices), ("acc_norm", norm)):
        right = sum(a == b for a, b in zip(given, gold))
        assert abs(result[key] - right / len(gold)) < 1e-9
        assert np.allclose([result[key + "_low"], result[key + "_high"]], wilson(right, len(gold)), atol=1e-7), result
    assert choices != norm, "length makes no difference: the test says nothing"


def test_answers_are_the_golden_models():
    results = asked("--point", "w4a16", "--point", "w4a16-r80")
    assert [r["point"] for r in results] == ["w4a16", "w4a16-r80"]
    tier = [t["rank_percent"] for t in packs_tiers()].index(80)
    check(results[0], [("w4a16", 0)] * 200)
    check(results[1], [("w4a16", tier)] * 200)
    assert results[0]["answers_norm"] != results[1]["answers_norm"], "the points make no difference: the test says nothing"


def packs_tiers():
    pack()
    return made["pack"].meta["tiers"]


def test_a_schedule_answers_as_the_golden_model_does():
    schedule = stage.folder / "questions.schedule"
    schedule.write_text("0 w4a16\n4 w4a16-r80\n20 w4a16\n")
    tier = [t["rank_percent"] for t in packs_tiers()].index(80)
    points = [("w4a16", 0)] * 4 + [("w4a16", tier)] * 16 + [("w4a16", 0)] * 200
    check(asked("--schedule", schedule)[0], points)


def test_answers_do_not_depend_on_the_company():
    """A question alone, or after others whose beginnings the cache still holds."""
    together = asked("--point", "w8a8")[0]["answers_norm"]
    entries = questions()
    ids = list(dict.fromkeys(e["question_id"] for e in entries))
    alone = [asked("--point", "w8a8", entries=[e for e in entries if e["question_id"] == q])[0]["answers_norm"][0] for q in ids]
    assert together == alone


def test_the_table_says_the_same():
    results = asked("--point", "w4a16", "--point", "w4a16-r80")
    out = run("eval", pack(), "--mcq", write(questions()), "--point", "w4a16", "--point", "w4a16-r80").stdout
    gold = [e["gold"] for e in questions() if e["choice_idx"] == 0]
    right = [[a == g for a, g in zip(r["answers_norm"], gold)] for r in results]
    turned = f"{sum(b and not a for a, b in zip(*right))}, {sum(a and not b for a, b in zip(*right))}"
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert f"{100 * results[0]['acc']:.1f}%" in rows["w4a16"] and rows["w4a16-r80"].endswith(turned), (out, turned)
    assert "8 questions" in out
    some = run("eval", pack(), "--mcq", write(questions()), "--questions", 3, "--point", "w4a16", "--json").stdout
    assert json.loads(some)["questions"][0]["results"][0]["answers"] == results[0]["answers"][:3]


def test_files_that_ask_nothing_are_refused():
    good = questions(2)
    change = lambda i, **values: [dict(e, **values) if k == i else e for k, e in enumerate(good)]
    for entries, words in (
            ("{", "not JSON"), ("[]", "a list of choices"), ("{}", "a list of choices"), ("[7]", "entry 1: it needs"),
            ([{k: v for k, v in e.items() if k != "gold"} for e in good], "gold"), (change(0, continuation=" "), "blank"),
            (change(1, choice_idx=7), "choice_idx"), (change(0, gold=-1), "gold"), (change(1, prompt="other"), "same for all"),
            (good[:1], "only one"), ([dict(e, gold=30) for e in good], "gold"),
            ([dict(e, prompt="word " * 200) for e in good], "context")):
        got = run("eval", pack(), "--mcq", write(entries, "bad.json"))
        assert got.returncode == 1 and words in got.stderr, (words, got)
    missing = run("eval", pack(), "--mcq", "/nowhere/q.json")
    assert missing.returncode == 1 and "/nowhere/q.json" in missing.stderr
    for options in (["--text", write(good)], ["--switch", "w8a8:w4a16"], ["--window", 64]):
        assert run("eval", pack(), "--mcq", write(good), *options).returncode == 2
    assert run("eval", pack(), "--questions", 3, "--text", write(good)).returncode == 2


if __name__ == "__main__":
    tap.main()
