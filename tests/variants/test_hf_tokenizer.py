"""Tokenizers of Hugging Face folders: trained here with Hugging Face's tokenizers, built into a pack, and the ids
of mixed text equal to those that tokenizers gives."""
import json
import pathlib
import random
import shutil
import subprocess
import tempfile
import unicodedata

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests import tap
from tests.texts import generated
from tests.variants import checkpoint
from tools import packtool

work = tempfile.TemporaryDirectory(prefix="edgert-tokenizers-")
folder = pathlib.Path(work.name)
BUILDER = tap.build / "tests/variants/drive_build"
RUNNER = tap.build / "tests/runtime/drive_tokenize"
SPECIAL = ["<|begin|>", "<|im_start|>", "<|im_end|>"]
USER = "<tool_call>"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


# ---- the tokenizers ------------------------------------------------------------------------------

def split(digits):
    regex = Regex(LLAMA3.replace("DIGITS", digits))
    return pre_tokenizers.Sequence([pre_tokenizers.Split(regex, "isolated"),
                                    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


BYTE_LEVEL = {
    "gpt-2": (pre_tokenizers.ByteLevel(add_prefix_space=False), None, False),
    "smollm": (pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                        pre_tokenizers.ByteLevel(add_prefix_space=False)]), None, False),
    "llama-bpe": (split("{1,3}"), None, True),
    "qwen2": (split(""), normalizers.NFC(), False),
}


def trained(model, alphabet, corpus, vocab_size, pre=None, normalizer=None):
    t = Tokenizer(model)
    t.normalizer = normalizer or t.normalizer
    if pre:
        t.pre_tokenizer = pre
    t.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=["<unk>"] + SPECIAL,
                                                      initial_alphabet=alphabet, show_progress=False))
    t.add_tokens([AddedToken(USER, special=False, normalized=False)])
    return t


def with_tokens(saved, texts):
    """More tokens in the vocabulary; tokenizers numbers added tokens behind it, whatever their file says."""
    vocab = saved["model"]["vocab"]
    vocab.update({text: len(vocab) + i for i, text in enumerate(texts)})
    saved["added_tokens"][-1]["id"] = len(vocab)
    return saved


def byte_level(name, pick):
    pre, normalizer, ignore_merges = BYTE_LEVEL[name]
    corpus = [generated(pick.randrange(2**30), 3000) for _ in range(20)]
    t = trained(models.BPE(), pre_tokenizers.ByteLevel.alphabet(), corpus, 1500, pre, normalizer)
    t.decoder = decoders.ByteLevel()
    saved = json.loads(t.to_str())
    saved["model"]["ignore_merges"] = ignore_merges
    return with_tokens(saved, ["Ġriverbank"])  # a word that no merges lead to


SENTENCEPIECE = {
    "llama2": (normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), None),
    "mistral": (None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False)),
    "always": (None, pre_tokenizers.Metaspace(prepend_scheme="always", split=False)),
    "never": (None, pre_tokenizers.Metaspace(prepend_scheme="never", split=False)),
}


def sentencepiece(name, pick):
    """Trained on short stretches, since nothing cuts the text; the byte tokens come after training."""
    normalizer, pre = SENTENCEPIECE[name]
    corpus = [part for _ in range(40) for part in generated(pick.randrange(2**30), 500).split("\n") if len(part) < 60]
    t = trained(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True), [], corpus, 1200, pre, normalizer)
    return with_tokens(json.loads(t.to_str()), [f"<0x{byte:02X}>" for byte in range(256)])


# ---- through a pack ------------------------------------------------------------------------------

