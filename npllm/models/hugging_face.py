"""Conversion between config.json of transformers and DecoderConfig.

    llama       grouped-query attention, RoPE, RMS norm, gated feed-forward network
    mistral     … and a sliding window
    qwen2       … and biases of queries, keys and values; windows in some layers
    qwen3       … and a norm of queries and keys
    mixtral     llama with a mixture of experts;     qwen3_moe     qwen3 with one

A decoder that is none of these is stored under a model_type of npllm's own.
"""

from dataclasses import replace
from typing import Any

from npllm.attention.variants.grouped_query import GQA
from npllm.attention.variants.options import QKNorm, SlidingWindow
from npllm.attention.variants.rope import LinearScaling, Llama3Scaling, RoPE, YaRNScaling
from npllm.core.config import from_dict, to_dict
from npllm.models.decoder_config import DecoderConfig, GatedMLP, MoE, Norm
from npllm.weights.llama import OWN

CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "qwen3_moe": "Qwen3MoeForCausalLM",
}
MODEL_TYPES = (*CLASSES, OWN)
REQUIRED: dict[str, list] = {  # fields that npllm's Decoder supports with these values only
    "model_type": list(MODEL_TYPES),
    "hidden_act": ["silu"],
    "attention_bias": [False],
    "mlp_bias": [False],
    "mlp_only_layers": [[], None],
    "decoder_sparse_step": [1],
}
DEFAULTS: dict[str, dict[str, Any]] = {  # transformers' defaults for fields that the file leaves out
    "mistral": {"num_key_value_heads": 8, "sliding_window": 4096},
    "mixtral": {"num_key_value_heads": 8, "rope_theta": 1e6},
    "qwen2": {"num_key_value_heads": 32, "max_window_layers": 28, "sliding_window": 4096},
    "qwen3": {"num_key_value_heads": 32, "max_window_layers": 28, "sliding_window": 4096, "head_dim": 128},
    "qwen3_moe": {"num_key_value_heads": 4, "sliding_window": 4096},
}
SCALINGS: dict[str, tuple[type, dict[str, str]]] = {  # rope_type: the class, and its fields by transformers' names
    "linear": (LinearScaling, {"factor": "factor"}),
    "yarn": (
        YaRNScaling,
        {
            "factor": "factor",
            "original_max_position_embeddings": "original_length",
            "beta_fast": "beta_fast",
            "beta_slow": "beta_slow",
        },
    ),
    "llama3": (
        Llama3Scaling,
        {
            "factor": "factor",
            "original_max_position_embeddings": "original_length",
            "low_freq_factor": "low_freq_factor",
            "high_freq_factor": "high_freq_factor",
        },
    ),
}


def decoder_config(config: dict[str, Any]) -> DecoderConfig:
    """The DecoderConfig for a config.json.

    Raises KeyError for a field that is missing, ValueError for one that npllm does not support.
    """
    if config.get("model_type") == OWN:
        return from_dict(config["config"], DecoderConfig)
    kind = config["model_type"]
    config = DEFAULTS.get(kind, {}) | config
    heads = config["num_attention_heads"]
    attention = GQA(
        num_heads=heads,
        num_kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        qkv_bias=kind == "qwen2",
        qk_norm=QKNorm(config["rms_norm_eps"]) if kind.startswith("qwen3") else None,
        rope=_rope(config),
    )
    windows = _windows(config)
    layers = [replace(attention, window=None if size is None else SlidingWindow(size)) for size in windows]
    return DecoderConfig(
        vocab_size=config["vocab_size"],
        context_length=config["max_position_embeddings"],
        d_model=config["hidden_size"],
        num_layers=config["num_hidden_layers"],
        attention=layers[0] if len(set(windows)) == 1 else tuple(layers),
        feed_forward=_feed_forward(config),
        norm=Norm("rms_norm", config["rms_norm_eps"]),
        tied=config.get("tie_word_embeddings", False),
        dropout=config.get("npllm_dropout", 0.0),
        aux_loss_coef=config.get("npllm_aux_loss_coef", 0.01),
    )


def hugging_face_config(config: DecoderConfig) -> dict[str, Any]:
    """The config.json of this decoder: that of transformers if it is equivalent, else npllm's own."""
    explicit = _explicit(config)
    candidate = _candidate(explicit)
    if candidate is not None and decoder_config(candidate) == explicit:
        return candidate
    return {"model_type": OWN, "config": to_dict(config)}


