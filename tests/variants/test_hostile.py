"""Sources that mean harm, or were cut short: Hugging Face folders whose files lie, lead elsewhere or hold what
cannot be. Each gives a sentence, and leaves no pack."""
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import struct
import subprocess
import tempfile

import numpy as np

from tests import tap
from tests.variants import checkpoint

work = tempfile.TemporaryDirectory(prefix="edgert-hostile-")
folder = pathlib.Path(work.name)
BUILDER = tap.build / "tests/variants/drive_build"
READER = tap.build / "tests/variants/drive_source"
Q = "model.layers.0.self_attn.q_proj.weight"
EMBED = "model.embed_tokens.weight"
ONE, INDEX = "model.safetensors", "model.safetensors.index.json"


def copied(name="smollm2"):
    shutil.rmtree(folder / "model", ignore_errors=True)
    return pathlib.Path(shutil.copytree(checkpoint.FIXTURES / name, folder / "model"))


def build(path, *options, begun=False, **more):
    """The sentence of a build that must fail, and leave nothing but the pack that was there before. begun: it
    fails on its way, so the folder that another build would go on with may stay."""
    room = folder / "room"
    room.mkdir(exist_ok=True)
    (room / "p.edgert").write_bytes(b"the old one")
    done = subprocess.run([BUILDER, "build", path, room / "p.edgert", *options], capture_output=True, text=True, timeout=60, **more)
    assert done.returncode == 1, (done.returncode, done.stderr)
    if begun:
        shutil.rmtree(room / "p.edgert.build", ignore_errors=True)
    assert [p.name for p in room.iterdir()] == ["p.edgert"] and (room / "p.edgert").read_bytes() == b"the old one"
    assert len(done.stderr) > 40 and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def refused(path, expected):
    got = build(path, "f32")
    assert expected in got, f"wanted {expected!r}, got {got!r}"


# ---- safetensors ---------------------------------------------------------------------------------

def with_header(lie):
    """A folder whose header was changed: lie(header) changes the dictionary, or returns other text."""
    path = copied()
    tensors = checkpoint.read_safetensors(path / ONE)

    def change(header):
        text = lie(header)
        return text if isinstance(text, str) else json.dumps(header)
    checkpoint.write_safetensors(path / ONE, tensors, change)
    return path


def set_field(name, field, value):
    return lambda header: header[name].__setitem__(field, value)


def swap_offsets(header):
    header[Q]["data_offsets"].reverse()


def overlap(header):
    """Two tensors of one size in one place; the other's place is empty."""
    header["model.layers.0.self_attn.v_proj.weight"]["data_offsets"] = header["model.layers.0.self_attn.k_proj.weight"]["data_offsets"]


def shift_last(header):
    last = max(header.values(), key=lambda t: t["data_offsets"][1])
    last["data_offsets"] = [at + 2 for at in last["data_offsets"]]


