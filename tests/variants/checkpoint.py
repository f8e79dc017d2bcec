"""Hugging Face checkpoints in plain numpy: reading and writing safetensors from the format's own page
(github.com/huggingface/safetensors, README), and the same model as a GGUF file after llama.cpp's conventions
(convert_hf_to_gguf.py)."""
import json
import pathlib
import struct

import gguf
import numpy as np

FIXTURES = pathlib.Path(__file__).resolve().parent / "fixtures"
NAMES = ("smollm2", "llama2-linear", "llama3", "mistral", "qwen2", "qwen3")
NUMPY = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def read_safetensors(path):
    """{name: (dtype, shape, bytes)}"""
    raw = pathlib.Path(path).read_bytes()
    n = struct.unpack_from("<Q", raw)[0]
    header = json.loads(raw[8:8 + n])
    header.pop("__metadata__", None)
    return {name: (t["dtype"], t["shape"], raw[8 + n + t["data_offsets"][0]:8 + n + t["data_offsets"][1]])
            for name, t in header.items()}


def write_safetensors(path, tensors, change=None):
    """change(header): a lie to be told."""
    header, data = {}, b""
    for name, (dtype, shape, raw) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = (json.dumps(header) if change is None else change(header)).encode()
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def read_folder(folder):
    """All tensors of a checkpoint, sharded or not."""
    out = {}
    for path in sorted(pathlib.Path(folder).glob("*.safetensors")):
        out.update(read_safetensors(path))
    return out


def floats(tensor):
    dtype, shape, raw = tensor
    values = np.frombuffer(raw, NUMPY[dtype])
    if dtype == "BF16":
        values = (values.astype("<u4") << 16).view("<f4")
    return values.astype("<f4").reshape(shape)


def config(name):
    return json.loads((FIXTURES / name / "config.json").read_text())


def golden(name):
    """(ids, logits) that transformers computed: tools/make-fixtures."""
    return json.loads((FIXTURES / "ids.json").read_text()), np.load(FIXTURES / f"{name}.npy")


# ---- the same as a GGUF file ---------------------------------------------------------------------

GGUF_NAMES = {"input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
              "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
              "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate",
              "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}


def gguf_name(name):
    whole = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
             "lm_head.weight": "output.weight"}
    if name in whole:
        return whole[name]
    layer, part = name.removeprefix("model.layers.").split(".", 1)
    part, end = part.rsplit(".", 1)
    return f"blk.{layer}.{GGUF_NAMES[part]}.{end}"


def permuted(w, n_heads):
    """llama.cpp's order of Q and K: the halves of RoPE become pairs."""
    return w.reshape(n_heads, 2, -1, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def rope_of(c):
    """(theta, scaling as a dictionary or None) of either style of config.json."""
    rope = dict(c.get("rope_parameters") or c.get("rope_scaling") or {})
    rope["rope_type"] = rope.get("rope_type", rope.get("type", "default"))
    return rope.pop("rope_theta", c.get("rope_theta")), rope if rope["rope_type"] != "default" else None


def llama3_factors(theta, head_dim, s):
    """What llama.cpp's converter writes as rope_freqs.weight."""
    factors = []
    for f in theta ** (-np.arange(0, head_dim, 2, dtype=float) / head_dim):
        wave, old = 2 * np.pi / f, s["original_max_position_embeddings"]
        if wave < old / s["high_freq_factor"]:
            factors.append(1)
        elif wave > old / s["low_freq_factor"]:
            factors.append(s["factor"])
        else:
            smooth = (old / wave - s["low_freq_factor"]) / (s["high_freq_factor"] - s["low_freq_factor"])
            factors.append(1 / ((1 - smooth) / s["factor"] + smooth))
    return np.array(factors, "<f4")


def write_gguf(path, name):
    """The fixture as F32 GGUF."""
    c = config(name)
    arch = {"mistral": "llama"}.get(c["model_type"], c["model_type"])
    head_dim = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
    theta, scaling = rope_of(c)
    w = gguf.GGUFWriter(path, arch)
    w.add_name(name)
    w.add_block_count(c["num_hidden_layers"])
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_key_value_heads"])
    if head_dim * c["num_attention_heads"] != c["hidden_size"]:
        w.add_key_length(head_dim)
        w.add_value_length(head_dim)
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_rope_freq_base(theta)
    if c["model_type"] == "mistral":
        w.add_sliding_window(c["sliding_window"])
    if scaling and scaling["rope_type"] == "linear":
        w.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        w.add_rope_scaling_factor(scaling["factor"])
    if scaling and scaling["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", llama3_factors(theta, head_dim, scaling))
    w.add_tokenizer_model("gpt2")
    w.add_tokenizer_pre("gpt-2")
    w.add_token_list([f"t{i}".encode() for i in range(c["vocab_size"])])
    w.add_token_types([3, 3] + [1] * (c["vocab_size"] - 2))
    w.add_bos_token_id(0)
    w.add_eos_token_id(1)
    for tensor, value in read_folder(FIXTURES / name).items():
        value = floats(value)
        if arch == "llama" and tensor.rsplit(".", 2)[1] in ("q_proj", "k_proj"):
            value = permuted(value, c["num_attention_heads" if "q_proj" in tensor else "num_key_value_heads"])
        w.add_tensor(gguf_name(tensor), np.ascontiguousarray(value))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()
