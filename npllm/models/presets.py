"""Architectures by name: the configuration of a GPT or a decoder of any size.

    config = architecture("llama", vocab_size=65, context_length=64, d_model=128, num_layers=4, num_heads=4)
    model = build(config)

To compare kinds of attention, change the name and keep the sizes.
"""

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
from npllm.models.decoder_config import DecoderConfig, MoE
from npllm.models.gpt import GPT, GPTConfig
from npllm.models.hugging_face import DECODER_TYPES
from npllm.utils.json_files import as_json
from npllm.weights.model_folder import read_config


def _attention(name: str, num_heads: int, context_length: int, num_layers: int) -> Any:
    """The attention of an architecture. Grouped heads: half as many key heads as query heads, if that is even."""
    num_kv_heads = num_heads // 2 if num_heads % 2 == 0 else num_heads
    if name in ("llama", "mixtral"):
        return GQA(num_heads, num_kv_heads, rope=RoPE())
    if name == "mistral":
        return GQA(num_heads, num_kv_heads, rope=RoPE(), window=SlidingWindow(max(context_length // 2, 1)))
    if name == "qwen":
        return GQA(num_heads, num_kv_heads, qk_norm=QKNorm(), rope=RoPE())
    if name == "alibi":
        return GQA(num_heads, num_kv_heads, relative_bias=ALiBi())
    if name == "differential":  # each head has two maps, so there are half as many heads
        if num_heads % 2:
            raise ValueError(f"num_heads is {num_heads}; for differential attention it must be even")
        return tuple(Differential(num_heads // 2, lambda_of_layer(layer)) for layer in range(num_layers))
    if name == "latent":
        return MLA(num_heads, kv_lora_rank=32, head_dim=32, qk_rope_head_dim=16)
    return {"relative": Shaw, "linear": LinearAttn, "delta": Delta}[name](num_heads)


ARCHITECTURES = (
    "gpt", "llama", "mistral", "qwen", "mixtral", "alibi", "relative", "differential", "latent", "linear", "delta",
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
    decoder = DecoderConfig(vocab_size, context_length, d_model, num_layers, attention, dropout=dropout)
    return replace(decoder, feed_forward=MoE(num_experts=4, top_k=2)) if name == "mixtral" else decoder


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
    """A GPT-2, a Llama, Mistral, Qwen or Mixtral in Hugging Face's layout, by the model_type in config.json."""
    config, config_path = read_config(path)
    kind = config.get("model_type", None if "hidden_size" in config else "gpt2")  # OpenAI's first files have none
    known = ["gpt2", *DECODER_TYPES]
    if kind not in known:
        raise ValueError(f"{config_path} has model_type {as_json(kind)}; it must be one of {', '.join(known)}")
    if kind == "gpt2":
        return GPT.from_pretrained(path, dtype)
    return Decoder.from_pretrained(path, dtype)
