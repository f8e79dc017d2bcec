"""The bytes of a pack: read, checked, written. Knows docs/pack-format.md and nothing else."""
import dataclasses
import json
import pathlib
import struct

import numpy as np
import xxhash

MAGIC = b"EDGERT\x1a\n"
VERSION = 2
PAGE, ALIGN = 4096, 64
GROUP, TILE = 32, 16
HEADER = struct.Struct("<8sIIQQ32s")
SECTION = struct.Struct("<IIQQQQ")
RECORD = struct.Struct("<12I6Q")
META, VOCAB, TENSORS, PLANES_H, PLANES_L = 1, 2, 3, 4, 5
VECTOR, NESTED, F32_MATRIX, TABLE = 0, 1, 2, 3
L_RESIDENT = 1
NO_LAYER = 0xFFFFFFFF
NIBBLES = 256
H_BLOCK = 2 * TILE + NIBBLES
F32_BLOCK = 4 * GROUP * TILE
OUTLIER_BLOCK = 4 * TILE + 2 * NIBBLES
PAIRS_BLOCK = 4 * TILE
CHECKSUM_AT = 24

ROLES = ("EMBED HEAD NORM_FINAL NORM_ATTN NORM_MLP Q K V O GATE UP DOWN PAIRS "
         "ATTN_BIAS MLP_BIAS COMP_V COMP_U Q_BIAS K_BIAS V_BIAS Q_NORM K_NORM ROPE_FACTORS").split()
ROLE_ID = {name: i + 1 for i, name in enumerate(ROLES)}
EXTRAS = ("ATTN_BIAS", "MLP_BIAS")
OPTIONAL = ("COMP_V", "COMP_U", "Q_BIAS", "K_BIAS", "V_BIAS", "Q_NORM", "K_NORM", "ROPE_FACTORS")


class PackError(Exception):
    """A pack that does not follow docs/pack-format.md; the text says where."""


