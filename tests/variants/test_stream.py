"""The layer-by-layer FP32 pass against a plain forward pass in numpy, in double, on tiny random models."""
import hashlib
import pathlib
import subprocess
import tempfile

import numpy as np

from tests import tap
from tests.variants import tiny_gguf

work = tempfile.TemporaryDirectory(prefix="edgert-stream-")
folder = pathlib.Path(work.name)
DRIVER = tap.build / "tests/variants/drive_stream"
# Not multiples of 32, grouped-query attention; wider than a share of a product.
ODD = tiny_gguf.model(n_embd=80, n_heads=6, n_kv_heads=2, head_dim=20, n_ff=300)
EPS, THETA = 1e-5, 10000.0
INPUTS = ("attn", "mixed", "mlp", "gated")


def norm(x, w):
    return x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + EPS) * w


def rotated(x, arch):
    """RoPE of [token][head][dim] as the file has it: pairs (2p, 2p + 1) of llama, halves (p, p + dim / 2) of others."""
    length, dim = x.shape[0], x.shape[-1]
    angle = np.arange(length)[:, None] * THETA ** (-np.arange(0, dim, 2) / dim)
    pairs = (x[..., ::2], x[..., 1::2]) if arch == "llama" else np.split(x, 2, axis=-1)
    turned = (pairs[0] + 1j * pairs[1]) * np.exp(1j * angle)[:, None]
    if arch == "llama":
        return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)
    return np.concatenate([turned.real, turned.imag], axis=-1)


def heads(a, f, blk, p, m):
    """Q, K or V of one text, finished: [token][head][dim]."""
    x = (a @ f[f"{blk}.attn_{p}.weight"].T + f.get(f"{blk}.attn_{p}.bias", 0)).reshape(len(a), -1, m["head_dim"])
    if f"{blk}.attn_{p}_norm.weight" in f:
        x = norm(x, f[f"{blk}.attn_{p}_norm.weight"])
    return x if p == "v" else rotated(x, m["arch"])


