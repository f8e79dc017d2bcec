# not-sanitized: Python alone
"""packtool against docs/pack-format.md, read once more: slow scalar loops over the bytes."""
import math
import pathlib
import struct
import tempfile

import numpy as np

from tests import tap
from tools import packtool
from tools.packtool import layout, matrix
from tools.packtool.damage import KINDS_OF_DAMAGE

f32 = np.float32
folder = pathlib.Path(tempfile.mkdtemp(prefix="edgert-packtool-"))
SHAPES = {
    "nested": dict(biases=True, rope_factors=True),
    "padded": dict(n_embd=80, head_dim=8, n_ff=172, n_heads=6, n_kv_heads=2, tied=True),
    "bare": dict(outliers=False, extras=False, l_resident=(), n_layers=1),
    "h-only": dict(kind="h-only"),
    "f32": dict(kind="f32", n_embd=64, head_dim=8, n_ff=172, n_heads=8, n_kv_heads=4, tied=True),
    "f32 qwen": dict(kind="f32", n_embd=64, head_dim=8, n_ff=172, n_heads=8, n_kv_heads=4, tied=True,
                     biases=True, head_norms=True, rope_factors=True),
}


def made(shape, seed=1):
    path = folder / f"{shape}-{seed}.edgert"
    if not path.exists():
        packtool.make_random_pack(path, seed, **SHAPES[shape])
    return path


def variants_of(pack):
    return {"nested": ["w8a8", "w4a16", "w4a8"], "h-only": ["w4a16", "w4a8"], "f32": ["f32"]}[pack.meta["kind"]]


# ---- scalar readings of the format ---------------------------------------------------------------

def block_number(t, tile, group):
    """Panel after panel, in a panel tile after tile, in a tile group after group."""
    width = t.panel_groups or t.groups
    panel = group // width
    here = min(width, t.groups - panel * width)
    return panel * width * t.tiles + tile * here + group - panel * width


def nibble(plane, row, column):
    p, j, high = column % 16 // 4, column % 4, column >= 16
    byte = plane[(p * 16 + row) * 4 + j]
    return byte >> 4 if high else byte & 15


def bf16_at(raw, at):
    return struct.unpack("<f", b"\0\0" + raw[at:at + 2])[0]


def f16_at(raw, at):
    return struct.unpack("<e", raw[at:at + 2])[0]


def scalar_parts(t, row, column):
    """d, m, h, l of one weight, in doubles; l None where there is none."""
    tile, r = divmod(row, 16)
    group, c = divmod(column, 32)
    if group < t.outlier_groups:
        block = t.outliers[tile * 576:][:576]
        return f16_at(block, 2 * r), f16_at(block, 32 + 2 * r), nibble(block[64:], r, c), nibble(block[320:], r, c)
    number = block_number(t, tile, group - t.outlier_groups)
    block, l = t.data[number * 288:][:288], t.l[number * 256:][:256]
    pairs = t.pairs[tile * 64:][:64]
    return (bf16_at(pairs, 2 * r) * block[r], bf16_at(pairs, 32 + 2 * r) * block[16 + r],
            nibble(block[32:], r, c), nibble(l, r, c) if l else None)


