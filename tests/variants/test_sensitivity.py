"""What cutting a layer costs, against plain forward passes in numpy: the tier, and the tier with one layer cut further."""
import json
import pathlib
import subprocess
import tempfile

import numpy as np

from tests import tap
from tests.variants import tiny_gguf
from tests.variants.test_stream import forward

work = tempfile.TemporaryDirectory(prefix="edgert-sensitivity-")
folder = pathlib.Path(work.name)
DRIVER = tap.build / "tests/variants/drive_sensitivity"
MODEL = tiny_gguf.model(n_embd=80, n_heads=6, n_kv_heads=2, head_dim=20, n_ff=300, n_layers=3)
FULL = 320  # stored: n_ff and padding
WIDTHS = [224, 128, 64, 32]


def log_softmax(x):
    x = x - x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


class Made:
    """A model, texts, and for each layer an order of its channels and what they become."""

    def __init__(self, seed):
        rng = np.random.default_rng(seed)
        self.path = folder / "model.gguf"
        data = tiny_gguf.write(self.path, MODEL, rng, lambda name: "F32")
        self.f = {n: tiny_gguf.floats(data[n], s) for n, s in tiny_gguf.shapes(MODEL).items()}
        self.ids = rng.integers(0, MODEL["n_vocab"], (4, 256))
        self.order = [rng.permutation(MODEL["n_ff"]) for _ in range(3)]
        self.constant = rng.normal(size=(3, MODEL["n_ff"])).astype("f4") / 4
        self.exact = self.logits([FULL] * 3)

    def logits(self, widths):
        cuts = np.full((3, MODEL["n_ff"]), np.nan)
        for layer, width in enumerate(widths):
            lost = self.order[layer][width:]
            cuts[layer, lost] = self.constant[layer, lost]
        head = self.f.get("output.weight", self.f["token_embd.weight"]).astype("f8")
        return [log_softmax(forward(self.f, MODEL, text, cuts)[1] @ head.T) for text in self.ids]

    def klds(self, widths):
        """Of every position from 16 on that has a next token."""
        each = [(np.exp(p) * (p - q)).sum(axis=-1)[16:255] for p, q in zip(self.exact, self.logits(widths))]
        return np.concatenate(each)

    def weigh(self, widths, other, depth, *percent):
        parts = [self.ids.astype("i4"), np.array([widths, other], "i4"), np.array(self.order, "i4"), self.constant]
        (folder / "in").write_bytes(b"".join(p.tobytes() for p in parts))
        done = subprocess.run([DRIVER, self.path, folder / "in", "4", "256", str(depth), *percent], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


BLOCKS = 32


def drawn(draw):
    """How often each block is drawn: by SplitMix64, counters in place of its state."""
    if draw == 0:
        return np.ones(BLOCKS)
    times, mask = np.zeros(BLOCKS), (1 << 64) - 1
    for i in range(BLOCKS):
        z = 0
        for counter in (draw, i):
            z = (z + (counter + 1) * 0x9e3779b97f4a7c15) & mask
            z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9 & mask
            z = (z ^ (z >> 27)) * 0x94d049bb133111eb & mask
            z ^= z >> 31
        times[z >> 59] += 1
    return times


def mean_of_draw(klds, draw):
    times = drawn(draw)[np.arange(len(klds)) * BLOCKS // len(klds)]
    return (times * klds).sum() / times.sum()


def test_cuts_cost_what_numpy_finds():
    made = Made(1)
    for widths, depth in (([FULL] * 3, FULL), ([160, FULL, 64], FULL), ([FULL, 224, 32], 90)):
        draws = made.weigh(widths, widths, depth)["draws"]
        tier = made.klds(widths)
        for draw, got in enumerate(draws):
            assert got["widths"] == WIDTHS, got
            expected = mean_of_draw(tier, draw)
            assert abs(got["tier"] - expected) <= 1e-3 * expected, (got["tier"], expected)
        for layer, own in enumerate(widths):
            for i, width in enumerate(WIDTHS):
                wanted = width < own and (i == 0 or WIDTHS[i - 1] > own - depth)
                klds = made.klds([*widths[:layer], width, *widths[layer + 1:]]) if wanted else None
                for draw, got in enumerate(draws):
                    kld = got["kld"][layer][i]
                    assert (kld is not None) == wanted, (widths, depth, layer, width, kld)
                    if wanted:
                        expected = mean_of_draw(klds, draw)
                        assert abs(kld - expected) <= 1e-3 * expected, (widths, layer, width, draw, kld, expected)


def test_tiers_compare_as_numpy_finds():
    made = Made(2)
    tiers = [160, FULL, 64], [FULL, 96, 128]
    for kld, widths in zip(made.weigh(*tiers, FULL)["compared"], tiers):
        expected = made.klds(widths).mean()
        assert abs(kld - expected) <= 1e-3 * expected, (widths, kld, expected)


def part_kept(widths):
    """Of the weights of all layers."""
    channel = 3 * MODEL["n_embd"]
    attention = 2 * (MODEL["n_heads"] + MODEL["n_kv_heads"]) * MODEL["head_dim"] * MODEL["n_embd"]
    layer = attention + channel * MODEL["n_ff"]
    return 1 - sum(max(MODEL["n_ff"] - w, 0) * channel for w in widths) / (3 * layer)


def test_of_several_candidates_the_least_loss_is_chosen():
    differ = 0
    for seed in (3, 4):
        made = Made(seed)
        made.constant *= np.array([[1], [3], [4]], "f4")  # layers that cost about the same
        got = made.weigh([FULL] * 3, [FULL] * 3, 0, "75")
        plain, chosen = got["plain"], got["chosen"]
        for widths in (plain, chosen):
            assert 75 - 8 < 100 * part_kept(widths) <= 75, (widths, part_kept(widths))
        differ += plain != chosen
        assert made.klds(chosen).mean() <= made.klds(plain).mean() * 1.0001, got
    assert differ > 0, "the mean was the best each time: the test says nothing"


if __name__ == "__main__":
    tap.main()