def tiny_checkpoint(path, n_vocab):
    """A model of one layer with room for the tokens."""
    path.mkdir(exist_ok=True)
    n, rng = 32, np.random.default_rng(1)
    shapes = {"model.embed_tokens.weight": (n_vocab, n), "model.norm.weight": (n,)}
    for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
                 "mlp.up_proj", "mlp.down_proj"):
        shapes[f"model.layers.0.{part}.weight"] = (n, n)
    for part in ("input_layernorm", "post_attention_layernorm"):
        shapes[f"model.layers.0.{part}.weight"] = (n,)
    checkpoint.write_safetensors(path / "model.safetensors", {
        name: ("F16", list(shape), rng.standard_normal(shape).astype("<f2").tobytes()) for name, shape in shapes.items()})
    (path / "config.json").write_text(json.dumps(dict(
        model_type="llama", hidden_size=n, intermediate_size=n, num_hidden_layers=1, num_attention_heads=1, vocab_size=n_vocab,
        max_position_embeddings=64, rms_norm_eps=1e-5, tie_word_embeddings=True)))


def folder_with(saved, config=None, room=8):
    """A folder with this tokenizer.json, and a model with some rows more than tokens."""
    path = folder / "model"
    shutil.rmtree(path, ignore_errors=True)
    ids = list(saved["model"].get("vocab", {}).values()) + [a["id"] for a in saved["added_tokens"]]
    tiny_checkpoint(path, max(ids) + 1 + room)
    (path / "tokenizer.json").write_text(json.dumps(saved))
    if config is not None:
        (path / "tokenizer_config.json").write_text(json.dumps(config))
    return path


def build(path):
    return subprocess.run([BUILDER, "build", path, folder / "t.edgert", "f32"], capture_output=True, text=True)


def built(saved, config=None):
    """The pack's tokenizer object of META; the vocabulary is ready to be run."""
    done = build(folder_with(saved, config))
    assert done.returncode == 0, done.stderr
    sections = packtool.layout.read_sections((folder / "t.edgert").read_bytes())
    meta = json.loads(sections[packtool.layout.META])["tokenizer"]
    (folder / "t.vocab").write_bytes(sections[packtool.layout.VOCAB])
    (folder / "t.json").write_text(json.dumps(meta))
    return meta


