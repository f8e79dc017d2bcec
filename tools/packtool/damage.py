"""Damaged copies of packs. Every checksum is signed again (but where the checksum itself is tested), so
that what is tested is the reader's own care. Each kind of damage is a function (pack bytes as sections,
random generator) -> (bytes, must_refuse): must_refuse where docs/pack-format.md is broken for certain,
otherwise opening may succeed, and running it must still be safe."""
import copy
import hashlib
import json
import pathlib
import struct

from . import layout
from .layout import META, PLANES_H, PLANES_L, RECORD, SECTION, TENSORS, VOCAB

import numpy as np

HUGE = (2**31, 2**32 - 1, 2**32, 2**53, 2**63 - 1)
KINDS_OF_DAMAGE = {}


def kind_of_damage(make):
    KINDS_OF_DAMAGE[make.__name__] = make
    return make


def pick(rng, options):
    return options[int(rng.integers(len(options)))]


class Victim:
    """A pack to be damaged: its file and its sections."""

    def __init__(self, path):
        self.raw = pathlib.Path(path).read_bytes()
        self.sections = layout.read_sections(self.raw)
        self.pack = layout.read_pack(path)

    def meta(self):
        return copy.deepcopy(self.pack.meta)

    def with_section(self, kind, content):
        """The file with one section replaced, or left out (None)."""
        changed = self.sections | {kind: content}
        return bytes(layout.join_sections([(k, c) for k, c in changed.items() if c is not None]))

    def with_meta(self, meta):
        return self.with_section(META, json.dumps(meta).encode())

    def records(self):
        return [list(r) for r in RECORD.iter_unpack(self.sections[TENSORS])]

    def with_records(self, records):
        return self.with_section(TENSORS, b"".join(RECORD.pack(*r) for r in records))


# ---- file and section table ----------------------------------------------------------------------

@kind_of_damage
def file_truncated(v, rng):
    """Cut short, the header saying so."""
    raw = bytearray(v.raw[:int(rng.integers(0, len(v.raw)))])
    if len(raw) >= layout.HEADER.size:
        struct.pack_into("<Q", raw, 16, len(raw))
        layout.sign_header(raw)
    return bytes(raw), True


@kind_of_damage
def file_truncated_unsigned(v, rng):
    return v.raw[:int(rng.integers(0, len(v.raw)))], True


@kind_of_damage
def checksum_broken(v, rng):
    """One bit of the header, META, VOCAB or TENSORS, not signed again."""
    raw = bytearray(v.raw)
    spans = [(0, 64 + 40 * len(v.sections))]
    for i in range(len(v.sections)):
        kind, _, offset, size, _, _ = SECTION.unpack_from(v.raw, 64 + 40 * i)
        if kind in (META, VOCAB, TENSORS):
            spans.append((offset, offset + size))
    raw[int(rng.integers(*pick(rng, spans)))] ^= 1 << int(rng.integers(8))
    return bytes(raw), True


@kind_of_damage
def header_bits(v, rng):
    raw = bytearray(v.raw)
    for _ in range(int(rng.integers(1, 4))):
        raw[int(rng.integers(8, 64 + 40 * len(v.sections)))] ^= 1 << int(rng.integers(8))
    layout.sign_header(raw)
    return bytes(raw), False


@kind_of_damage
def header_lies(v, rng):
    raw, n = bytearray(v.raw), len(v.sections)
    form, at, value = pick(rng, [
        ("<B", 0, 0), ("<B", 7, 13), ("<I", 8, 0), ("<I", 8, 2), ("<I", 8, 2**32 - 1), ("<I", 12, 0),
        ("<I", 12, n - 1), ("<I", 12, n + 1), ("<I", 12, 17), ("<I", 12, 2**31), ("<I", 12, 2**32 - 1),
        ("<Q", 16, 0), ("<Q", 16, len(raw) - 1), ("<Q", 16, len(raw) + 1), ("<Q", 16, 2**64 - 1)])
    struct.pack_into(form, raw, at, value)
    layout.sign_header(raw)
    return bytes(raw), True


