"""The config.json of a decoder: that of transformers where it has a model of this shape, else one of npllm's own."""

from dataclasses import replace
from typing import Any

from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.rope import RoPE
from npllm.attention.variants.rope_scaling import DynamicNTKScaling
from npllm.core.config import to_dict
from npllm.models.decoder_config import DecoderConfig, GatedMLP, MoE
from npllm.models.hugging_face.model_type import one_or_all
from npllm.models.hugging_face.model_types import MODEL_TYPES, decoder_config
from npllm.models.hugging_face.rope import rope_fields
from npllm.weights.config_fields import SAVED_ACTIVATIONS
from npllm.weights.llama import OWN


def hugging_face_config(config: DecoderConfig) -> dict[str, Any]:
    """The config.json of this decoder: that of transformers if it is equivalent, else npllm's own."""
    explicit = _explicit(config)
    candidate = _candidate(explicit)
    if candidate is not None and _means(candidate, explicit):
        return candidate
    return {"model_type": OWN, "config": to_dict(config)}


def _means(candidate: dict[str, Any], config: DecoderConfig) -> bool:
    """Whether this config.json is that of the decoder."""
    try:
        return decoder_config("config.json", candidate) == config
    except ValueError:
        return False


def _max_position_embeddings(context_length: int, rope: RoPE) -> int:
    """The context_length; with dynamic NTK the length of training, which transformers' files have there."""
    return rope.scaling.original_length if isinstance(rope.scaling, DynamicNTKScaling) else context_length


def _explicit(config: DecoderConfig) -> DecoderConfig:
    """The same decoder with every default that depends on d_model written out, as `decoder_config` does."""
    attention = [_explicit_attention(config.attention_of(i), config.d_model) for i in range(config.num_layers)]
    feed_forward = [_explicit_feed_forward(config.feed_forward_of(i), config.d_model) for i in range(config.num_layers)]
    norm = replace(config.norm, eps=config.norm.build(1).eps)
    return replace(config, attention=one_or_all(attention), feed_forward=one_or_all(feed_forward), norm=norm)


def _explicit_attention(attention: Any, d_model: int) -> Any:
    if not isinstance(attention, GQA):
        return attention
    heads = attention.num_heads
    return replace(
        attention,
        num_kv_heads=heads if attention.num_kv_heads is None else attention.num_kv_heads,
        head_dim=d_model // heads if attention.head_dim is None else attention.head_dim,
    )


def _explicit_feed_forward(network: Any, d_model: int) -> Any:
    if not isinstance(network, (GatedMLP, MoE)) or network.d_hidden is not None:
        return network
    built = network.build(d_model, init=False)
    gated = built.experts[0] if isinstance(network, MoE) else built
    return replace(network, d_hidden=gated.gate_proj.weight.shape[0])


def _candidate(config: DecoderConfig) -> dict[str, Any] | None:
    """The nearest config.json of transformers, which may mean another model; None if there is none."""
    attentions = [config.attention_of(layer) for layer in range(config.num_layers)]
    first, network = attentions[0], config.feed_forward
    if not all(isinstance(attention, GQA) for attention in attentions) or not isinstance(first, GQA):
        return None
    if first.rope is None or not isinstance(network, (GatedMLP, MoE)):
        return None
    windows = [
        attention.window.size if isinstance(attention, GQA) and attention.window else None for attention in attentions
    ]
    size = next(filter(None, windows), None)
    kind = _model_type(first, isinstance(network, MoE), size is not None)
    fields = {
        "architectures": [MODEL_TYPES[kind].architecture],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": _max_position_embeddings(config.context_length, first.rope),
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "hidden_act": "silu",
        "num_attention_heads": first.num_heads,
        "num_key_value_heads": first.num_kv_heads,
        "head_dim": first.head_dim,
        "rms_norm_eps": config.norm.eps,
        "tie_word_embeddings": config.tied,
        "rope_parameters": rope_fields(first.rope),
        "sliding_window": size,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "npllm_dropout": config.dropout,
        "npllm_aux_loss_coef": config.aux_loss_coef,
    }
    if kind in ("llama", "qwen3", "qwen3_moe"):
        fields["attention_bias"] = first.o_bias
    fields["hidden_act"] = SAVED_ACTIVATIONS[network.activation]
    if kind == "llama" and isinstance(network, GatedMLP):
        fields["mlp_bias"] = network.bias
    if kind.startswith("qwen"):
        fields["use_sliding_window"] = size is not None
    if kind in ("qwen2", "qwen3"):
        fields["layer_types"] = ["full_attention" if window is None else "sliding_attention" for window in windows]
    return fields | _feed_forward_fields(kind, network)


def _model_type(attention: GQA, has_experts: bool, has_window: bool) -> str:
    if attention.qk_norm is not None:
        return "qwen3_moe" if has_experts else "qwen3"
    if attention.qkv_bias and not attention.o_bias:
        return "qwen2"
    return "mixtral" if has_experts else "mistral" if has_window else "llama"


def _feed_forward_fields(kind: str, network: GatedMLP | MoE) -> dict[str, Any]:
    if isinstance(network, GatedMLP):
        return {"intermediate_size": network.d_hidden}
    fields = {"num_experts_per_tok": network.top_k, "intermediate_size": network.d_hidden}
    if kind == "mixtral":
        return fields | {"num_local_experts": network.num_experts}
    return fields | {
        "num_experts": network.num_experts,
        "moe_intermediate_size": network.d_hidden,
        "norm_topk_prob": network.norm_topk_prob,
    }
