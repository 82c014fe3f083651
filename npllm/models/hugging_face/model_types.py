"""The model types of transformers that npllm builds: the fields of their config.json, and the decoder that they mean.

    llama       grouped-query attention, RoPE, RMS norm, gated feed-forward network
    mistral     … and a sliding window in all layers; with layer_types it is read as ministral
    ministral   … and a sliding window in the layers that say so
    qwen2       … and biases of queries, keys and values; windows in some layers
    qwen3       … and a norm of queries and keys
    mixtral     llama with a mixture of experts;     qwen3_moe     qwen3 with one

To add a model type: a table of its fields with transformers' defaults, a function from the values of the fields to a
DecoderConfig, and an entry in MODEL_TYPES. The names of its tensors are in weights/llama.py, and saving.py has the way
back to a config.json.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.options import QKNorm, SlidingWindow
from npllm.models.decoder_config import DecoderConfig, GatedMLP, MoE, Norm
from npllm.models.hugging_face.rope import LLAMA_RULES, ROPE_FIELDS, RopeRules, context_length, read_rope
from npllm.utils.json_files import as_json
from npllm.weights.config_fields import (
    ACTIVATION_NAMES,
    MAX_LAYERS,
    Field,
    choice,
    flag,
    items,
    number,
    only,
    optional,
    read_fields,
    refuse,
    size,
)

Fields = dict[str, Any]  # the value of every field of a table


@dataclass(frozen=True)
class ModelType:
    """A model_type: the class of transformers, its fields, and the DecoderConfig that their values mean.

    `build(path, fields)` raises ValueError that names the file and the fields.
    """

    architecture: str
    fields: dict[str, Field]
    build: Callable[[str | Path, Fields], DecoderConfig]


def decoder_config(path: str | Path, config: Fields) -> DecoderConfig:
    """The DecoderConfig for the config.json of a model type of transformers.

    path   the name of the file in messages

    Raises ValueError that names the file and every invalid field, what it is and what it must be.
    """
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in MODEL_TYPES:
        raise ValueError(f"{path} has model_type {as_json(kind)}; it must be {' or '.join(MODEL_TYPES)}")
    if kind == "mistral" and "layer_types" in config:  # as transformers does
        kind = "ministral"
    model_type = MODEL_TYPES[kind]
    fields = read_fields(path, config, model_type.fields)
    left_out = [name for name in ("hidden_size", "num_key_value_heads", "head_dim") if name not in config]
    refuse(path, _size_problems(fields, left_out))
    try:
        return model_type.build(path, fields)
    except (TypeError, ValueError) as error:
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: {error}") from None


COMMON: dict[str, Field] = {
    "vocab_size": size(32000),
    "hidden_size": size(4096),
    "num_hidden_layers": size(32, high=MAX_LAYERS),
    "num_attention_heads": size(32),
    "num_key_value_heads": optional(size(None)),
    "head_dim": optional(size(None)),
    "intermediate_size": size(11008),
    "hidden_act": choice("silu", ACTIVATION_NAMES),
    "max_position_embeddings": size(2048),
    "rms_norm_eps": number(1e-6, low=0.0, high=1.0),
    "tie_word_embeddings": flag(False),
    "per_layer_config": only(None),
    "npllm_dropout": number(0.0, low=0.0, high=0.999999),
    "npllm_aux_loss_coef": number(0.01),
} | ROPE_FIELDS  # fmt: skip
LLAMA = COMMON | {
    "attention_bias": flag(False),
    "mlp_bias": flag(False),
}
MISTRAL = COMMON | {
    "intermediate_size": size(14336),
    "num_key_value_heads": optional(size(8)),
    "max_position_embeddings": size(131072),
    "sliding_window": optional(size(4096)),
}
LAYER_TYPES = {"full_attention": False, "attention": False, "sliding_attention": True}  # has the layer a window?
MINISTRAL = MISTRAL | {
    "layer_types": optional(items(None, choice(None, LAYER_TYPES))),
}
MIXTRAL = MISTRAL | {
    "hidden_act": only("silu", "swish"),
    "rms_norm_eps": number(1e-5, low=0.0, high=1.0),
    "sliding_window": optional(size(None)),
    "num_experts_per_tok": size(2),
    "num_local_experts": size(8, high=MAX_LAYERS),
    "num_experts": optional(size(None, high=MAX_LAYERS)),
}
QWEN2 = COMMON | {
    "vocab_size": size(151936),
    "intermediate_size": size(22016),
    "num_key_value_heads": optional(size(32)),
    "max_position_embeddings": size(32768),
    "use_sliding_window": flag(False),
    "sliding_window": optional(size(4096)),
    "max_window_layers": size(28, low=0),
    "layer_types": optional(items(None, choice(None, LAYER_TYPES))),
}
QWEN3 = QWEN2 | {
    "head_dim": optional(size(128)),
    "attention_bias": flag(False),
}
QWEN3_MOE = QWEN3 | {
    "hidden_size": size(2048),
    "num_hidden_layers": size(24, high=MAX_LAYERS),
    "hidden_act": only("silu", "swish"),
    "intermediate_size": size(6144),
    "num_key_value_heads": optional(size(4)),
    "head_dim": optional(size(None)),
    "moe_intermediate_size": size(768),
    "num_experts_per_tok": size(8),
    "num_experts": size(128, high=MAX_LAYERS),
    "num_local_experts": optional(size(None, high=MAX_LAYERS)),
    "norm_topk_prob": flag(False),
    "decoder_sparse_step": size(1),
    "mlp_only_layers": optional(items(None, size(None, low=0))),
}


def _llama(path: str | Path, fields: Fields) -> DecoderConfig:
    return _decoder(fields, _attention(path, fields), _gated_mlp(fields))


def _mistral(path: str | Path, fields: Fields) -> DecoderConfig:
    windows = [fields["sliding_window"]] * fields["num_hidden_layers"]
    return _decoder(fields, _with_windows(_attention(path, fields), windows), _gated_mlp(fields))


def _ministral(path: str | Path, fields: Fields) -> DecoderConfig:
    windows = _windows_by_layer(path, fields, fields["sliding_window"], 0)
    return _decoder(fields, _with_windows(_attention(path, fields), windows), _gated_mlp(fields))


def _mixtral(path: str | Path, fields: Fields) -> DecoderConfig:
    windows = [fields["sliding_window"]] * fields["num_hidden_layers"]
    attention = _with_windows(_attention(path, fields, RopeRules(theta=1e6)), windows)
    num_experts = fields["num_experts"] or fields["num_local_experts"]  # transformers: num_experts is the same field
    experts = MoE(num_experts, fields["num_experts_per_tok"], fields["intermediate_size"])
    return _decoder(fields, attention, experts)


def _qwen2(path: str | Path, fields: Fields) -> DecoderConfig:
    attention = replace(_attention(path, fields), qkv_bias=True)
    return _decoder(fields, _with_windows(attention, _qwen_windows(path, fields)), _gated_mlp(fields))


def _qwen3(path: str | Path, fields: Fields) -> DecoderConfig:
    attention = replace(_attention(path, fields), qk_norm=QKNorm(fields["rms_norm_eps"]))
    return _decoder(fields, _with_windows(attention, _qwen_windows(path, fields)), _gated_mlp(fields))


def _qwen3_moe(path: str | Path, fields: Fields) -> DecoderConfig:
    size = fields["sliding_window"] if fields["use_sliding_window"] else None
    attention = replace(_attention(path, fields), qk_norm=QKNorm(fields["rms_norm_eps"]))
    attention = _with_windows(attention, [size] * fields["num_hidden_layers"])
    experts = MoE(
        num_experts=fields["num_local_experts"] or fields["num_experts"],
        top_k=fields["num_experts_per_tok"],
        d_hidden=fields["moe_intermediate_size"],
        norm_topk_prob=fields["norm_topk_prob"],
    )
    dense, step = set(fields["mlp_only_layers"] or ()), fields["decoder_sparse_step"]
    layers = [
        experts if layer not in dense and (layer + 1) % step == 0 else _gated_mlp(fields)
        for layer in range(fields["num_hidden_layers"])
    ]
    return _decoder(fields, attention, one_or_all(layers))


MODEL_TYPES = {
    "llama": ModelType("LlamaForCausalLM", LLAMA, _llama),
    "mistral": ModelType("MistralForCausalLM", MISTRAL, _mistral),
    "ministral": ModelType("MinistralForCausalLM", MINISTRAL, _ministral),
    "qwen2": ModelType("Qwen2ForCausalLM", QWEN2, _qwen2),
    "qwen3": ModelType("Qwen3ForCausalLM", QWEN3, _qwen3),
    "mixtral": ModelType("MixtralForCausalLM", MIXTRAL, _mixtral),
    "qwen3_moe": ModelType("Qwen3MoeForCausalLM", QWEN3_MOE, _qwen3_moe),
}


def one_or_all(layers: list[Any]) -> Any:
    """One configuration where all layers have the same, else a tuple with one for each."""
    return layers[0] if all(layer == layers[0] for layer in layers) else tuple(layers)


def _decoder(fields: Fields, attention: Any, feed_forward: Any) -> DecoderConfig:
    """The fields that all these model types have, around their attention and feed-forward network."""
    rope = (attention[0] if isinstance(attention, tuple) else attention).rope
    return DecoderConfig(
        vocab_size=fields["vocab_size"],
        context_length=context_length(fields["max_position_embeddings"], rope),
        d_model=fields["hidden_size"],
        num_layers=fields["num_hidden_layers"],
        attention=attention,
        feed_forward=feed_forward,
        norm=Norm("rms_norm", fields["rms_norm_eps"]),
        tied=fields["tie_word_embeddings"],
        dropout=fields["npllm_dropout"],
        aux_loss_coef=fields["npllm_aux_loss_coef"],
    )


def _attention(path: str | Path, fields: Fields, rules: RopeRules = LLAMA_RULES) -> GQA:
    heads, head_dim = fields["num_attention_heads"], _head_dim(fields)
    kv_heads = fields["num_key_value_heads"] or heads
    has_bias, rope = fields.get("attention_bias", False), read_rope(path, fields, head_dim, rules)
    return GQA(heads, kv_heads, head_dim, has_bias, o_bias=has_bias, rope=rope)


def _gated_mlp(fields: Fields) -> GatedMLP:
    activation = ACTIVATION_NAMES[fields["hidden_act"]]
    return GatedMLP(fields["intermediate_size"], activation, fields.get("mlp_bias", False))


def _head_dim(fields: Fields) -> int:
    return fields["head_dim"] or fields["hidden_size"] // fields["num_attention_heads"]


def _with_windows(attention: GQA, windows: list[int | None]) -> GQA | tuple[GQA, ...]:
    """The attention of each layer, with a sliding window of this size; None for a layer without one."""
    layers = [replace(attention, window=None if size is None else SlidingWindow(size)) for size in windows]
    return one_or_all(layers)


def _qwen_windows(path: str | Path, fields: Fields) -> list[int | None]:
    size = fields["sliding_window"] if fields["use_sliding_window"] else None
    return _windows_by_layer(path, fields, size, fields["max_window_layers"])


def _windows_by_layer(path: str | Path, fields: Fields, size: int | None, first: int) -> list[int | None]:
    """The window of each layer: by layer_types, or, without them, in the layers from `first` on."""
    kinds, number = fields["layer_types"], fields["num_hidden_layers"]
    if kinds is None:
        return [size if layer >= first else None for layer in range(number)]
    if len(kinds) != number:
        raise ValueError(f"{path} has {len(kinds)} layer_types; it must be {number}, one for each layer")
    if size is None and any(LAYER_TYPES[kind] for kind in kinds):
        raise ValueError(f'{path} has "sliding_attention" in layer_types, but no sliding_window that is in use')
    return [size if LAYER_TYPES[kind] else None for kind in kinds]


def _size_problems(fields: Fields, left_out: list[str]) -> list[str]:
    """What does not fit together among the sizes of the heads."""
    heads, kv_heads, hidden = fields["num_attention_heads"], fields.get("num_key_value_heads"), fields["hidden_size"]
    note = f" ({', '.join(left_out)} left out: transformers' default)" if left_out else ""
    must = f"the second must divide the first{note}"
    problems = []
    if hidden % heads and fields.get("head_dim") is None:
        problems.append(f"hidden_size {hidden} and num_attention_heads {heads}; {must}")
    if kv_heads is not None and heads % kv_heads:
        problems.append(f"num_attention_heads {heads} and num_key_value_heads {kv_heads}; {must}")
    return problems