@kind_of_damage
def section_record_lies(v, rng):
    raw, i = bytearray(v.raw), int(rng.integers(len(v.sections)))
    at = layout.HEADER.size + i * SECTION.size
    record = list(SECTION.unpack_from(raw, at))
    other = SECTION.unpack_from(raw, layout.HEADER.size + (i + 1) % len(v.sections) * SECTION.size)
    field, value = pick(rng, [
        (0, 0), (0, 6), (0, 2**32 - 1), (0, other[0]), (2, 0), (2, record[2] + 1), (2, record[2] + 64),
        (2, other[2]), (2, layout.pad(len(raw), 4096)), (2, 2**64 - 4096), (2, 2**63), (3, 0),
        (3, len(raw)), (3, 2**64 - 1), (3, 2**64 - record[2]), (3, 2**63), (3, 2**32 + record[3])])
    record[field] = value
    if record[2] + record[3] <= len(raw):
        content = raw[record[2]:record[2] + record[3]]
        record[4] = layout.xxhash.xxh64_intdigest(bytes(content))
    SECTION.pack_into(raw, at, *record)
    layout.sign_header(raw)
    return bytes(raw), True


@kind_of_damage
def section_missing(v, rng):
    return v.with_section(pick(rng, list(v.sections)), None), True


@kind_of_damage
def section_truncated(v, rng):
    kind = pick(rng, list(v.sections))
    content = v.sections[kind]
    if kind == TENSORS:  # a whole record less could be an extra less
        return v.with_section(kind, content[:-int(rng.integers(1, RECORD.size))]), True
    return v.with_section(kind, content[:int(rng.integers(0, len(content)))]), True


@kind_of_damage
def section_grown(v, rng):
    kind = pick(rng, [META, VOCAB, TENSORS])
    grown = v.sections[kind] + rng.bytes(int(rng.integers(1, RECORD.size)))
    return v.with_section(kind, grown), kind == TENSORS


# ---- META ----------------------------------------------------------------------------------------

SIZES = ("n_layers", "n_embd", "n_heads", "n_kv_heads", "head_dim", "n_ff", "n_vocab")


