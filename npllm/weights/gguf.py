"""A GGUF file as if it were a folder in Hugging Face's layout: the tensors by the names of transformers.

    blk.0.attn_q.weight      model.layers.0.self_attn.q_proj.weight
    token_embd.weight        model.embed_tokens.weight

llama.cpp applies RoPE to the pairs (x₀, x₁), (x₂, x₃), …; transformers to the pairs (x₀, x_{D/2}), (x₁, x_{D/2+1}), ….
For architectures of the first kind a GGUF file has the rows of W_q and W_k in llama.cpp's order. They are put back
here. What the metadata mean is in gguf_config.py.

llama.cpp, convert_hf_to_gguf.py
"""

import re
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npllm.utils.file_errors import FileError
from npllm.utils.gguf_file import GGUFTensor, read_gguf
from npllm.weights.gguf_config import config_of_metadata
from npllm.weights.gguf_rope import INTERLEAVED, ROPE_TENSORS

OUTSIDE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
}
SANDWICH = {  # a norm before and after each of attention and feed-forward network
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
OTHER_NAMES: dict[str, dict[str, str]] = {  # model_type of transformers: names that differ from LAYER
    "mixtral": {"ffn_gate_inp": "block_sparse_moe.gate"},
    "phi3": {"ffn_up": "mlp.gate_up_proj"},
    "gemma2": SANDWICH,
    "gemma3_text": SANDWICH,
    "starcoder2": {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
    "gpt_neox": {
        "token_embd": "gpt_neox.embed_in",
        "output_norm": "gpt_neox.final_layer_norm",
        "output": "embed_out",
        "attn_qkv": "attention.query_key_value",
        "attn_output": "attention.dense",
        "ffn_up": "mlp.dense_h_to_4h",
        "ffn_down": "mlp.dense_4h_to_h",
    },
    "olmo2": {"post_attention_norm": "post_attention_layernorm", "post_ffw_norm": "post_feedforward_layernorm"},
}
EXPERTS = {  # model_type: the names of the experts, and of the gate, up and down projection of one
    "mixtral": ("block_sparse_moe.experts", "w1", "w3", "w2"),
    "qwen3_moe": ("mlp.experts", "gate_proj", "up_proj", "down_proj"),
}
GPT2 = {
    "token_embd": "wte", "position_embd": "wpe", "output_norm": "ln_f", "output": "lm_head", "attn_norm": "ln_1",
    "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_norm": "ln_2", "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}  # fmt: skip
GPT2_TRANSPOSED = ("attn_qkv.weight", "attn_output.weight", "ffn_up.weight", "ffn_down.weight")
_LAYER_NAME = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_EXPERTS_NAME = re.compile(r"ffn_(gate|up|down)_exps")


def read_config(path: str | PathLike) -> dict[str, Any]:
    """The config.json of transformers for a GGUF file, from its metadata and the names and shapes of its tensors.

    Raises FileNotFoundError, or ValueError that names the file and the field.
    """
    return config_of_metadata(path, *read_gguf(path))


def read_tensors(path: str | PathLike) -> dict[str, Any]:
    """The tensors of a GGUF file by the names of transformers; `np.asarray(tensor)` dequantizes one.

    Raises FileNotFoundError, or ValueError that names the file.
    """
    metadata, tensors = read_gguf(path)
    config = config_of_metadata(path, metadata, tensors)
    rename = _gpt2_tensors if config["model_type"] == "gpt2" else _decoder_tensors
    return rename(Path(path), config, {name: tensors[name] for name in tensors if name not in ROPE_TENSORS})


def _gpt2_tensors(path: Path, config: dict[str, Any], tensors: dict[str, GGUFTensor]) -> dict[str, Any]:
    """GPT-2's linear maps are stored (in, out) by transformers, (out, in) in GGUF."""
    found: dict[str, Any] = {}
    for name, tensor in tensors.items():
        layer, part, kind = _parts(path, name)
        if part not in GPT2:
            raise FileError(path, f"has a tensor {name!r}, which a GPT-2 does not have")
        prefix = "" if layer is None else f"h.{layer}."
        array = np.asarray(tensor).T if name.endswith(GPT2_TRANSPOSED) else tensor
        found[f"{prefix}{GPT2[part]}.{kind}"] = array
    return found


def _decoder_tensors(path: Path, config: dict[str, Any], tensors: dict[str, GGUFTensor]) -> dict[str, Any]:
    kind = config["model_type"]
    names = OUTSIDE | LAYER | OTHER_NAMES.get(kind, {})
    prefix = "gpt_neox.layers" if kind == "gpt_neox" else "model.layers"
    order = _row_orders(config)
    found: dict[str, Any] = {}
    for name, tensor in tensors.items():
        layer, part, suffix = _parts(path, name)
        if layer is None:
            if part not in OUTSIDE:
                raise FileError(path, f"has a tensor {name!r}, which npllm does not have in a {kind}")
            found[f"{names[part]}.{suffix}"] = _norm(kind, part, tensor)
            continue
        if (match := _EXPERTS_NAME.fullmatch(part)) and kind in EXPERTS:
            experts, *projections = EXPERTS[kind]
            projection = projections[("gate", "up", "down").index(match[1])]
            for e in range(tensor.shape[0]):
                found[f"{prefix}.{layer}.{experts}.{e}.{projection}.{suffix}"] = tensor[e]
            continue
        if part not in names or part in OUTSIDE:
            raise FileError(path, f"has a tensor {name!r}, which npllm does not have in a {kind}")
        try:
            array = order[part](tensor) if part in order else tensor
        except ValueError as error:
            raise FileError(path, f"has a tensor {name!r} of shape {tensor.shape} that does not fit: {error}") from None
        found[f"{prefix}.{layer}.{names[part]}.{suffix}"] = _norm(kind, part, array)
    return found


def _parts(path: Path, name: str) -> tuple[int | None, str, str]:
    """blk.3.attn_q.weight → (3, "attn_q", "weight"); output.weight → (None, "output", "weight")"""
    if match := _LAYER_NAME.fullmatch(name):
        return int(match[1]), match[2], match[3]
    part, _, kind = name.rpartition(".")
    return None, part, kind


def _norm(kind: str, part: str, tensor: Any) -> Any:
    """Gemma's RMS norm multiplies by 1 + weight; llama.cpp adds the 1 when it writes the file."""
    return np.asarray(tensor) - 1 if kind.startswith("gemma") and part.endswith("norm") else tensor


def _row_orders(config: dict[str, Any]) -> dict[str, Callable[[GGUFTensor], Any]]:
    """By tensor: a function that puts the rows in the order of transformers."""
    if config["model_type"] not in (*INTERLEAVED, "gpt_neox"):
        return {}
    heads = config["num_attention_heads"]
    if config["model_type"] == "gpt_neox":
        return {"attn_qkv": lambda tensor: _by_head(tensor, heads)}
    return {
        "attn_q": lambda tensor: _half_split(tensor, heads),
        "attn_k": lambda tensor: _half_split(tensor, config["num_key_value_heads"]),
    }


def _half_split(tensor: GGUFTensor, num_heads: int) -> GGUFTensor:
    """Rows x₀, x_{D/2}, x₁, x_{D/2+1}, … of each head → x₀, x₁, …, x_{D/2}, x_{D/2+1}, …"""
    rows = np.arange(tensor.shape[0])
    return tensor[rows.reshape(num_heads, -1, 2).swapaxes(1, 2).ravel()]


def _by_head(tensor: GGUFTensor, num_heads: int) -> np.ndarray:
    """All queries, all keys, all values → queries, keys and values of the first head, of the second, …"""
    rows = np.arange(tensor.shape[0])
    return np.asarray(tensor[rows.reshape(3, num_heads, -1).swapaxes(0, 1).ravel()])