def scalar_weight(t, row, column, bits):
    """In doubles: agrees with floats within their rounding."""
    if t.kind == layout.F32_MATRIX:
        number = block_number(t, row // 16, column // 32)
        return struct.unpack_from("<f", t.data, number * 2048 + 4 * (column % 32 * 16 + row % 16))[0]
    d, m, h, l = scalar_parts(t, row, column)
    if bits == 8 or t.resident or column < 32 * t.outlier_groups:
        return d / 16 * (16 * h + l) - (m + d / 2)
    return d * h - m


def scalar_product(t, x, bits, act_max):
    """One row of W x after the other, each float operation rounded as "Arithmetic" says."""
    scale, q = [], []
    for g in range(len(x) // 32):
        part = x[32 * g:32 * g + 32]
        most = 32767 if g < t.outlier_groups else act_max
        amax = max(abs(v) for v in part)
        scale.append(f32(amax) / f32(most))
        up = f32(most) / f32(amax) if amax else f32(0)
        q.append([max(-most, min(most, int(np.rint(f32(v) * up)))) for v in part])
    return [scalar_row(t, row, scale, q, bits == 8 or t.resident) for row in range(t.rows)]


def fused(a, b, c):
    return f32(float(a) * float(b) + float(c))


def scalar_row(t, row, scale, q, full):
    y = o = f32(0)
    tile, r = divmod(row, 16)
    d_row, m_row = f32(bf16_at(t.pairs, tile * 64 + 2 * r)), f32(bf16_at(t.pairs, tile * 64 + 32 + 2 * r))
    d_row = d_row * f32(0.0625) if full else d_row
    for g, (s, values) in enumerate(zip(scale, q)):
        parts = [scalar_parts(t, row, 32 * g + i) for i in range(32)]
        total = sum(values)
        outlier = g < t.outlier_groups
        if full or outlier:
            dot = sum((16 * p[2] + p[3]) * v for p, v in zip(parts, values)) - 8 * total
        else:
            dot = sum(p[2] * v for p, v in zip(parts, values))
        if outlier:
            d, m = f32(parts[0][0]), f32(parts[0][1])
            o = f32(dot) * (d * f32(0.0625) * s) - m * (s * f32(total))
        else:
            block = t.data[block_number(t, tile, g - t.outlier_groups) * 288:][:288]
            y = fused(f32(dot), d_row * f32(block[r]) * s, y)
            y = fused(-(m_row * f32(block[16 + r])), s * f32(total), y)
    return y + o if t.outlier_groups else y


# ---- tests ---------------------------------------------------------------------------------------

def test_weights_equal_a_scalar_reading_of_the_bytes():
    rng, seen = np.random.default_rng(5), set()
    for shape in SHAPES:
        pack = packtool.read_pack(made(shape))
        for t in pack.tensors.values():
            if t.kind not in (layout.NESTED, layout.F32_MATRIX):
                continue
            decoded = packtool.decode(t)
            for bits in (8, 4) if t.l else (4,):
                w = packtool.weights(decoded, bits)
                assert w.shape == (t.rows, t.cols) and w.dtype == f32
                seen.add((t.kind, bits, bool(t.outlier_groups), bool(t.panel_groups), t.resident))
                for row, column in zip(rng.integers(0, t.rows, 60), rng.integers(0, t.cols, 60)):
                    slow = scalar_weight(t, int(row), int(column), bits)
                    assert math.isclose(w[row, column], slow, rel_tol=1e-5, abs_tol=1e-6), (t.role, row, column)
    assert len(seen) >= 8, seen  # every kind of matrix came by


def test_products_equal_scalar_loops_bit_for_bit():
    rng = np.random.default_rng(6)
    pack = packtool.read_pack(made("nested", seed=2))
    for role in ("K", "O", "COMP_U", "EMBED"):
        t = next(t for t in pack.tensors.values() if t.role == role)
        x = (rng.standard_normal((2, t.cols)) * 10 ** rng.uniform(-3, 3, (2, t.cols))).astype(f32)
        x[0, :32] = 0
        for bits, act_bits in ((8, 8), (4, 16), (4, 8)):
            y = matrix.product(packtool.decode(t), x, t.rows, t.cols, bits, act_bits)
            slow = [scalar_product(t, column, bits, 127 if act_bits == 8 else 32767) for column in x]
            assert np.array_equal(y, np.array(slow, f32)), (role, bits)


def test_nibbles_and_panels_have_inverses():
    rng = np.random.default_rng(7)
    planes = rng.integers(0, 256, (3, 5, 256), dtype=np.uint8)
    assert np.array_equal(layout.pack_nibbles(layout.unpack_nibbles(planes)), planes)
    for width in (0, 1, 2, 5, 9):
        data = rng.bytes(3 * 5 * 288)
        assert layout.to_panels(layout.from_panels(data, 3, 5, width, 288), width) == data


def test_written_packs_read_back_byte_for_byte():
    again = folder / "again.edgert"
    for shape in SHAPES:
        packtool.write_pack(packtool.read_pack(made(shape)), again)
        assert again.read_bytes() == made(shape).read_bytes(), shape


def test_a_sliced_pack_computes_what_its_tier_does_in_the_nested_one():
    ids = [(11 * i + 3) % 200 for i in range(10)]
    for shape in SHAPES:
        pack = packtool.read_pack(made(shape))
        for variant in variants_of(pack):
            per_tier = []
            for tier in range(len(pack.meta["tiers"])):
                out = folder / "sliced.edgert"
                packtool.slice_pack(made(shape), tier, out)
                nested = packtool.reference_forward(pack, ids, [(variant, tier)] * len(ids))
                assert np.array_equal(nested, packtool.reference_forward(out, ids, [(variant, 0)] * len(ids)))
                assert np.all(np.isfinite(nested)) and 0.05 < nested.std() < 20
                assert len(packtool.read_pack(out).meta["tiers"]) == 1
                per_tier.append(nested)
            assert not any(np.allclose(a, b, atol=1e-3) for a, b in zip(per_tier, per_tier[1:])), shape


def test_slices_shrink_and_without_l_w4a16_is_the_same():
    path, out = made("nested"), folder / "out.edgert"
    sizes = []
    for tier in range(4):
        packtool.slice_pack(path, tier, out)
        sizes.append(out.stat().st_size)
        down = packtool.read_pack(out).tensor("DOWN", 1)
        assert down.cols == packtool.read_pack(path).dims(tier, 1)["mlp"]
        assert len(down.data) == 96 // 16 * (down.cols // 32 - down.outlier_groups) * 288
    assert all(a > b for a, b in zip(sizes, sizes[1:]))
    ids, points = list(range(20, 28)), [("w4a16", 0)] * 4 + [("w4a16", 2)] * 4
    packtool.strip_l(path, out)
    assert layout.PLANES_L not in layout.read_sections(out.read_bytes())
    assert np.array_equal(packtool.reference_forward(path, ids, points), packtool.reference_forward(out, ids, points))


def test_tokens_see_only_those_before_them():
    path, ids = made("padded"), [5, 9, 100, 7, 33, 60]
    points = [("w8a8", 0), ("w4a16", 2), ("w4a16", 2), ("w8a8", 1), ("w4a16", 3), ("w8a8", 0)]
    whole = packtool.reference_forward(path, ids, points)
    for n in range(1, 6):
        other = packtool.reference_forward(path, ids[:n] + [1] * (6 - n), points[:n] + [("w8a8", 3)] * (6 - n))
        assert np.array_equal(whole[:n], other[:n]) and not np.array_equal(whole[n:], other[n:])


def test_f32_forward_equals_the_textbook_in_doubles():
    """Matrices as plain arrays, RoPE as complex numbers, attention as one masked product."""
    for shape in ("f32", "f32 qwen"):
        check_against_the_textbook(packtool.read_pack(made(shape)))


def check_against_the_textbook(pack):
    m, ids = pack.model, np.array([3, 150, 9, 9, 77])
    n, half, per_kv = len(ids), m["head_dim"] // 2, m["n_heads"] // m["n_kv_heads"]
    head_pad = layout.pad(m["head_dim"])

    def plain(role, layer=layout.NO_LAYER):
        return packtool.weights(packtool.decode(pack.tensor(role, layer)), 0).astype(float)[:, :m["n_embd"]]

    def vec(role, layer=layout.NO_LAYER):
        return np.frombuffer(pack.tensor(role, layer).data, "<f4").astype(float)[:m["n_embd"]]

    def per_head(role, layer, count, without):
        """[count][head_dim] of a vector by head, the KV heads' repeated; `without` if there is none."""
        t = pack.tensor(role, layer)
        if t is None:
            return without
        v = np.frombuffer(t.data, "<f4").astype(float).reshape(-1, head_pad)[:, :m["head_dim"]]
        return np.repeat(v, count // len(v), 0)

    def normed(v, role, layer):
        w = per_head(role, layer, v.shape[1], None)
        return v if w is None else v / np.sqrt((v * v).mean(axis=2, keepdims=True) + m["rms_eps"]) * w

    factors = pack.tensor("ROPE_FACTORS")
    factors = np.ones(half) if factors is None else np.frombuffer(factors.data, "<f4").astype(float)

    def norm(x, w):
        return x / np.sqrt((x * x).mean(axis=1, keepdims=True) + m["rms_eps"]) * w

    def by_head(w, count):
        return w.reshape(count, head_pad, -1)[:, :m["head_dim"]]

    def turned(v, order):
        z = v[..., 0::2] + 1j * v[..., 1::2]
        z = z * np.exp(1j * np.arange(n)[:, None, None] * m["rope_theta"] ** (-2.0 * order / m["head_dim"]) / factors[order])
        return np.stack([z.real, z.imag], axis=-1).reshape(v.shape)

    x = plain("EMBED")[ids]
    for layer in range(m["n_layers"]):
        order = np.frombuffer(pack.tensor("PAIRS", layer).data, "<u2").reshape(m["n_kv_heads"], -1)[:, :half]
        a = norm(x, vec("NORM_ATTN", layer))
        # a padded head of 8 is one block of 32: block order is head order
        q, k, v = (np.einsum("hde,te->thd", by_head(plain(role, layer), count), a)
                   + per_head(role + "_BIAS", layer, count, 0)
                   for role, count in (("Q", m["n_heads"]), ("K", m["n_kv_heads"]), ("V", m["n_kv_heads"])))
        q = turned(normed(q, "Q_NORM", layer), np.repeat(order, per_kv, 0))
        k = turned(normed(k, "K_NORM", layer), order)
        k, v = np.repeat(k, per_kv, 1), np.repeat(v, per_kv, 1)
        score = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(m["head_dim"])
        score[:, np.triu_indices(n, 1)[0], np.triu_indices(n, 1)[1]] = -np.inf
        weight = np.exp(score - score.max(axis=2, keepdims=True))
        mixed = np.einsum("hqk,khd->qhd", weight / weight.sum(axis=2, keepdims=True), v)
        o = packtool.weights(packtool.decode(pack.tensor("O", layer)), 0).astype(float)[:m["n_embd"]]
        o = o.reshape(m["n_embd"], m["n_heads"], head_pad)[:, :, :m["head_dim"]]
        x = x + np.einsum("ehd,thd->te", o, mixed)
        b = norm(x, vec("NORM_MLP", layer))
        g = b @ plain("GATE", layer)[:m["n_ff"]].T
        down = packtool.weights(packtool.decode(pack.tensor("DOWN", layer)), 0).astype(float)
        x = x + (g / (1 + np.exp(-g)) * (b @ plain("UP", layer)[:m["n_ff"]].T)) @ down[:m["n_embd"], :m["n_ff"]].T
    logits = norm(x, vec("NORM_FINAL")) @ plain("EMBED")[:m["n_vocab"]].T
    ours = packtool.reference_forward(pack, ids, [("f32", 0)] * n)
    assert np.abs(ours - logits).max() < 1e-4 * np.abs(logits).max()


def test_damage_is_plentiful_distinct_and_repeatable():
    path = made("nested")
    copies = list(packtool.damaged_copies(path, 300, seed=4))
    assert len({content for _, content, _ in copies}) == 300
    assert {name.rsplit("-", 1)[0] for name, _, _ in copies} == set(KINDS_OF_DAMAGE)
    assert copies == list(packtool.damaged_copies(path, 300, seed=4))
    assert all(content != path.read_bytes() for _, content, _ in copies)


def test_damage_breaks_no_checksum_unless_it_means_to():
    """Where the table still makes sense, every section's checksum is its content's."""
    signed = 0
    for name, content, _ in packtool.damaged_copies(made("nested"), 300, seed=5):
        if name.startswith(("meta", "tier", "vocab", "tensor", "planes", "scales", "sizes", "layers", "kind")):
            layout.read_sections(content)
            signed += 1
    assert signed > 150


tap.main()
