"""Architectures by name: the configuration of a GPT or a decoder of any size.

    config = architecture("llama", vocab_size=65, context_length=64, d_model=128, num_layers=4, num_heads=4)
    model = build(config)

To compare kinds of attention, change the name and keep the sizes.
"""

import math
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np

from npllm.attention.variants.delta_net import Delta
from npllm.attention.variants.differential import Differential, lambda_of_layer
from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.linear_attention import LinearAttn
from npllm.attention.variants.mla import MLA
from npllm.attention.variants.options import QKNorm, SlidingWindow
from npllm.attention.variants.relative_bias import ALiBi
from npllm.attention.variants.rope import RoPE
from npllm.attention.variants.shaw import Shaw
from npllm.core.config import from_dict, to_dict
from npllm.models.decoder import Decoder
from npllm.models.decoder_config import MLP, DecoderConfig, GatedMLP, MoE, Norm
from npllm.models.gpt import GPT, GPTConfig
from npllm.models.hugging_face import DECODER_TYPES
from npllm.utils.file_errors import FileError
from npllm.utils.json_files import as_json
from npllm.weights.model_folder import check_dtype, read_config


def _attention(name: str, num_heads: int, context_length: int, num_layers: int) -> Any:
    """The attention of an architecture. Grouped heads: half as many key heads as query heads, if that is even."""
    num_kv_heads = num_heads // 2 if num_heads % 2 == 0 else num_heads
    if name in ("llama", "mixtral"):
        return GQA(num_heads, num_kv_heads, rope=RoPE())
    if name == "mistral":
        return GQA(num_heads, num_kv_heads, rope=RoPE(), window=SlidingWindow(max(context_length // 2, 1)))
    if name == "qwen":
        return GQA(num_heads, num_kv_heads, qk_norm=QKNorm(), rope=RoPE())
    if name == "olmo2":
        return GQA(num_heads, num_kv_heads, qk_norm=QKNorm(over="projection"), rope=RoPE())
    if name == "smollm3":  # every fourth layer has no positions
        attention = GQA(num_heads, num_kv_heads, rope=RoPE(theta=2e6))
        return (attention, attention, attention, replace(attention, rope=None))
    if name == "gemma2":  # every second layer has a window
        window = SlidingWindow(max(context_length // 2, 1))
        local = GQA(num_heads, num_kv_heads, rope=RoPE(), softcap=50.0, window=window)
        return (local, replace(local, window=None))
    if name == "gemma3":  # five layers with a window, one without
        window, norm = SlidingWindow(max(context_length // 4, 1)), QKNorm(unit_offset=True)
        local = GQA(num_heads, num_kv_heads, qk_norm=norm, rope=RoPE(), window=window)
        return (local,) * 5 + (replace(local, rope=RoPE(theta=1e6), window=None),)
    if name == "neox":
        return GQA(num_heads, qkv_bias=True, o_bias=True, rope=RoPE(partial_rotary_factor=0.25))
    if name == "alibi":
        return GQA(num_heads, num_kv_heads, relative_bias=ALiBi())
    if name == "differential":  # each head has two maps, so there are half as many heads
        if num_heads % 2:
            raise ValueError(f"num_heads is {num_heads}; for differential attention it must be even")
        return tuple(Differential(num_heads // 2, lambda_of_layer(layer)) for layer in range(num_layers))
    if name == "latent":
        return MLA(num_heads, kv_lora_rank=32, head_dim=32, qk_rope_head_dim=16)
    return {"relative": Shaw, "linear": LinearAttn, "delta": Delta}[name](num_heads)


def _parts(name: str, d_model: int) -> dict[str, Any]:
    """The fields of DecoderConfig that an architecture sets besides its sizes and its attention."""
    if name == "mixtral":
        return {"feed_forward": MoE(num_experts=4, top_k=2)}
    if name == "olmo2":
        return {"block": "post_norm"}
    if name in ("gemma2", "gemma3"):
        parts = {"block": "sandwich_norm", "norm": Norm(unit_offset=True), "embedding_multiplier": math.sqrt(d_model)}
        return parts | {
            "feed_forward": GatedMLP(activation="gelu_tanh"),
            "logits_softcap": 30.0 if name == "gemma2" else None,
        }
    if name == "neox":
        return {"block": "parallel", "norm": Norm("layer_norm"), "feed_forward": MLP(activation="gelu"), "tied": False}
    return {}


ARCHITECTURES = (
    "gpt", "llama", "mistral", "qwen", "mixtral", "olmo2", "smollm3", "gemma2", "gemma3", "neox", "alibi", "relative",
    "differential", "latent", "linear", "delta",
)  # fmt: skip


def architecture(
    name: str,
    vocab_size: int,
    context_length: int,
    d_model: int,
    num_layers: int,
    num_heads: int,
    dropout: float = 0.0,
) -> GPTConfig | DecoderConfig:
    """The configuration of this architecture and size: a GPTConfig for "gpt", else a DecoderConfig."""
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture is {name!r}; it must be one of {', '.join(ARCHITECTURES)}")
    if name == "gpt":
        config = GPTConfig(vocab_size, context_length, d_model, num_layers, num_heads)
        return replace(config, embedding_dropout=dropout, attention_dropout=dropout, residual_dropout=dropout)
    attention = _attention(name, num_heads, context_length, num_layers)
    parts = _parts(name, d_model)
    return DecoderConfig(vocab_size, context_length, d_model, num_layers, attention, dropout=dropout, **parts)


def build(
    config: GPTConfig | DecoderConfig,
    *,
    rng: np.random.Generator | None = None,
    dtype: str = "float32",
    init: bool = True,
) -> GPT | Decoder:
    """The model of a GPTConfig or of a DecoderConfig, with random weights, or zeros without `init`."""
    if isinstance(config, GPTConfig):
        return GPT(config, rng=rng, dtype=dtype, init=init)
    return Decoder(config, rng=rng, dtype=dtype, init=init)


def config_as_dict(config: GPTConfig | DecoderConfig) -> dict[str, Any]:
    """The configuration as data for JSON; `config_from_dict` is the inverse."""
    return to_dict(config)


def config_from_dict(data: dict[str, Any]) -> GPTConfig | DecoderConfig:
    """The configuration that `config_as_dict` made the data from. Raises ValueError that names the field."""
    return from_dict(data, GPTConfig | DecoderConfig, "model")


def from_pretrained(path: str | PathLike, dtype: str = "float32") -> GPT | Decoder:
    """A GPT-2 or a decoder in Hugging Face's layout, by the model_type in config.json; see models/hugging_face."""
    check_dtype(dtype)
    config, config_path = read_config(path)
    kind = config.get("model_type", None if "hidden_size" in config else "gpt2")  # OpenAI's first files have none
    known = ["gpt2", *DECODER_TYPES]
    if kind not in known:
        must_be = f"one of {', '.join(known)}"
        problem = f"has model_type {as_json(kind)}; it must be {must_be}"
        raise FileError(config_path, problem, field="model_type", value=kind, must_be=must_be)
    if kind == "gpt2":
        return GPT.from_pretrained(path, dtype)
    return Decoder.from_pretrained(path, dtype)