def ids_of(text, *options):
    done = subprocess.run([RUNNER, "encode", folder / "t", *options], input=text.encode(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, "<i4").tolist()


def text_of(ids):
    done = subprocess.run([RUNNER, "decode", folder / "t", "special"], input=np.array(ids, "<i4").tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def texts(pick):
    yield from ("", " ", "  ", "hello", " hello", "  hello", "\nhello", "▁hello", "riverbank riverbank", " riverbank",
                "12345 678 90", "don't WE'LL it's", "a<|im_end|> b", "<|im_start|>user\nhi<|im_end|>\n<|im_start|>", "<|im_start|> x",
                f"{USER}{{}}{USER} x", "e\u0301 n\u0303 \u1112\u1161\u11ab A\u030a \ufb01 \u0000 e\u0301\u0000o\u0308", "\u0344\u0958")
    for _ in range(12):
        text = generated(pick.randrange(2**30), 1500)
        yield unicodedata.normalize("NFD", text) if pick.random() < 0.3 else text
        words = text.split(" ")
        for at in range(0, len(words), 40):
            words[at] = pick.choice(SPECIAL + [USER])
        yield " ".join(words)


def check(name, saved, pick):
    oracle = Tokenizer.from_str(json.dumps(saved))
    meta, used = built(saved), set()
    for text in texts(pick):
        expected = oracle.encode(text, add_special_tokens=False).ids
        got = ids_of(text, "special")
        assert got == expected, f"{name}: {text[:80]!r}: {got[:20]} is not {expected[:20]}"
        used.update(got)
    assert len(used) > 400, f"{name}: {len(used)} different tokens"
    return meta


def test_byte_level_ids_are_those_of_tokenizers():
    for name in BYTE_LEVEL:
        pick = random.Random(name)
        saved = byte_level(name, pick)
        meta = check(name, saved, pick)
        assert (meta["model"], meta["pre"], meta["nfc"]) == ("gpt2", name, name == "qwen2"), meta
        assert text_of(ids_of("é <|im_end|>ok", "special")) == "é <|im_end|>ok"


def test_sentencepiece_ids_are_those_of_tokenizers():
    for name in SENTENCEPIECE:
        pick = random.Random(name)
        meta = check(name, sentencepiece(name, pick), pick)
        assert (meta["model"], meta["add_space_prefix"]) == ("llama", name != "never"), meta


def test_merges_as_texts_are_merges_as_pairs():
    pick = random.Random(5)
    for saved in (byte_level("smollm", pick), sentencepiece("llama2", pick)):
        text = generated(7, 4000)
        built(saved)
        pairs = ids_of(text)
        assert isinstance(saved["model"]["merges"][0], list)
        saved["model"]["merges"] = [" ".join(m) for m in saved["model"]["merges"]]
        built(saved)
        assert ids_of(text) == pairs


def test_special_tokens_and_where_they_are_named():
    saved = byte_level("gpt-2", random.Random(6))
    id_of = {a["content"]: a["id"] for a in saved["added_tokens"]}
    begin, end = id_of["<|begin|>"], id_of["<|im_end|>"]
    meta = built(saved)
    assert (meta["bos"], meta["unk"], meta["add_bos"]) == (-1, -1, False) and meta["eos"] == [end], meta  # a known end
    meta = built(saved, {"bos_token": {"content": "<|begin|>"}, "eos_token": "<|im_start|>", "chat_template": "{{ x }}"})
    assert (meta["bos"], meta["add_bos"]) == (begin, False) and meta["chat_template"] == "{{ x }}", meta
    assert meta["eos"] == [id_of["<|im_start|>"], end], meta
    meta = built(saved, {"bos_token": "<|begin|>", "add_bos_token": True,
                         "chat_template": [{"name": "tool", "template": "no"}, {"name": "default", "template": "yes"}]})
    assert meta["add_bos"] and meta["chat_template"] == "yes", meta
    assert ids_of("hello", "bos")[0] == begin
    t = Tokenizer.from_str(json.dumps(saved))
    t.post_processor = processors.Sequence([processors.ByteLevel(), processors.TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", begin)])])
    meta = built(json.loads(t.to_str()), {"bos_token": "<|begin|>"})
    assert meta["add_bos"] and ids_of("hello", "bos") == t.encode("hello").ids, meta


def test_ids_in_the_models_files():
    saved = byte_level("gpt-2", random.Random(8))
    path = folder_with(saved, {})
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | {"bos_token_id": 1, "eos_token_id": 2}))
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [3, 2, 7]}))
    (path / "chat_template.jinja").write_text("{{ from a file of its own }}")
    done = build(path)
    assert done.returncode == 0, done.stderr
    meta = packtool.read_pack(folder / "t.edgert").meta["tokenizer"]
    assert meta["bos"] == 1 and meta["eos"] == [2, 3, 7] and "own" in meta["chat_template"], meta
    (path / "generation_config.json").write_text(json.dumps({"eos_token_id": 10**6}))
    done = build(path)
    assert done.returncode == 1 and 'generation_config.json: "eos_token_id" is no token' in done.stderr, done.stderr


def test_gaps_and_tokens_beyond_the_model():
    saved = byte_level("smollm", random.Random(9))
    top = max(a["id"] for a in saved["added_tokens"])
    saved["added_tokens"].append(dict(saved["added_tokens"][-1], id=top + 50, content="<far>"))
    check("gaps", saved, random.Random(9))
    done = build(folder_with(saved, room=-20))
    assert done.returncode == 0, done.stderr
    assert len(packtool.read_pack(folder / "t.edgert").vocab.texts) == top + 1


def changed(saved, *path_and_value):
    """A copy with the value at a path replaced."""
    copy = json.loads(json.dumps(saved))
    at = copy
    for key in path_and_value[:-2]:
        at = at[key]
    at[path_and_value[-2]] = path_and_value[-1]
    return copy


