"""The config.json of Llama, Mistral, Qwen and Mixtral.

llama       grouped-query attention, RoPE, RMS norm, gated feed-forward network
mistral     … and a sliding window in all layers; with layer_types it is read as ministral
ministral   … and a sliding window in the layers that say so
qwen2       … and biases of queries, keys and values; windows in some layers
qwen3       … and a norm of queries and keys
mixtral     llama with a mixture of experts;     qwen3_moe     qwen3 with one
"""

from dataclasses import replace
from pathlib import Path

from npllm.attention.variants.options import QKNorm
from npllm.models.decoder_config import DecoderConfig, MoE
from npllm.models.hugging_face.model_type import (
    COMMON,
    LAYER_TYPES,
    Fields,
    ModelType,
    attention_of,
    decoder_of,
    gated_mlp_of,
    one_or_all,
    windows_by_layer,
    with_windows,
)
from npllm.models.hugging_face.rope import RopeRules
from npllm.utils.fields import choice, flag, items, number, optional, size
from npllm.weights.config_fields import ACTIVATION_NAMES, MAX_HEAD_DIM, MAX_LAYERS

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
MINISTRAL = MISTRAL | {
    "layer_types": optional(items(None, choice(None, LAYER_TYPES))),
}
MIXTRAL = MISTRAL | {
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
    "head_dim": optional(size(128, high=MAX_HEAD_DIM)),
    "attention_bias": flag(False),
}
QWEN3_MOE = QWEN3 | {
    "hidden_size": size(2048),
    "num_hidden_layers": size(24, high=MAX_LAYERS),
    "intermediate_size": size(6144),
    "num_key_value_heads": optional(size(4)),
    "head_dim": optional(size(None, high=MAX_HEAD_DIM)),
    "moe_intermediate_size": size(768),
    "num_experts_per_tok": size(8),
    "num_experts": size(128, low=0, high=MAX_LAYERS),
    "num_local_experts": optional(size(None, high=MAX_LAYERS)),
    "norm_topk_prob": flag(False),
    "decoder_sparse_step": size(1),
    "mlp_only_layers": optional(items(None, size(None, low=0))),
}


def _llama(path: str | Path, fields: Fields) -> DecoderConfig:
    return decoder_of(fields, attention_of(path, fields), gated_mlp_of(fields))


def _mistral(path: str | Path, fields: Fields) -> DecoderConfig:
    windows = [fields["sliding_window"]] * fields["num_hidden_layers"]
    return decoder_of(fields, with_windows(attention_of(path, fields), windows), gated_mlp_of(fields))


def _ministral(path: str | Path, fields: Fields) -> DecoderConfig:
    windows = windows_by_layer(path, fields, fields["sliding_window"], 0)
    return decoder_of(fields, with_windows(attention_of(path, fields), windows), gated_mlp_of(fields))


def _mixtral(path: str | Path, fields: Fields) -> DecoderConfig:
    windows = [fields["sliding_window"]] * fields["num_hidden_layers"]
    attention = with_windows(attention_of(path, fields, RopeRules(theta=1e6)), windows)
    num_experts = fields["num_experts"] or fields["num_local_experts"]  # transformers: num_experts is the same field
    activation = ACTIVATION_NAMES[fields["hidden_act"]]
    experts = MoE(num_experts, fields["num_experts_per_tok"], fields["intermediate_size"], activation=activation)
    return decoder_of(fields, attention, experts)


def _qwen2(path: str | Path, fields: Fields) -> DecoderConfig:
    attention = replace(attention_of(path, fields), qkv_bias=True)
    return decoder_of(fields, with_windows(attention, _qwen_windows(path, fields)), gated_mlp_of(fields))


def _qwen3(path: str | Path, fields: Fields) -> DecoderConfig:
    attention = replace(attention_of(path, fields), qk_norm=QKNorm(fields["rms_norm_eps"]))
    return decoder_of(fields, with_windows(attention, _qwen_windows(path, fields)), gated_mlp_of(fields))


def _qwen3_moe(path: str | Path, fields: Fields) -> DecoderConfig:
    size = fields["sliding_window"] if fields["use_sliding_window"] else None
    attention = replace(attention_of(path, fields), qk_norm=QKNorm(fields["rms_norm_eps"]))
    attention = with_windows(attention, [size] * fields["num_hidden_layers"])
    num_experts = fields["num_local_experts"] or fields["num_experts"]  # 0: no layer has experts
    experts = (
        None
        if not num_experts
        else MoE(
            num_experts=num_experts,
            top_k=fields["num_experts_per_tok"],
            d_hidden=fields["moe_intermediate_size"],
            norm_topk_prob=fields["norm_topk_prob"],
            activation=ACTIVATION_NAMES[fields["hidden_act"]],
        )
    )
    dense, step = set(fields["mlp_only_layers"] or ()), fields["decoder_sparse_step"]
    layers = [
        experts if experts and layer not in dense and (layer + 1) % step == 0 else gated_mlp_of(fields)
        for layer in range(fields["num_hidden_layers"])
    ]
    return decoder_of(fields, attention, one_or_all(layers))


def _qwen_windows(path: str | Path, fields: Fields) -> list[int | None]:
    size = fields["sliding_window"] if fields["use_sliding_window"] else None
    return windows_by_layer(path, fields, size, fields["max_window_layers"])


LLAMA_TYPES = {
    "llama": ModelType("LlamaForCausalLM", LLAMA, _llama),
    "mistral": ModelType("MistralForCausalLM", MISTRAL, _mistral),
    "ministral": ModelType("MinistralForCausalLM", MINISTRAL, _ministral),
    "qwen2": ModelType("Qwen2ForCausalLM", QWEN2, _qwen2),
    "qwen3": ModelType("Qwen3ForCausalLM", QWEN3, _qwen3),
    "mixtral": ModelType("MixtralForCausalLM", MIXTRAL, _mixtral),
    "qwen3_moe": ModelType("Qwen3MoeForCausalLM", QWEN3_MOE, _qwen3_moe),
}
