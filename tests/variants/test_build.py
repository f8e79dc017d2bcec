# long: minutes under a sanitizer
"""Packs built from tiny random models: the weights against the source through packtool, which knows the
format page alone; sizes, determinism, the catalog, and what an impossible build leaves behind."""
import hashlib
import os
import resource
import signal

import numpy as np

from tests import tap
from tests.variants import tiny_gguf
from tests.variants.building import ODD, PLAIN, build, built, folder, source
from tools import packtool

NO_LAYER = 0xFFFFFFFF
WIDE = tiny_gguf.wide_model()


def matrix(pack, role, layer=NO_LAYER, bits=8):
    return packtool.weights(packtool.decode(pack.tensor(role, layer)), bits)


def step_of(pack, role, layer=NO_LAYER):
    """d of every weight of a nested matrix without outliers."""
    w = packtool.decode(pack.tensor(role, layer))
    return np.repeat(w.d_row[:, None] * w.u_d.astype("f4"), 32, axis=1)


# ---- stored order back to the source's -----------------------------------------------------------

def match_rows(stored, rows):
    """For each source row the stored row nearest to it; all different."""
    near = ((rows[:, None] - stored[None]) ** 2).sum(axis=2).argmin(axis=1)
    assert len(set(near)) == len(near), "two rows of the source found the same stored row"
    return near


