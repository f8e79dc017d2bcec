"""The forward pass in numpy, from a pack and the operating point of every token: no session, no cache
bookkeeping, no switch. All tokens go through one layer before the next; causality makes that the same."""
import pathlib

import numpy as np

from . import layout, matrix
from .layout import GROUP, NO_LAYER
from .matrix import f32

VARIANT_BITS = {"f32": (0, 0), "w8a8": (8, 8), "w4a16": (4, 16), "w4a8": (4, 8)}


def rmsnorm(x, w, n_embd, eps):
    mean = (x[:, :n_embd] * x[:, :n_embd]).sum(axis=1, dtype=f32) / f32(n_embd)
    return x / np.sqrt(mean + f32(eps))[:, None] * w


def rotate(x, pairs, head_dim, theta, factors):
    """x f32[n][heads][dims], pairs u16[heads][dims / 2]: token t turned by its position t. factors: f32[...]
    or None."""
    angle_per_step = float(theta) ** (-2.0 * pairs.astype(np.float64) / head_dim)
    if factors is not None:
        angle_per_step = angle_per_step / factors.astype(np.float64)[pairs]
    angle = np.arange(len(x))[:, None, None] * angle_per_step[None]
    cos, sin = np.cos(angle).astype(f32), np.sin(angle).astype(f32)
    even, odd = x[..., 0::2], x[..., 1::2]
    out = np.empty_like(x)
    out[..., 0::2] = even * cos - odd * sin
    out[..., 1::2] = even * sin + odd * cos
    return out


def blocks_to_heads(x, n_heads):
    """[n][by block of 32 dims across heads] -> [n][heads][dims]."""
    return x.reshape(len(x), -1, n_heads, GROUP).swapaxes(1, 2).reshape(len(x), n_heads, -1)


