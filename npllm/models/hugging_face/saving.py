"""The config.json of a decoder: that of transformers where it has a model of this shape, else one of npllm's own.

A config.json means what reading it gives. All fields that the decoder could have in any model type are computed, each
model type takes those in its table, and the first config.json that is read as this very decoder is written.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.rope import RoPE
from npllm.attention.variants.rope_scaling import DynamicNTKScaling
from npllm.core.config import to_dict
from npllm.models.decoder_config import MLP, DecoderConfig, GatedMLP, MoE
from npllm.models.hugging_face.model_type import one_or_all
from npllm.models.hugging_face.model_types import MODEL_TYPES, decoder_config
from npllm.models.hugging_face.rope import rope_fields
from npllm.weights.config_fields import SAVED_ACTIVATIONS
from npllm.weights.tensor_names import OWN

NOT_WRITTEN = {  # fields that a model type reads and does not need
    "mixtral": ("num_experts",),
    "qwen3_moe": ("num_local_experts", "layer_types"),
}
NEVER_NULL = {  # fields that these model types cannot be without, although no layer may use them
    "gemma2": "sliding_window",
    "gemma3_text": "sliding_window",
    "olmo3": "sliding_window",
}
WITH_TWO_ROPES = ("gemma3_text", "olmo3")  # rope_parameters has an object for each type of layer


def hugging_face_config(config: DecoderConfig) -> dict[str, Any]:
    """The config.json of this decoder: that of transformers if it is equivalent, else npllm's own."""
    explicit = _explicit(config)
    for candidate in _candidates(explicit):
        if _means(candidate, explicit):
            return candidate
    return {"model_type": OWN, "config": to_dict(config)}


def _candidates(config: DecoderConfig) -> Iterator[dict[str, Any]]:
    """For each model type the config.json that is nearest to this decoder; it may mean another one."""
    layers = [config.attention_of(layer) for layer in range(config.num_layers)]
    attentions = [attention for attention in layers if isinstance(attention, GQA)]
    if len(attentions) < len(layers):
        return
    fields = _size_fields(config) | _attention_fields(attentions) | _rope_fields(config, attentions)
    fields |= _network_fields([config.feed_forward_of(layer) for layer in range(config.num_layers)])
    fields |= _block_fields(config)
    for kind, model_type in MODEL_TYPES.items():
        left_out = NOT_WRITTEN.get(kind, ())
        written = {name: fields[name] for name in model_type.fields if name in fields and name not in left_out}
        if kind == "phi3" and (original := _original_length(attentions)):  # counts before that in rope_parameters
            written["original_max_position_embeddings"] = original
        if written.get(NEVER_NULL.get(kind, ""), 0) is None:
            del written[NEVER_NULL[kind]]  # the default of transformers
        if kind in WITH_TWO_ROPES:
            written["rope_parameters"] = _ropes_by_layer_type(attentions)
        special = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
        yield {"architectures": [model_type.architecture], "model_type": kind} | written | special


def _means(candidate: dict[str, Any], config: DecoderConfig) -> bool:
    """Whether this config.json is that of the decoder."""
    try:
        return decoder_config("config.json", candidate) == config
    except ValueError:
        return False


def _size_fields(config: DecoderConfig) -> dict[str, Any]:
    """The sizes of the model, the eps of its norms, its dropout."""
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "rms_norm_eps": config.norm.eps,
        "layer_norm_eps": config.norm.eps,
        "norm_epsilon": config.norm.eps,
        "tie_word_embeddings": config.tied,
        "npllm_dropout": config.dropout,
        "npllm_aux_loss_coef": config.aux_loss_coef,
    }


