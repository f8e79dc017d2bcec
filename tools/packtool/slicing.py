"""Cuts packs: one tier alone, or without L planes. Bytes are rearranged, never requantized."""
import copy
import dataclasses

from . import layout
from .layout import EXTRAS, GROUP, OUTLIER_BLOCK, PAIRS_BLOCK, TILE


def stored_shape(pack, role, tier, layer):
    """(rows, cols) a tier reads of a block matrix; None for a role that no tier cuts."""
    m, dims = pack.model, pack.dims(tier, layer)
    embd = layout.pad(m["n_embd"])
    return {"Q": (m["n_heads"] * dims["qk"], embd), "Q_BIAS": (1, m["n_heads"] * dims["qk"]), "O": (embd, m["n_heads"] * dims["vo"]),
            "GATE": (dims["mlp"], embd), "UP": (dims["mlp"], embd),
            "DOWN": (embd, dims["mlp"]), "COMP_V": (dims["comp"], embd), "COMP_U": (embd, dims["comp"])}.get(role)


def cut(t, rows, cols):
    """The first rows and columns of a matrix or values of a vector, as a Tensor of its own."""
    if t.kind == layout.VECTOR:
        return dataclasses.replace(t, cols=cols, data=t.data[:4 * cols])
    tiles, groups = rows // TILE, cols // GROUP - t.outlier_groups
    keep = lambda blocks: layout.to_panels(blocks[:tiles, :groups], t.panel_groups)
    return dataclasses.replace(
        t, rows=rows, cols=cols, data=keep(layout.blocks_of(t)),
        pairs=t.pairs[:tiles * PAIRS_BLOCK], outliers=t.outliers[:tiles * OUTLIER_BLOCK],
        l=keep(layout.l_blocks_of(t)) if t.l else b"")


def slice_tensor(pack, t, tier):
    """The tensor as tier 0 of the sliced pack; None if that tier does not read it."""
    if t.role in EXTRAS:
        return dataclasses.replace(t, tier=0) if t.tier == tier else None
    shape = t.layer != layout.NO_LAYER and stored_shape(pack, t.role, tier, t.layer)
    if shape and 0 in shape:
        return None
    return cut(t, *shape) if shape else t


def keyed(tensors):
    return {(t.role, t.layer, t.tier): t for t in tensors if t is not None}


def sliced(pack, tier):
    """A Pack whose only tier is the given one."""
    meta = copy.deepcopy(pack.meta)
    meta["tiers"] = [meta["tiers"][tier]]
    meta.pop("catalog", None)
    return layout.Pack(meta, pack.vocab, keyed(slice_tensor(pack, t, tier) for t in pack.tensors.values()))


def without_l(pack):
    """The h-only Pack: the L region is gone, L planes that every variant reads stay."""
    meta = copy.deepcopy(pack.meta)
    meta["kind"] = "h-only"
    meta.pop("catalog", None)
    return layout.Pack(meta, pack.vocab, keyed(
        t if t.resident else dataclasses.replace(t, l=b"") for t in pack.tensors.values()))


def slice_pack(src, tier, dst):
    layout.write_pack(sliced(layout.read_pack(src), tier), dst)


def strip_l(src, dst):
    layout.write_pack(without_l(layout.read_pack(src)), dst)
