# long: minutes under a sanitizer
"""The catalog of a pack: what the build writes is what the tensors and the scores say, and what the
reader takes back; a damaged one is refused."""
import copy
import pathlib
import subprocess
import tempfile

import numpy as np

from tests import tap
from tests.variants import tiny_gguf
from tools import packtool
from tools.packtool import layout, slicing
from tools.packtool.random_pack import random_pack

work = tempfile.TemporaryDirectory(prefix="edgert-catalog-")
folder = pathlib.Path(work.name)
MODELS = {"tied": tiny_gguf.model(n_embd=64, n_ff=512, tied=True), "untied": tiny_gguf.model(n_embd=80, n_ff=256)}
packs = {}


def pack(name):
    """A built pack of a random model; its last tiers carry a compensator."""
    if name not in packs:
        tiny_gguf.write(folder / f"{name}.gguf", MODELS[name], np.random.default_rng(5), lambda tensor: "F32")
        subprocess.run([tap.build / "tests/variants/drive_build", "build", folder / f"{name}.gguf",
                        folder / f"{name}.edgert", "comp=32", "truncate"], check=True)
        packs[name] = packtool.read_pack(folder / f"{name}.edgert")
    return packs[name]


def stored_bytes(p, variant):
    """(all that a one-tier pack's records hold for a variant, the embedding's share of it)."""
    of = {role: 0 for role in ("EMBED", "other")}
    for t in p.tensors.values():
        if t.role == "PAIRS":
            continue
        l = t.l if variant == "w8a8" or t.resident else b""
        of["EMBED" if t.role == "EMBED" else "other"] += len(t.data) + len(t.pairs) + len(t.outliers) + len(l)
    return sum(of.values()), of["EMBED"]


def test_bytes_are_those_of_the_sliced_file():
    for name in MODELS:
        p = pack(name)
        for tier, t in enumerate(p.meta["tiers"]):
            alone = slicing.sliced(p, tier)
            for variant in ("w8a8", "w4a16") + ("w4a8",) * (tier == 0):
                row = next(r for r in p.meta["catalog"] if r["point"] == variant + (f"-{t['name']}" if tier else ""))
                whole, embedding = stored_bytes(alone, variant)
                assert row["resident_bytes"] == whole, (name, row, whole)
                assert row["bytes_per_token"] == whole - (0 if p.model["tied"] else embedding), (name, row)


def test_dominated_means_beaten_beyond_noise():
    seen = set()
    for name in MODELS:
        rows = pack(name).meta["catalog"]
        for a in rows:
            others = [b for b in rows if b is not a and b["bytes_per_token"] <= a["bytes_per_token"]]
            seen.add(a["dominated"])
            if a["dominated"]:
                assert any(b["kld"] < a["kld"] for b in others), a
            # The difference is never less certain than both means together.
            elif any(b["kld"] + 2 * (a["kld_error"] + b["kld_error"]) < a["kld"] for b in others):
                raise AssertionError(("not marked", a, others))
    assert seen == {True, False}, "the test says nothing"


def test_columns_agree_with_each_other():
    for row in pack("tied").meta["catalog"]:
        assert 0 < row["kld_error"] < row["kld"] and 0 <= row["top1"] <= 1
        # Text that the source wrote: the excess of its log perplexity is the KL in the mean.
        assert abs(np.log(row["ppl_ratio"]) - row["kld"]) < 4 * row["ppl_ratio_error"] + 1e-3, row
    source = {round(row["ppl"] / row["ppl_ratio"], 6) for row in pack("tied").meta["catalog"]}
    assert len(source) == 1, source


# ---- the reader ----------------------------------------------------------------------------------

ROW = {"point": "w8a8", "bytes_per_token": 9, "resident_bytes": 10, "tokens": 1, "ppl": 3.0, "ppl_error": 0.1,
       "ppl_ratio": 1.1, "ppl_ratio_error": 0.1, "kld": 0.0, "kld_error": 0.1, "top1": 0.5, "top1_error": 0.1,
       "dominated": False}


def opened(catalog):
    """What the engine says to a pack with this catalog: 'ok' or its sentence."""
    made = copy.copy(random_pack(7, n_layers=1))
    made.meta["catalog"] = catalog
    layout.write_pack(made, folder / "read.edgert")
    done = subprocess.run([tap.build / "tests/runtime/drive_open_pack"], input=f"{folder / 'read.edgert'}\n",
                          capture_output=True, text=True, check=True)
    return done.stdout.rstrip("\n").split("\t", 1)[1]


def test_good_catalogs_are_read():
    old = {k: ROW[k] for k in ("point", "bytes_per_token", "tokens", "ppl", "kld")}
    for catalog in ([], [ROW], [old, dict(ROW, point="w4a16-r80")], [dict(ROW, later="x")]):
        assert opened(catalog) == "ok", catalog


def test_bad_catalogs_are_refused():
    for catalog, words in (
            ({}, "catalog is no list"), ("x", "catalog is no list"), ([7], "names no point"),
            ([dict(ROW, point="w9a9")], "w9a9"), ([dict(ROW, point="w8a8-r33")], "w8a8-r33"),
            ([dict(ROW, point="pause")], "names no point"), ([dict(ROW, point="f32")], "f32"),
            ([ROW, dict(ROW, point="w8a8-r100")], "once more"), ([dict(ROW, dominated=1)], "dominated"),
            ([ROW] * 257, "at most 256"),
            *(([{k: v for k, v in ROW.items() if k != key}], f"{key} of point w8a8")
              for key in ("bytes_per_token", "tokens", "ppl", "kld")),
            *(([dict(ROW, **{key: bad})], f"{key} of point w8a8")
              for key in ROW if key not in ("point", "dominated") for bad in (-1, "9", None, 1e301))):
        said = opened(catalog)
        assert words in said and "edgert build" in said, (catalog, said)


if __name__ == "__main__":
    tap.main()
