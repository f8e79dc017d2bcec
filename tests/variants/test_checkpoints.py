"""Tiny checkpoints of every architecture against the logits that transformers computes from them, as GGUF
files and through the points of a nested pack. tools/make-fixtures made both."""
import pathlib
import subprocess
import tempfile

import numpy as np

from tests import tap
from tests.variants import checkpoint
from tools import packtool

work = tempfile.TemporaryDirectory(prefix="edgert-checkpoints-")
folder = pathlib.Path(work.name)
BUILDER = tap.build / "tests/variants/drive_build"
RUNNER = tap.build / "tests/runtime/drive_forward"
# Both sides compute in float32 and sum in different orders: measured 8e-6 at most.
BOUND = 2e-5


def build(source, out, *options):
    return subprocess.run([BUILDER, "build", source, folder / out, *options], capture_output=True, text=True)


def built(source, out, *options):
    done = build(source, out, *options)
    assert done.returncode == 0, done.stderr
    return folder / out


def logits(pack, point, ids):
    (folder / "schedule").write_text(f"0 {point}\n")
    (folder / "ids").write_text(" ".join(map(str, ids)))
    done = subprocess.run([RUNNER, pack, folder / "schedule", folder / "ids", folder / "out"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.fromfile(folder / "out", "<f4").reshape(len(ids), -1)


def error_of(pack, name, point="f32", largest=True):
    """Difference of the logits to transformers', the largest or the root mean square, as a share of the
    logits' size, over all positions that the pack's context has."""
    ids, wanted = checkpoint.golden(name)
    n = min(len(ids), packtool.read_pack(pack).model["n_ctx"])
    got = logits(pack, point, ids[:n])
    difference = np.abs(got - wanted[:n])
    return (difference.max() if largest else np.sqrt((difference**2).mean())) / wanted.std()


def test_gguf_files_compute_what_transformers_does():
    for name in checkpoint.NAMES:
        checkpoint.write_gguf(folder / f"{name}.gguf", name)
        pack = built(folder / f"{name}.gguf", "f32.edgert", "f32")
        error = error_of(pack, name)
        print(f"# {name}: {error:.1e}")
        assert error < BOUND, f"{name}: {error}"


def test_a_sliding_window_ends_the_context_and_is_told():
    checkpoint.write_gguf(folder / "mistral.gguf", "mistral")
    meta = packtool.read_pack(built(folder / "mistral.gguf", "m.edgert", "f32")).meta
    assert meta["model"]["n_ctx"] == 32 and "32 of 64 tokens" in meta["recipe"]["context"], meta["recipe"]
    assert meta["model"]["arch"] == "llama"


def test_nested_packs_of_every_architecture_run():
    """w8a8 and w4a16 of all tiers, the attention truncated where it can be; the pack's own forward pass against
    numpy's of packtool, which reads the same bytes."""
    ids = checkpoint.golden("qwen2")[0][:20]
    for name in ("llama3", "qwen2", "qwen3"):
        checkpoint.write_gguf(folder / f"{name}.gguf", name)
        pack = built(folder / f"{name}.gguf", "nested.edgert", "tiers=100,60", "truncate", "comp=8")
        error = error_of(pack, name, "w8a8", largest=False)
        print(f"# {name} w8a8: {error:.1e}")
        assert error < 0.2, error  # a wrong norm, bias or rotation: 1 and more
        for tier in packtool.read_pack(pack).meta["tiers"]:
            whole = {d["qk"] for d in tier["dims"]} == {32}
            assert whole or name != "qwen3"
            percent = tier["rank_percent"]
            for variant, bound in (("w8a8", 0.03), ("w4a16", 1e-3)):
                got = logits(pack, variant if percent == 100 else f"{variant}-r{percent}", ids)
                wanted = packtool.reference_forward(pack, ids, [(variant, 0 if percent == 100 else 1)] * len(ids))
                assert np.sqrt(((got - wanted) ** 2).mean()) < bound * wanted.std(), (name, variant, percent)


if __name__ == "__main__":
    tap.main()
