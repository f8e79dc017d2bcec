"""The independent oracle of the pack format: it knows docs/pack-format.md and no other code."""
from .damage import damage, damaged_copies
from .layout import Pack, PackError, Tensor, read_pack, write_pack
from .matrix import decode, weights
from .random_pack import make_random_pack, random_pack
from .reference import reference_forward
from .slicing import slice_pack, strip_l
