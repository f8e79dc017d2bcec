# not-sanitized: minutes of the real model; test_oracles.py runs the same code in small
"""The oracles on a real model: the pack of the demonstration model, or $EDGERT_TEST_PACK."""
import os
import pathlib
import subprocess
import tempfile

import numpy as np

from tests import tap
from tools import packtool

TOKENS = 40
work = tempfile.TemporaryDirectory(prefix="edgert-real-")
folder = pathlib.Path(work.name)


def real_pack():
    data = pathlib.Path(os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local/share")
    default = data / "edgert/models/SmolLM2-135M-Instruct.edgert"
    path = pathlib.Path(os.environ.get("EDGERT_TEST_PACK", default))
    if not path.exists():
        tap.skip(f"needs the pack {path.name} in the data directory (./quickstart makes it) or EDGERT_TEST_PACK")
    return path


def percents(path):
    return [tier["rank_percent"] for tier in packtool.read_pack(path).meta["tiers"]]


def point(variant, percent):
    return variant if percent == 100 else f"{variant}-r{percent}"


def ids_of(path, n=TOKENS):
    return np.random.default_rng(3).integers(0, packtool.read_pack(path).model["n_vocab"], n)


def logits(path, schedule, ids):
    """f32[tokens][n_vocab] of the engine. schedule: [(token, point name)]."""
    (folder / "schedule").write_text("".join(f"{t} {p}\n" for t, p in schedule))
    (folder / "ids").write_text(" ".join(map(str, ids)))
    command = [tap.build / "tests/runtime/drive_forward", "--threads", "2", path]
    subprocess.run([*command, folder / "schedule", folder / "ids", folder / "out"], check=True)
    return np.fromfile(folder / "out", "<f4").reshape(len(ids), -1)


def assert_same_bits(a, b, what):
    assert np.all(np.isfinite(a)) and np.array_equal(a.view("<u4"), b.view("<u4")), f"{what}: bits differ"


def test_every_tier_equals_its_physically_sliced_file():
    path = real_pack()
    ids, cut = ids_of(path), folder / "cut.edgert"
    for tier, percent in enumerate(percents(path)):
        packtool.slice_pack(path, tier, cut)
        for variant in ("w8a8", "w4a16"):
            # the slice's only tier is its widest: named without a suffix
            nested, alone = logits(path, [(0, point(variant, percent))], ids), logits(cut, [(0, variant)], ids)
            assert_same_bits(nested, alone, f"{variant} tier {percent}")


def test_w4a16_equals_the_file_without_l_planes():
    path = real_pack()
    ids, bare = ids_of(path), folder / "bare.edgert"
    packtool.strip_l(path, bare)
    for percent in percents(path):
        name = point("w4a16", percent)
        assert_same_bits(logits(path, [(0, name)], ids), logits(bare, [(0, name)], ids), name)


def test_switches_equal_the_points_applied_from_scratch_in_numpy():
    path = real_pack()
    ids, tiers = ids_of(path, 12), percents(path)
    per_token = [("w8a8", 0)] * 4 + [("w4a16", 1)] * 3 + [("w8a8", len(tiers) - 1)] * 2 + [("w4a16", 0)] * 3
    schedule = [(t, point(v, tiers[tier])) for t, (v, tier) in enumerate(per_token)]
    reference = packtool.reference_forward(path, ids, per_token)
    nudged = packtool.reference_forward(path, ids, per_token, nudge=2e-7)
    apart = lambda a: np.sqrt(np.mean((a - reference) ** 2)) / reference.std()
    error, roundings = apart(logits(path, schedule, ids)), apart(nudged)
    print(f"# apart by {error:.4f} of the logits' spread, roundings alone by {roundings:.4f}")
    assert error < 2 * roundings and roundings < 0.1


tap.main()
