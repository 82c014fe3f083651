"""The config.json of decoders with layer norm instead of RMS norm.

    gpt_neox     (also Pythia) parallel blocks, GELU, biases, RoPE on a quarter of each head; fused q, k, v in the file
    starcoder2   GELU, biases, a sliding window
    cohere       parallel blocks with one norm, no biases, RoPE on adjacent channels, a factor of the logits

Black et al. 2022, GPT-NeoX-20B, section 2; Biderman et al. 2023, Pythia, section 2.2; Lozhkov et al. 2024, StarCoder 2,
section 6.1; Cohere 2024, Command R.
"""

from dataclasses import replace
from pathlib import Path

from npllm.models.decoder_config import MLP, DecoderConfig, Norm
from npllm.models.hugging_face.model_type import (
    COMMON,
    Fields,
    ModelType,
    attention_of,
    decoder_of,
    gated_mlp_of,
    head_dim_of,
    with_windows,
)
from npllm.models.hugging_face.rope import RopeRules, read_rope
from npllm.utils.fields import choice, flag, number, only, optional, size
from npllm.weights.config_fields import ACTIVATION_NAMES, MAX_LAYERS

SIZES = {name: field for name, field in COMMON.items() if name not in ("num_key_value_heads", "head_dim")}
GPT_NEOX = SIZES | {
    "vocab_size": size(50432),
    "hidden_size": size(6144),
    "intermediate_size": size(24576),
    "num_hidden_layers": size(44, high=MAX_LAYERS),
    "num_attention_heads": size(64),
    "hidden_act": choice("gelu", ACTIVATION_NAMES),
    "layer_norm_eps": number(1e-5, low=0.0, high=1.0),
    "use_parallel_residual": flag(True),
    "attention_bias": flag(True),
    "rotary_pct": number(0.25, above=0.0, high=1.0),
    "rotary_emb_base": number(10000.0, above=1.0),
}
STARCODER2 = COMMON | {
    "vocab_size": size(49152),
    "hidden_size": size(3072),
    "intermediate_size": size(12288),
    "num_hidden_layers": size(30, high=MAX_LAYERS),
    "num_attention_heads": size(24),
    "num_key_value_heads": size(2),
    "hidden_act": choice("gelu_pytorch_tanh", ACTIVATION_NAMES),
    "max_position_embeddings": size(4096),
    "norm_epsilon": number(1e-5, low=0.0, high=1.0),
    "sliding_window": optional(size(None)),
    "use_bias": flag(True),
    "tie_word_embeddings": flag(True),
}
COHERE = COMMON | {
    "vocab_size": size(256000),
    "hidden_size": size(8192),
    "intermediate_size": size(22528),
    "num_hidden_layers": size(40, high=MAX_LAYERS),
    "num_attention_heads": size(64),
    "max_position_embeddings": size(8192),
    "layer_norm_eps": number(1e-5, low=0.0, high=1.0),
    "logit_scale": number(0.0625, above=0.0),
    "attention_bias": flag(False),
    "use_qk_norm": only(False, None),
    "tie_word_embeddings": flag(True),
}


def gpt_neox(path: str | Path, fields: Fields) -> DecoderConfig:
    """GPT-NeoX: rotary_pct and rotary_emb_base are its names of partial_rotary_factor and rope_theta."""
    rules = RopeRules(fields["rotary_emb_base"], is_partial=True, partial_default=fields["rotary_pct"])
    own = fields | {"rope_theta": None, "partial_rotary_factor": None}
    attention = attention_of(path, fields, read_rope(path, own, head_dim_of(fields), rules))
    network = MLP(fields["intermediate_size"], ACTIVATION_NAMES[fields["hidden_act"]])
    decoder = decoder_of(fields, attention, network, Norm("layer_norm", fields["layer_norm_eps"]))
    return replace(decoder, block="parallel" if fields["use_parallel_residual"] else "pre_norm")


def starcoder2(path: str | Path, fields: Fields) -> DecoderConfig:
    """StarCoder 2."""
    attention = replace(attention_of(path, fields), qkv_bias=fields["use_bias"], o_bias=fields["use_bias"])
    network = MLP(fields["intermediate_size"], ACTIVATION_NAMES[fields["hidden_act"]], fields["use_bias"])
    attention = with_windows(attention, [fields["sliding_window"]])
    return decoder_of(fields, attention, network, Norm("layer_norm", fields["norm_epsilon"]))


def cohere(path: str | Path, fields: Fields) -> DecoderConfig:
    """Command R: logit_scale is a factor, logits_scaling a divisor."""
    rope = read_rope(path, fields, head_dim_of(fields), RopeRules(theta=5e5))
    attention = attention_of(path, fields, replace(rope, layout="pairs"))
    norm = Norm("layer_norm", fields["layer_norm_eps"], bias=False)
    decoder = decoder_of(fields, attention, gated_mlp_of(fields), norm)
    return replace(decoder, block="shared_norm", logits_scaling=1.0 / fields["logit_scale"])


NEOX_TYPES = {
    "gpt_neox": ModelType("GPTNeoXForCausalLM", GPT_NEOX, gpt_neox),
    "starcoder2": ModelType("Starcoder2ForCausalLM", STARCODER2, starcoder2),
    "cohere": ModelType("CohereForCausalLM", COHERE, cohere),
}