def attention(a, f, blk, m):
    """What O reads for one text."""
    length, dim = len(a), m["head_dim"]
    q, k, v = (heads(a, f, blk, p, m) for p in "qkv")
    k, v = (np.repeat(x, m["n_heads"] // m["n_kv_heads"], axis=1) for x in (k, v))
    scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(dim)
    scores[:, ~np.tri(length, dtype=bool)] = -np.inf
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return np.einsum("hts,shd->thd", p / p.sum(axis=-1, keepdims=True), v).reshape(length, -1)


def forward(f, m, text, cuts=()):
    """(what each layer's products read and the residual stream its MLP adds to, what the head reads, the last
    residual stream) for one text; cuts has, layer by layer, what channels give instead, NaN where nothing."""
    f = {name: w.astype("f8") for name, w in f.items()}
    x, layers = f["token_embd.weight"][text], []
    for i, blk in ((i, f"blk.{i}") for i in range(m["n_layers"])):
        a = norm(x, f[f"{blk}.attn_norm.weight"])
        mixed = attention(a, f, blk, m)
        x = x + mixed @ f[f"{blk}.attn_output.weight"].T
        b = norm(x, f[f"{blk}.ffn_norm.weight"])
        gate = b @ f[f"{blk}.ffn_gate.weight"].T
        gated = gate / (1 + np.exp(-gate)) * (b @ f[f"{blk}.ffn_up.weight"].T)
        if i < len(cuts):
            gated = np.where(np.isnan(cuts[i]), gated, cuts[i])
        layers.append(dict(attn=a, mixed=mixed, mlp=b, gated=gated, stream=x))
        x = x + gated @ f[f"{blk}.ffn_down.weight"].T
    return layers, norm(x, f["output_norm.weight"]), x


class Output:
    """The floats of drive_stream, taken off one after the other."""

    def __init__(self, path):
        self.left = np.fromfile(path, "f4")

    def take(self, *shape):
        n = int(np.prod(shape))
        got, self.left = self.left[:n].reshape(shape), self.left[n:]
        return got


def run(path, ids, measured, threads, out="out"):
    (folder / "ids").write_bytes(ids.astype("i4").tobytes())
    done = subprocess.run([DRIVER, path, folder / "ids", *map(str, (*ids.shape, measured, threads)), folder / out],
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Output(folder / out)


def near(got, exact, what):
    error = np.abs(got - exact).max() / np.abs(exact).max()
    assert error < 2e-5, f"{what}: {error}"


def check(name, m, shape, measured, seed=1):
    path, rng = folder / f"{name}.gguf", np.random.default_rng(seed)
    made = tiny_gguf.write(path, m, rng, lambda name: "F32")
    f = {n: tiny_gguf.floats(made[n], s) for n, s in tiny_gguf.shapes(m).items()}
    ids = rng.integers(0, m["n_vocab"], shape)
    got, exact = run(path, ids, measured, 2), [forward(f, m, text) for text in ids]
    for layer in range(m["n_layers"]):
        rows = {i: np.concatenate([text[0][layer][i] for text in exact[:measured]]) for i in (*INPUTS, "stream")}
        for i, x in ((i, rows[i]) for i in INPUTS):
            near(got.take(x.shape[1]), x.mean(axis=0), f"{name} layer {layer} {i} mean")
            near(got.take(x.shape[1], x.shape[1]), x.T @ x / len(x), f"{name} layer {layer} {i} gram")
        weight = 1 / (rows["stream"]**2).sum(axis=1)
        weight /= weight.sum()
        for what, exact_of in (("mean", weight @ rows["gated"]), ("square", weight @ rows["gated"]**2),
                               ("mlp", weight @ rows["mlp"]), ("gram", (rows["mlp"].T * weight) @ rows["mlp"]),
                               ("cross", (rows["gated"].T * weight) @ rows["mlp"])):
            near(got.take(*exact_of.shape), exact_of, f"{name} layer {layer} level {what}")
    x = np.concatenate([text[1] for text in exact[:measured]])
    near(got.take(m["n_embd"]), x.mean(axis=0), f"{name} head mean")
    near(got.take(m["n_embd"], m["n_embd"]), x.T @ x / len(x), f"{name} head gram")
    state = got.take(ids.size, -(-m["n_embd"] // 32) * 32)
    near(state[:, :m["n_embd"]], np.concatenate([text[1] for text in exact]), f"{name} state")
    channels = np.arange(m["n_ff"])
    cut = np.where(channels % 3 == 0, channels / m["n_ff"], np.nan)
    branch = got.take(ids.size, -(-m["n_embd"] // 32) * 32)
    near(branch[:, :m["n_embd"]], np.concatenate([forward(f, m, text, [cut])[2] for text in ids]), f"{name} branch")
    assert not state[:, m["n_embd"]:].any() and not branch[:, m["n_embd"]:].any() and not len(got.left)


def test_moments_and_state_are_those_of_numpy():
    check("one-text", ODD, (1, 7), 1)
    check("chunks", ODD, (40, 64), 23)  # 16 texts at once; the measured ones end inside a chunk
    check("plain", tiny_gguf.model(n_layers=3), (5, 200), 5)
    check("qwen2", dict(ODD, arch="qwen2"), (3, 40), 2)
    check("qwen3", dict(ODD, arch="qwen3"), (3, 40), 2)


def test_the_same_bits_whatever_the_threads():
    path, rng = folder / "threads.gguf", np.random.default_rng(2)
    tiny_gguf.write(path, ODD, rng, lambda name: "F16")
    ids, hashes = rng.integers(0, ODD["n_vocab"], (12, 100)), set()
    for threads in (1, 2, 3, 7):
        run(path, ids, 9, threads)
        hashes.add(hashlib.sha256((folder / "out").read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_ids_and_lengths_that_do_not_fit_are_refused():
    path = folder / "refused.gguf"
    tiny_gguf.write(path, ODD, np.random.default_rng(3), lambda name: "F32")
    for ids, expected in ((np.full((1, 4), ODD["n_vocab"]), "the vocabulary has 0 to 269"),
                          (np.full((1, 4), -1), "has the id -1"),
                          (np.zeros((1, 257), int), "1 to 256 tokens fit")):
        try:
            run(path, ids, 1, 1)
        except AssertionError as e:
            assert expected in str(e), e
        else:
            assert False, f"taken: {expected}"


if __name__ == "__main__":
    tap.main()