def _attention_fields(attentions: list[GQA]) -> dict[str, Any]:
    """The options of attention: those of the first layer, and which layers have a window or a RoPE."""
    first = attentions[0]
    size = next((attention.window.size for attention in attentions if attention.window is not None), None)
    return {
        "num_attention_heads": first.num_heads,
        "num_key_value_heads": first.num_kv_heads,
        "head_dim": first.head_dim,
        "attention_bias": first.o_bias,
        "use_bias": first.o_bias,
        "attention_multiplier": 1.0 if first.scale is None else first.scale,
        "query_pre_attn_scalar": first.head_dim if first.scale is None else round(first.scale**-2),
        "attn_logit_softcapping": first.softcap,
        "sliding_window": size,
        "use_sliding_window": size is not None,
        "layer_types": [_layer_type(attention) for attention in attentions],
        "no_rope_layers": [int(attention.rope is not None) for attention in attentions],
    }


def _rope_fields(config: DecoderConfig, attentions: list[GQA]) -> dict[str, Any]:
    """The RoPE of the first layer that has one, and the longest text: with dynamic NTK that of training."""
    rope = next((attention.rope for attention in attentions if attention.rope is not None), None)
    if rope is None:
        return {"max_position_embeddings": config.context_length}
    scalings = [attention.rope.scaling for attention in attentions if attention.rope is not None]
    trained = [scaling.original_length for scaling in scalings if isinstance(scaling, DynamicNTKScaling)]
    return {
        "max_position_embeddings": min([config.context_length, *trained]),
        "rope_parameters": rope_fields(rope),
        "rotary_pct": rope.partial_rotary_factor,
        "rotary_emb_base": rope.theta,
    }


def _original_length(attentions: list[GQA]) -> int | None:
    """The length of the texts in training, where a scaling of RoPE has it."""
    return getattr(getattr(attentions[0].rope, "scaling", None), "original_length", None)


def _ropes_by_layer_type(attentions: list[GQA]) -> dict[str, Any]:
    """The RoPE of the first layer of each type."""
    ropes: dict[str, RoPE | None] = {}
    for attention in attentions:
        ropes.setdefault(_layer_type(attention), attention.rope)
    return {layer_type: rope_fields(rope) for layer_type, rope in ropes.items() if rope is not None}


def _layer_type(attention: GQA) -> str:
    return "full_attention" if attention.window is None else "sliding_attention"


def _network_fields(networks: list[Any]) -> dict[str, Any]:
    """The first network that is no mixture of experts, the first mixture, and which layers have none."""
    dense = next((network for network in networks if not isinstance(network, MoE)), None)
    experts = next((network for network in networks if isinstance(network, MoE)), None)
    activation = SAVED_ACTIVATIONS[networks[0].activation]
    fields: dict[str, Any] = {"hidden_act": activation, "hidden_activation": activation}
    if experts is not None:
        fields |= {
            "num_local_experts": experts.num_experts,
            "num_experts": experts.num_experts,
            "num_experts_per_tok": experts.top_k,
            "intermediate_size": experts.d_hidden,
            "moe_intermediate_size": experts.d_hidden,
            "norm_topk_prob": experts.norm_topk_prob,
            "mlp_only_layers": [layer for layer, network in enumerate(networks) if not isinstance(network, MoE)],
        }
    if dense is not None:
        fields |= {"intermediate_size": dense.d_hidden, "mlp_bias": dense.bias}
    return fields


def _block_fields(config: DecoderConfig) -> dict[str, Any]:
    """The kind of block, and the factors of embeddings, residual terms and logits."""
    return {
        "use_parallel_residual": config.block == "parallel",
        "embedding_multiplier": config.embedding_multiplier,
        "residual_multiplier": config.residual_multiplier,
        "logits_scaling": config.logits_scaling,
        "logit_scale": 1.0 / config.logits_scaling,
        "final_logit_softcapping": config.logits_softcap,
    }


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
    if not isinstance(network, (MLP, GatedMLP, MoE)) or network.d_hidden is not None:
        return network
    built = network.build(d_model, init=False)
    if isinstance(network, MLP):
        return replace(network, d_hidden=built.c_fc.weight.shape[0])
    gated = built.experts[0] if isinstance(network, MoE) else built
    return replace(network, d_hidden=gated.gate_proj.weight.shape[0])
