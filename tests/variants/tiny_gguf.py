"""Tiny random models as GGUF files, made with gguf-py."""
import gguf
import numpy as np

TYPES = {t.name: t for t in gguf.GGMLQuantizationType}
# Offsets of the halves in a block: scales that count one code, and the offset in codes that centres the weights.
HALVES = {"Q4_0": {0: 1}, "Q4_1": {0: 1, 2: -7.5}, "Q5_0": {0: 1}, "Q5_1": {0: 1, 2: -15.5}, "Q8_0": {0: 1},
          "Q2_K": {80: 1, 82: 1.5}, "Q3_K": {108: 1}, "Q4_K": {0: 1, 2: 7.5}, "Q5_K": {0: 1, 2: 15.5}, "Q6_K": {208: 1},
          "IQ4_NL": {0: 1}, "IQ4_XS": {0: 1}}
PARTS = ("attn_norm", "ffn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")


def shapes(m):
    """Name -> (rows, cols) or (cols,) of every tensor."""
    e, q, kv = m["n_embd"], m["n_heads"] * m["head_dim"], m["n_kv_heads"] * m["head_dim"]
    part = dict(attn_norm=(e,), ffn_norm=(e,), attn_q=(q, e), attn_k=(kv, e), attn_v=(kv, e), attn_output=(e, q),
                ffn_gate=(m["n_ff"], e), ffn_up=(m["n_ff"], e), ffn_down=(e, m["n_ff"]))
    out = {"token_embd.weight": (m["n_vocab"], e), "output_norm.weight": (e,)}
    if not m["tied"]:
        out["output.weight"] = (m["n_vocab"], e)
    for layer in range(m["n_layers"]):
        out.update({f"blk.{layer}.{p}.weight": part[p] for p in PARTS})
        if m["arch"] == "qwen2":
            out.update({f"blk.{layer}.attn_{p}.bias": part[f"attn_{p}"][:1] for p in "qkv"})
        if m["arch"] == "qwen3":
            out.update({f"blk.{layer}.attn_{p}_norm.weight": (m["head_dim"],) for p in "qk"})
    return out


def model(**changes):
    return dict(dict(n_embd=64, n_heads=4, n_kv_heads=2, head_dim=16, n_ff=96, n_vocab=270, n_layers=2, n_ctx=256,
                     tied=False, arch="llama"), **changes)


def wide_model(**changes):
    """Rows of 256 throughout, as super-blocks ask for."""
    return model(**dict(dict(n_embd=256, n_heads=8, n_kv_heads=4, head_dim=32, n_ff=256, n_layers=1, tied=True), **changes))


def block_size(kind):
    """(weights, bytes) of a block."""
    return gguf.GGML_QUANT_SIZES[TYPES[kind]]


def raw_weights(rng, shape, kind):
    """Trained-looking weights in the type's bytes; norms and biases are near 1."""
    if len(shape) == 1:
        return (1 + 0.1 * rng.standard_normal(shape)).astype("f4"), "F32"
    w = (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype("f4")
    try:
        return gguf.quants.quantize(w, TYPES[kind]), kind
    except NotImplementedError:  # gguf-py only reads the type
        return random_codes(rng, shape, kind), kind


def random_codes(rng, shape, kind):
    """Blocks with any codes and small scales, and halves that give the weights a trained model's size."""
    block, size = block_size(kind)
    data = rng.integers(0, 256, (*shape[:-1], shape[-1] // block * size), dtype=np.uint8)
    blocks = data.reshape(-1, size)
    for unit in (1, None):
        if unit is None:
            unit = 1 / np.sqrt(shape[-1]) / gguf.quants.dequantize(data, TYPES[kind]).std()
        for at, factor in HALVES[kind].items():
            sizes = unit * factor * rng.uniform(0.8, 1.2, len(blocks))
            blocks[:, at:at + 2] = sizes.astype("<f2").view(np.uint8).reshape(-1, 2)
    return data


def random_bytes(rng, shape, kind):
    """Any bytes at all: scales that are NaN, infinite or subnormal among them."""
    block, size = block_size(kind)
    data = rng.integers(0, 256, (*shape[:-1], shape[-1] // block * size), dtype=np.uint8)
    blocks = data.reshape(-1, size)
    odd = np.array([0x7C00, 0xFC00, 0x7E00, 0x0001, 0x83FF, 0x0000, 0x8000, 0x7BFF], "<u2").view(np.uint8).reshape(-1, 2)
    for at in HALVES.get(kind, {}):
        blocks[::5, at:at + 2] = odd[rng.integers(0, len(odd), len(blocks[::5]))]
    return data, kind


def write(path, m, rng, kind_of, make=raw_weights, keys=None, alignment=None):
    """Writes a model; kind_of(name) names a tensor's type. Returns {name: (bytes, type)}."""
    w = gguf.GGUFWriter(path, m["arch"])
    if alignment:
        w.add_custom_alignment(alignment)
    w.add_name("tiny")
    w.add_block_count(m["n_layers"])
    w.add_context_length(m["n_ctx"])
    w.add_embedding_length(m["n_embd"])
    w.add_feed_forward_length(m["n_ff"])
    w.add_head_count(m["n_heads"])
    w.add_head_count_kv(m["n_kv_heads"])
    w.add_key_length(m["head_dim"])
    w.add_value_length(m["head_dim"])
    w.add_rope_dimension_count(m["head_dim"])
    w.add_layer_norm_rms_eps(1e-5)
    w.add_rope_freq_base(10000.0)
    w.add_tokenizer_model("llama")
    tokens = [b"<unk>", b"<s>", b"</s>"] + [f"<0x{b:02X}>".encode() for b in range(256)]
    tokens += [f"t{i}".encode() for i in range(m["n_vocab"] - len(tokens))]
    w.add_token_list(tokens)
    w.add_token_scores([float(-i) for i in range(len(tokens))])
    w.add_token_types([2, 3, 3] + [6] * 256 + [1] * (len(tokens) - 259))
    w.add_bos_token_id(1)
    w.add_eos_token_id(2)
    for key, value in (keys or {}).items():
        w.add_string(key, value)
    made = {}
    for name, shape in shapes(m).items():
        kind = kind_of(name)
        data, kind = make(rng, shape, kind)
        made[name] = (np.ascontiguousarray(data), kind)
        raw = made[name][0]
        if kind in ("F32", "F16"):
            raw = raw.view("<f4" if kind == "F32" else "<f2").reshape(shape)
            w.add_tensor(name, raw)
        else:
            w.add_tensor(name, raw.view(np.uint8), raw_dtype=TYPES[kind])
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
    return made


def floats(made, shape):
    """What gguf-py takes the bytes for."""
    raw, kind = made
    return gguf.quants.dequantize(raw.view(np.uint8) if kind not in ("F32", "F16") else raw, TYPES[kind]).reshape(shape)