def test_headers_that_lie():
    n = 48
    cases = [
        (set_field(Q, "shape", [n * 2, n]), "its shape asks for"),
        (set_field(Q, "shape", [n // 2, n * 2]), f"'{Q}' is [24 x 96], config.json asks for 48 x 48"),
        (set_field(Q, "shape", [n * n]), "is [2304], config.json asks for 48 x 48"),
        (set_field(Q, "shape", [1, n, n]), "is [1 x 48 x 48]"),
        (set_field(Q, "shape", [1, 1, 1, n, n]), "no list of up to 4 sizes"),
        (set_field(Q, "shape", [10**12, 10**12]), "a size that no file can have"),
        (set_field(Q, "shape", [2**62, 4]), "a size that no file can have"),
        (set_field(Q, "shape", [10**12, 1]), "its shape asks for 2000000000000 bytes"),
        (set_field(Q, "shape", [-n, -n]), "a size that no file can have"),
        (set_field(Q, "shape", [48.0, 48]), "a size that no file can have"),
        (set_field(Q, "shape", 2304), "no list of up to 4 sizes"),
        (set_field(Q, "dtype", "F32"), "its shape asks for 9216 bytes"),
        (set_field(Q, "dtype", "I16"), "is of type I16; supported: F32, F16, BF16"),
        (set_field(Q, "dtype", "Q4_K"), "is of type Q4_K, which is not known"),
        (set_field(Q, "dtype", 5), "no dtype"),
        (set_field(Q, "data_offsets", [0]), "two data_offsets"),
        (set_field(Q, "data_offsets", [0, 10**15]), "do not lie in the"),
        (set_field(Q, "data_offsets", [-4608, 0]), "do not lie in the"),
        (set_field(Q, "data_offsets", [2**63 - 1, 2**63 - 1 + 4608]), "no JSON object"),
        (swap_offsets, "do not lie in the"),
        (overlap, "overlap those of another tensor"),
        (shift_last, "do not lie in the"),
        (lambda h: h.__setitem__(Q, 7), "no dtype"),
        (lambda h: h.__setitem__(Q, [1, 2]), "no dtype"),
        (lambda h: h.pop(max(h, key=lambda k: h[k]["data_offsets"][1])) and None, "bytes behind the last tensor"),
        (lambda h: h.pop(Q) and None, "belong to no tensor"),
        (lambda h: json.dumps(h)[:-1] + f', "{Q}": {json.dumps(h[Q])}}}', "duplicate object key"),
        (lambda h: "[]", "no JSON object"),
        (lambda h: "", "no JSON object"),
        (lambda h: "{" * 5000, "no JSON object"),
        (lambda h: '{"a":' * 100000, "no JSON object"),
        (lambda h: json.dumps(h).replace(Q, "model.layers.0.self_attn.o_proj.lora"), "is missing"),
    ]
    for lie, expected in cases:
        refused(with_header(lie), expected)


def test_header_lengths_that_lie():
    path = copied()
    whole = (path / ONE).read_bytes()
    n = struct.unpack_from("<Q", whole)[0]
    for length in (0, 1, n - 1, n + 1, len(whole), len(whole) - 8, 2**31, 2**32 + n, 2**63, 2**64 - 1, 2**64 - 8):
        (path / ONE).write_bytes(struct.pack("<Q", length) + whole[8:])
        got = build(path, "f32")
        assert "header" in got, got
    for size in (0, 1, 7, 8, 9):
        (path / ONE).write_bytes(whole[:size])
        refused(path, "header")
    for size in (n + 8, n + 9, len(whole) // 2, len(whole) - 1):
        (path / ONE).write_bytes(whole[:size])
        refused(path, "do not lie in the" if size > 8 else "header")
    (path / ONE).write_bytes(whole + b"\0")
    refused(path, "1 bytes behind the last tensor")


def test_an_unaligned_header_is_read():
    """Old writers do not pad: the weights begin at an odd offset."""
    path = copied("qwen2")
    tensors = checkpoint.read_safetensors(path / ONE)
    for spaces in range(4):
        checkpoint.write_safetensors(path / ONE, tensors, lambda header: json.dumps(header) + " " * spaces)
        done = subprocess.run([READER, "check"], input=f"{path}\n", capture_output=True, text=True)
        assert done.stdout == "ok\n", done.stdout + done.stderr


def mutated(rng, text):
    """A header with one thing changed: a bit, a digit, a piece cut out or put in twice."""
    data, how = bytearray(text), int(rng.integers(4))
    at = int(rng.integers(len(data)))
    end = min(len(data), at + int(rng.integers(1, 200)))
    if how == 0:
        data[at] ^= 1 << int(rng.integers(8))
    elif how == 1:
        digits = [m.start() for m in re.finditer(rb"\d", text)] or [at]
        data[digits[int(rng.integers(len(digits)))]] = ord("0") + int(rng.integers(10))
    elif how == 2:
        del data[at:end]
    else:
        data[at:at] = data[at:end]
    return bytes(data)


def test_hundreds_of_damaged_folders_are_survived():
    """Any answer is fine but a crash; what is refused says where."""
    rng, paths, n = np.random.default_rng(11), [], 60
    whole = (checkpoint.FIXTURES / "smollm2" / ONE).read_bytes()
    size = struct.unpack_from("<Q", whole)[0]
    victims = {ONE: 4, "config.json": 2, "tokenizer.json": 2, "tokenizer_config.json": 1, "generation_config.json": 1}
    for name, rounds in victims.items():
        for i in range(n * rounds):
            path = folder / f"damaged-{len(paths)}"
            path.mkdir()
            for other in (checkpoint.FIXTURES / "smollm2").iterdir():
                if other.name != name:
                    (path / other.name).symlink_to(other)
            if name == ONE:
                header = mutated(rng, whole[8:8 + size])
                (path / name).write_bytes(struct.pack("<Q", len(header)) + header + whole[8 + size:])
            else:
                (path / name).write_bytes(mutated(rng, (checkpoint.FIXTURES / "smollm2" / name).read_bytes()))
            paths.append(path)
    done = subprocess.run([READER, "check"], input="".join(f"{p}\n" for p in paths), text=True, errors="replace",
                          capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    answers = done.stdout.split("\n")[:-1]
    bad = [a for a in answers if a != "ok"]
    assert len(answers) == len(paths) and 200 < len(bad), (len(answers), len(paths), len(bad), done.stderr[-2000:])
    for answer in bad:
        assert re.search(r"damaged-\d+(/[a-z_.]+)?: .{20,}", answer), answer
    for path in paths:
        shutil.rmtree(path)


# ---- shards --------------------------------------------------------------------------------------

def with_index(change):
    path = copied("qwen3")
    index = json.loads((path / INDEX).read_text())
    change(index)
    (path / INDEX).write_text(json.dumps(index))
    return path


def point_to(file):
    return lambda index: index["weight_map"].__setitem__(Q, file)


def test_indexes_that_lead_elsewhere():
    shard = "model-00001-of-00003.safetensors"
    for file in ("../qwen2/model.safetensors", "/etc/passwd", "..", ".", "", "a/b", f"./{shard}", 7, None, [shard]):
        refused(with_index(point_to(file)), "which is no file of the folder")
    refused(with_index(point_to("model-00004-of-00003.safetensors")), "model-00004-of-00003.safetensors: cannot open")
    refused(with_index(point_to("model-00002-of-00003.safetensors")), "is not in 'model-00002-of-00003.safetensors'")
    refused(with_index(lambda i: i["weight_map"].__setitem__("model.no.such", shard)), "'model.no.such' is not in")
    refused(with_index(lambda i: i["weight_map"].clear()), "0 files")
    refused(with_index(lambda i: i.pop("weight_map") and None), 'no "weight_map"')
    refused(with_index(lambda i: i["weight_map"].update({f"t{j}": f"f{j}" for j in range(2000)})), "2003 files")


def test_shards_that_are_missing_cut_or_of_another_model():
    for n in range(1, 4):
        path = copied("qwen3")
        shard = path / f"model-0000{n}-of-00003.safetensors"
        whole = shard.read_bytes()
        shard.unlink()
        refused(path, f"{shard.name}: cannot open")
        shard.write_bytes(whole[:-2])
        refused(path, f"{shard.name}: tensor")
        shard.unlink()
        shard.mkdir()
        refused(path, f"{shard.name}: ")
    path = copied("qwen3")
    shutil.copy(path / "model-00001-of-00003.safetensors", path / "model-00002-of-00003.safetensors")
    refused(path, "is in ")


def test_links_and_files_that_are_none():
    for name in (ONE, "config.json", "tokenizer.json", "generation_config.json", "tokenizer_config.json", "chat_template.jinja"):
        path = copied()
        (path / name).unlink(missing_ok=True)
        (path / name).symlink_to(name)
        refused(path, f"{name}: cannot open: Too many levels of symbolic links")
        (path / name).unlink()
        (path / name).symlink_to("/nowhere/at/all")
        refused(path, f"{name}: cannot open: No such file")
        (path / name).unlink()
        os.mkfifo(path / name)
        refused(path, f"{name}: not a regular file")
        (path / name).unlink()
        (path / name).mkdir()
        refused(path, f"{name}: not a regular file")
    path = copied()  # as huggingface_hub's cache has it: that is no harm
    shutil.move(path / ONE, folder / "blob")
    (path / ONE).symlink_to(folder / "blob")
    done = subprocess.run([READER, "check"], input=f"{path}\n", capture_output=True, text=True)
    assert done.stdout == "ok\n", done.stdout


def test_folders_without_a_model():
    empty = folder / "empty"
    empty.mkdir()
    refused(empty, "config.json: cannot open")
    path = copied()
    (path / ONE).unlink()
    refused(path, "neither model.safetensors nor model.safetensors.index.json is there")
    refused(checkpoint.FIXTURES / "smollm2" / ONE, "of a Hugging Face model, give the folder")
    loop = folder / "loop"
    loop.symlink_to(loop)
    refused(loop, "Too many levels")


# ---- config.json ---------------------------------------------------------------------------------

def with_config(name="smollm2", **changes):
    path = copied(name)
    c = json.loads((path / "config.json").read_text()) | changes
    (path / "config.json").write_text(json.dumps({k: v for k, v in c.items() if v is not ...}))
    return path


def test_configurations_that_cannot_be():
    cases = [
        (dict(model_type="gemma2"), "architecture 'gemma2' is not supported; supported: llama, mistral, qwen2, qwen3"),
        (dict(model_type="mixtral"), "architecture 'mixtral' is not supported"),
        (dict(model_type=...), '"model_type" is missing'),
        (dict(hidden_act="gelu"), '"hidden_act" is "gelu"'),
        (dict(quantization_config={"quant_method": "gptq"}), "weights are quantized"),
        (dict(partial_rotary_factor=0.5), "turns only 0.5 of a head"),
        (dict(num_hidden_layers=10**12), '"num_hidden_layers" is not usable'),
        (dict(num_hidden_layers=10**9), "layers of the model is 1000000000"),
        (dict(num_hidden_layers=1024), "'model.layers.2.input_layernorm.weight' is missing"),
        (dict(num_hidden_layers=1), "'model.layers.1."),
        (dict(num_hidden_layers=2.0), '"num_hidden_layers" is not usable'),
        (dict(hidden_size=-48), '"hidden_size" is not usable'),
        (dict(hidden_size=0), "embedding width of the model is 0"),
        (dict(hidden_size=...), '"hidden_size" is missing'),
        (dict(num_attention_heads=0), "heads of the model is 0"),
        (dict(num_key_value_heads=0), "KV heads of the model is 0"),
        (dict(num_key_value_heads=3), "4 heads are not a multiple of 3 KV heads"),
        (dict(num_attention_heads=5, num_key_value_heads=1, head_dim=...), "hidden_size 48 is not a multiple of 5"),
        (dict(head_dim=13), "head width 13 is odd"),
        (dict(head_dim=2**31), "head width of the model is 2147483648"),
        (dict(vocab_size=287), "config.json asks for 287 x 48"),
        (dict(vocab_size=10**7), "vocabulary of the model is 10000000"),
        (dict(rms_norm_eps="small"), '"rms_norm_eps" is not usable'),
        (dict(rms_norm_eps=-1), "RMS epsilon -1"),
        (dict(tie_word_embeddings="yes"), '"tie_word_embeddings" is not usable'),
        (dict(tie_word_embeddings=False), "'lm_head.weight' is missing"),
        (dict(rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 4}), "RoPE scaling 'yarn' is not supported; supported: default"),
        (dict(rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4}), "RoPE scaling 'dynamic'"),
        (dict(rope_parameters={"full_attention": {"rope_type": "default"}}), '"rope_type" is missing'),
        (dict(rope_parameters={"rope_type": "linear", "factor": 0}), "RoPE scaling factor 0"),
        (dict(rope_parameters={"rope_type": "linear", "factor": 1e300}), "RoPE scaling factor 1e+300"),
        (dict(rope_parameters={"rope_type": "linear"}), '"factor" is missing'),
        (dict(rope_parameters={"rope_type": "llama3", "factor": 8, "low_freq_factor": 4, "high_freq_factor": 4,
                               "original_max_position_embeddings": 16}), "with low below high"),
        (dict(rope_parameters={"rope_type": "default", "rope_theta": 0}), "RoPE base 0"),
        (dict(rope_parameters={"rope_type": "default", "rope_theta": 1e300}), "RoPE base inf"),
    ]
    for changes, expected in cases:
        refused(with_config(**changes), expected)
    refused(with_config("qwen2", layer_types=["chunked_attention"] * 2), '"layer_types" is "chunked_attention"')
    path = copied()
    for text in ("", "null", "{}x", '{"a": 1, "a": 2}', "[" * 10**6, "\xff"):
        (path / "config.json").write_bytes(text.encode("latin-1"))
        refused(path, "config.json: no JSON object")


def test_tensors_of_another_kind_of_model():
    path = copied()
    tensors = checkpoint.read_safetensors(path / ONE)
    for name in ("model.layers.0.self_attn.o_proj.bias", "model.layers.0.mlp.up_proj.bias", "score.weight",
                 "model.layers.0.self_attn.q_norm.weight", "model.layers.2.mlp.up_proj.weight"):
        checkpoint.write_safetensors(path / ONE, tensors | {name: ("BF16", [48], bytes(96))})
        refused(path, f"tensor '{name}' is not part of a plain llama model")
    path = copied("qwen2")
    tensors = checkpoint.read_safetensors(path / ONE)
    gone = "model.layers.1.self_attn.k_proj.bias"
    checkpoint.write_safetensors(path / ONE, {k: v for k, v in tensors.items() if k != gone})
    refused(path, f"tensor '{gone}' is missing")


# ---- weights and disks ---------------------------------------------------------------------------

def test_weights_that_are_no_numbers_are_named_with_their_place():
    for name, dtype in (("smollm2", "<u2"), ("qwen2", "<f4")):
        for tensor, row, column in ((Q, 29, 7), (EMBED, 100, 47), ("model.norm.weight", 0, 5),
                                    ("model.layers.1.post_attention_layernorm.weight", 0, 0)):
            for value in (np.nan, np.inf, -np.inf):
                path = copied(name)
                tensors = checkpoint.read_safetensors(path / ONE)
                kind, shape, raw = tensors[tensor]
                values = np.frombuffer(raw, dtype).copy().reshape(-1, shape[-1])
                bits = np.array(value, "<f4")
                values[row, column] = bits if dtype == "<f4" else bits.view("<u4") >> 16
                tensors[tensor] = (kind, shape, values.tobytes())
                checkpoint.write_safetensors(path / ONE, tensors)
                for options in (("f32",), ("no-catalog", "tiers=100"), ("no-catalog",)):
                    got = build(path, *options, begun=True)
                    assert f"tensor '{tensor}' holds a weight that is no number" in got and f"row {row}, column {column};" in got, got


def test_a_full_disk_is_told_and_leaves_nothing():
    path = copied()

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    for options in (("f32",), ("no-catalog", "tiers=100"), ()):
        got = build(path, *options, begun=True, preexec_fn=limit)
        assert "cannot write" in got and "make room" in got, got


def test_a_full_file_system_is_told_and_leaves_nothing():
    disk = folder / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "edgert-test", disk], capture_output=True).returncode:
        tap.skip("needs the right to mount a small file system")
    try:
        for options in (("f32",), ("no-catalog", "tiers=100"), ()):
            done = subprocess.run([BUILDER, "build", checkpoint.FIXTURES / "smollm2", disk / "p.edgert", *options],
                                  capture_output=True, text=True)
            assert done.returncode == 1 and "No space left" in done.stderr, done.stderr
            assert not (disk / "p.edgert").exists()
            shutil.rmtree(disk / "p.edgert.build", ignore_errors=True)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_library_that_is_not_there_is_named_and_leaves_nothing():
    libraries = folder / "libraries"
    libraries.mkdir()
    for name in ("libopenblas.so.0", "liblapacke.so.3"):
        (libraries / name).write_text("no library")
        got = build(checkpoint.FIXTURES / "smollm2", "no-catalog", env=dict(os.environ, LD_LIBRARY_PATH=str(libraries)))
        assert name in got and "needs OpenBLAS and LAPACKE" in got, got
        (libraries / name).unlink()


if __name__ == "__main__":
    tap.main()
