"""The config.json of three variants of Llama.

    smollm3   no RoPE in every fourth layer
    phi3      RoPE on a part of each head, with frequencies for long texts; fused projections in the file
    granite   four factors: of embeddings, scores, residual terms and logits

Bakouch et al. 2025, SmolLM3; Abdin et al. 2024, Phi-3, section 2; Granite Team 2024, Granite 3.0, section 3.
"""

from dataclasses import replace
from pathlib import Path

from npllm.models.decoder_config import DecoderConfig
from npllm.models.hugging_face.model_type import (
    COMMON,
    LAYER_TYPES,
    Fields,
    ModelType,
    attention_of,
    decoder_of,
    gated_mlp_of,
    head_dim_of,
    one_or_all,
    windows_by_layer,
    with_windows,
)
from npllm.models.hugging_face.rope import RopeRules, read_rope
from npllm.utils.fields import choice, flag, items, number, optional, size
from npllm.utils.file_errors import FileError
from npllm.weights.config_fields import MAX_LAYERS

SMOLLM3 = COMMON | {
    "vocab_size": size(128256),
    "hidden_size": size(2048),
    "num_hidden_layers": size(36, high=MAX_LAYERS),
    "num_attention_heads": size(16),
    "num_key_value_heads": optional(size(4)),
    "max_position_embeddings": size(32768),
    "tie_word_embeddings": flag(True),
    "attention_bias": flag(False),
    "mlp_bias": flag(False),
    "use_sliding_window": flag(False),
    "sliding_window": optional(size(None)),
    "layer_types": optional(items(None, choice(None, LAYER_TYPES))),
    "no_rope_layers": optional(items(None, choice(None, (0, 1)))),
    "no_rope_layer_interval": size(4),
}
PHI3 = COMMON | {
    "vocab_size": size(32064),
    "hidden_size": size(3072),
    "intermediate_size": size(8192),
    "max_position_embeddings": size(4096),
    "original_max_position_embeddings": size(4096),
    "rms_norm_eps": number(1e-5, low=0.0, high=1.0),
    "sliding_window": optional(size(None)),
}
GRANITE = COMMON | {
    "attention_bias": flag(False),
    "mlp_bias": flag(False),
    "embedding_multiplier": number(1.0, above=0.0),
    "attention_multiplier": number(1.0, above=0.0),
    "residual_multiplier": number(1.0, above=0.0),
    "logits_scaling": number(1.0, low=1e-30),
}


def smollm3(path: str | Path, fields: Fields) -> DecoderConfig:
    """SmolLM3: 0 in no_rope_layers is a layer without RoPE; by default every fourth one."""
    number, interval = fields["num_hidden_layers"], fields["no_rope_layer_interval"]
    has_rope = fields["no_rope_layers"]
    if has_rope is None:
        has_rope = [int((layer + 1) % interval != 0) for layer in range(number)]
    if len(has_rope) < number:
        raise FileError(path, f"has {len(has_rope)} no_rope_layers; it must be {number}, one for each layer")
    size = fields["sliding_window"]
    if fields["layer_types"] is None:  # the layers without RoPE have the window
        windows = [size if fields["use_sliding_window"] and not rope else None for rope in has_rope[:number]]
    else:
        windows = windows_by_layer(path, fields, size)
    attention = attention_of(path, fields, read_rope(path, fields, head_dim_of(fields), RopeRules(theta=2e6)))
    layers = [
        with_windows(attention if rope else replace(attention, rope=None), [window])
        for rope, window in zip(has_rope, windows)
    ]
    return decoder_of(fields, one_or_all(layers), gated_mlp_of(fields))


def phi3(path: str | Path, fields: Fields) -> DecoderConfig:
    """Phi-3: "su" and "yarn" are older names of the type "longrope"."""
    scaling = dict(fields["rope_scaling"] or fields["rope_parameters"] or {})
    if scaling.get("rope_type", scaling.get("type")) in ("su", "yarn"):
        scaling["rope_type"] = "longrope"
    own = fields | {"rope_scaling": None, "rope_parameters": scaling}
    rope = read_rope(path, own, head_dim_of(fields), RopeRules(is_partial=True))
    attention = with_windows(attention_of(path, fields, rope), [fields["sliding_window"]])
    return decoder_of(fields, attention, gated_mlp_of(fields))


def granite(path: str | Path, fields: Fields) -> DecoderConfig:
    """Granite."""
    attention = replace(attention_of(path, fields), scale=fields["attention_multiplier"])
    names = ("embedding_multiplier", "residual_multiplier", "logits_scaling")
    factors = {name: fields[name] for name in names}
    return replace(decoder_of(fields, attention, gated_mlp_of(fields)), **factors)


LLAMA_VARIANTS = {
    "smollm3": ModelType("SmolLM3ForCausalLM", SMOLLM3, smollm3),
    "phi3": ModelType("Phi3ForCausalLM", PHI3, phi3),
    "granite": ModelType("GraniteForCausalLM", GRANITE, granite),
}
