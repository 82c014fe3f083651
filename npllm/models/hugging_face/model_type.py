"""What the model types of transformers have in common: their fields in config.json, and the parts that these mean.

A model type is a table of fields with transformers' defaults, and a function from the values of the fields to a
DecoderConfig. Here are the fields that all have, and the functions that build attention, network and decoder of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.options import SlidingWindow
from npllm.attention.variants.rope import RoPE
from npllm.models.decoder_config import DecoderConfig, GatedMLP, Norm
from npllm.models.hugging_face.rope import LLAMA_RULES, ROPE_FIELDS, RopeRules, context_length, read_rope
from npllm.utils.fields import Field, choice, flag, number, only, optional, size
from npllm.utils.file_errors import FileError
from npllm.weights.config_fields import ACTIVATION_NAMES, MAX_HEAD_DIM, MAX_LAYERS

Fields = dict[str, Any]  # the value of every field of a table


@dataclass(frozen=True)
class ModelType:
    """A model_type: the class of transformers, its fields, and the DecoderConfig that their values mean.

    `build(path, fields)` raises ValueError that names the file and the fields.
    """

    architecture: str
    fields: dict[str, Field]
    build: Callable[[str | Path, Fields], DecoderConfig]


COMMON: dict[str, Field] = {
    "vocab_size": size(32000),
    "hidden_size": size(4096),
    "num_hidden_layers": size(32, high=MAX_LAYERS),
    "num_attention_heads": size(32),
    "num_key_value_heads": optional(size(None)),
    "head_dim": optional(size(None, high=MAX_HEAD_DIM)),
    "intermediate_size": size(11008),
    "hidden_act": choice("silu", ACTIVATION_NAMES),
    "max_position_embeddings": size(2048),
    "rms_norm_eps": number(1e-6, low=0.0, high=1.0),
    "tie_word_embeddings": flag(False),
    "per_layer_config": only(None),
    "npllm_dropout": number(0.0, low=0.0, high=0.999999),
    "npllm_aux_loss_coef": number(0.01),
} | ROPE_FIELDS  # fmt: skip
LAYER_TYPES = {"full_attention": False, "attention": False, "sliding_attention": True}  # has the layer a window?


def one_or_all(layers: list[Any]) -> Any:
    """One configuration where all layers have the same, else a tuple with one for each."""
    return layers[0] if all(layer == layers[0] for layer in layers) else tuple(layers)


def decoder_of(
    fields: Fields, attention: GQA | tuple[GQA, ...], feed_forward: Any, norm: Norm | None = None
) -> DecoderConfig:
    """The fields that all model types have, around their attention and feed-forward network; RMS norm by default."""
    layers = attention if isinstance(attention, tuple) else (attention,)
    return DecoderConfig(
        vocab_size=fields["vocab_size"],
        context_length=max(context_length(fields["max_position_embeddings"], layer.rope) for layer in layers),
        d_model=fields["hidden_size"],
        num_layers=fields["num_hidden_layers"],
        attention=attention,
        feed_forward=feed_forward,
        norm=Norm("rms_norm", fields["rms_norm_eps"]) if norm is None else norm,
        tied=fields["tie_word_embeddings"],
        dropout=fields["npllm_dropout"],
        aux_loss_coef=fields["npllm_aux_loss_coef"],
    )


def attention_of(path: str | Path, fields: Fields, rope: RoPE | RopeRules = LLAMA_RULES) -> GQA:
    """Grouped-query attention of every layer; `rope` are the rules by which to read its RoPE, or the RoPE."""
    heads, head_dim = fields["num_attention_heads"], head_dim_of(fields)
    kv_heads = fields.get("num_key_value_heads") or heads
    rope = read_rope(path, fields, head_dim, rope) if isinstance(rope, RopeRules) else rope
    has_bias = fields.get("attention_bias", False)
    return GQA(heads, kv_heads, head_dim, has_bias, o_bias=has_bias, rope=rope)


def gated_mlp_of(fields: Fields) -> GatedMLP:
    """The gated network, with the activation `hidden_act`, and biases where `mlp_bias` says so."""
    activation = ACTIVATION_NAMES[fields["hidden_act"]]
    return GatedMLP(fields["intermediate_size"], activation, fields.get("mlp_bias", False))


def head_dim_of(fields: Fields) -> int:
    """head_dim, or hidden_size / num_attention_heads."""
    return fields.get("head_dim") or fields["hidden_size"] // fields["num_attention_heads"]


def with_windows(attention: GQA, windows: list[int | None]) -> GQA | tuple[GQA, ...]:
    """The attention of each layer, with a sliding window of this size; None for a layer without one."""
    layers = [replace(attention, window=None if size is None else SlidingWindow(size)) for size in windows]
    return one_or_all(layers)


def windows_by_layer(path: str | Path, fields: Fields, size: int | None, first: int = 0) -> list[int | None]:
    """The window of each layer: by layer_types, or, without them, in the layers from `first` on."""
    kinds, number = fields["layer_types"], fields["num_hidden_layers"]
    if kinds is None:
        return [size if layer >= first else None for layer in range(number)]
    if len(kinds) != number:
        raise FileError(path, f"has {len(kinds)} layer_types; it must be {number}, one for each layer")
    if size is None and any(LAYER_TYPES[kind] for kind in kinds):
        raise FileError(path, 'has "sliding_attention" in layer_types, but no sliding_window that is in use')
    return [size if LAYER_TYPES[kind] else None for kind in kinds]


def with_layer_types(fields: Fields, period: int) -> Fields:
    """The fields; without layer_types, every layer but each `period`-th has a window."""
    number = fields["num_hidden_layers"]
    default = ["full_attention" if (layer + 1) % period == 0 else "sliding_attention" for layer in range(number)]
    return fields | {"layer_types": default if fields["layer_types"] is None else fields["layer_types"]}


def rope_of_layer_type(path: str | Path, fields: Fields, layer_type: str, theta: float) -> RoPE:
    """The RoPE of "full_attention" or "sliding_attention" where both have their own.

    Files of transformers 5 have an object for each in rope_parameters. In older ones rope_scaling is that of the full
    layers, whose kind must be called rope_type: transformers ignores the older name `type` here. `theta` counts where
    there is no rope_theta in the object.
    """
    objects = fields["rope_parameters"]
    given = {"rope_type": "default"} if objects is None else objects.get(layer_type) or {}
    if layer_type == "full_attention":
        given = {**given, **(fields["rope_scaling"] or {})}
    own = fields | {"rope_parameters": given, "rope_scaling": None, "rope_theta": None}
    return read_rope(path, own, head_dim_of(fields), RopeRules(theta))


def size_problems(fields: Fields, left_out: list[str]) -> list[str]:
    """What does not fit together among the sizes of the heads."""
    heads, kv_heads, hidden = fields["num_attention_heads"], fields.get("num_key_value_heads"), fields["hidden_size"]
    note = f" ({', '.join(left_out)} left out: transformers' default)" if left_out else ""
    must = f"the second must divide the first{note}"
    problems = []
    if fields.get("head_dim") is None and hidden // heads > MAX_HEAD_DIM:
        problems.append(f"hidden_size {hidden}; it must be at most {MAX_HEAD_DIM} for each of {heads} heads")
    if hidden % heads and fields.get("head_dim") is None:
        problems.append(f"hidden_size {hidden} and num_attention_heads {heads}; {must}")
    if kv_heads is not None and heads % kv_heads:
        problems.append(f"num_attention_heads {heads} and num_key_value_heads {kv_heads}; {must}")
    return problems
