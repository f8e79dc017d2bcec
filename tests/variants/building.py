"""Builds of tiny random models through drive_build, for the tests of packs."""
import pathlib
import subprocess
import tempfile

import numpy as np

from tests import tap
from tests.variants import tiny_gguf
from tools import packtool

work = tempfile.TemporaryDirectory(prefix="edgert-build-")
folder = pathlib.Path(work.name)
DRIVER = tap.build / "tests/variants/drive_build"
# Not multiples of 32, grouped-query attention, untied: every kind of padding.
ODD = tiny_gguf.model(n_embd=80, n_heads=6, n_kv_heads=2, head_dim=20, n_ff=172, n_ctx=64)
PLAIN = tiny_gguf.model(n_embd=64, n_heads=4, n_kv_heads=2, head_dim=64, n_ff=256, tied=True, n_ctx=64)


def source(name, m, kind="F32", seed=5):
    """(path, {tensor: floats}) of a random model; kind names one type, or maps tensor names to types."""
    path = folder / name
    made = tiny_gguf.write(path, m, np.random.default_rng(seed), kind if callable(kind) else lambda name: kind)
    return path, {n: tiny_gguf.floats(made[n], s) for n, s in tiny_gguf.shapes(m).items()}


def build(src, out, *options, tokens=1024, **more):
    """A build calibrated on a short text: what is built is tiny."""
    command = [DRIVER, "build", src, folder / out, f"tokens={tokens}", *options]
    return subprocess.run(command, capture_output=True, text=True, **more)


def built(src, out, *options, **more):
    done = build(src, out, *options, **more)
    assert done.returncode == 0, done.stderr
    return packtool.read_pack(folder / out)