def _windows(config: dict[str, Any]) -> list[int | None]:
    """The size of the sliding window of each layer, or None."""
    kind, size, number = config["model_type"], config.get("sliding_window"), config["num_hidden_layers"]
    if kind in ("mistral", "mixtral"):
        return [size] * number
    if not config.get("use_sliding_window", False) or size is None:
        return [None] * number
    if config.get("layer_types"):
        if len(config["layer_types"]) != number:
            raise ValueError(f"{len(config['layer_types'])} layer_types; it must be {number}, one for each layer")
        return [size if which == "sliding_attention" else None for which in config["layer_types"]]
    if kind == "qwen3_moe":
        return [size] * number
    first = config.get("max_window_layers", 0)
    return [size if layer >= first else None for layer in range(number)]


def _rope(config: dict[str, Any]) -> RoPE:
    """Newer files have rope_parameters, older ones rope_theta and rope_scaling."""
    given = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    theta = float(given.pop("rope_theta", config.get("rope_theta", 10000.0)))
    fraction = given.pop("partial_rotary_factor", config.get("partial_rotary_factor", 1.0))
    if fraction != 1.0:
        raise ValueError(f"partial_rotary_factor {fraction}; it must be 1.0, as in all models of this kind")
    kind = given.pop("rope_type", given.pop("type", "default"))
    given.pop("type", None)
    if kind == "default":
        return RoPE(theta)
    if kind not in SCALINGS:
        raise ValueError(f"rope_type {kind!r}; it must be default, {', '.join(SCALINGS)}")
    if kind == "yarn":
        given.setdefault("original_max_position_embeddings", config["max_position_embeddings"])
    scaling, names = SCALINGS[kind]
    if unknown := sorted(given.keys() - names.keys()):
        raise ValueError(f"{unknown[0]!r} beside rope_type {kind!r}, which npllm does not support")
    return RoPE(theta, scaling=scaling(**{names[name]: value for name, value in given.items()}))


def _feed_forward(config: dict[str, Any]) -> GatedMLP | MoE:
    if config["model_type"] not in ("mixtral", "qwen3_moe"):
        return GatedMLP(config["intermediate_size"])
    is_qwen = config["model_type"] == "qwen3_moe"
    return MoE(
        num_experts=config["num_local_experts" if "num_local_experts" in config else "num_experts"],
        top_k=config["num_experts_per_tok"],
        d_hidden=config["moe_intermediate_size" if is_qwen else "intermediate_size"],
        norm_topk_prob=config.get("norm_topk_prob", False) if is_qwen else True,
    )


def _explicit(config: DecoderConfig) -> DecoderConfig:
    """The same decoder with every default that depends on d_model written out, as `decoder_config` does."""
    attention = [_explicit_attention(config.attention_of(i), config.d_model) for i in range(config.num_layers)]
    feed_forward = [_explicit_feed_forward(config.feed_forward_of(i), config.d_model) for i in range(config.num_layers)]
    norm = replace(config.norm, eps=config.norm.build(1).eps)
    return replace(config, attention=_single(attention), feed_forward=_single(feed_forward), norm=norm)


def _single(layers: list[Any]) -> Any:
    """One configuration where all layers have the same, else the tuple."""
    return layers[0] if all(layer == layers[0] for layer in layers) else tuple(layers)


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
        "architectures": [CLASSES[kind]],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.context_length,
        "hidden_size": config.d_model,
        "num_hidden_layers": config.num_layers,
        "hidden_act": "silu",
        "num_attention_heads": first.num_heads,
        "num_key_value_heads": first.num_kv_heads,
        "head_dim": first.head_dim,
        "rms_norm_eps": config.norm.eps,
        "tie_word_embeddings": config.tied,
        "rope_parameters": _rope_parameters(first.rope),
        "sliding_window": size,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "npllm_dropout": config.dropout,
        "npllm_aux_loss_coef": config.aux_loss_coef,
    }
    if kind.startswith("qwen"):
        fields["use_sliding_window"] = size is not None
    if kind in ("qwen2", "qwen3"):
        fields["layer_types"] = ["full_attention" if window is None else "sliding_attention" for window in windows]
    return fields | _feed_forward_fields(kind, network)


def _model_type(attention: GQA, has_experts: bool, has_window: bool) -> str:
    if attention.qk_norm is not None:
        return "qwen3_moe" if has_experts else "qwen3"
    if attention.qkv_bias:
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


def _rope_parameters(rope: RoPE) -> dict[str, Any]:
    """Transformers' names of the options of RoPE."""
    for rope_type, (scaling, names) in SCALINGS.items():
        if isinstance(rope.scaling, scaling):
            numbers = {theirs: getattr(rope.scaling, ours) for theirs, ours in names.items()}
            return {"rope_theta": rope.theta, "rope_type": rope_type, **numbers}
    return {"rope_theta": rope.theta, "rope_type": "default"}
