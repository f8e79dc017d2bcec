"""`--memory`: what the process keeps, sampled while it answers; what is given up for it, and what is refused."""
# not-sanitized: a sanitizer's own memory is in the process's
import os
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, os.environ.get("PYTHONPATH", "."))
from tests import tap  # noqa: E402
from tests.cli import stage  # noqa: E402
from tools import packtool  # noqa: E402
from tools.packtool.random_pack import random_pack  # noqa: E402

MB = 1e6
PROMPT = "abcdefghij" * 5


def pack():
    """Large enough to tell from the program: 14 MB of H plane, 11 MB of L plane. Sections on 2 MiB, as a build has them."""
    path = stage.folder / "large.edgert"
    if not path.exists():
        made = random_pack(3, n_layers=6, n_embd=512, n_heads=8, n_kv_heads=4, n_ff=1536, n_vocab=4000, n_ctx=4096,
                           l_resident=())
        made.meta["tokenizer"]["eos"] = []
        made.meta["catalog"] = [{"point": "w4a16", "bytes_per_token": 5, "resident_bytes": 1234567, "ppl": 4.0, "kld": 0.1,
                                 "tokens": 1}]
        page, packtool.layout.PAGE = packtool.layout.PAGE, 2 << 20
        packtool.layout.write_pack(made, path)
        packtool.layout.PAGE = page
        os.sync()
    return path


def planes():
    """Bytes of the planes H and L."""
    text = stage.run("inspect", pack(), "--json").stdout
    return (stage.json.loads(text)[name] for name in ("h_bytes", "l_bytes"))


def rss(pid):
    """Bytes resident, of all and of the pack; the most there ever was."""
    rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    mapped, ours = 0, False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            ours = line.endswith(str(pack()))
        elif ours and line.startswith("Rss:"):
            mapped += int(line.split()[1]) * 1024
    return (int(re.search(r"Rss: +(\d+)", rollup)[1]) * 1024, mapped, int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024)


def answer(*options, tokens=150):
    """What a run prints, and the most that was in memory at any look at it: of the process, of the pack."""
    command = [stage.edgert, "run", "-m", pack(), "-t", "2", "--raw", "--json", "-n", tokens, *options, PROMPT]
    process = subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said, most, most_mapped = [], 0, 0
    for line in process.stdout:
        said.append(stage.json.loads(line))
        try:
            resident, mapped, high = rss(process.pid)
        except (OSError, TypeError):  # it has ended
            continue
        most, most_mapped = max(most, resident, high), max(most_mapped, mapped)
    assert process.wait() == 0, process.stderr.read()
    assert sum(s["type"] == "token" for s in said) >= tokens
    return said, most, most_mapped


def needed(*options):
    """What a refusal says would do, in MB; the sentence."""
    refused = stage.run("run", "-m", pack(), "-t", "2", "--memory", "1MB", *options, "a")
    assert refused.returncode == 1 and refused.stdout == "", refused.stderr
    return int(re.search(r"give at least (\d+) MB", refused.stderr)[1]), refused.stderr


def points(said):
    return {s["point"].split("@")[0] for s in said if s["type"] == "token"}


def notices(said):
    return [s["text"] for s in said if s["type"] == "notice"]


def test_it_holds_over_an_answer_with_switches():
    h, l = planes()
    memory = needed()[0] * MB + l + 2 * MB  # the planes fit, a long context does not
    said, most, mapped = answer(*stage.swinging(), "--memory", f"{memory / MB}MB")
    assert most <= memory, (most, memory)
    assert {"w8a8", "w4a16"} <= points(said), points(said)
    assert mapped > h + 0.9 * l, mapped  # the L planes were there
    assert any("context" in text for text in notices(said)), said


def test_it_holds_where_the_l_planes_do_not_fit():
    h, l = planes()
    memory = needed()[0] * MB
    said, most, mapped = answer(*stage.swinging(), "--memory", f"{memory / MB}MB")
    assert most <= memory, (most, memory)
    assert 0.9 * h < mapped < pack().stat().st_size - 0.9 * l, (mapped, h, l)  # the pages of other sections at most
    assert "w8a8" not in points(said) and "w4a16" in points(said), points(said)
    assert any("no point that reads the L planes" in text and "a context of" in text for text in notices(said)), notices(said)
    swaps = [s for s in said if s["type"] == "switch"]
    assert swaps and "w8a8" not in {s["to"].split("@")[0] for s in swaps}
    assert any("does not fit into" in s["reason"] for s in swaps), swaps


def test_a_policy_read_again_must_fit_too():
    path = stage.folder / "again.yaml"
    path.write_text(stage.POLICY)
    process = subprocess.Popen([str(word) for word in (
        stage.edgert, "run", "-m", pack(), "-t", 2, "--raw", "--json", "-n", 0, "-p", "swing", "--policy-file", path, "--sensors",
        f"replay:{stage.trace((40, 60))}@20", "--memory", f"{needed()[0]}MB", "a")], stdout=subprocess.PIPE, text=True)
    said = [stage.json.loads(process.stdout.readline()) for _ in range(40)]
    path.write_text("edgert: 1\nladders: {eight: [w8a8, w8a8-r80, pause]}\npolicies: {swing: {ladder: eight}}\n")
    for line in process.stdout:
        said.append(stage.json.loads(line))
        if said[-1]["type"] == "notice" and "stays" in said[-1]["text"]:
            break
    process.kill()
    process.wait()
    assert "the policy that holds stays" in said[-1].get("text", "") and "reads the L planes" in said[-1]["text"], said[-1]
    assert points(said) == {"w4a16"}, points(said)