def heads_to_blocks(x):
    n, n_heads, dims = x.shape
    return x.reshape(n, n_heads, dims // GROUP, GROUP).swapaxes(1, 2).reshape(n, -1)


def attend(q, keys, values, head_dim):
    """One token: q f32[heads][qk] over keys [positions][kv][>= qk], values [positions][kv][vo]."""
    per_kv = q.shape[0] // keys.shape[1]
    out = np.empty((q.shape[0], values.shape[2]), f32)
    for h in range(q.shape[0]):
        k, v = keys[:, h // per_kv, :q.shape[1]], values[:, h // per_kv]
        score = (k * q[h]).sum(axis=1, dtype=f32) * f32(1 / np.sqrt(head_dim))
        weight = np.exp(score - score.max())
        weight /= weight.sum(dtype=f32)
        out[h] = (weight[:, None] * v).sum(axis=0, dtype=f32)
    return out


def silu(x):
    return x / (f32(1) + np.exp(-x))


def to_bf16(x):
    """float32 values rounded to the nearest bf16, ties to even: half of the last place that stays, less one where
    that place is even, carries over."""
    bits = np.asarray(x, f32).view(np.uint32)
    return ((bits + 0x7fff + (bits >> 16 & 1)) & np.uint32(0xffff0000)).view(f32)


def cached(x, bits):
    """x f32[...][dims] as a cache of 4, 8, 16 or 32 bits gives it back."""
    if bits == 32:
        return x
    if bits == 16:
        return x.astype(np.float16).astype(f32)
    groups = x.reshape(*x.shape[:-1], -1, GROUP)
    if bits == 8:
        scale, least, most = np.abs(groups).max(axis=-1, keepdims=True) / f32(127), -127, 127
    else:
        low, high = groups.min(axis=-1, keepdims=True), groups.max(axis=-1, keepdims=True)
        scale, least, most = np.where(-low >= high, low, high) / f32(-8), -8, 7
    scale = to_bf16(scale)
    inverse = np.divide(f32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    return (np.rint(groups * inverse).clip(least, most) * scale).reshape(x.shape)


class Forward:
    """One run over ids with a point (variant, tier) for each."""

    def __init__(self, pack, points, nudge, cache_bits):
        self.pack, self.model, self.nudge = pack, pack.model, f32(1 + nudge)
        self.embd = layout.pad(self.model["n_embd"])
        self.head_pad = layout.pad(self.model["head_dim"])
        self.cache_bits = 32 if pack.meta["kind"] == "f32" else cache_bits
        self.bits_of = {"K": 8, "V": 4} if self.cache_bits == 6 else dict.fromkeys("KV", self.cache_bits)
        self.points = points
        self.runs = [(VARIANT_BITS[v], tier, np.array([i for i, p in enumerate(points) if p == (v, tier)]))
                     for v, tier in dict.fromkeys(points)]

    def vector(self, role, layer=NO_LAYER, tier=0):
        t = self.pack.tensor(role, layer, tier)
        return None if t is None else np.frombuffer(t.data, "<f4")

    def matrix(self, role, layer=NO_LAYER, tier=0):
        t = self.pack.tensor(role, layer, tier)
        return None if t is None else matrix.decode(t)

    def embed(self, ids):
        table, x = self.matrix("EMBED"), np.zeros((len(ids), self.embd), f32)
        for (bits, _), _, at in self.runs:
            x[at] = matrix.weights(table, bits, np.asarray(ids)[at])
        x[:, self.model["n_embd"]:] = 0
        return x

    def norm(self, x, role, layer=NO_LAYER):
        y = rmsnorm(x, self.vector(role, layer), self.model["n_embd"], self.model["rms_eps"])
        return y * self.nudge

    def head_norm(self, x, role, layer):
        """x f32[n][heads][head_pad], each head by the weights of its KV head."""
        w, m = self.vector(role, layer), self.model
        if w is None:
            return x
        w = np.repeat(w.reshape(m["n_kv_heads"], -1), x.shape[1] // m["n_kv_heads"], axis=0)
        each = (rmsnorm(x[:, h], w[h], m["head_dim"], m["rms_eps"]) for h in range(x.shape[1]))
        return np.stack(list(each), axis=1) * self.nudge

    def per_kv_head(self, a, layer, role, rotation=None):
        """K or V of all tokens at full width, as cached: [n][kv][head_pad]."""
        w, bias, n_kv = self.matrix(role, layer), self.vector(role + "_BIAS", layer), self.model["n_kv_heads"]
        out = np.empty((len(a), n_kv, self.head_pad), f32)
        for bits, _, at in self.runs:
            y = matrix.product(w, a[at], n_kv * self.head_pad, self.embd, *bits)
            out[at] = (y if bias is None else y + bias).reshape(len(at), n_kv, self.head_pad)
        return cached(rotation(out) if rotation else out, self.bits_of[role])

    def attention(self, x, layer):
        m, n_heads = self.model, self.model["n_heads"]
        a = self.norm(x, "NORM_ATTN", layer)
        order = np.frombuffer(self.pack.tensor("PAIRS", layer).data, "<u2").reshape(m["n_kv_heads"], -1)
        turn = lambda v, pairs: rotate(v, pairs, m["head_dim"], m["rope_theta"], self.vector("ROPE_FACTORS"))
        keys = self.per_kv_head(a, layer, "K", lambda k: turn(self.head_norm(k, "K_NORM", layer), order))
        values = self.per_kv_head(a, layer, "V")
        q_bias = self.vector("Q_BIAS", layer)
        w_q, w_o = self.matrix("Q", layer), self.matrix("O", layer)
        q_order = np.repeat(order, n_heads // m["n_kv_heads"], axis=0)
        out = np.empty_like(x)
        for bits, tier, at in self.runs:
            dims = self.pack.dims(tier, layer)
            q = matrix.product(w_q, a[at], n_heads * dims["qk"], self.embd, *bits)
            if q_bias is not None:
                q = q + q_bias[:n_heads * dims["qk"]]
            everywhere = np.zeros((len(x), n_heads, dims["qk"]), f32)
            everywhere[at] = blocks_to_heads(q, n_heads)
            q = turn(self.head_norm(everywhere, "Q_NORM", layer), q_order[:, :dims["qk"] // 2])
            mixed = np.stack([attend(q[t], keys[:t + 1], values[:t + 1, :, :dims["vo"]], m["head_dim"])
                              for t in at])
            out[at] = matrix.product(w_o, heads_to_blocks(mixed), self.embd, n_heads * dims["vo"], *bits)
            bias = self.vector("ATTN_BIAS", layer, tier)
            if bias is not None:
                out[at] = out[at] + bias
        return out

    def mlp(self, x, layer):
        b_all = self.norm(x, "NORM_MLP", layer)
        gate, up, down = (self.matrix(role, layer) for role in ("GATE", "UP", "DOWN"))
        out = np.empty_like(x)
        for bits, tier, at in self.runs:
            b, dims = b_all[at], self.pack.dims(tier, layer)
            width, rank = dims["mlp"], dims["comp"]
            g = silu(matrix.product(gate, b, width, self.embd, *bits))
            g = g * matrix.product(up, b, width, self.embd, *bits)
            y = matrix.product(down, g, self.embd, width, *bits)
            bias = self.vector("MLP_BIAS", layer, tier)
            if bias is not None:
                y = y + bias
            if rank:
                c = matrix.product(self.matrix("COMP_V", layer), b, rank, self.embd, *bits)
                y = y + matrix.product(self.matrix("COMP_U", layer), c, self.embd, rank, *bits)
            out[at] = y
        return out

    def logits(self, ids):
        x = self.embed(ids)
        for layer in range(self.model["n_layers"]):
            x = x + self.attention(x, layer)
            x = x + self.mlp(x, layer)
        a, head = self.norm(x, "NORM_FINAL"), self.matrix("EMBED" if self.model["tied"] else "HEAD")
        n_vocab = self.model["n_vocab"]
        out = np.empty((len(ids), n_vocab), f32)
        for bits, _, at in self.runs:
            out[at] = matrix.product(head, a[at], layout.pad(n_vocab, 16), self.embd, *bits)[:, :n_vocab]
        return out


def reference_forward(pack, ids, points, nudge=0.0, cache_bits=16):
    """f32[len(ids)][n_vocab]: the logits after each token, from an empty context. pack: a Pack or a path;
    points: one (variant, tier) per token, e.g. ("w4a16", 2). nudge: a relative change of every norm's
    result; one of the last place (2e-7) shows how far roundings alone move the logits, since the page
    leaves the order of some float sums open and quantization amplifies that. cache_bits: 16, 8 or 6 (keys 8, values
    4), of the keys and values that are read back."""
    if isinstance(pack, (str, pathlib.Path)):
        pack = layout.read_pack(pack)
    return Forward(pack, [tuple(p) for p in points], nudge, cache_bits).logits(ids)
