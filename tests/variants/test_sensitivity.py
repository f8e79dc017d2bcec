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
# More rows of the vocabulary than are taken at a time, the last ones fewer.
MODEL = tiny_gguf.model(n_embd=80, n_heads=6, n_kv_heads=2, head_dim=20, n_ff=300, n_layers=3, n_vocab=1300)
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

    def kld(self, widths):
        """Every position from 16 on that has a next token."""
        each = [(np.exp(p) * (p - q)).sum(axis=-1)[16:255] for p, q in zip(self.exact, self.logits(widths))]
        return np.mean(each)

    def weigh(self, widths, depth):
        parts = [self.ids.astype("i4"), np.array(widths, "i4"), np.array(self.order, "i4"), self.constant]
        (folder / "in").write_bytes(b"".join(p.tobytes() for p in parts))
        done = subprocess.run([DRIVER, self.path, folder / "in", "4", "256", str(depth)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def test_cuts_cost_what_numpy_finds():
    made = Made(1)
    for widths, depth in (([FULL] * 3, FULL), ([160, FULL, 64], FULL), ([FULL, 224, 32], 90)):
        got = made.weigh(widths, depth)
        assert got["widths"] == WIDTHS, got
        tier = made.kld(widths)
        assert abs(got["tier"] - tier) <= 1e-3 * tier, (got["tier"], tier)
        for layer, own in enumerate(widths):
            for i, (width, kld) in enumerate(zip(WIDTHS, got["kld"][layer])):
                wanted = width < own and (i == 0 or WIDTHS[i - 1] > own - depth)
                assert (kld is not None) == wanted, (widths, depth, layer, width, kld)
                if wanted:
                    exact = made.kld([*widths[:layer], width, *widths[layer + 1:]])
                    assert abs(kld - exact) <= 1e-3 * exact, (widths, layer, width, kld, exact)


if __name__ == "__main__":
    tap.main()
