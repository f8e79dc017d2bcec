"""A vocabulary as a pack holds it, from a GGUF file or llama2.c's tokenizer.bin, read by independent
code, for tests/runtime/drive_tokenize.c: NAME.vocab (the VOCAB section of docs/pack-format.md) and
NAME.json (the "tokenizer" object of META)."""
import json
import os
import pathlib
import struct
import subprocess

import gguf
import numpy

from tests import tap

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"


def model_path():
    """The model that `./quickstart check` fetches, or EDGERT_TEST_GGUF; skips where there is none."""
    named = os.environ.get("EDGERT_TEST_GGUF")
    data_home = os.environ.get("XDG_DATA_HOME") or pathlib.Path.home() / ".local/share"
    path = pathlib.Path(named) if named else pathlib.Path(data_home) / "edgert/models" / MODEL
    if not path.exists():
        tap.skip(f"needs {MODEL}: ./quickstart check fetches it, or set EDGERT_TEST_GGUF")
    return path


class Vocabulary:
    def __init__(self, tokens, types, scores=(), merges=(), chat_template="", **meta):
        self.tokens, self.types, self.scores, self.merges = tokens, types, scores, merges
        self.chat_template, self.meta = chat_template, meta
        self.id_of = {}
        for i, token in enumerate(tokens):
            self.id_of.setdefault(token, i)

    def section(self):
        texts = [t if isinstance(t, bytes) else t.encode() for t in self.tokens]
        ends = [0]
        for t in texts:
            ends.append(ends[-1] + len(t))
        scores = list(self.scores) or [0.0] * len(texts)
        pairs = [self.id_of[part] for merge in self.merges for part in merge]
        return b"".join([
            struct.pack("<4I", len(texts), len(self.merges), ends[-1], 0),
            struct.pack(f"<{len(ends)}I", *ends), struct.pack(f"<{len(scores)}f", *scores),
            struct.pack(f"<{len(pairs)}I", *pairs), bytes(self.types), b"".join(texts)])

    def write(self, name, **changed):
        """Writes NAME.vocab and NAME.json into the build folder; returns the path without suffix."""
        base = tap.build / "tests/runtime" / name
        base.with_suffix(".vocab").write_bytes(self.section())
        base.with_suffix(".json").write_text(json.dumps({**self.meta, **changed}))
        return base


_read = {}


def from_gguf(path):
    if path in _read:
        return _read[path]
    fields = gguf.GGUFReader(path).fields

    def get(key, default=None):
        field = fields.get(key if "." in key else "tokenizer.ggml." + key)
        return default if field is None else field.contents()

    model, tokens = get("model"), get("tokens")
    eos = get("eos_token_id", -1)
    _read[path] = Vocabulary(
        tokens, get("token_type"), get("scores", []),
        [tuple(m.split(" ", 1)) if m.count(" ") == 1 else _bad_merge(m) for m in get("merges", [])],
        get("tokenizer.chat_template", ""), model=model, pre=get("pre", ""),
        bos=get("bos_token_id", -1), eos=[] if eos < 0 else [eos], unk=get("unknown_token_id", -1),
        add_bos=get("add_bos_token", model == "llama"),
        add_space_prefix=get("add_space_prefix", model == "llama"))
    return _read[path]


def _bad_merge(merge):
    raise ValueError(f"merge {merge!r} is not two parts with one space between")


def from_llama2c(path):
    """u32 longest token, then per token f32 score, u32 length, text (karpathy/llama2.c, tokenizer.py)."""
    data, at, tokens, scores = path.read_bytes(), 4, [], []
    while at < len(data):
        score, n = struct.unpack_from("<fI", data, at)
        tokens.append(data[at + 8:at + 8 + n])
        scores.append(score)
        at += 8 + n
    types = [6 if 3 <= i < 259 else 1 for i in range(len(tokens))]
    types[0], types[1], types[2] = 2, 3, 3
    return Vocabulary(tokens, types, scores, model="llama", pre="", bos=1, eos=[2], unk=0, add_bos=True,
                      add_space_prefix=True)


def drive(*arguments, stdin=b"", program="drive_tokenize"):
    """Runs the driver; its standard output. A failure raises with what it said."""
    command = [str(tap.build / "tests/runtime" / program), *map(str, arguments)]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=600)
    if done.returncode != 0:
        raise RuntimeError(f"{command}: status {done.returncode}: {done.stderr.decode(errors='replace')[-2000:]}")
    return done.stdout


def encode(base, text, *flags):
    """ids of a text (bytes)."""
    return numpy.frombuffer(drive("encode", base, *flags, stdin=text), "<i4")


def decode(base, ids, *flags):
    return drive("decode", base, *flags, stdin=numpy.asarray(ids, "<i4").tobytes())
