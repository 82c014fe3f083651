"""The config.json of Gemma, Gemma 2 and the text models of Gemma 3.

    gemma         RMS norm with 1 + weight, GeGLU, embeddings times √d_model, head_dim apart from d_model
    gemma2        … norms before and after each layer, soft caps of scores and logits, windows in every second layer
    gemma3_text   … QK norm instead of the cap of scores, a full layer after every five with a window, two RoPEs

Gemma Team 2024, Gemma, section 2; Gemma 2, section 2; Gemma Team 2025, Gemma 3, section 2.
"""

import math
from dataclasses import replace
from pathlib import Path

from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.options import QKNorm
from npllm.models.decoder_config import DecoderConfig, GatedMLP, Norm
from npllm.models.hugging_face.model_type import (
    COMMON,
    LAYER_TYPES,
    Fields,
    ModelType,
    attention_of,
    decoder_of,
    one_or_all,
    rope_of_layer_type,
    windows_by_layer,
    with_layer_types,
    with_windows,
)
from npllm.utils.fields import choice, flag, items, number, only, optional, size
from npllm.weights.config_fields import ACTIVATION_NAMES, MAX_LAYERS

GEMMA = COMMON | {
    "vocab_size": size(256000),
    "hidden_size": size(3072),
    "intermediate_size": size(24576),
    "num_hidden_layers": size(28, high=MAX_LAYERS),
    "num_attention_heads": size(16),
    "num_key_value_heads": size(16),
    "head_dim": size(256),
    "hidden_act": choice("gelu_pytorch_tanh", ACTIVATION_NAMES),
    "max_position_embeddings": size(8192),
    "tie_word_embeddings": flag(True),
    "attention_bias": flag(False),
    "use_bidirectional_attention": only(None, False),
}
GEMMA2 = GEMMA | {
    "hidden_size": size(2304),
    "intermediate_size": size(9216),
    "num_hidden_layers": size(26, high=MAX_LAYERS),
    "num_attention_heads": size(8),
    "num_key_value_heads": size(4),
    "hidden_activation": choice("gelu_pytorch_tanh", ACTIVATION_NAMES),
    "query_pre_attn_scalar": number(256.0, low=1e-30),
    "sliding_window": optional(size(4096)),
    "layer_types": optional(items(None, choice(None, LAYER_TYPES))),
    "attn_logit_softcapping": optional(number(50.0, low=1e-30)),
    "final_logit_softcapping": optional(number(30.0, low=1e-30)),
}
GEMMA3 = {name: field for name, field in GEMMA2.items() if name != "attn_logit_softcapping"} | {  # not used there
    "vocab_size": size(262208),
    "max_position_embeddings": size(131072),
    "final_logit_softcapping": optional(number(None, low=1e-30)),
    "sliding_window_pattern": size(6),
    "rope_local_base_freq": optional(number(None, above=1.0)),
}


def gemma(path: str | Path, fields: Fields) -> DecoderConfig:
    """Gemma 1: the activation "gelu" of the first files means the tanh approximation."""
    name = "gelu_pytorch_tanh" if fields["hidden_act"] == "gelu" else fields["hidden_act"]
    return _gemma(fields, attention_of(path, fields), name)


def gemma2(path: str | Path, fields: Fields) -> DecoderConfig:
    """Gemma 2: without layer_types the first layer has a window, the second has none, …"""
    attention = replace(attention_of(path, fields), softcap=fields["attn_logit_softcapping"], scale=_scale(fields))
    windows = windows_by_layer(path, with_layer_types(fields, period=2), fields["sliding_window"])
    return _sandwich(fields, with_windows(attention, windows))


def gemma3(path: str | Path, fields: Fields) -> DecoderConfig:
    """Gemma 3's text model: the layers with a window have a RoPE of their own."""
    rope = rope_of_layer_type(path, fields, "full_attention", fields["rope_theta"] or 1e6)
    local_rope = rope_of_layer_type(path, fields, "sliding_attention", fields["rope_local_base_freq"] or 1e4)
    norm = QKNorm(fields["rms_norm_eps"], unit_offset=True)
    attention = replace(attention_of(path, fields, rope), qk_norm=norm, scale=_scale(fields))
    windows = windows_by_layer(
        path, with_layer_types(fields, fields["sliding_window_pattern"]), fields["sliding_window"]
    )
    local = replace(attention, rope=local_rope)
    return _sandwich(fields, one_or_all([with_windows(local if size else attention, [size]) for size in windows]))


def _gemma(fields: Fields, attention: GQA | tuple[GQA, ...], activation: str) -> DecoderConfig:
    network = GatedMLP(fields["intermediate_size"], ACTIVATION_NAMES[activation])
    norm = Norm("rms_norm", fields["rms_norm_eps"], unit_offset=True)
    return replace(decoder_of(fields, attention, network, norm), embedding_multiplier=math.sqrt(fields["hidden_size"]))


def _sandwich(fields: Fields, attention: GQA | tuple[GQA, ...]) -> DecoderConfig:
    decoder = _gemma(fields, attention, fields["hidden_activation"])
    return replace(decoder, block="sandwich_norm", logits_softcap=fields["final_logit_softcapping"])


def _scale(fields: Fields) -> float | None:
    """1/√query_pre_attn_scalar; None where that is the default, 1/√head_dim."""
    scalar = fields["query_pre_attn_scalar"]
    return None if scalar == fields["head_dim"] else scalar**-0.5


GEMMA_TYPES = {
    "gemma": ModelType("GemmaForCausalLM", GEMMA, gemma),
    "gemma2": ModelType("Gemma2ForCausalLM", GEMMA2, gemma2),
    "gemma3_text": ModelType("Gemma3ForCausalLM", GEMMA3, gemma3),
}