def leaves(value, path=()):
    """Paths of all values below a JSON value, the inner ones too."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield path + (key,)
        yield from leaves(inner, path + (key,))


def parent_of(meta, path):
    for key in path[:-1]:
        meta = meta[key]
    return meta


def needed(path):
    """Whether nothing can run without this value."""
    return path[0] in ("kind", "tiers") and path[-1] != "name" or path[0] == "model" and (
        len(path) == 1 or path[1] in SIZES + ("n_ctx", "rope_theta", "rms_eps"))


@kind_of_damage
def meta_bits(v, rng):
    text = bytearray(v.sections[META])
    for _ in range(int(rng.integers(1, 4))):
        text[int(rng.integers(len(text)))] ^= 1 << int(rng.integers(8))
    return v.with_section(META, bytes(text)), False


@kind_of_damage
def meta_not_an_object(v, rng):
    text = pick(rng, [b"", b"\0", b"null", b"[]", b"7", b'"x"', b"{", b"\xff\xfe{}", b"{}", b"[" * 100000,
                      b'{"a":' * 100000, b'{"model":' + b"9" * 100000 + b"}", b" " * 4096, b"{}\0",
                      b'{"name": "\xc3\x28"}', b'{"name": "\\ud800"}', b"NaN", b"-"])
    return v.with_section(META, text), True


@kind_of_damage
def meta_value_missing(v, rng):
    meta = v.meta()
    path = pick(rng, list(leaves(meta)))
    del parent_of(meta, path)[path[-1]]
    return v.with_meta(meta), needed(path)


@kind_of_damage
def meta_wrong_type(v, rng):
    meta = v.meta()
    path = pick(rng, list(leaves(meta)))
    parent, key = parent_of(meta, path), path[-1]
    wrong = [w for w in ("12", None, True, [], {}, [[]], 0.5) if type(w) is not type(parent[key])]
    if isinstance(parent[key], float):
        wrong = ["12", None, [], {}]
    parent[key] = pick(rng, wrong)
    return v.with_meta(meta), needed(path)


@kind_of_damage
def meta_size_lies(v, rng):
    meta, key = v.meta(), pick(rng, SIZES)
    true = meta["model"][key]
    meta["model"][key] = pick(rng, [0, -1, -true, 2**32 + true, 10**400, *HUGE])
    return v.with_meta(meta), True


@kind_of_damage
def meta_size_off(v, rng):
    """Small lies; some fall within the padding and are then as good as true."""
    meta, key = v.meta(), pick(rng, SIZES)
    meta["model"][key] = max(1, meta["model"][key] + int(rng.integers(-40, 41)))
    return v.with_meta(meta), False


@kind_of_damage
def meta_number_odd(v, rng):
    """Numbers that no size of a tensor contradicts."""
    meta = v.meta()
    group, key = pick(rng, [("model", "n_ctx"), ("model", "rope_theta"), ("model", "rms_eps"),
                            ("tokenizer", "bos"), ("tokenizer", "unk"), ("tokenizer", "eos")])
    value = pick(rng, [0, -1, -2, 1, 1e-300, 1e300, -1e300, 10**400, *HUGE])
    meta[group][key] = [value] * int(rng.integers(1, 20)) if key == "eos" else value
    return v.with_meta(meta), False


@kind_of_damage
def meta_text_odd(v, rng):
    meta = v.meta()
    group, key = pick(rng, [(None, "name"), (None, "kind"), ("model", "arch"), ("tokenizer", "model"),
                            ("tokenizer", "pre"), ("tokenizer", "chat_template")])
    (meta[group] if group else meta)[key] = pick(rng, ["", "x" * 300, "x" * 10**6, "\0", "%s%n%s", "\U0001f600" * 64])
    return v.with_meta(meta), key == "kind"


@kind_of_damage
def tier_width_lies(v, rng):
    meta = v.meta()
    tier, key = int(rng.integers(len(meta["tiers"]))), pick(rng, ("mlp", "qk", "vo"))
    row = pick(rng, meta["tiers"][tier]["dims"])
    most = layout.pad(meta["model"]["n_ff" if key == "mlp" else "head_dim"])
    row[key] = pick(rng, [0, -32, 31, row[key] + 1, row[key] + 16, most + 32, 2**32 + row[key],
                          2**64 - 32, *HUGE])
    return v.with_meta(meta), True


@kind_of_damage
def compensator_rank_lies(v, rng):
    meta = v.meta()
    layer = int(rng.integers(v.pack.model["n_layers"]))
    row, deepest = pick(rng, meta["tiers"])["dims"][layer], meta["tiers"][-1]["dims"][layer]["comp"]
    row["comp"] = pick(rng, [-32, 31, row["comp"] + 1, row["comp"] + 16, deepest + 32, 2**32 + row["comp"], 2**64 - 32, *HUGE])
    return v.with_meta(meta), True


@kind_of_damage
def compensator_shrinks(v, rng):
    """A deeper tier with less of it than the one before."""
    meta = v.meta()
    tiers, layer = meta["tiers"], int(rng.integers(v.pack.model["n_layers"]))
    at = int(rng.integers(1, len(tiers)))
    tiers[at - 1]["dims"][layer]["comp"] = tiers[at]["dims"][layer]["comp"] + 32
    return v.with_meta(meta), True


@kind_of_damage
def tier_list_lies(v, rng):
    meta = v.meta()
    tiers, tier = meta["tiers"], pick(rng, meta["tiers"])
    lies = [lambda: tiers.clear(), lambda: tier["dims"].pop(), lambda: tier["dims"].clear(),
            lambda: tier["dims"].append(tier["dims"][0]), lambda: tier.update(rank_percent=0),
            lambda: tier.update(rank_percent=101), lambda: tier.update(rank_percent=-5),
            lambda: tiers.append(copy.deepcopy(tiers[0])), lambda: tiers[-1].update(rank_percent=100) or
            tiers[0].update(rank_percent=50), lambda: meta.update(tiers=tiers * 100000)]
    pick(rng, lies)()
    return v.with_meta(meta), True


@kind_of_damage
def tiers_grow(v, rng):
    """A deeper tier wider than the one before."""
    meta = v.meta()
    tiers, key, layer = meta["tiers"], pick(rng, ("mlp", "qk", "vo")), int(rng.integers(v.pack.model["n_layers"]))
    at = int(rng.integers(1, len(tiers)))
    tiers[at]["dims"][layer][key] = tiers[at - 1]["dims"][layer][key] + 32
    return v.with_meta(meta), True


@kind_of_damage
def kind_of_pack_lies(v, rng):
    """nested, h-only and f32 for one another: the planes then contradict it or not."""
    meta = v.meta()
    meta["kind"] = pick(rng, [k for k in ("nested", "h-only", "f32") if k != meta["kind"]])
    return v.with_meta(meta), False


@kind_of_damage
def layers_by_the_thousand(v, rng):
    """A count of layers that the tiers agree with and the tensors do not."""
    meta, n = v.meta(), int(rng.integers(3, 50000))
    meta["model"]["n_layers"] = n
    for tier in meta["tiers"]:
        tier["dims"] = tier["dims"][:1] * n
    return v.with_meta(meta), True


# ---- VOCAB ---------------------------------------------------------------------------------------

@kind_of_damage
def vocab_counts_lie(v, rng):
    raw, field = bytearray(v.sections[VOCAB]), int(rng.integers(3))
    true = struct.unpack_from("<I", raw, 4 * field)[0]
    struct.pack_into("<I", raw, 4 * field, pick(rng, [
        x % 2**32 for x in (true + 1, true - 1, true * 2 + 1, 2**30, 2**31, 2**32 - 1, 2**32 - 2, 2**28 - 1)]))
    return v.with_section(VOCAB, bytes(raw)), True


@kind_of_damage
def vocab_offsets_lie(v, rng):
    """An offset that falls, or points outside."""
    raw, n = bytearray(v.sections[VOCAB]), len(v.pack.vocab.texts)
    at = int(rng.integers(1, n))
    value = pick(rng, [0xFFFFFFFF, 0x80000000, sum(map(len, v.pack.vocab.texts)) + 1])
    struct.pack_into("<I", raw, 16 + 4 * at, value)
    return v.with_section(VOCAB, bytes(raw)), True


@kind_of_damage
def vocab_values_odd(v, rng):
    """Merges of tokens that are not there, unknown types, scores that are no numbers."""
    vocab = copy.deepcopy(v.pack.vocab)
    vocab.scores, vocab.merges, vocab.types = (np.array(a) for a in (vocab.scores, vocab.merges, vocab.types))
    what = int(rng.integers(3))
    if what == 0 and len(vocab.merges):
        vocab.merges[int(rng.integers(len(vocab.merges)))] = rng.integers(0, 2**32, 2)
    elif what == 1:
        vocab.types[int(rng.integers(len(vocab.types)))] = pick(rng, [0, 7, 255])
    else:
        vocab.scores[int(rng.integers(len(vocab.scores)))] = pick(rng, [np.nan, np.inf, -np.inf])
    return v.with_section(VOCAB, layout.write_vocab(vocab)), False


@kind_of_damage
def vocab_bits(v, rng):
    raw = bytearray(v.sections[VOCAB])
    raw[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
    return v.with_section(VOCAB, bytes(raw)), False


# ---- TENSORS -------------------------------------------------------------------------------------

(ROLE, LAYER, TIER, KIND, ROWS, COLS, PANEL, OUTLIERS, FLAGS) = range(9)
(DATA_OFF, DATA_SIZE, PAIR_OFF, OUTLIER_OFF, L_OFF, L_SIZE) = range(12, 18)
MAY_LACK_L = (layout.ROLE_ID["COMP_V"], layout.ROLE_ID["COMP_U"])


def lies_about(record, model, n_tiers, region):
    """(field, value) pairs that no reader may take."""
    wide = (2**31, 2**32 - 16, 2**32 - 32, 2**32 - 1)
    far = (2**63, 2**64 - 64, layout.pad(region, 64), layout.pad(region, 64) + 2**32)
    size = record[DATA_SIZE]
    lies = [(ROLE, x) for x in (0, len(layout.ROLES) + 1, 2**32 - 1)]
    lies += [(LAYER, x) for x in (model["n_layers"], 2**31, 2**32 - 2)]
    lies += [(TIER, x) for x in (n_tiers, 2**32 - 1)]
    lies += [(KIND, x) for x in (0, 1, 2, 3, 4, 2**32 - 1) if x != record[KIND]]
    lies += [(field, x) for field in (ROWS, COLS) for x in (0, record[field] + 32, record[field] * 2 + 32, *wide)]
    lies += [(DATA_OFF, x) for x in (record[DATA_OFF] + 1, *far)]
    lies += [(DATA_SIZE, x % 2**64) for x in (0, size - 1, size + 1, size * 2, size + 2**32, -1)]
    if record[KIND] == layout.NESTED:
        lies += [(PAIR_OFF, x) for x in (record[PAIR_OFF] + 1, *far)]
        lies += [(OUTLIERS, x) for x in (2, 2**32 - 1, 1 - record[OUTLIERS])]
        if record[OUTLIERS]:
            lies += [(OUTLIER_OFF, x) for x in (record[OUTLIER_OFF] + 1, *far)]
        if record[L_SIZE]:
            lies += [(L_OFF, x) for x in (record[L_OFF] + 1, *far)]
            lies += [(L_SIZE, x) for x in (record[L_SIZE] - 1, record[L_SIZE] + 1, 2**64 - 1)]
            lies += [(L_SIZE, 0)] * (record[ROLE] not in MAY_LACK_L or record[FLAGS] != 0)
    return lies


@kind_of_damage
def tensor_record_lies(v, rng):
    records = v.records()
    record = pick(rng, records)
    region = max(len(v.sections[PLANES_H]), len(v.sections.get(PLANES_L, b"")))
    field, value = pick(rng, lies_about(record, v.pack.model, len(v.pack.meta["tiers"]), region))
    record[field] = value
    return v.with_records(records), True


@kind_of_damage
def tensor_record_odd(v, rng):
    """Values that may make sense: other roles and tiers, shared bytes, any panel width, other flags."""
    records = v.records()
    record, other = pick(rng, records), pick(rng, records)
    field = pick(rng, [ROLE, LAYER, TIER, PANEL, FLAGS, 9, DATA_OFF, PAIR_OFF, OUTLIER_OFF, L_OFF])
    record[field] = pick(rng, [other[field], 0, 1, 2, 64]) if field != PANEL else pick(
        rng, [1, 2, 3, 7, 2**31, 2**32 - 1])
    return v.with_records(records), False


@kind_of_damage
def tensor_record_bits(v, rng):
    raw = bytearray(v.sections[TENSORS])
    for _ in range(int(rng.integers(1, 4))):
        raw[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
    return v.with_section(TENSORS, bytes(raw)), False


@kind_of_damage
def tensor_missing(v, rng):
    records = v.records()
    gone = records.pop(int(rng.integers(len(records))))
    return v.with_records(records), layout.ROLES[gone[ROLE] - 1] not in ("ATTN_BIAS", "MLP_BIAS") + layout.OPTIONAL


@kind_of_damage
def tensor_twice(v, rng):
    records = v.records()
    records.insert(int(rng.integers(len(records))), list(pick(rng, records)))
    return v.with_records(records), True


@kind_of_damage
def sizes_agree_on_a_lie(v, rng):
    """META and the records agree on a matrix far larger than its planes; products of its sizes wrap."""
    meta, records = v.meta(), v.records()
    size = pick(rng, [2**27, 2**30, 2**31])
    key, axis = pick(rng, [("n_vocab", ROWS), ("n_embd", COLS)])
    true = layout.pad(meta["model"][key], 16 if axis == ROWS else 32)
    meta["model"][key] = size
    for record in records:
        record[axis] = size if record[axis] == true else record[axis]
        block = layout.F32_BLOCK if record[KIND] == layout.F32_MATRIX else layout.H_BLOCK
        if record[KIND] in (layout.NESTED, layout.F32_MATRIX) and pick(rng, [True, False]):
            record[DATA_SIZE] = record[ROWS] // 16 * (record[COLS] // 32) * block % 2**pick(rng, [32, 64])
    sections = dict(v.sections) | {META: json.dumps(meta).encode(),
                                   TENSORS: b"".join(RECORD.pack(*r) for r in records)}
    return bytes(layout.join_sections(list(sections.items()))), True


@kind_of_damage
def head_norm_at_a_cut_tier(v, rng):
    """A bias of K that calls itself a norm of whole heads, where a tier cuts them; or one of Q, which is longer."""
    records = v.records()
    names = [layout.ROLES[r[ROLE] - 1] for r in records]
    of = [i for i, name in enumerate(names) if name in ("Q_BIAS", "K_BIAS")]
    if not of:
        return tensor_missing(v, rng)
    i = pick(rng, of)
    records[i][ROLE] = layout.ROLE_ID[pick(rng, ["Q_NORM", "K_NORM"])]
    whole = layout.pad(v.pack.model["head_dim"])
    cut = any(row["qk"] != whole for tier in v.pack.meta["tiers"] for row in tier["dims"])
    return v.with_records(records), cut or names[i] == "Q_BIAS" and records[i][COLS] != whole * v.pack.model["n_kv_heads"]


@kind_of_damage
def rope_factor_odd(v, rng):
    """No frequency can be divided by these."""
    raw, found = bytearray(v.sections[PLANES_H]), [r for r in v.records() if layout.ROLES[r[ROLE] - 1] == "ROPE_FACTORS"]
    if not found:
        return tensor_missing(v, rng)
    at = found[0][DATA_OFF] + 4 * int(rng.integers(v.pack.model["head_dim"] // 2))
    struct.pack_into("<f", raw, at, pick(rng, [0.0, -1.0, float("nan"), float("inf"), -0.0]))
    return v.with_section(PLANES_H, bytes(raw)), True


# ---- planes --------------------------------------------------------------------------------------

@kind_of_damage
def planes_noise(v, rng):
    kind = pick(rng, [k for k in (PLANES_H, PLANES_L) if len(v.sections.get(k, b""))])
    raw = bytearray(v.sections[kind])
    at, n = int(rng.integers(len(raw))), int(rng.integers(1, 65536))
    raw[at:at + n] = rng.bytes(len(raw[at:at + n]))
    return v.with_section(kind, bytes(raw)), False


@kind_of_damage
def scales_not_finite(v, rng):
    """NaN, infinities and the largest numbers in norms, biases, row pairs and outlier scales."""
    raw = bytearray(v.sections[PLANES_H])
    record = pick(rng, v.records())
    half = pick(rng, [0x7FC0, 0xFF80, 0x7F80, 0x7F7F, 0x0001, 0xFFFF])
    if record[KIND] == layout.NESTED:
        at = record[pick(rng, [PAIR_OFF, OUTLIER_OFF] if record[OUTLIERS] else [PAIR_OFF])]
        n = pick(rng, [2, 64])
    else:
        at, n = record[DATA_OFF], record[DATA_SIZE]
    raw[at:at + n] = struct.pack("<H", half) * (n // 2)
    return v.with_section(PLANES_H, bytes(raw)), False


def damage(src, seed, how):
    """(bytes, must_refuse): the pack at path src with one damage of a kind, the same for the same seed."""
    return KINDS_OF_DAMAGE[how](src if isinstance(src, Victim) else Victim(src), np.random.default_rng(seed))


def damaged_copies(src, n, seed=0, kinds=None):
    """n distinct damaged copies, the kinds in turn: yields (name, bytes, must_refuse)."""
    victim, kinds = Victim(src), list(kinds or KINDS_OF_DAMAGE)
    seen, trial = {hashlib.sha256(victim.raw).digest()}, 0
    while n > 0:
        how, turn = kinds[trial % len(kinds)], trial // len(kinds)
        trial += 1
        content, must_refuse = damage(victim, [seed, turn], how)
        digest = hashlib.sha256(content).digest()
        if digest not in seen:
            seen.add(digest)
            n -= 1
            yield f"{how}-{turn}", content, must_refuse
