"""The oracles of the forward pass: packs made, sliced and run by the independent tools/packtool."""
import itertools
import pathlib
import subprocess
import tempfile

from tests import tap

try:
    import numpy as np

    from tools import packtool
except ImportError:
    np = None

work = pathlib.Path(tempfile.mkdtemp(prefix="edgert-oracles-"))
driver = tap.build / "tests/runtime/drive_forward"
TOKENS = 40
NESTED = ("w8a8", "w4a16", "w4a8")  # variants of a nested pack

# Shapes: each truncates mlp, qk and vo in its tiers, with biases, compensators, outlier groups and
# matrices kept at 8 bits; widths that need padding; grouped queries; tied and untied heads; biases of
# Q, K and V, norms of their heads, scaled RoPE.
SHAPES = {
    "gqa": dict(),
    "tied": dict(tied=True, n_heads=3, n_kv_heads=3, n_layers=3, l_resident=("DOWN",), no_l=("COMP_V", "COMP_U")),
    "padded": dict(no_l=("COMP_U",), n_embd=72, n_ff=172, head_dim=40, n_heads=6, n_kv_heads=1, n_vocab=133),
    "qwen2": dict(biases=True, rope_factors=True, n_heads=6, n_kv_heads=2, head_dim=72),
    "qwen3": dict(biases=True, head_norms=True, rope_factors=True, head_dim=40,
                  tiers=[(192, 64, 64), (128, 64, 64), (96, 64, 32)]),
    "plain": dict(extras=False, outliers=False, l_resident=(), head_dim=96, n_layers=1),
}


def need_packtool():
    if np is None:
        tap.skip("needs numpy and xxhash of Python")


def pack_of(name, seed=7, **more):
    path = work / f"{name}-{seed}-{'-'.join(map(str, more.values()))}.edgert"
    if not path.exists():
        packtool.make_random_pack(path, seed, **(SHAPES[name] | more))
    return path


def ids_of(path, n=TOKENS, seed=1):
    vocab = packtool.read_pack(path).model["n_vocab"]
    return np.random.default_rng(seed).integers(0, vocab, n)


