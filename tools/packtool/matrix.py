"""What the numbers of a matrix are, and what a product with it gives: the arithmetic of the format."""
import dataclasses

import numpy as np

from . import layout
from .layout import F32_MATRIX, GROUP, TILE

f32 = np.float32
ACT_MAX = {16: f32(32767), 8: f32(127)}


@dataclasses.dataclass
class Nested:
    """A nested matrix, decoded. Rows first everywhere; the outlier group, if any, is group 0."""
    d_row: np.ndarray  # f32[rows] D
    m_row: np.ndarray  # f32[rows] M
    u_d: np.ndarray  # u8[rows][groups]
    u_m: np.ndarray
    h: np.ndarray  # u8[rows][groups][32]
    l: np.ndarray  # the same, or None
    outlier: tuple  # None, or f32 d[rows], m[rows], u8 h[rows][32], l[rows][32]
    resident: bool

    def reads_l(self, bits):
        return self.l is not None and (bits == 8 or self.resident)


def decode(t):
    """Nested of a nested matrix, f32[rows][cols] of an f32 one."""
    blocks = layout.blocks_of(t)
    if t.kind == F32_MATRIX:
        w = np.ascontiguousarray(blocks).view("<f4").reshape(t.tiles, t.groups, GROUP, TILE)
        return np.ascontiguousarray(w.transpose(0, 3, 1, 2)).reshape(t.rows, t.cols)
    pairs = layout.bf16_to_f32(np.frombuffer(t.pairs, "<u2")).reshape(t.tiles, 2, TILE)
    rows_first = lambda tiled: np.moveaxis(tiled, 2, 1).reshape(t.rows, t.groups, *tiled.shape[3:])
    return Nested(pairs[:, 0].reshape(-1), pairs[:, 1].reshape(-1), rows_first(blocks[:, :, :TILE]),
                  rows_first(blocks[:, :, TILE:2 * TILE]),
                  rows_first(layout.unpack_nibbles(blocks[:, :, 2 * TILE:])),
                  rows_first(layout.unpack_nibbles(layout.l_blocks_of(t))) if t.has_l else None,
                  decode_outliers(t) if t.outlier_groups else None, t.resident)


def decode_outliers(t):
    b = np.frombuffer(t.outliers, np.uint8).reshape(t.tiles, layout.OUTLIER_BLOCK)
    scales = np.ascontiguousarray(b[:, :4 * TILE]).view("<f2").astype(f32).reshape(t.tiles, 2, TILE)
    planes = layout.unpack_nibbles(b[:, 4 * TILE:].reshape(t.tiles, 2, layout.NIBBLES))
    return (scales[:, 0].reshape(-1), scales[:, 1].reshape(-1),
            planes[:, 0].reshape(-1, GROUP), planes[:, 1].reshape(-1, GROUP))


# ---- weights -------------------------------------------------------------------------------------

def w4(d, m, h):
    return d[..., None] * h.astype(f32) - m[..., None]


def w8(d, m, h, l):
    byte = (16 * h.astype(np.int32) + l).astype(f32)
    return (d * f32(0.0625))[..., None] * byte - (m + d * f32(0.5))[..., None]


def weights(w, bits, rows=slice(None)):
    """f32[rows][cols]: W4 (bits 4; W8 where L is resident), W8 (bits 8), or an f32 matrix as it is."""
    if isinstance(w, np.ndarray):
        return w[rows]
    d, m = w.d_row[rows, None] * w.u_d[rows].astype(f32), w.m_row[rows, None] * w.u_m[rows].astype(f32)
    full = w.reads_l(bits)
    parts = [(w8(d, m, w.h[rows], w.l[rows]) if full else w4(d, m, w.h[rows])).reshape(len(d), -1)]
    if w.outlier:
        od, om, oh, ol = (part[rows] for part in w.outlier)
        parts.insert(0, w8(od, om, oh, ol))
    return np.concatenate(parts, axis=1)


# ---- products ------------------------------------------------------------------------------------

def quantize(x, act_bits):
    """x f32[n][cols] in groups of 32: q f64[n][groups][32] (integers), scale f32, sum f64 [n][groups]."""
    x = x.reshape(len(x), -1, GROUP)
    most = ACT_MAX[act_bits]
    amax = np.abs(x).max(axis=2)
    up = np.divide(most, amax, out=np.zeros_like(amax), where=amax > 0)
    q = np.clip(np.rint(x * up[..., None]), -most, most).astype(np.float64)
    return q, amax / most, q.sum(axis=2)


def integer_dots(weight, q):
    """weight[rows][groups][32] . q[n][groups][32]: f64[groups][n][rows]. Doubles hold these integers
    exactly (below 2^53), whatever order the library adds in."""
    return np.matmul(q.transpose(1, 0, 2), weight.astype(np.float64).transpose(1, 2, 0))


def fused(a, b, c):
    """a * b + c rounded once, but for rare sums that a double cannot hold either."""
    return (a.astype(np.float64) * b + c).astype(f32)


def product(w, x, rows, cols, bits, act_bits):
    """y f32[n][rows]: the first rows and columns of a decoded matrix times x f32[n][>= cols]."""
    x = np.ascontiguousarray(x[:, :cols])
    if isinstance(w, np.ndarray):
        return product_f32(w[:rows, :cols], x)
    q, scale, total = quantize(x, act_bits)
    t = scale * total.astype(f32)
    skip = 1 if w.outlier else 0
    n = cols // GROUP - skip
    full = w.reads_l(bits)
    weight = w.h[:rows, :n].astype(np.int32)
    if full:
        weight = 16 * weight + w.l[:rows, :n]
    dots = integer_dots(weight, q[:, skip:])
    y = np.zeros((len(x), rows), f32)
    d_row = w.d_row[:rows] * f32(0.0625) if full else w.d_row[:rows]
    for g in range(n):
        dot = dots[g] - 8 * total[:, skip + g, None] if full else dots[g]
        d, m = d_row * w.u_d[:rows, g].astype(f32), w.m_row[:rows] * w.u_m[:rows, g].astype(f32)
        y = fused(dot.astype(f32), d * scale[:, skip + g, None], y)
        y = fused(-m, t[:, skip + g, None], y)
    return y + outlier_product(w.outlier, x, rows) if w.outlier else y


def outlier_product(outlier, x, rows):
    """Group 0, whose activations have 16 bits in every variant."""
    q, scale, total = quantize(x[:, :GROUP], 16)
    t = scale * total.astype(f32)
    d, m, h, l = (part[:rows] for part in outlier)
    byte = 16 * h.astype(np.int32) + l
    dot = integer_dots(byte[:, None], q[:, :1])[0] - 8 * total[:, :1]
    return dot.astype(f32) * (d * f32(0.0625) * scale[:, :1]) - m * t[:, :1]


def product_f32(w, x):
    acc = np.zeros((len(x), len(w)), f32)
    for c in range(w.shape[1]):
        acc = acc + w[:, c] * x[:, c, None]
    return acc