def pad(n, unit=GROUP):
    return -(-n // unit) * unit


def require(holds, sentence):
    if not holds:
        raise PackError(sentence)


@dataclasses.dataclass
class Tensor:
    """One record with its bytes, as stored. l is b"" where there is no L plane."""
    role: str
    layer: int  # NO_LAYER for the whole model
    tier: int
    kind: int
    rows: int
    cols: int
    panel_groups: int = 0
    outlier_groups: int = 0
    flags: int = 0
    data: bytes = b""
    pairs: bytes = b""
    outliers: bytes = b""
    l: bytes = b""

    @property
    def resident(self):
        return bool(self.flags & L_RESIDENT)

    @property
    def has_l(self):
        """An outlier group alone leaves nothing for the planes to hold."""
        return bool(self.l) or self.groups == 0

    @property
    def tiles(self):
        return self.rows // TILE

    @property
    def groups(self):
        """Groups in panels: all but the outlier group."""
        return self.cols // GROUP - self.outlier_groups


@dataclasses.dataclass
class Vocab:
    texts: list  # of bytes
    scores: np.ndarray  # f32[n_tokens]
    merges: np.ndarray  # u32[n_merges][2]
    types: np.ndarray  # u8[n_tokens]


@dataclasses.dataclass
class Pack:
    meta: dict
    vocab: Vocab
    tensors: dict  # (role, layer, tier) -> Tensor, in file order
    meta_text: bytes = b""  # as read, kept where meta is unchanged

    @property
    def model(self):
        return self.meta["model"]

    def dims(self, tier, layer):
        return self.meta["tiers"][tier]["dims"][layer]

    def tensor(self, role, layer=NO_LAYER, tier=0):
        """None if the pack has none."""
        return self.tensors.get((role, layer, tier))


# ---- panels, tiles, nibbles ----------------------------------------------------------------------

def from_panels(data, tiles, groups, panel_groups, block):
    """Bytes in panel order as u8[tiles][groups][block]."""
    flat = np.frombuffer(data, np.uint8)
    require(flat.size == tiles * groups * block, f"{flat.size} bytes, expected {tiles * groups * block}")
    out = np.empty((tiles, groups, block), np.uint8)
    width, at = panel_groups or max(groups, 1), 0
    for first in range(0, groups, width):
        n = min(width, groups - first)
        out[:, first:first + n] = flat[at:at + tiles * n * block].reshape(tiles, n, block)
        at += tiles * n * block
    return out


def to_panels(blocks, panel_groups):
    """The inverse of from_panels."""
    groups = blocks.shape[1]
    width = panel_groups or max(groups, 1)
    return b"".join(blocks[:, i:i + width].tobytes() for i in range(0, groups, width))


def unpack_nibbles(planes):
    """u8[...][256] as integers 0..15 [...][16 rows][32 columns]."""
    b = np.moveaxis(planes.reshape(*planes.shape[:-1], 4, TILE, 4), -2, -3)  # [..., row, p, j]
    columns = b.reshape(*planes.shape[:-1], TILE, 16)
    return np.concatenate([columns & 15, columns >> 4], axis=-1)


def pack_nibbles(values):
    """The inverse of unpack_nibbles."""
    both = values[..., :16] | (values[..., 16:] << 4)
    b = np.moveaxis(both.reshape(*values.shape[:-2], TILE, 4, 4), -3, -2)  # [..., p, row, j]
    return np.ascontiguousarray(b).reshape(*values.shape[:-2], NIBBLES).astype(np.uint8)


def bf16_to_f32(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


def blocks_of(t):
    """H (or f32) blocks of a matrix: u8[tiles][groups][bytes]."""
    size = F32_BLOCK if t.kind == F32_MATRIX else H_BLOCK
    return from_panels(t.data, t.tiles, t.groups, t.panel_groups, size)


def l_blocks_of(t):
    return from_panels(t.l, t.tiles, t.groups, t.panel_groups, NIBBLES)


# ---- reading -------------------------------------------------------------------------------------

def read_sections(raw):
    """The checked section table: {kind: bytes}."""
    require(len(raw) >= HEADER.size, "shorter than a header")
    magic, version, n, size, checksum, zero = HEADER.unpack_from(raw)
    require(magic == MAGIC and version == VERSION, f"not a pack of version {VERSION}")
    require(1 <= n <= 16 and size == len(raw), "section count or file size")
    end = HEADER.size + n * SECTION.size
    require(end <= len(raw) and not any(zero), "header")
    require(header_checksum(raw, end) == checksum, "header checksum")
    sections = {}
    for i in range(n):
        kind, z1, offset, length, checksum, z2 = SECTION.unpack_from(raw, HEADER.size + i * SECTION.size)
        require(META <= kind <= PLANES_L and kind not in sections, f"section kind {kind}")
        require(not z1 and not z2 and offset % PAGE == 0, f"section {kind}: record")
        require(end <= offset and offset + length <= len(raw), f"section {kind}: place")
        require(not any(raw[end:offset]), f"bytes before section {kind} are not zero")
        content = raw[offset:offset + length]
        require(xxhash.xxh64_intdigest(content) == checksum, f"section {kind}: checksum")
        sections[kind], end = content, offset + length
    require({META, VOCAB, TENSORS, PLANES_H} <= sections.keys(), "a section is missing")
    return sections


def header_checksum(raw, end):
    return xxhash.xxh64_intdigest(raw[:CHECKSUM_AT] + bytes(8) + raw[CHECKSUM_AT + 8:end])


def read_vocab(raw):
    n_tokens, n_merges, text_bytes, zero = struct.unpack_from("<4I", raw)
    parts, at = [], 16
    for dtype, count in (("<u4", n_tokens + 1), ("<f4", n_tokens), ("<u4", 2 * n_merges), ("u1", n_tokens)):
        parts.append(np.frombuffer(raw, dtype, count, at))
        at += parts[-1].nbytes
    offsets, scores, merges, types = parts
    text = raw[at:]
    require(zero == 0 and len(text) == text_bytes == offsets[-1], "vocabulary text")
    require(not np.any(offsets[1:] < offsets[:-1]), "vocabulary offsets fall")
    texts = [text[a:b] for a, b in zip(offsets[:-1], offsets[1:])]
    return Vocab(texts, scores, merges.reshape(-1, 2), types)


def read_tensor(record, h, l):
    (role, layer, tier, kind, rows, cols, panel, outlier_groups, flags, *zero) = record[:12]
    data_off, data_size, pair_off, outlier_off, l_off, l_size = record[12:]
    require(1 <= role <= len(ROLES) and kind <= TABLE and not any(zero), f"tensor record {record}")
    t = Tensor(ROLES[role - 1], layer, tier, kind, rows, cols, panel, outlier_groups, flags)

    def part(region, offset, size):
        require(offset % ALIGN == 0 and offset + size <= len(region), f"{t.role} {layer}: place {offset}")
        return region[offset:offset + size]

    t.data = part(h, data_off, data_size)
    if kind == NESTED:
        t.pairs = part(h, pair_off, t.tiles * PAIRS_BLOCK)
        t.outliers = part(h, outlier_off, t.tiles * OUTLIER_BLOCK) if outlier_groups else b""
        t.l = part(h if t.resident else l, l_off, l_size)
        require(data_size == t.tiles * t.groups * H_BLOCK, f"{t.role} {layer}: data size")
        require(l_size in (0, t.tiles * t.groups * NIBBLES), f"{t.role} {layer}: L size")
    return t


def read_pack(path):
    """A Pack, everything in memory; PackError where the file does not follow the format."""
    sections = read_sections(pathlib.Path(path).read_bytes())
    h, l = sections[PLANES_H], sections.get(PLANES_L, b"")
    require(len(sections[TENSORS]) % RECORD.size == 0, "TENSORS is not a whole number of records")
    tensors = {}
    for record in RECORD.iter_unpack(sections[TENSORS]):
        t = read_tensor(record, h, l)
        require((t.role, t.layer, t.tier) not in tensors, f"{t.role} {t.layer} {t.tier} twice")
        tensors[t.role, t.layer, t.tier] = t
    return Pack(json.loads(sections[META]), read_vocab(sections[VOCAB]), tensors, sections[META])


# ---- writing -------------------------------------------------------------------------------------

class Region:
    """A planes section under construction."""

    def __init__(self):
        self.parts, self.size = [], 0

    def add(self, content):
        """Appends at the next multiple of 64; returns the offset."""
        gap = -self.size % ALIGN
        self.parts += [bytes(gap), content]
        self.size += gap + len(content)
        return self.size - len(content)

    def bytes(self):
        return b"".join(self.parts)


def write_tensor(t, h, l):
    data_off = h.add(t.data)
    pair_off = h.add(t.pairs) if t.pairs else 0
    outlier_off = h.add(t.outliers) if t.outliers else 0
    l_off = (h if t.resident else l).add(t.l) if t.l else 0
    return RECORD.pack(ROLE_ID[t.role], t.layer, t.tier, t.kind, t.rows, t.cols, t.panel_groups,
                       t.outlier_groups, t.flags, 0, 0, 0, data_off, len(t.data), pair_off, outlier_off,
                       l_off, len(t.l))


def write_vocab(v):
    offsets = np.cumsum([0] + [len(x) for x in v.texts]).astype("<u4")
    head = struct.pack("<4I", len(v.texts), len(v.merges), int(offsets[-1]), 0)
    arrays = (offsets, v.scores.astype("<f4"), v.merges.astype("<u4"), v.types.astype("u1"))
    return head + b"".join(a.tobytes() for a in arrays) + b"".join(v.texts)


def write_meta(pack):
    if pack.meta_text and json.loads(pack.meta_text) == pack.meta:
        return pack.meta_text
    return json.dumps(pack.meta, indent=1, ensure_ascii=False).encode()


def sign_header(raw):
    """Puts the header's checksum into a bytearray."""
    n = struct.unpack_from("<I", raw, 12)[0]
    end = min(HEADER.size + n * SECTION.size, len(raw))
    struct.pack_into("<Q", raw, CHECKSUM_AT, header_checksum(bytes(raw[:end]), end))


def join_sections(sections):
    """A file of (kind, content) pairs, with header, table and checksums: a bytearray."""
    end = HEADER.size + len(sections) * SECTION.size
    table, body = b"", bytearray()
    start = pad(end, PAGE)
    for kind, content in sections:
        body += bytes(-len(body) % PAGE)
        table += SECTION.pack(kind, 0, start + len(body), len(content), xxhash.xxh64_intdigest(content), 0)
        body += content
    header = HEADER.pack(MAGIC, VERSION, len(sections), start + len(body), 0, bytes(32))
    raw = bytearray(header + table + bytes(start - end)) + body
    sign_header(raw)
    return raw


def write_pack(pack, path):
    h, l = Region(), Region()
    records = b"".join(write_tensor(t, h, l) for t in pack.tensors.values())
    sections = [(META, write_meta(pack)), (VOCAB, write_vocab(pack.vocab)), (TENSORS, records),
                (PLANES_H, h.bytes())]
    if pack.meta["kind"] == "nested":
        sections.append((PLANES_L, l.bytes()))
    pathlib.Path(path).write_bytes(join_sections(sections))
