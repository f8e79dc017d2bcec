"""Damaged packs through the engine, hundreds in one process: it refuses what breaks the format with a
sentence that a person can act on, survives whatever it takes, and never asks for much memory."""
import os
import pathlib
import re
import select
import shutil
import subprocess
import tempfile

from tests import tap
from tools import packtool

PER_PACK = 260
LIMIT_S = 10
LIMIT_KB = 400 * 1024
SHAPES = {
    "nested": dict(),
    "padded": dict(n_embd=80, head_dim=8, n_ff=172, tied=True, tokenizer="llama", outliers=False),
    "h-only": dict(kind="h-only", n_layers=1, biases=True, rope_factors=True),
    "qwen3": dict(n_layers=1, head_norms=True, biases=True, rope_factors=True,
                  tiers=[(192, 64, 64), (64, 64, 32)]),
    "f32": dict(kind="f32", n_embd=64, head_dim=8, n_ff=96, n_layers=1),
}
# What to do about it: a verb, or what was expected instead.
REMEDY = re.compile(r"build|copy|download|fetch|again|expected|must|needs?\b|use |check|should|at most|at least|"
                    r"update|newer|rebuild|known are|the pack has|this program runs", re.I)


class Driver:
    """drive_open_pack, one path at a time."""

    def __init__(self):
        options = dict(os.environ)
        sanitizer = options.get("ASAN_OPTIONS", "") + ":max_allocation_size_mb=512:quarantine_size_mb=32"
        options["ASAN_OPTIONS"] = sanitizer
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen([tap.build / "tests/runtime/drive_open_pack"], env=options,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)

    def open(self, path):
        """'ok' or the error's sentence; RuntimeError on a crash or a hang."""
        self.process.stdin.write(f"{path}\n".encode())
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], LIMIT_S)[0]:
            self.process.kill()
            raise RuntimeError(f"no answer after {LIMIT_S} s")
        line = self.process.stdout.readline().decode(errors="surrogateescape")
        if not line:
            raise RuntimeError(f"ended with {self.process.wait()}: {self.said()}")
        fields = line.rstrip("\n").split("\t", 2)
        return "ok" if fields[1] == "ok" else fields[2]

    def said(self):
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")[:3000]

    def most_memory_kb(self):
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+)", status)[1])

    def close(self):
        """The exit status: leak checkers speak up here."""
        self.process.stdin.close()
        return self.process.wait(LIMIT_S)


def complaint(name, path, must_refuse, answer):
    """What is wrong with an answer, or None."""
    if answer == "ok":
        return f"{name}: taken, but the format is broken" if must_refuse else None
    if answer.count(str(path)) != 1:
        return f"{name}: does not name the file once: {answer}"
    if "\n" in answer or not answer.isprintable():
        return f"{name}: unprintable: {answer!r}"
    return None if REMEDY.search(answer.replace(str(path), "")) else f"{name}: no remedy: {answer}"


def check(shape):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="edgert-bad-"))
    good, bad = folder / "good.edgert", folder / "bad.edgert"
    packtool.make_random_pack(good, 8, **SHAPES[shape])
    driver, complaints, refused = Driver(), [], 0
    assert driver.open(good) == "ok", driver.open(good)
    for name, content, must_refuse in packtool.damaged_copies(good, PER_PACK, seed=sum(map(ord, shape))):
        bad.write_bytes(content)
        try:
            answer = driver.open(bad)
        except RuntimeError as e:
            complaints.append(f"{name}: {e}")
            driver = Driver()
            continue
        refused += answer != "ok"
        complaints += filter(None, [complaint(name, bad, must_refuse, answer)])
    assert driver.open(good) == "ok"
    if driver.most_memory_kb() > LIMIT_KB:
        complaints.append(f"used {driver.most_memory_kb()} KB")
    if driver.close():
        complaints.append(f"ended badly: {driver.said()}")
    shutil.rmtree(folder)
    print(f"# {shape}: {PER_PACK} damaged packs, {refused} refused")
    assert not complaints, "\n".join(complaints)


def test_damaged_nested_packs():
    check("nested")


def test_damaged_packs_with_padded_widths():
    check("padded")


def test_damaged_h_only_packs():
    check("h-only")


def test_damaged_f32_packs():
    check("f32")


def test_damaged_packs_with_biases_and_norms_of_heads():
    check("qwen3")


def test_files_that_are_no_packs():
    folder = pathlib.Path(tempfile.mkdtemp(prefix="edgert-bad-"))
    contents = {"empty": b"", "text": b"hello\n" * 1000, "gguf": b"GGUF" + bytes(9000), "zeros": bytes(70000)}
    driver = Driver()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        assert complaint(name, folder / name, True, driver.open(folder / name)) is None, driver.open(folder / name)
    for path in (folder / "absent", folder):
        answer = driver.open(path)
        assert answer != "ok" and str(path) in answer, answer
    assert driver.close() == 0
    shutil.rmtree(folder)


tap.main()