def run(path, schedule, ids, threads=1, chunk=64, isa=None, cache_bits=16):
    """float32 [tokens][n_vocab] of our forward pass. schedule: [(token, point name)]."""
    (work / "schedule").write_text("".join(f"{t} {p}\n" for t, p in schedule))
    (work / "ids").write_text(" ".join(map(str, ids)))
    command = [driver, "--threads", str(threads), "--chunk", str(chunk), "--cache-bits", str(cache_bits)]
    command += ["--isa", isa] if isa else []
    done = subprocess.run([*command, path, work / "schedule", work / "ids", work / "out"],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.fromfile(work / "out", "<f4").reshape(len(ids), -1)


def point(variant, percent):
    return variant if percent == 100 else f"{variant}-r{percent}"


def percents(path):
    return [tier["rank_percent"] for tier in packtool.read_pack(path).meta["tiers"]]


def assert_same_bits(a, b, what):
    assert np.isfinite(a).all(), f"{what}: not finite"
    different = (a.view("<u4") != b.view("<u4")).any(axis=1)
    assert a.shape == b.shape and not different.any(), f"{what}: tokens {np.flatnonzero(different)[:5]} differ"


def rms(x):
    return float(np.sqrt(np.mean(np.square(x, dtype=np.float64))))


def assert_close(ours, reference, what, bound):
    """Within bound of the logits' size, by root mean square. A last-bit difference of an exp or a sum can
    tip a rounding to int8 or f16 over by one step, which the bound allows for; a wrong tier or variant
    is off by far more (test_tiers_and_variants_differ)."""
    error = rms(ours - reference) / rms(reference)
    assert error < bound, f"{what}: off by {error:.2e} of the logits' size"


def test_a_tier_equals_the_physically_sliced_file():
    need_packtool()
    for name in SHAPES:
        path = pack_of(name)
        ids = ids_of(path)
        for tier, percent in enumerate(percents(path)):
            cut = work / f"{name}-slice-{tier}.edgert"
            packtool.slice_pack(path, tier, cut)
            for variant in NESTED:
                # A slice has one tier, which is its widest: named without a suffix.
                assert_same_bits(run(path, [(0, point(variant, percent))], ids),
                                 run(cut, [(0, variant)], ids), f"{name} {variant} tier {tier}")


def test_tiers_and_variants_differ():
    need_packtool()
    path = pack_of("gqa")
    ids, seen = ids_of(path), []
    for percent in percents(path):
        for variant in ("w8a8", "w4a16"):  # w4a8 is w4a16 but for rounding
            logits = run(path, [(0, point(variant, percent))], ids)
            for other in seen:
                assert rms(logits - other) > 0.05 * rms(logits), f"{variant} {percent} repeats another"
            seen.append(logits)


def test_4_bit_points_equal_the_file_without_l_planes():
    need_packtool()
    for name in SHAPES:
        path, bare = pack_of(name), work / f"{name}-h.edgert"
        packtool.strip_l(path, bare)
        assert bare.stat().st_size < path.stat().st_size
        for percent in percents(path):
            for variant in ("w4a16", "w4a8"):
                p, ids = [(0, point(variant, percent))], ids_of(path)
                assert_same_bits(run(path, p, ids), run(bare, p, ids), f"{name} {variant} tier {percent}")


def random_schedule(path, seed, n=TOKENS):
    """Switches at random tokens, in both directions, and the (variant, tier) of each token."""
    rng = np.random.default_rng(seed)
    all_percents, schedule, per_token = percents(path), [], []
    for token in range(n):
        if token == 0 or rng.random() < 0.4:
            variant, tier = rng.choice(NESTED), int(rng.integers(len(all_percents)))
            schedule.append((token, point(str(variant), all_percents[tier])))
        per_token.append((str(variant), tier))
    return schedule, per_token


def test_any_switches_equal_the_points_applied_from_scratch():
    need_packtool()
    for name in SHAPES:
        path = pack_of(name)
        ids = ids_of(path)
        for seed in range(3):
            schedule, per_token = random_schedule(path, seed)
            assert len(set(per_token)) > 3
            assert_close(run(path, schedule, ids), packtool.reference_forward(path, ids, per_token),
                         f"{name} schedule {seed}", 0.03)


def test_switching_leaves_no_trace_in_bits():
    """The bits are those of a run at other threads that repeats every point for every token."""
    need_packtool()
    path = pack_of("gqa")
    ids, names = ids_of(path), percents(path)
    for seed in range(3):
        schedule, per_token = random_schedule(path, seed)
        every = [(i, point(v, names[t])) for i, (v, t) in enumerate(per_token)]
        assert_same_bits(run(path, schedule, ids), run(path, every, ids, threads=2), f"schedule {seed}")


def test_promotion_and_demotion_at_one_token_cancel():
    need_packtool()
    path = pack_of("gqa")
    ids = ids_of(path)
    for here, there in (("w4a16-r80", "w8a8"), ("w8a8", "w4a16-r70")):
        assert_same_bits(run(path, [(0, here), (20, there), (20, here)], ids),
                         run(path, [(0, here), (1, here)], ids), f"{here} by {there}")


def test_bits_do_not_depend_on_threads_or_chunks():
    need_packtool()
    for name in ("gqa", "padded", "qwen3"):
        path = pack_of(name)
        ids = ids_of(path, 140)  # attention takes in positions by 128
        for p in ("w8a8", "w4a16-r80", "w4a8-r80", "w8a8-r90"):
            first = run(path, [(0, p)], ids)
            for threads, chunk in ((2, 64), (3, 140), (1, 1), (2, 7), (3, 1)):
                assert_same_bits(first, run(path, [(0, p)], ids, threads, chunk), f"{name} {p} {threads} {chunk}")
            assert_same_bits(first, run(path, [(0, p), (1, p)], ids), f"{name} {p} token by token")


def test_every_point_is_near_numpy():
    need_packtool()
    for name in SHAPES:
        path = pack_of(name)
        ids = ids_of(path)
        for tier, percent in enumerate(percents(path)):
            for variant, bound in (("w8a8", 0.03), ("w4a16", 1e-3), ("w4a8", 0.03)):
                want = packtool.reference_forward(path, ids, [(variant, tier)] * len(ids))
                for isa in ("scalar", None):
                    assert_close(run(path, [(0, point(variant, percent))], ids, isa=isa), want,
                                 f"{name} {variant} tier {tier} {isa}", bound)


def test_an_8_bit_cache_is_near_numpy():
    """A change in the last place of numpy's own norms moves these logits by up to 1e-3 of their size, as keys and
    values tip over to the next code; 16 bits instead of 8 move them by more than the bound, and by less than 4 %."""
    a_cache_of_codes_is_near_numpy(8, 2e-3, 0.04)


def test_a_6_bit_cache_is_near_numpy():
    """A step of a value in 4 bits is 16 times as large: the same change of the norms moves these logits by up to 1e-2
    of their size, 16 bits instead by 3 to 23 %."""
    a_cache_of_codes_is_near_numpy(6, 0.02, 0.3)


def a_cache_of_codes_is_near_numpy(cache_bits, near, far):
    need_packtool()
    for name in SHAPES:
        path = pack_of(name)
        ids = ids_of(path)
        for tier, percent in enumerate(percents(path)):
            p, what = [(0, point("w4a16", percent))], f"{name} tier {tier}"
            want = packtool.reference_forward(path, ids, [("w4a16", tier)] * len(ids), cache_bits=cache_bits)
            for isa in ("scalar", None):
                assert_close(run(path, p, ids, isa=isa, cache_bits=cache_bits), want, f"{what} {isa}", near)
            with_16 = run(path, p, ids)
            assert_close(with_16, want, f"{what} with 16 bits", far)
            assert rms(with_16 - want) > near * rms(want), f"{what}: a cache of {cache_bits} bits is as one of 16"


def test_an_8_bit_cache_goes_through_any_switches():
    need_packtool()
    path = pack_of("gqa")
    ids = ids_of(path)
    for seed in range(3):
        schedule, per_token = random_schedule(path, seed)
        assert_close(run(path, schedule, ids, cache_bits=8),
                     packtool.reference_forward(path, ids, per_token, cache_bits=8), f"schedule {seed}", 0.03)


def test_bits_of_a_cache_of_codes_do_not_depend_on_threads_or_chunks():
    need_packtool()
    for name, cache_bits in itertools.product(("padded", "qwen3"), (8, 6)):
        path = pack_of(name)
        ids = ids_of(path, 140)
        for p in ("w8a8", "w4a16-r80"):
            first, what = run(path, [(0, p)], ids, cache_bits=cache_bits), f"{name} {p} {cache_bits}"
            for threads, chunk in ((2, 64), (3, 140), (1, 1), (2, 7)):
                assert_same_bits(first, run(path, [(0, p)], ids, threads, chunk, cache_bits=cache_bits),
                                 f"{what} {threads} {chunk}")
            assert_same_bits(first, run(path, [(0, p), (1, p)], ids, cache_bits=cache_bits), f"{what} token by token")


def test_f32_keeps_its_cache():
    need_packtool()
    path = pack_of("gqa", kind="f32")
    ids = ids_of(path)
    for cache_bits in (8, 6):
        assert_same_bits(run(path, [(0, "f32")], ids), run(path, [(0, "f32")], ids, cache_bits=cache_bits), "f32")


def test_f32_is_near_numpy():
    need_packtool()
    for name in ("gqa", "tied", "padded", "qwen2", "qwen3"):
        path = pack_of(name, kind="f32")
        ids = ids_of(path, 140 if name == "gqa" else TOKENS)
        for tier, percent in enumerate(percents(path)):
            want = packtool.reference_forward(path, ids, [("f32", tier)] * len(ids))
            got = run(path, [(0, point("f32", percent))], ids)
            assert_close(got, want, f"{name} f32 tier {tier}", 1e-5)
            assert_same_bits(got, run(path, [(0, point("f32", percent))], ids, threads=3, chunk=5), name)


def test_points_that_a_pack_has_not_are_refused():
    need_packtool()
    path, bare = pack_of("gqa"), work / "refused-h.edgert"
    packtool.strip_l(path, bare)
    for pack, name in ((path, "f32"), (path, "w8a8-r85"), (bare, "w8a8")):
        try:
            run(pack, [(0, name)], [1])
        except AssertionError as e:
            assert name in str(e) and "w4a16-r90" in str(e), e
        else:
            raise AssertionError(f"{name} was taken")


tap.main()
