# not-sanitized: minutes of arithmetic that the other tests of the same code run in small
# long: minutes
"""The demonstration model's quality: perplexity against llama.cpp's, KL to the source, a run's schedule."""
import json
import os
import pathlib
import random
import subprocess
import tempfile

from tests import tap

work = tempfile.TemporaryDirectory(prefix="edgert-quality-")
folder = pathlib.Path(work.name)
edgert = tap.build / "edgert"
# llama.cpp's perplexity tool on this GGUF: wikitext-2 test, 60 windows of 512, second half scored.
LLAMA_CPP_PPL = 23.52


def models():
    """GGUF and pack of the demonstration model, as ./quickstart keeps them."""
    data = pathlib.Path(os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local/share") / "edgert/models"
    paths = data / "SmolLM2-135M-Instruct.Q4_1.gguf", data / "SmolLM2-135M-Instruct.edgert"
    for path in paths:
        if not path.exists():
            tap.skip(f"needs {path.name} in the data directory: ./quickstart makes it")
    return paths


def evaluate(pack, windows, *options):
    """The results of edgert eval by point."""
    text = tap.data("eval/wikitext-2-raw.test.txt")
    got = subprocess.run([edgert, "eval", pack, "--text", text, "--windows", str(windows), "--json", *map(str, options)],
                         capture_output=True, text=True)
    assert got.returncode == 0, got.stderr
    return {r["point"]: r for r in json.loads(got.stdout)["results"]}


def test_w8a8_perplexity_is_within_half_a_percent_of_llama_cpps():
    ppl = evaluate(models()[1], 60, "--point", "w8a8")["w8a8"]["ppl"]
    print(f"# w8a8 {ppl:.4f}, llama.cpp {LLAMA_CPP_PPL}")
    assert abs(ppl / LLAMA_CPP_PPL - 1) <= 0.005, ppl


def test_variants_stay_close_to_the_source():
    """The grid of this 4-bit source is found again, so that both variants are near it; each tier is further away."""
    gguf, pack = models()
    source = folder / "source.edgert"
    subprocess.run([edgert, "build", gguf, "-o", source, "--f32"], check=True, capture_output=True)
    got = evaluate(pack, 4, "--point", "w8a8", "--point", "w4a16", "--point", "w4a16-r90", "--reference", source)
    print("#", {p: round(r["kld"], 5) for p, r in got.items()})
    assert got["w8a8"]["kld"] < 0.008 and got["w4a16"]["kld"] < 0.01 < got["w4a16-r90"]["kld"], got
    assert abs(evaluate(source, 4)["f32"]["ppl"] / got["w8a8"]["ppl"] - 1) < 0.01


def test_under_swaps_every_few_tokens_a_text_reads_as_well_as_its_points():
    points = ["w8a8", "w4a16", "w4a16-r90"]
    rng, token, lines = random.Random(11), 0, []
    while token < 500:
        lines.append(f"{token} {rng.choice(points)}\n")
        token += rng.randint(1, 7)
    schedule = folder / "schedule"
    schedule.write_text("".join(lines))
    pack = models()[1]
    alone = [r["ppl"] for r in evaluate(pack, 4, *[o for p in points for o in ("--point", p)]).values()]
    mixed = evaluate(pack, 4, "--schedule", schedule)["schedule"]["ppl"]
    print(f"# alone {alone}, mixed {mixed}")
    assert min(alone) < mixed < max(alone)


if __name__ == "__main__":
    tap.main()
