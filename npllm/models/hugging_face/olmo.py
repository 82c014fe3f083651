"""The config.json of OLMo, OLMo 2 and OLMo 3.

    olmo    Llama with a layer norm that has neither weight nor bias
    olmo2   norms after attention and after the network instead of before them, QK norm over the whole projection
    olmo3   … and sliding windows in three of four layers

Groeneveld et al. 2024, OLMo, section 2.1; OLMo Team 2024, 2 OLMo 2 Furious, section 3.
"""

from dataclasses import replace
from pathlib import Path

from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.options import QKNorm
from npllm.models.decoder_config import DecoderConfig, Norm
from npllm.models.hugging_face.model_type import (
    COMMON,
    LAYER_TYPES,
    Fields,
    ModelType,
    attention_of,
    decoder_of,
    gated_mlp_of,
    one_or_all,
    rope_of_layer_type,
    windows_by_layer,
    with_layer_types,
    with_windows,
)
from npllm.utils.fields import choice, flag, items, number, only, optional, size

OLMO = COMMON | {
    "vocab_size": size(50304),
    "attention_bias": flag(False),
    "clip_qkv": only(None),
}
OLMO2 = OLMO | {
    "rms_norm_eps": number(1e-5, low=0.0, high=1.0),
}
OLMO3 = OLMO2 | {
    "sliding_window": optional(size(4096)),
    "layer_types": optional(items(None, choice(None, LAYER_TYPES))),
}


def olmo(path: str | Path, fields: Fields) -> DecoderConfig:
    """OLMo 1, whose layer norm has the fixed eps 1e-5."""
    return decoder_of(fields, attention_of(path, fields), gated_mlp_of(fields), Norm("layer_norm", 1e-5, affine=False))


def olmo2(path: str | Path, fields: Fields) -> DecoderConfig:
    """OLMo 2."""
    return _post_norm(fields, _with_qk_norm(fields, attention_of(path, fields)))


def olmo3(path: str | Path, fields: Fields) -> DecoderConfig:
    """OLMo 3: a scaling of RoPE is that of the layers without a window."""
    rope = rope_of_layer_type(path, fields, "full_attention", fields["rope_theta"] or 5e5)
    attention = _with_qk_norm(fields, attention_of(path, fields, rope))
    local = replace(attention, rope=rope_of_layer_type(path, fields, "sliding_attention", 5e5))
    windows = windows_by_layer(path, with_layer_types(fields, period=4), fields["sliding_window"])
    return _post_norm(fields, one_or_all([with_windows(local if size else attention, [size]) for size in windows]))


def _with_qk_norm(fields: Fields, attention: GQA) -> GQA:
    return replace(attention, qk_norm=QKNorm(fields["rms_norm_eps"], over="projection"))


def _post_norm(fields: Fields, attention: GQA | tuple[GQA, ...]) -> DecoderConfig:
    return replace(decoder_of(fields, attention, gated_mlp_of(fields)), block="post_norm")


OLMO_TYPES = {
    "olmo": ModelType("OlmoForCausalLM", OLMO, olmo),
    "olmo2": ModelType("Olmo2ForCausalLM", OLMO2, olmo2),
    "olmo3": ModelType("Olmo3ForCausalLM", OLMO3, olmo3),
}
