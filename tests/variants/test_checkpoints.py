"""Tiny checkpoints of every architecture against the logits that transformers computes from them: as it saved
them, as GGUF files, and through the points of a nested pack. tools/make-fixtures made them."""
import json
import pathlib
import shutil
import subprocess
import tempfile

import numpy as np

from tests import tap
from tests.variants import checkpoint
from tools import packtool

work = tempfile.TemporaryDirectory(prefix="edgert-checkpoints-")
folder = pathlib.Path(work.name)
BUILDER = tap.build / "tests/variants/drive_build"
RUNNER = tap.build / "tests/runtime/drive_forward"
# Both sides compute in float32 and sum in different orders: measured 8e-6 at most.
BOUND = 2e-5


def build(source, out, *options):
    return subprocess.run([BUILDER, "build", source, folder / out, "tokens=1024", *options], capture_output=True, text=True)


def built(source, out, *options):
    done = build(source, out, *options)
    assert done.returncode == 0, done.stderr
    return folder / out


def logits(pack, point, ids):
    (folder / "schedule").write_text(f"0 {point}\n")
    (folder / "ids").write_text(" ".join(map(str, ids)))
    done = subprocess.run([RUNNER, pack, folder / "schedule", folder / "ids", folder / "out"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.fromfile(folder / "out", "<f4").reshape(len(ids), -1)


def error_of(pack, name, point="f32", largest=True):
    """Difference of the logits to transformers', the largest or the root mean square, as a share of the
    logits' size, over all positions that the pack's context has."""
    ids, wanted = checkpoint.golden(name)
    n = min(len(ids), packtool.read_pack(pack).model["n_ctx"])
    got = logits(pack, point, ids[:n])
    difference = np.abs(got - wanted[:n])
    return (difference.max() if largest else np.sqrt((difference**2).mean())) / wanted.std()


def planes(pack):
    """Everything but META."""
    sections = packtool.layout.read_sections(pathlib.Path(pack).read_bytes())
    return {kind: content for kind, content in sections.items() if kind != packtool.layout.META}


def copied(name):
    """A copy of a fixture, to be changed."""
    shutil.rmtree(folder / "copy", ignore_errors=True)
    return pathlib.Path(shutil.copytree(checkpoint.FIXTURES / name, folder / "copy"))


def change_config(path, **changes):
    """Keys of config.json; None removes one."""
    c = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps({k: v for k, v in c.items() if v is not None}))


def test_folders_compute_what_transformers_does():
    for name in checkpoint.NAMES:
        pack = built(checkpoint.FIXTURES / name, "f32.edgert", "f32")
        error = error_of(pack, name)
        print(f"# {name}: {error:.1e}")
        assert error < BOUND, f"{name}: {error}"


def test_what_is_proved_matters():
    """Without its scaling, biases or norms a model computes something else, which the bound would show."""
    scaling = copied("llama3")
    change_config(scaling, rope_scaling=None)
    assert error_of(built(scaling, "f32.edgert", "f32"), "llama3") > 0.1
    linear = copied("llama2-linear")
    change_config(linear, rope_scaling={"type": "linear", "factor": 2.0})
    assert error_of(built(linear, "f32.edgert", "f32"), "llama2-linear") > 0.1
    for name, ends in (("qwen2", ("q_proj.bias", "k_proj.bias", "v_proj.bias")), ("qwen3", ("q_norm.weight", "k_norm.weight"))):
        for end in ends:
            path = copied(name)
            tensors = checkpoint.read_folder(path)
            for old in path.glob("model*"):
                old.unlink()
            tensors = {n: (d, s, bytes(len(raw)) if n.endswith(end) else raw) for n, (d, s, raw) in tensors.items()}
            checkpoint.write_safetensors(path / "model.safetensors", tensors)
            # A bias of K shifts all scores of a token alike, but for RoPE: the smallest of these effects.
            assert error_of(built(path, "f32.edgert", "f32"), name) > 0.1, end


def test_shards_are_one_file():
    path = copied("qwen3")
    assert len(list(path.glob("*.safetensors"))) == 3
    sharded = planes(built(path, "sharded.edgert", "no-catalog"))
    tensors = checkpoint.read_folder(path)
    for old in path.glob("model*"):
        old.unlink()
    checkpoint.write_safetensors(path / "model.safetensors", dict(reversed(tensors.items())))
    assert planes(built(path, "single.edgert", "no-catalog")) == sharded


def test_the_same_weights_as_gguf_and_as_folder():
    """Only the vocabularies differ, which the GGUF files make up."""
    for name in checkpoint.NAMES:
        checkpoint.write_gguf(folder / f"{name}.gguf", name)
        a, b = (packtool.read_pack(built(path, "same.edgert", "f32"))
                for path in (folder / f"{name}.gguf", checkpoint.FIXTURES / name))
        assert [(t.role, t.layer, t.data) for t in a.tensors.values()] == [(t.role, t.layer, t.data) for t in b.tensors.values()], name
        assert a.meta["model"] == b.meta["model"], name


def test_gguf_files_compute_what_transformers_does():
    for name in checkpoint.NAMES:
        checkpoint.write_gguf(folder / f"{name}.gguf", name)
        pack = built(folder / f"{name}.gguf", "f32.edgert", "f32")
        error = error_of(pack, name)
        print(f"# {name}: {error:.1e}")
        assert error < BOUND, f"{name}: {error}"


def test_a_sliding_window_ends_the_context_and_is_told():
    checkpoint.write_gguf(folder / "mistral.gguf", "mistral")
    for path in (folder / "mistral.gguf", checkpoint.FIXTURES / "mistral"):
        meta = packtool.read_pack(built(path, "m.edgert", "f32")).meta
        assert meta["model"]["n_ctx"] == 32 and "32 of 64 tokens" in meta["recipe"]["context"], meta["recipe"]
        assert meta["model"]["arch"] == "llama"
    path = copied("qwen2")
    for changes, n_ctx in ((dict(use_sliding_window=True), 32), (dict(use_sliding_window=True, max_window_layers=2), 64),
                           (dict(layer_types=["full_attention", "sliding_attention"]), 32),
                           (dict(layer_types=["full_attention"] * 2), 64)):
        shutil.copy(checkpoint.FIXTURES / "qwen2/config.json", path)
        change_config(path, **dict(layer_types=None, sliding_window=32) | changes)
        assert packtool.read_pack(built(path, "m.edgert", "f32")).model["n_ctx"] == n_ctx, changes


def test_a_folder_that_was_changed_is_built_anew():
    """The weights stay the same, but not what stands beside them: nothing of the stopped build may go in."""
    path = copied("llama3")
    stop = ("no-catalog", "cancel=writing weights")
    changes = (lambda: change_config(path, rope_scaling={"rope_type": "linear", "factor": 2.0}),
               lambda: (path / "chat_template.jinja").write_text("another"),
               lambda: (path / "generation_config.json").write_text('{"eos_token_id": 5}'))
    for change in changes:
        done = build(path, "anew.edgert", *stop)
        assert done.returncode == 1 and "stopped" in done.stderr, done.stderr
        change()
        done = build(path, "anew.edgert", "no-catalog")
        assert done.returncode == 0 and done.stderr, "the old folder was taken"
        content = (folder / "anew.edgert").read_bytes()
        assert built(path, "fresh.edgert", "no-catalog").read_bytes() == content


def test_nested_packs_of_every_architecture_run():
    """w8a8 and w4a16 of all tiers, the attention truncated where it can be; the pack's own forward pass against
    numpy's of packtool, which reads the same bytes."""
    ids = checkpoint.golden("qwen2")[0][:20]
    for name in ("llama3", "qwen2", "qwen3"):
        pack = built(checkpoint.FIXTURES / name, "nested.edgert", "tiers=100,60", "truncate", "comp=8")
        error = error_of(pack, name, "w8a8", largest=False)
        print(f"# {name} w8a8: {error:.1e}")
        assert error < 0.2, error  # a wrong norm, bias or rotation: 1 and more
        for tier in packtool.read_pack(pack).meta["tiers"]:
            whole = {d["qk"] for d in tier["dims"]} == {32}
            assert whole or name != "qwen3"
            percent = tier["rank_percent"]
            for variant, bound in (("w8a8", 0.03), ("w4a16", 1e-3)):
                got = logits(pack, variant if percent == 100 else f"{variant}-r{percent}", ids)
                wanted = packtool.reference_forward(pack, ids, [(variant, 0 if percent == 100 else 1)] * len(ids))
                assert np.sqrt(((got - wanted) ** 2).mean()) < bound * wanted.std(), (name, variant, percent)


if __name__ == "__main__":
    tap.main()
