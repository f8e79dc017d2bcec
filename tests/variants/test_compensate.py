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


def run(e, f, tiers, made):
    """Of each (kept, rank): bias and map, in the source's order."""
    b, a, down, residual, channels = made
    parts = [residual.astype("i4"), channels.astype("i4")]
    parts += [x.astype("f4") for x in (down, a.mean(axis=0), b.mean(axis=0), b.T @ b / len(b), a.T @ b / len(b))]
    (folder / "in").write_bytes(b"".join(np.ascontiguousarray(p).tobytes() for p in parts))
    words = ":".join(f"{kept},{rank}" for kept, rank in tiers)
    done = subprocess.run([DRIVER, str(e), str(f), words, folder / "in", folder / "out"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    got, wide, rank = np.fromfile(folder / "out", "f4").astype("f8"), -(-e // 32) * 32, tiers[-1][1]
    biases, v, u = np.split(got, np.cumsum([len(tiers) * wide, rank * wide]))
    biases, v, u = biases.reshape(-1, wide), v.reshape(rank, wide), u.reshape(wide, rank)
    assert not biases[:, e:].any() and not v[:, e:].any() and not u[e:].any() and not u[:, e:].any(), "padding"
    back = np.argsort(residual)  # from stored to the source's order
    return [(bias[:e][back], (u[:e, :r] @ v[:r, :e])[np.ix_(back, back)]) for bias, (_, r) in zip(biases, tiers)]


def expected(tiers, made):
    """Each tier adds to the map of the one before the best of its rank of what that leaves."""
    b, a, down, _, channels = made
    db, m, known, out = b - b.mean(axis=0), np.zeros((b.shape[1],) * 2), 0, []
    cov = db.T @ db / len(b)
    low = np.linalg.cholesky(cov + RIDGE * np.trace(cov) / len(cov) * np.eye(len(cov)))
    for kept, rank in tiers:
        lost = channels[kept:]
        y = a[:, lost] @ down[:, lost].T
        whole = np.linalg.solve(low, db.T @ (y - y.mean(axis=0)) / len(b)).T
        u, s, vt = np.linalg.svd(whole - m @ low)
        k, known = rank - known, rank
        m = m + (u[:, :k] * s[:k]) @ np.linalg.solve(low.T, vt[:k].T).T
        out.append((y.mean(axis=0) - m @ b.mean(axis=0), m))
    return out


def near(got, exact, what, scale=None):
    error = np.abs(got - exact).max() / np.abs(exact if scale is None else scale).max()
    assert error < 2e-4, f"{what}: {error}"


def test_the_bias_is_the_mean_of_what_is_lost():
    made, tiers = activations(48, 96, 500, 1), [(64, 0), (32, 0)]
    for (bias, m), (exact, _) in zip(run(48, 96, tiers, made), expected(tiers, made)):
        near(bias, exact, "bias")
        assert m.size == 48 * 48 and not m.any()


def test_the_map_is_the_best_of_its_rank():
    for e, f, kept, rank in ((64, 160, 32, 32), (48, 96, 64, 32), (40, 64, 32, 64)):
        made, tiers = activations(e, f, 2000, e), [(kept, rank)]
        (bias, m), (exact_bias, exact) = run(e, f, tiers, made)[0], expected([(kept, min(rank, e))], made)[0]
        near(m, exact, f"map {e} {f} {kept} {rank}")
        near(bias, exact_bias, f"bias {e} {f} {kept} {rank}")


def test_a_tier_goes_on_where_the_one_before_ends():
    made, tiers = activations(96, 256, 2000, 7), [(224, 0), (160, 32), (128, 32), (64, 64), (32, 96)]
    for (bias, m), (exact_bias, exact), tier in zip(run(96, 256, tiers, made), expected(tiers, made), tiers):
        near(m, exact, f"map {tier}", expected(tiers, made)[-1][1])
        near(bias, exact_bias, f"bias {tier}")


if __name__ == "__main__":
    tap.main()
