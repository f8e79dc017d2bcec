"""The GGUF reader against gguf-py, bit by bit, and against several hundred damaged files."""
import pathlib
import re
import struct
import subprocess
import tempfile

import numpy as np

import gguf

from tests import tap
from tests.variants import tiny_gguf

work = tempfile.TemporaryDirectory(prefix="edgert-gguf-")
folder = pathlib.Path(work.name)
FLOATS = ("F32", "F16", "BF16")
BLOCKS_OF_32 = ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "IQ4_NL")
BLOCKS_OF_256 = ("Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS")
BLOCKS = BLOCKS_OF_32 + BLOCKS_OF_256
DRIVER = tap.build / "tests/variants/drive_source"


def dump(path):
    """{name: floats} as the reader sees the file."""
    done = subprocess.run([DRIVER, "dump", path, folder / "out"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    data, at, out = np.fromfile(folder / "out", "<f4"), 0, {}
    for line in done.stdout.splitlines():
        name, rows, cols = line.split()
        n = int(rows) * int(cols)
        out[name] = data[at:at + n]
        at += n
    assert at == len(data)
    return out


def assert_bit_equal(got, expected, what):
    expected = np.ascontiguousarray(expected, "<f4").reshape(-1)
    nan = np.isnan(expected)
    assert np.array_equal(nan, np.isnan(got)), f"{what}: NaN elsewhere"
    assert np.array_equal(got.view("<u4")[~nan], expected.view("<u4")[~nan]), f"{what}: other bits"


def model_for(kind):
    return tiny_gguf.wide_model() if kind in BLOCKS_OF_256 else tiny_gguf.model()


def check_type(kind, make):
    m = model_for(kind)
    rng = np.random.default_rng(sum(kind.encode()))
    made = tiny_gguf.write(folder / "tiny.gguf", m, rng, lambda name: kind, make)
    got, shapes = dump(folder / "tiny.gguf"), tiny_gguf.shapes(m)
    assert set(got) == set(shapes)
    with np.errstate(all="ignore"):
        for name, shape in shapes.items():
            assert_bit_equal(got[name], tiny_gguf.floats(made[name], shape), f"{kind} {name}")


def test_every_type_reads_as_in_gguf_py():
    for kind in FLOATS + BLOCKS:
        check_type(kind, tiny_gguf.raw_weights)


def test_random_bytes_read_as_in_gguf_py():
    for kind in ("F16", "BF16") + BLOCKS:
        check_type(kind, tiny_gguf.random_bytes)


def test_another_alignment():
    m = tiny_gguf.model()
    made = tiny_gguf.write(folder / "a.gguf", m, np.random.default_rng(1), lambda name: "Q8_0", alignment=256)
    got = dump(folder / "a.gguf")
    for name, shape in tiny_gguf.shapes(m).items():
        assert_bit_equal(got[name], tiny_gguf.floats(made[name], shape), name)


def sentences(paths):
    """The reader's answer to each path, all in one process."""
    done = subprocess.run([DRIVER, "check"], input="".join(f"{p}\n" for p in paths), text=True, errors="replace",
                          capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    assert len(lines) == len(paths), f"{len(lines)} answers to {len(paths)} files: {done.stderr[-2000:]}"
    return lines


def sentence_for(keys=None, kind="Q8_0", data=None, **changes):
    path = folder / "odd.gguf"
    tiny_gguf.write(path, tiny_gguf.model(**changes), np.random.default_rng(2), lambda name: kind, keys=keys)
    if data:
        path.write_bytes(data(path.read_bytes()))
    return sentences([path])[0]


def replaced(old, new):
    def change(b):
        assert b.count(old) >= 1 and len(old) == len(new)
        return b.replace(old, new)
    return change


def test_what_is_not_supported_is_named():
    cases = {
        "architecture 'lemma'": dict(data=replaced(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0lemma")),
        "RoPE scaling 'yarn'": dict(keys={"llama.rope.scaling.type": "yarn"}),
        "GGUF version 2": dict(data=lambda b: b[:4] + struct.pack("<I", 2) + b[8:]),
        "not a GGUF file": dict(data=lambda b: b"ELF " + b[4:]),
        "tensor 'blk.0.attn_q.weight' is missing":
            dict(data=replaced(b"blk.0.attn_q.weight", b"blk.0.attn_z.weight")),
    }
    for expected, how in cases.items():
        got = sentence_for(**how)
        assert expected in got, f"wanted {expected!r}, got {got!r}"


def with_type(number, name=b"blk.0.attn_q.weight"):
    """A change of a file: that tensor claims to be of another type."""
    def change(b):
        at = b.index(name) + len(name)
        at += 4 + 8 * struct.unpack_from("<I", b, at)[0]
        return b[:at] + struct.pack("<I", number) + b[at + 4:]
    return change


def test_other_types_are_refused_by_name():
    read = set(FLOATS + BLOCKS)
    others = {t.value: t.name for t in gguf.GGMLQuantizationType if t.name not in read}
    others.update({4: "Q4_2", 33: "Q4_0_8_8", 36: "IQ4_NL_4_4", 42: "unknown", 2**32 - 1: "unknown"})
    assert len(others) > 15
    for number, name in others.items():
        got = sentence_for(data=with_type(number))
        assert f"'blk.0.attn_q.weight' is of type {name} ({number}); supported: " in got, got
        assert set(re.search("supported: ([^:]+):", got)[1].split(", ")) == read, got


def test_super_blocks_need_rows_of_256():
    for kind in BLOCKS_OF_256:
        got = sentence_for(data=with_type(tiny_gguf.TYPES[kind].value))
        assert f"'blk.0.attn_q.weight': rows of 64 weights of type {kind}" in got and "blocks of 256" in got, got


def test_blocks_that_leave_the_file():
    """Cut by one byte of the last tensor, its data moved by one alignment, and a type with larger blocks."""
    for kind in BLOCKS:
        path, last = folder / "end.gguf", b"blk.0.ffn_down.weight"
        made = tiny_gguf.write(path, tiny_gguf.wide_model(), np.random.default_rng(3), lambda name: kind)
        whole = path.read_bytes()
        size = made[last.decode()][0].size
        at = whole.index(last) + len(last) + 4 + 2 * 8 + 4  # dimensions and type; the offset
        offset = struct.unpack_from("<Q", whole, at)[0]
        end = whole.index(made[last.decode()][0].tobytes()) + size
        moved = whole[:at] + struct.pack("<Q", offset + 32 * (1 + (len(whole) - end) // 32)) + whole[at + 8:]
        cases = [whole, whole[:end], whole[:end - 1], moved, with_type(tiny_gguf.TYPES["F16"].value, last)(whole)]
        files = [folder / f"end-{i}.gguf" for i in range(len(cases))]
        for file, data in zip(files, cases):
            file.write_bytes(data)
        answers = sentences(files)
        assert answers[:2] == ["ok", "ok"], (kind, answers)
        for answer in answers[2:]:
            assert "'blk.0.ffn_down.weight' at data offset" in answer and "truncated" in answer, (kind, answer)


def test_a_tensor_nobody_knows_is_refused():
    got = sentence_for(data=lambda b: b.replace(b"\x0d\0\0\0\0\0\0\0output.weight", b"\x0d\0\0\0\0\0\0\0outbad.weight"))
    assert "'outbad.weight' is not part of a plain llama model" in got, got


def damaged(original, tables, rng):
    """One damaged copy: cut, flipped bits in the tables, or a count, dimension, length or offset that lies."""
    data = bytearray(original)
    how = rng.integers(0, 4)
    if how == 0:
        return bytes(data[:rng.integers(0, len(data))])
    if how == 1:
        for at in rng.integers(0, tables, rng.integers(1, 5)):
            data[at] ^= 1 << rng.integers(0, 8)
    elif how == 2:  # a lie of 8 bytes somewhere in the tables
        lies = (0, 1, 2**31, 2**32 - 1, 2**32, 2**60, 2**63, 2**64 - 1, 2**64 - 31, len(data), len(data) + 1)
        at = rng.integers(0, tables - 8)
        data[at:at + 8] = struct.pack("<Q", lies[rng.integers(0, len(lies))])
    else:  # the counts and lengths themselves
        at = (8, 16, 24)[rng.integers(0, 3)]
        data[at:at + 8] = struct.pack("<Q", int(rng.integers(0, 2**63)) >> int(rng.integers(0, 62)))
    return bytes(data)


def check_damaged(m, kind_of, n, least, rng):
    """n damaged copies: at least so many are refused, the others read; none does anything else."""
    path = folder / "good.gguf"
    made = tiny_gguf.write(path, m, rng, kind_of)
    original = path.read_bytes()
    tables = len(original) - sum(len(raw.tobytes()) for raw, _ in made.values())
    files = []
    for i in range(n):
        files.append(folder / f"damaged-{i}.gguf")
        files[-1].write_bytes(damaged(original, tables, rng))
    answers = sentences([path] + files)
    for file in files:
        file.unlink()
    assert answers[0] == "ok"
    refused = [a for a in answers[1:] if a != "ok"]
    assert len(refused) >= least, f"only {len(refused)} of {n} refused"
    for answer in refused:
        assert re.search(r"\.gguf: .{15,}", answer), answer
        assert re.search(r"damaged|again|supported|expected|truncated|not a GGUF|missing", answer), answer


def test_damaged_files_give_a_sentence():
    rng = np.random.default_rng(4)
    check_damaged(tiny_gguf.model(), lambda name: "Q4_1" if "ffn" in name else "Q8_0", 600, 400, rng)
    for kind in BLOCKS:
        check_damaged(model_for(kind), lambda name: kind, 40, 24, rng)


def test_vocabulary_files_without_tensors_are_no_model():
    answers = sentences([tap.data(f"models/gguf_vocab/ggml-vocab-{n}.gguf") for n in ("llama-spm", "phi-3", "gpt-2")])
    assert "a vocabulary without weights" in answers[0], answers[0]
    assert "architecture 'phi3'" in answers[1] and "architecture 'gpt2'" in answers[2], answers[1:]


if __name__ == "__main__":
    tap.main()
