"""Looks into packs and cuts them. usage:

    packtool dump PACK                  sections, model, tiers and tensors
    packtool slice PACK TIER OUT        tier number TIER alone
    packtool strip-l PACK OUT           without the L region (w4a16 and w4a8 only)
    packtool random OUT SEED [KIND]     a small pack with random weights (nested, h-only, f32)
"""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent.parent))
from tools import packtool
from tools.packtool import layout


def dump(path):
    pack = packtool.read_pack(path)
    print(f"{pack.meta['name']}: {pack.meta['kind']}, {len(pack.vocab.texts)} tokens, "
          f"{len(pack.vocab.merges)} merges")
    print(" ".join(f"{key}={value}" for key, value in pack.model.items()))
    for tier in pack.meta["tiers"]:
        print(tier["name"], " ".join("{mlp}/{qk}/{vo}/{comp}".format(**d) for d in tier["dims"]))
    for t in pack.tensors.values():
        where = "model" if t.layer == layout.NO_LAYER else f"layer {t.layer}"
        notes = [f"tier {t.tier}"] * bool(t.tier) + [f"panels of {t.panel_groups}"] * bool(t.panel_groups)
        notes += ["outlier group"] * t.outlier_groups + ["L resident"] * t.resident
        print(f"{t.role:10} {where:9} {t.rows} x {t.cols}, H {len(t.data)} L {len(t.l)} bytes", *notes, sep="  ")


COMMANDS = {"dump": dump, "slice": lambda src, tier, dst: packtool.slice_pack(src, int(tier), dst),
            "strip-l": packtool.strip_l,
            "random": lambda out, seed, kind="nested": packtool.make_random_pack(out, int(seed), kind=kind)}

try:
    COMMANDS[sys.argv[1]](*sys.argv[2:])
except packtool.PackError as e:
    sys.exit(f"packtool: {sys.argv[2]}: {e}")
except (IndexError, KeyError, TypeError):
    sys.exit(__doc__)