def head_rows(m):
    """Stored index of each row of Q (column of O) where head dimensions keep the source's order."""
    h, d = np.divmod(np.arange(m["n_heads"] * m["head_dim"]), m["head_dim"])
    return (d // 32 * m["n_heads"] + h) * 32 + d % 32


def kv_rows(m):
    h, d = np.divmod(np.arange(m["n_kv_heads"] * m["head_dim"]), m["head_dim"])
    return h * (-(-m["head_dim"] // 32) * 32) + d


def stored_places(pack, f, m, layer):
    """(source tensor, role, stored rows, stored columns) of one layer's matrices."""
    e, ff = np.arange(m["n_embd"]), match_rows(matrix(pack, "GATE", layer)[:, :m["n_embd"]], f[f"blk.{layer}.ffn_gate.weight"])
    q, kv = head_rows(m), kv_rows(m)
    return [("attn_q", "Q", q, e), ("attn_k", "K", kv, e), ("attn_v", "V", kv, e), ("attn_output", "O", e, q),
            ("ffn_gate", "GATE", ff, e), ("ffn_up", "UP", ff, e), ("ffn_down", "DOWN", e, ff)]


def worst_errors(pack, f, m):
    """Largest |W8 - w| / d and |W4 - w| / d over all matrices, and |padding|."""
    worst, pads = {4: 0, 8: 0}, 0
    for layer in range(m["n_layers"]):
        for name, role, rows, cols in stored_places(pack, f, m, layer):
            d = step_of(pack, role, layer)[np.ix_(rows, cols)]
            for bits in (4, 8):
                got = matrix(pack, role, layer, bits)
                error = np.abs(got[np.ix_(rows, cols)] - f[f"blk.{layer}.{name}.weight"]) / d
                worst[bits] = max(worst[bits], error.max())
            got[rows] = 0
            pads = max(pads, np.abs(got).max())
    return worst[4], worst[8], pads


def test_weights_are_within_the_bound_of_the_source():
    """A weight inside its group's 16 levels is within d/2 of W4 and, the residual reaching from -d/2 to
    7/16 d in steps of d/16, within d/16 of W8. A shrunk range clips at most 4 % of it at either end:
    0.6 d more, of which the residual takes what it can."""
    for name, m in (("odd", ODD), ("plain", PLAIN)):
        path, f = source(f"{name}.gguf", m)
        w4, w8, padding = worst_errors(built(path, f"{name}.edgert", "no-catalog", "nearest"), f, m)
        assert w4 <= 0.5 + 0.75 and w8 <= 0.0626 + 0.75, f"{name}: {w4} {w8}"
        assert padding == 0, padding


def test_most_weights_are_within_half_a_step():
    path, f = source("odd.gguf", ODD)
    pack = built(path, "odd.edgert", "no-catalog", "nearest")
    for bits, bound in ((4, 0.5), (8, 1 / 32)):
        got, d = matrix(pack, "EMBED", bits=bits), step_of(pack, "EMBED")
        error = np.abs(got[:ODD["n_vocab"], :80] - f["token_embd.weight"]) / d[:ODD["n_vocab"], :80]
        assert (error <= bound * 1.0001).mean() > 0.93, (error <= bound * 1.0001).mean()
        assert np.sqrt((error**2).mean()) < 2 * bound / np.sqrt(3), np.sqrt((error**2).mean())


def test_a_four_bit_grid_is_found_again():
    """The source's own levels come back, but for the rounding of scales to 8 bits under a row's pair."""
    for kind, m in (("Q4_0", PLAIN), ("Q4_1", PLAIN), ("Q4_K", WIDE)):
        path, f = source(f"{kind}.gguf", m, kind)
        pack = built(path, f"{kind}.edgert", "no-catalog", "tiers=100")
        down, w = matrix(pack, "DOWN", 0, 4), f["blk.0.ffn_down.weight"]
        found = np.sqrt(((down - w) ** 2).mean() / (w**2).mean())
        path, f = source(f"{kind}-f32.gguf", m, "F32")
        pack = built(path, f"{kind}.edgert", "no-catalog", "nearest", "tiers=100")
        down, w = matrix(pack, "DOWN", 0, 4), f["blk.0.ffn_down.weight"]
        fresh = np.sqrt(((down - w) ** 2).mean() / (w**2).mean())
        assert found < fresh / 5, f"{kind}: {found} of a grid, {fresh} of none"


def kinds_and_orders(m, kind_of):
    """What a pack says of a source: (type, order of MLP channels, matrices that keep both planes)."""
    path, _ = source("mix.gguf", m, kind_of)
    pack = built(path, "mix.edgert", "no-catalog")
    resident = {(t.role, t.layer) for t in pack.tensors.values() if t.resident}
    return pack.meta["source"]["type"], pack.meta["recipe"]["mlp_order"].split(" by")[0], resident


def test_a_mix_is_known_by_what_most_weights_are():
    """As Q4_K_M: the embedding, V and down of some layers at 6 bits, the middle layer among them."""
    m = tiny_gguf.wide_model(n_layers=2)
    more = ("token_embd.weight", "blk.1.attn_v.weight", "blk.1.ffn_down.weight")
    got = kinds_and_orders(m, lambda name: "Q6_K" if name in more else "Q4_K")
    assert got == ("Q4_K", "groups of 32 channels", {("EMBED", NO_LAYER), ("V", 1), ("DOWN", 1)}), got
    # Fewer bits are no reason for more, and what is quantized anew has nothing to lose.
    got = kinds_and_orders(m, lambda name: "Q2_K" if name in more else "Q4_K")
    assert got == ("Q4_K", "groups of 32 channels", set()), got
    for kind in ("Q3_K", "IQ4_XS", "Q6_K"):
        got = kinds_and_orders(m, lambda name: "Q8_0" if name in more else kind)
        assert got == (kind, "channels", set()), got


def test_an_f32_pack_is_the_source():
    """The weights of every type come out of the whole build with the bits that gguf-py reads."""
    types = [(kind, ODD) for kind in ("F32", "F16", "BF16")] + [(kind, WIDE) for kind in tiny_gguf.HALVES]
    for kind, m in types:
        path, f = source("exact.gguf", m, kind)
        pack = built(path, "exact.edgert", "f32")
        places = [("token_embd", "EMBED", NO_LAYER, np.arange(m["n_vocab"]), np.arange(m["n_embd"]))]
        for layer in range(m["n_layers"]):
            places += [(f"blk.{layer}.{name}", role, layer, rows, cols)
                       for name, role, rows, cols in stored_places(pack, f, m, layer)]
        for name, role, layer, rows, cols in places:
            got, exact = matrix(pack, role, layer), f[f"{name}.weight"]
            assert np.array_equal(got[np.ix_(rows, cols)].view("u4"), exact.view("u4")), (kind, name)
            got[np.ix_(rows, cols)] = 0
            assert not got.any(), f"{kind} {name}: padding"


def test_outliers_and_truncated_attention_keep_the_function():
    """Reordered residual, heads and pairs: the forward pass of the pack's W8 is that of the plain pack."""
    ids = np.random.default_rng(6).integers(0, PLAIN["n_vocab"], 24).tolist()
    for arch in ("llama", "qwen2", "qwen3"):
        path, _ = source(f"{arch}.gguf", dict(PLAIN, arch=arch))
        logits = []
        for options in (("f32",), ("no-catalog", "nearest"), ("no-catalog", "nearest", "outliers", "truncate", "tiers=100,60")):
            pack = built(path, "w.edgert", *options)
            variant = "f32" if options == ("f32",) else "w8a8"
            logits.append(packtool.reference_forward(pack, ids, [(variant, 0)] * len(ids)))
        qk = [d["qk"] for d in pack.meta["tiers"][1]["dims"]]
        assert qk == [64 if arch == "qwen3" else 32] * 2, (arch, qk)
        exact = np.asarray(logits[0])
        for got in logits[1:]:
            error = np.abs(np.asarray(got) - exact).max() / np.abs(exact).max()
            assert error < 0.05, (arch, error)


def test_nested_file_is_no_larger_than_its_largest_variant():
    path, _ = source("size.gguf", tiny_gguf.model(n_embd=256, n_ff=512, n_vocab=2000, n_layers=2))
    built(path, "nested.edgert")
    built(path, "one.edgert", "tiers=100", "no-catalog")
    built(path, "h.edgert", "h-only")
    size = {n: os.path.getsize(folder / f"{n}.edgert") for n in ("nested", "one", "h")}
    assert size["nested"] <= 1.05 * size["one"], size
    assert size["h"] <= 0.6 * size["one"], size


def test_tiers_keep_the_share_they_are_named_after():
    m = tiny_gguf.model(n_embd=64, n_heads=4, n_kv_heads=2, head_dim=16, n_ff=1024, n_layers=8)
    path, _ = source("tiers.gguf", m)
    pack = built(path, "tiers.edgert", "no-catalog")
    attention = (2 * 64 + 2 * 32) * 64
    for tier, spec in enumerate(pack.meta["tiers"]):
        widths = [d["mlp"] for d in spec["dims"]]
        extras = sum(4 * t.cols for t in pack.tensors.values() if tier and t.tier == tier)
        extras += sum(2 * 64 * d["comp"] for d in spec["dims"])
        kept = (sum(attention + 3 * 64 * w for w in widths) + extras) / (8 * (attention + 3 * 64 * 1024))
        assert spec["rank_percent"] - 1 < 100 * kept <= spec["rank_percent"], (spec["rank_percent"], kept)
        if tier:
            assert all(w <= d["mlp"] for w, d in zip(widths, pack.meta["tiers"][tier - 1]["dims"]))


def test_the_same_pack_whatever_the_threads():
    path, _ = source("odd.gguf", ODD)
    hashes = set()
    for threads in (1, 2, 5):
        built(path, "same.edgert", f"threads={threads}", "comp=8", "outliers")
        hashes.add(hashlib.sha256((folder / "same.edgert").read_bytes()).hexdigest())
    assert len(hashes) == 1


def nearly_linear(rng, shape, kind):
    """Weights of a model whose MLPs are almost linear, so that a map of low rank can stand in for channels: the same
    large value in the first place of every token opens all gates."""
    data, kind = tiny_gguf.raw_weights(rng, shape, kind)
    if shape == (270, 64) or shape == (512, 64):
        w = data.view("<f2").reshape(shape).copy()
        w[:, 0] = 3 if shape[0] == 270 else 0.5
        return w, kind
    return data, kind


def test_a_compensator_comes_nearer_to_the_source():
    """At the same widths (truncated attention, of which there is none to truncate, leaves them to the name of the tier
    alone): layers that lose little have none unless asked, those that lose much have one without."""
    m = tiny_gguf.model(n_embd=64, n_ff=512, tied=True)
    path = folder / "comp.gguf"
    tiny_gguf.write(path, m, np.random.default_rng(1), lambda name: "F16", make=nearly_linear)
    kld, layers = {}, {}
    for options in (("tiers=100,80",), ("tiers=100,80", "comp=1"), ("tiers=100,60",)):
        pack = built(path, "comp.edgert", *options, "truncate")
        layers[options] = {(t.layer, t.rows) for t in pack.tensors.values() if t.role == "COMP_V"}
        kld[options] = next(c["kld"] for c in pack.meta["catalog"] if c["point"].startswith("w8a8-r"))
    none, asked, standard = layers.values()
    assert none == set() and asked == standard == {(0, 32), (1, 32)}, layers
    assert kld["tiers=100,80", "comp=1"] < 0.5 * kld["tiers=100,80",], kld


def test_catalog_and_source_are_recorded():
    path, _ = source("odd.gguf", ODD)
    meta = built(path, "odd.edgert").meta
    points = [c["point"] for c in meta["catalog"]]
    assert points == [v + r for v in ("w8a8", "w4a16") for r in ("", "-r90", "-r80", "-r70")] + ["w4a8"], points
    assert all(c["ppl"] > 1 and c["kld"] >= 0 and c["tokens"] > 100 for c in meta["catalog"])
    rows = {c["point"]: c for c in meta["catalog"]}
    assert rows["w4a16"]["bytes_per_token"] < 0.6 * rows["w8a8"]["bytes_per_token"]
    assert rows["w8a8"]["kld"] < rows["w4a16"]["kld"]
    assert meta["source"]["bytes"] == path.stat().st_size and meta["source"]["file"] == path.name


def test_no_room_is_an_error_and_the_old_pack_stays():
    path, _ = source("odd.gguf", ODD)
    room = folder / "full"
    room.mkdir()
    (room / "p.edgert").write_bytes(b"the old one")

    def limit(size):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    for size, options in ((100_000, ()), (100_000, ("f32",)), (260_000, ())):  # the draft, an f32 pack, moments
        done = build(path, "full/p.edgert", *options, preexec_fn=lambda: limit(size))
        assert done.returncode == 1 and "cannot write: File too large" in done.stderr, (size, done.stderr)
        assert (room / "p.edgert").read_bytes() == b"the old one"
        assert {p.name for p in room.iterdir()} <= {"p.edgert", "p.edgert.build"}
    packtool.read_pack((built(path, "full/p.edgert"), room / "p.edgert")[1])
    assert [p.name for p in room.iterdir()] == ["p.edgert"]


def test_weights_that_are_no_numbers_are_refused():
    path = folder / "nan.gguf"
    def make(rng, shape, kind):
        w, kind = tiny_gguf.raw_weights(rng, shape, kind)
        if len(shape) == 2:
            w[1, 3] = np.nan
        return w, kind
    tiny_gguf.write(path, PLAIN, np.random.default_rng(7), lambda name: "F32", make)
    done = build(path, "nan.edgert", "no-catalog")
    assert done.returncode == 1 and "token_embd.weight' holds a weight that is no number" in done.stderr, done.stderr


if __name__ == "__main__":
    tap.main()
