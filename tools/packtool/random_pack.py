"""Packs with seeded random weights: small, of any shape and kind, with logits of order one."""
import numpy as np

from . import layout, matrix
from .layout import F32_MATRIX, GROUP, H_BLOCK, L_RESIDENT, NESTED, NO_LAYER, TABLE, TILE, VECTOR, Tensor

STEPS_OF_SIGMA = 4.6  # a uniform h in 0..15 has a standard deviation of 4.6 steps


def bf16(x):
    """The upper halves of float32 values, truncated."""
    return (np.asarray(x, "<f4").view("<u4") >> 16).astype("<u2")


class Maker:
    """Random tensors of one pack. Rows and columns past the true sizes are padding."""

    def __init__(self, seed, kind, outliers, l_resident, no_l):
        self.rng = np.random.default_rng(seed)
        self.kind, self.outliers, self.l_resident, self.no_l = kind, outliers, l_resident, no_l
        self.tensors = {}

    def put(self, t):
        self.tensors[t.role, t.layer, t.tier] = t

    def vector(self, role, true, layer=NO_LAYER, tier=0, mean=1.0, spread=0.2, size=None):
        """true: how many leading values are true, or bool[size]."""
        real = np.arange(size or layout.pad(true)) < true if np.isscalar(true) else true
        v = np.zeros(len(real), "<f4")
        v[real] = mean + spread * self.rng.standard_normal(np.count_nonzero(real))
        self.put(Tensor(role, layer, tier, VECTOR, 1, len(v), data=v.tobytes()))

    def pairs(self, layer, n_kv_heads, head_dim):
        table = np.zeros((n_kv_heads, layout.pad(head_dim) // 2), "<u2")
        for head in table:
            head[:head_dim // 2] = self.rng.permutation(head_dim // 2)
        self.put(Tensor("PAIRS", layer, 0, TABLE, 1, table.size, data=table.tobytes()))

    def matrix(self, role, rows, cols, true_rows, true_cols, layer=NO_LAYER, tier=0, panel_groups=0,
               gain=1.0):
        """true_rows: bool[rows] or a number of leading true rows; sigma = gain / sqrt(true_cols)."""
        real = np.arange(rows) < true_rows if np.isscalar(true_rows) else true_rows
        sigma = gain / np.sqrt(true_cols)
        make = self.f32_matrix if self.kind == "f32" else self.nested
        self.put(make(Tensor(role, layer, tier, NESTED, rows, cols, panel_groups), real, true_cols, sigma))

    def f32_matrix(self, t, real, true_cols, sigma):
        w = (sigma * self.rng.standard_normal((t.rows, t.cols))).astype("<f4")
        w[~real] = 0
        w[:, true_cols:] = 0
        tiles = w.reshape(t.tiles, TILE, -1, GROUP).transpose(0, 2, 3, 1)
        blocks = np.ascontiguousarray(tiles).view(np.uint8).reshape(t.tiles, t.cols // GROUP, -1)
        t.kind, t.data = F32_MATRIX, layout.to_panels(blocks, t.panel_groups)
        return t

    def nested(self, t, real, true_cols, sigma):
        """Padding columns hold noise: they meet zero activations."""
        rng, real = self.rng, real.reshape(t.tiles, 1, TILE)
        t.outlier_groups = int(self.outliers and t.cols > GROUP and rng.random() < 0.7)
        t.flags = L_RESIDENT if t.role in self.l_resident else 0
        d_row = sigma / STEPS_OF_SIGMA / 178 * np.exp(0.3 * rng.standard_normal((t.tiles, TILE)))
        pairs = np.stack([bf16(d_row), bf16(7.5 * d_row)], axis=1) * real.astype("<u2")
        u_d = rng.integers(100, 256, (t.tiles, t.groups, TILE))
        u_m = np.clip(u_d + rng.integers(-12, 13, u_d.shape), 0, 255)
        blocks = np.empty((t.tiles, t.groups, H_BLOCK), np.uint8)
        blocks[:, :, :TILE], blocks[:, :, TILE:2 * TILE] = u_d * real, u_m * real
        blocks[:, :, 2 * TILE:] = rng.integers(0, 256, blocks[:, :, 2 * TILE:].shape)
        t.pairs, t.data = pairs.astype("<u2").tobytes(), layout.to_panels(blocks, t.panel_groups)
        if t.resident or self.kind == "nested" and t.role not in self.no_l:
            noise = rng.integers(0, 256, (t.tiles, t.groups, layout.NIBBLES), dtype=np.uint8)
            t.l = layout.to_panels(noise, t.panel_groups)
        if t.outlier_groups:
            t.outliers = self.outlier_blocks(t, real[:, 0], 3 * sigma)
        return t

    def outlier_blocks(self, t, real, sigma):
        d = np.exp(0.2 * self.rng.standard_normal((t.tiles, TILE))) * sigma / STEPS_OF_SIGMA
        scales = np.stack([d, 7.5 * d * self.rng.uniform(0.9, 1.1, d.shape)], axis=1)
        scales = (scales * real[:, None]).astype("<f2").view(np.uint8).reshape(t.tiles, -1)
        planes = self.rng.integers(0, 256, (t.tiles, 2 * layout.NIBBLES), dtype=np.uint8)
        return np.concatenate([scales, planes], axis=1).tobytes()


# ---- shapes --------------------------------------------------------------------------------------

def default_tiers(n_layers, n_ff, head_dim):
    """Full; MLP cut, by layer; Q/K and MLP cut; everything at its least."""
    mlp, head = layout.pad(n_ff), layout.pad(head_dim)
    less = lambda n, by: max(GROUP, n - by * GROUP)
    rows = [lambda i: (mlp, head, head), lambda i: (less(mlp, 1 + i % 2), head, head),
            lambda i: (less(mlp, 2), less(head, 1), head), lambda i: (GROUP, GROUP, GROUP)]
    return [[row(i) for i in range(n_layers)] for row in rows]


def rank_at(tier, layer):
    """Even layers have a compensator at all tiers but the first; at every other one it grows."""
    return 0 if layer % 2 else (tier + 1) // 2 * GROUP


def tiers_meta(tiers, n_layers, extras):
    """Tiers as lists of (mlp, qk, vo) per layer, or one such tuple for all layers."""
    out = []
    for i, tier in enumerate(tiers):
        rows = [tier] * n_layers if isinstance(tier[0], int) else tier
        percent = 100 - 10 * i
        out.append({"name": f"r{percent}", "rank_percent": percent,
                    "dims": [dict(zip(("mlp", "qk", "vo"), map(int, row)), comp=rank_at(i, layer) if extras else 0)
                             for layer, row in enumerate(rows)]})
    return out


def head_rows(n_heads, dims, head_dim):
    """Which rows in block order across heads are dimensions of the model."""
    dim = np.arange(dims).reshape(-1, 1, GROUP)
    return np.broadcast_to(dim < head_dim, (dims // GROUP, n_heads, GROUP)).reshape(-1)


def make_layer(make, model, layer, dims):
    m, embd, head = model, layout.pad(model["n_embd"]), layout.pad(model["head_dim"])
    n_heads, n_kv = m["n_heads"], m["n_kv_heads"]
    kv_rows = np.tile(np.arange(head) < m["head_dim"], n_kv)
    panels = lambda: int(make.rng.integers(0, 4))
    make.vector("NORM_ATTN", m["n_embd"], layer)
    make.vector("NORM_MLP", m["n_embd"], layer)
    make.pairs(layer, n_kv, m["head_dim"])
    make.matrix("Q", n_heads * dims["qk"], embd, head_rows(n_heads, dims["qk"], m["head_dim"]),
                m["n_embd"], layer)
    make.matrix("K", n_kv * head, embd, kv_rows, m["n_embd"], layer)
    make.matrix("V", n_kv * head, embd, kv_rows, m["n_embd"], layer)
    make.matrix("O", embd, n_heads * dims["vo"], m["n_embd"], n_heads * m["head_dim"], layer, 0, panels())
    for role in ("GATE", "UP"):
        make.matrix(role, dims["mlp"], embd, m["n_ff"], m["n_embd"], layer)
    make.matrix("DOWN", embd, dims["mlp"], m["n_embd"], m["n_ff"], layer, 0, panels())


def make_options(make, model, layer, dims, biases, head_norms):
    """Biases of Q, K and V, norms of the heads of Q and K."""
    head, n_kv = layout.pad(model["head_dim"]), model["n_kv_heads"]
    kv = np.tile(np.arange(head) < model["head_dim"], n_kv)
    if biases:
        make.vector("Q_BIAS", head_rows(model["n_heads"], dims["qk"], model["head_dim"]), layer, mean=0.0, spread=1.0)
        make.vector("K_BIAS", kv, layer, mean=0.0, spread=1.0)
        make.vector("V_BIAS", kv, layer, mean=0.0, spread=1.0)
    if head_norms:
        make.vector("Q_NORM", kv, layer)
        make.vector("K_NORM", kv, layer)


def make_extras(make, model, layer, tiers):
    """A bias each of the narrower tiers, and the layer's compensator."""
    embd, rank = layout.pad(model["n_embd"]), tiers[-1]["dims"][layer]["comp"]
    for tier in range(1, len(tiers)):
        make.vector("ATTN_BIAS", model["n_embd"], layer, tier, mean=0.0)
        make.vector("MLP_BIAS", model["n_embd"], layer, tier, mean=0.0)
    if rank:
        make.matrix("COMP_V", rank, embd, rank - 8, model["n_embd"], layer)
        make.matrix("COMP_U", embd, rank, model["n_embd"], rank - 8, layer, gain=0.5)


def make_vocab(n_vocab, tokenizer):
    """Bytes first, then short words; byte-level BPE gets a few merges of letters."""
    texts = [b"<unk>", b"<s>", b"</s>"] + [bytes([c]) for c in range(33, 127)]
    merges = []
    letters = range(3 + ord("a") - 33, 3 + ord("z") - 33 + 1)
    for left in letters:
        if len(texts) >= n_vocab:
            break
        merges.append((left, left))
        texts.append(texts[left] * 2)
    texts += [b"word%d" % i for i in range(len(texts), n_vocab)]
    types = np.ones(n_vocab, np.uint8)
    types[:3] = (2, 3, 3)
    scores = np.zeros(n_vocab) if tokenizer == "gpt2" else -np.arange(n_vocab, dtype=float)
    merges = np.array(merges if tokenizer == "gpt2" else [], "<u4").reshape(-1, 2)
    return layout.Vocab(texts[:n_vocab], scores.astype("<f4"), merges, types)


def random_pack(seed, kind="nested", n_layers=2, n_embd=96, n_heads=4, n_kv_heads=2, head_dim=64, n_ff=192,
                n_vocab=200, n_ctx=256, tied=False, tiers=None, extras=True, outliers=True,
                l_resident=("EMBED", "K"), no_l=(), tokenizer="gpt2", biases=False, head_norms=False, rope_factors=False):
    """A Pack. tiers: per tier (mlp, qk, vo) or a list of them per layer, None for a set that cuts every
    kind of width; extras: biases and compensators on all tiers but the first. l_resident, no_l: roles of
    8 and of 4 bits in every variant. head_norms ask for tiers of whole heads."""
    model = {"arch": "qwen3" if head_norms else "qwen2" if biases else "llama", "n_layers": n_layers, "n_embd": n_embd,
             "n_heads": n_heads, "n_kv_heads": n_kv_heads, "head_dim": head_dim, "n_ff": n_ff, "n_vocab": n_vocab,
             "n_ctx": n_ctx, "rope_theta": 10000.0, "rms_eps": 1e-05, "tied": tied}
    tiers = tiers_meta(tiers or default_tiers(n_layers, n_ff, head_dim), n_layers, extras)
    make = Maker(seed, kind, outliers and kind != "f32", l_resident if kind != "f32" else (), no_l)
    embd, vocab_rows = layout.pad(n_embd), layout.pad(n_vocab, TILE)
    make.matrix("EMBED", vocab_rows, embd, n_vocab, n_embd, gain=np.sqrt(n_embd) if not tied else 1.0)
    if not tied:
        make.matrix("HEAD", vocab_rows, embd, n_vocab, n_embd)
    make.vector("NORM_FINAL", n_embd)
    if rope_factors:
        make.vector("ROPE_FACTORS", head_dim // 2, mean=4.0, spread=0.8, size=layout.pad(head_dim) // 2)
    for layer in range(n_layers):
        make_layer(make, model, layer, tiers[0]["dims"][layer])
        make_options(make, model, layer, tiers[0]["dims"][layer], biases, head_norms)
        if extras:
            make_extras(make, model, layer, tiers)
    meta = {"name": f"random-{seed}", "kind": kind, "model": model, "tiers": tiers,
            "tokenizer": {"model": tokenizer, "pre": "gpt-2" if tokenizer == "gpt2" else "default",
                          "bos": 1, "eos": [2], "unk": 0, "add_bos": False, "add_space_prefix": False,
                          "chat_template": ""}}
    return layout.Pack(meta, make_vocab(n_vocab, tokenizer), make.tensors)


def make_random_pack(path, seed, **shape):
    """Writes random_pack(seed, **shape)."""
    layout.write_pack(random_pack(seed, **shape), path)
