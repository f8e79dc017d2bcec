"""A tier's bias and compensator against numpy: reduced-rank ridge regression by a whole singular value
decomposition of the whitened map, on made-up activations."""
import pathlib
import subprocess
import tempfile

import numpy as np

from tests import tap

work = tempfile.TemporaryDirectory(prefix="edgert-compensate-")
folder = pathlib.Path(work.name)
DRIVER = tap.build / "tests/variants/drive_compensate"
RIDGE = 0.01


def activations(e, f, tokens, seed):
    """b and a of many tokens; a depends on b, not only linearly; both have means. And weights of DOWN."""
    rng = np.random.default_rng(seed)
    b = rng.normal(size=(tokens, e)) @ rng.normal(size=(e, e)) / 4 + rng.normal(size=e)
    a = np.maximum(b @ rng.normal(size=(e, f)) / 8, -1) + rng.normal(size=f) / 4
    return b, a, rng.normal(size=(e, f)), rng.permutation(e), rng.permutation(f)


def run(e, f, kept, rank, made):
    b, a, down, residual, channels = made
    parts = [residual.astype("i4"), channels.astype("i4")]
    parts += [x.astype("f4") for x in (down, a.mean(axis=0), b.mean(axis=0), b.T @ b / len(b), a.T @ b / len(b))]
    (folder / "in").write_bytes(b"".join(np.ascontiguousarray(p).tobytes() for p in parts))
    done = subprocess.run([DRIVER, *map(str, (e, f, kept, rank)), folder / "in", folder / "out"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    got, wide = np.fromfile(folder / "out", "f4").astype("f8"), -(-e // 32) * 32
    bias, maps = got[:wide], got[wide:]
    stored = len(maps) // 2 // wide if rank else 0
    v, u = maps[:stored * wide].reshape(stored, wide), maps[stored * wide:].reshape(wide, stored)
    assert not bias[e:].any() and not v[:, e:].any() and not u[e:].any() and not u[:, rank:].any(), "padding"
    back = np.argsort(residual)  # from stored to the source's order
    return bias[:e][back], (u[:e, :] @ v[:, :e])[np.ix_(back, back)]


def expected(kept, rank, made):
    b, a, down, _, channels = made
    lost = channels[kept:]
    y = a[:, lost] @ down[:, lost].T
    dy, db = y - y.mean(axis=0), b - b.mean(axis=0)
    cov = db.T @ db / len(b)
    low = np.linalg.cholesky(cov + RIDGE * np.trace(cov) / len(cov) * np.eye(len(cov)))
    u, s, vt = np.linalg.svd(np.linalg.solve(low, db.T @ dy / len(b)).T)
    m = (u[:, :rank] * s[:rank]) @ np.linalg.solve(low.T, vt[:rank].T).T
    return y.mean(axis=0) - m @ b.mean(axis=0), m


def near(got, exact, what, scale=None):
    error = np.abs(got - exact).max() / np.abs(exact if scale is None else scale).max()
    assert error < 2e-4, f"{what}: {error}"


def test_the_bias_is_the_mean_of_what_is_lost():
    made = activations(48, 96, 500, 1)
    bias, m = run(48, 96, 64, 0, made)
    near(bias, expected(64, 0, made)[0], "bias")
    assert m.size == 48 * 48 and not m.any()


def test_the_map_is_the_best_of_its_rank():
    for e, f, kept, rank in ((48, 96, 64, 8), (64, 160, 32, 32), (40, 64, 32, 40), (40, 64, 32, 100)):
        made = activations(e, f, 2000, e)
        bias, m = run(e, f, kept, rank, made)
        exact_bias, exact = expected(kept, min(rank, e), made)
        near(m, exact, f"map {e} {f} {kept} {rank}")
        near(bias, exact_bias, f"bias {e} {f} {kept} {rank}")


if __name__ == "__main__":
    tap.main()