def test_a_fixed_point_holds_and_a_conversation_is_no_longer_than_fits():
    memory = needed()[0] + 3
    said, most, _ = answer("--point", "w4a16", "--memory", f"{memory}MB", tokens=450)
    assert most <= memory * MB, (most, memory)
    context = int(re.search(r"a context of (\d+) tokens instead of 4096", notices(said)[0])[1])
    assert 512 <= context < 4096, context


def test_one_conversation_after_the_other_holds():
    """Of other lengths each, full: what the heap keeps of one would be beside the next."""
    lengths = (1500, 1000, 1750)
    def talk(memory):
        command = [tap.build / "tests/engine/drive_talks", pack(), memory, *lengths]
        return subprocess.run([str(word) for word in command], capture_output=True, text=True)

    memory = int(re.search(r"give at least (\d+) MB", talk(1000000).stderr)[1]) * 1000000
    got = talk(memory)
    resident = [int(line) for line in got.stdout.split()]
    assert got.returncode == 0 and len(resident) == len(lengths), got
    assert resident[1] + 3 * MB < resident[2] < resident[0] + 4 * MB, resident
    assert max(resident) <= memory, (resident, memory)


def test_more_memory_is_a_longer_context_and_then_the_l_planes():
    base, lengths = needed()[0], []
    for more in (0, 4, 8):
        text = stage.run("run", "-m", pack(), "-t", "2", "--point", "w4a16", "--memory", f"{base + more}MB", "-n", 1, "a")
        lengths.append(int(re.search(r"context of (\d+) tokens", text.stderr)[1]))
    assert lengths == sorted(set(lengths)), lengths
    plenty = stage.run("run", "-m", pack(), "-t", "2", "--point", "w8a8", "--memory", "900MB", "-n", 1, "a")
    assert plenty.returncode == 0 and "within" not in plenty.stderr, plenty.stderr


def test_what_is_refused_says_what_would_fit():
    least, sentence = needed()
    assert "conversation of 512 tokens" in sentence and "weights at 4 bits" in sentence, sentence
    assert stage.run("run", "-m", pack(), "-t", "2", "--memory", f"{least}MB", "-n", 1, "a").returncode == 0
    assert stage.run("run", "-m", pack(), "-t", "2", "--memory", f"{least - 4}MB", "-n", 1, "a").returncode == 1
    point = stage.run("run", "-m", pack(), "-t", "2", "--memory", f"{least}MB", "--point", "w8a8", "a")
    assert point.returncode == 1 and "w8a8 reads the L planes" in point.stderr, point.stderr
    enough = int(re.search(r"give at least (\d+) MB", point.stderr)[1])
    assert stage.run("run", "-m", pack(), "-t", "2", "--memory", f"{enough + 1}MB", "--point", "w8a8", "-n", 1, "a").returncode == 0


def test_a_context_that_was_asked_for_is_kept_or_refused():
    least = needed()[0]
    long = needed("--context", "3000")
    assert "conversation of 3000 tokens" in long[1] and long[0] > least + 5, long
    kept = stage.run("run", "-m", pack(), "-t", "2", "--memory", f"{long[0]}MB", "--context", "3000", "-n", 1, "a")
    assert kept.returncode == 0 and "a context of" not in kept.stderr, kept.stderr
    short = stage.run("run", "-m", pack(), "-t", "2", "--memory", f"{least}MB", "--context", "100", "-n", 1, "a")
    assert short.returncode == 0 and "a context of" not in short.stderr, short.stderr


def test_bench_tells_what_each_point_keeps():
    """The embedding aside, of which a run reads single rows, a point reads its planes: no page of L at 4 bits."""
    h, l = planes()
    said = stage.run("bench", pack(), "-t", 2, "-p", 64, "-n", 4, "-r", 1, "--json", "--point", "w8a8", "--point", "w4a16",
                     "--point", "w4a16-r70", "--point", "w8a8")
    rows = stage.json.loads(said.stdout)["memory"]
    assert [r["point"] for r in rows] == ["w8a8", "w4a16", "w4a16-r70", "w8a8"]
    assert [r["catalog_bytes"] for r in rows] == [None, 1234567, None, None]
    assert all(r["resident_bytes"] > r["weights_bytes"] + 5 * MB for r in rows), rows
    w8, w4, r70, again = (r["weights_bytes"] for r in rows)
    assert 0.9 * l < w8 - w4 < 1.1 * l and abs(w8 - again) < 0.1 * MB, (rows, l)
    assert h - 1.5 * MB < w4 < h + 2 * MB, (rows, h)
    assert r70 <= w4, rows  # less where pages come singly; the kernel may map a large folio whole
    text = stage.run("bench", pack(), "-t", 2, "-p", 8, "-n", 1, "-r", 1, "--point", "w4a16").stdout
    row = re.search(r"^w4a16 +([0-9.]+) +([0-9.]+) +1.2$", text, re.MULTILINE)
    assert row and abs(float(row[2]) - w4 / MB) < 1, text


def test_a_size_has_a_unit():
    for size, words in (("300", "has no unit"), ("300 apples", "wrong unit"), ("0MB", "not from 1MB"), ("-3GB", "not from 1MB")):
        said = stage.run("run", f"--memory={size}", "a")
        assert said.returncode == 2 and words in said.stderr, said.stderr


if __name__ == "__main__":
    tap.main()