def test_what_is_not_supported_is_named():
    gpt2, llama = byte_level("gpt-2", random.Random(3)), sentencepiece("llama2", random.Random(3))
    cases = [
        (changed(gpt2, "model", "type", "WordPiece"), "the tokenizer's model is WordPiece"),
        (changed(gpt2, "model", "type", "Unigram"), "the tokenizer's model is Unigram"),
        (changed(gpt2, "model", "end_of_word_suffix", "</w>"), "end_of_word_suffix"),
        (changed(gpt2, "normalizer", {"type": "NFKC"}), "normalizer is NFKC"),
        (changed(gpt2, "normalizer", {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]}), "is Lowercase"),
        (changed(gpt2, "pre_tokenizer", {"type": "Whitespace"}), "pre_tokenizer is Whitespace"),
        (changed(gpt2, "pre_tokenizer", None), "pre_tokenizer is not byte-level"),
        (changed(gpt2, "pre_tokenizer", "add_prefix_space", True), "pre_tokenizer is ByteLevel"),
        (changed(gpt2, "model", "ignore_merges", True), "pre_tokenizer with ignore_merges"),
        (changed(gpt2, "added_tokens", 1, "lstrip", True), "'<|begin|>' is lstrip"),
        (changed(llama, "normalizer", {"type": "Lowercase"}), "normalizer is Lowercase"),
        (changed(llama, "normalizer", None), "leaves spaces as they are"),
        (changed(changed(llama, "normalizer", None), "pre_tokenizer",
                 {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}), "cuts at spaces"),
    ]
    for saved, expected in cases:
        done = build(folder_with(saved))
        assert done.returncode == 1 and expected in done.stderr and "are supported" in done.stderr, (expected, done.stderr)


def test_damaged_tokenizers_are_refused():
    gpt2 = byte_level("gpt-2", random.Random(4))
    word = next(iter(gpt2["model"]["vocab"]))
    cases = [
        (changed(gpt2, "model", "merges", 0, ["no", "token of this"]), "merge 0 does not join two tokens: 'no'"),
        (changed(gpt2, "model", "merges", 3, "one"), "merge 3 does not join two tokens"),
        (changed(gpt2, "model", "merges", 3, 7), "merge 3 does not join two tokens"),
        (changed(gpt2, "model", "merges", {}), "no list of merges"),
        (changed(gpt2, "model", "vocab", word, "x"), "no id for token"),
        (changed(gpt2, "model", "vocab", word, -1), "no id for token"),
        (changed(gpt2, "model", "vocab", "another", 5), "two tokens have one id"),
        (changed(gpt2, "model", "vocab", []), "no list of tokens"),
        (changed(gpt2, "model", []), "model is missing"),
        (changed(gpt2, "added_tokens", 0, "content", 5), "an added token without content"),
        (changed(gpt2, "added_tokens", 0, "id", "5"), "an added token without content and id"),
    ]
    for saved, expected in cases:
        path = folder_with(gpt2)
        (path / "tokenizer.json").write_text(json.dumps(saved))
        done = build(path)
        assert done.returncode == 1 and expected in done.stderr, (expected, done.stderr)
    path = folder_with(gpt2)
    for text, expected in (("", "no JSON object"), ("[]", "no JSON object"), ('{"model": 1', "no JSON object"),
                           ('{"a": 1, "a": 2}', "duplicate"), ("[" * 10**6, "no JSON object")):
        (path / "tokenizer.json").write_text(text)
        done = build(path)
        assert done.returncode == 1 and expected in done.stderr, (expected, done.stderr)
    (path / "tokenizer.json").unlink()
    done = build(path)
    assert done.returncode == 1 and "there is no tokenizer.json" in done.stderr, done.stderr


def test_bytes_that_no_token_has_are_refused():
    saved = sentencepiece("mistral", random.Random(2))
    del saved["model"]["vocab"]["<0x41>"]
    done = build(folder_with(saved))
    assert done.returncode == 1 and "for every byte" in done.stderr, done.stderr


if __name__ == "__main__":
    tap.main()
