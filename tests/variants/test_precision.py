# long: minutes under a sanitizer
"""Bits per weight: what is asked for is kept, and spent; the outlier group and the order of channels keep the
function. Packs are read by packtool, which knows the format page alone."""
import json
import re
import subprocess

import numpy as np

from tests import tap
from tests.variants import tiny_gguf
from tests.variants.building import PLAIN, build, built, folder, source
from tools import packtool

# Wide enough that an outlier group is thought to pay.
WIDE = tiny_gguf.model(n_embd=512, n_heads=4, n_kv_heads=2, head_dim=32, n_ff=256, n_layers=3, n_vocab=300, tied=True,
                       n_ctx=64)


def inspect(name):
    done = subprocess.run([tap.build / "edgert", "inspect", folder / name, "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def weights_of(m):
    attention = 2 * m["n_embd"] * m["head_dim"] * (m["n_heads"] + m["n_kv_heads"])
    return m["n_layers"] * (attention + 3 * m["n_embd"] * m["n_ff"]) + m["n_vocab"] * m["n_embd"]


def resident(pack):
    return {(t.role, t.layer) for t in pack.tensors.values() if t.resident}


def test_the_budget_is_kept_and_spent():
    path, _ = source("wide.gguf", WIDE)
    few, chosen = None, set()
    for bits in (5.2, 6, 8.9):
        pack = built(path, "wide.edgert", "no-catalog", "tiers=100", f"bpw={bits}")
        told = inspect("wide.edgert")
        own = 8 * told["h_bytes"] / weights_of(WIDE)
        assert abs(told["bits_per_weight"]["w4a16"] - own) < 1e-6, (told["bits_per_weight"], own)  # as printed
        assert told["bits_per_weight"]["w8a8"] > 8.4
        assert own <= bits, (own, bits)
        few, chosen = chosen, resident(pack)
        assert len(chosen) > len(few), (few, chosen)
        smallest = min(len(t.l) for t in pack.tensors.values() if t.kind == packtool.layout.NESTED and not t.resident) \
            if bits < 8.9 else 0
        assert bits == 8.9 or 8 * (told["h_bytes"] + smallest) / weights_of(WIDE) > bits, "room for one more is left"
    # All but one: a pack of two variants has something that only one of them reads.
    assert len(chosen) == 7 * WIDE["n_layers"], chosen


def test_too_few_bits_are_refused():
    path, _ = source("wide.gguf", WIDE)
    done = build(path, "few.edgert", "no-catalog", "tiers=100", "bpw=4.2")
    assert done.returncode == 1 and "4.20 bits per weight are too few" in done.stderr, done.stderr
    least = float(re.search(r"alone take ([0-9.]+)", done.stderr)[1])
    built(path, "few.edgert", "no-catalog", "tiers=100", f"bpw={least + 0.001}")


def test_a_wide_model_has_an_outlier_group_and_a_narrow_one_none():
    for m, groups in ((WIDE, 1), (PLAIN, 0)):
        path, _ = source("outliers.gguf", m)
        pack = built(path, "outliers.edgert", "no-catalog", "tiers=100")
        for t in pack.tensors.values():
            if t.role in ("Q", "K", "V", "GATE", "UP", "EMBED"):
                assert t.outlier_groups == groups, (t.role, t.outlier_groups)


def test_the_calibrated_pack_keeps_the_function():
    """Channels renumbered, spread over groups, rounded by what they cost: still the source's function. A channel in
    the wrong place would make errors of the size of the logits; rounding alone, to the nearest, makes 0.3 at W4."""
    path, _ = source("wide.gguf", WIDE)
    ids = np.random.default_rng(6).integers(0, WIDE["n_vocab"], 24)
    logits = {}
    for name, variant, options in (("f32", "f32", ("f32",)), ("w8", "w8a8", ("no-catalog", "tiers=100,60")),
                                   ("w4", "w4a16", ("no-catalog", "tiers=100,60"))):
        pack = built(path, "function.edgert", *options)
        logits[name] = np.asarray(packtool.reference_forward(pack, ids.tolist(), [(variant, 0)] * len(ids)))
    error = {n: np.sqrt(((logits[n] - logits["f32"]) ** 2).mean() / (logits["f32"] ** 2).mean()) for n in ("w8", "w4")}
    assert error["w8"] < 0.15 and error["w8"] < error["w4"] < 0.4, error


if __name__ == "__main__":
    tap.main()
