"""The metadata of a GGUF file as config.json of transformers.

    general.architecture = "llama"       model_type            "llama"
    llama.block_count = 30               num_hidden_layers     30
    llama.rope.freq_base = 100000.0      rope_theta            100000.0

Every field is checked: its type, its range, and against the shapes of the tensors. A field of the architecture that is
not listed here is refused, because it may change what the model computes.

llama.cpp, gguf-py/gguf/constants.py; transformers, integrations/ggml.py
"""

import math
import re
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npllm.utils.gguf_file import GGUFTensor

MODEL_TYPES = {  # general.architecture: model_type of transformers
    "llama": "llama", "mistral": "mistral", "qwen2": "qwen2", "qwen3": "qwen3", "qwen3moe": "qwen3_moe",
    "phi3": "phi3", "gemma2": "gemma2", "gemma3": "gemma3_text", "olmo2": "olmo2", "smollm3": "smollm3", "gpt2": "gpt2",
}  # fmt: skip
INTERLEAVED = ("llama", "mistral", "mixtral", "smollm3")  # RoPE of neighbouring pairs, so rows of W_q, W_k are permuted
ROPE_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
SIZES = {  # positive integers; each may be a list with the same number for every layer
    "context_length": "max_position_embeddings",
    "embedding_length": "hidden_size",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
}
OPTIONAL_SIZES = {
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "attention.sliding_window": "sliding_window",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "expert_feed_forward_length": "moe_intermediate_size",
}
CHECKED = {  # further fields that this file reads
    "vocab_size", "attention.value_length", "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon",
    "attention.causal", "rope.dimension_count", "rope.freq_base", "rope.freq_base_swa", "rope.scale_linear",
    "rope.scaling.type", "rope.scaling.factor", "rope.scaling.original_context_length", "rope.scaling.attn_factor",
    "rope.scaling.finetuned", "rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_log_multiplier", "attn_logit_softcapping", "final_logit_softcapping", "use_parallel_residual",
    "attention.key_length_swa", "attention.value_length_swa", "rope.dimension_count_swa",
    "attention.sliding_window_pattern", "tensor_data_layout",
}  # fmt: skip
NUM_LAYERS_27B = {"gemma2": 46, "gemma3_text": 62}  # the size whose attention scale is 1/√(d_model/num_heads)
MAX_SIZE = 1 << 31


def config_of_metadata(
    path: str | PathLike, metadata: dict[str, Any], tensors: Mapping[str, GGUFTensor]
) -> dict[str, Any]:
    """The config.json of the model in a GGUF file; raises ValueError that names the file and the field."""
    fields = _Fields(Path(path), metadata)
    config = fields.sizes()
    kind = config["model_type"]
    config["tie_word_embeddings"] = "output.weight" not in tensors
    config["vocab_size"] = _checked_shapes(fields, config, tensors)
    config |= fields.token_ids(config["vocab_size"])
    if kind == "gpt2":
        return _gpt2_config(fields, config)
    config["num_key_value_heads"] = config.get("num_key_value_heads", config["num_attention_heads"])
    config["rms_norm_eps"] = fields.number("attention.layer_norm_rms_epsilon")
    config |= {"hidden_act": "silu", "head_dim": _head_dim(fields, config)}
    config |= _rope(fields, config, tensors)
    if any(re.fullmatch(r"blk\.0\.attn_output\.bias", name) for name in tensors):
        config["attention_bias"] = True
    if "blk.0.ffn_down.bias" in tensors:
        config["mlp_bias"] = True
    if kind in ("mixtral", "qwen3_moe"):
        config |= _experts(fields, config, tensors)
    elif "num_experts" in config:
        raise fields.error("expert_count", "must be 0: npllm has no experts in this architecture")
    if kind.startswith("gemma"):
        config |= _gemma(fields, config)
    elif kind == "phi3":
        config["original_max_position_embeddings"] = fields.get(
            "rope.scaling.original_context_length", config["max_position_embeddings"]
        )
    return config


class _Fields:
    """The metadata of one file, with the checks that name file and field."""

    def __init__(self, path: Path, metadata: dict[str, Any]) -> None:
        self.path, self.metadata = path, metadata
        self.architecture = str(metadata.get("general.architecture"))
        if self.architecture not in MODEL_TYPES:
            known = ", ".join(MODEL_TYPES)
            raise ValueError(f"{path} has general.architecture {self.architecture!r}; it must be one of {known}")
        if metadata.get("split.count", 0) not in (0, 1):
            raise ValueError(
                f"{path} has split.count {metadata['split.count']}: it is a part of a model; join the parts with "
                f"llama.cpp's gguf-split --merge"
            )
        prefix = f"{self.architecture}."
        known = {*SIZES, *OPTIONAL_SIZES, *CHECKED}
        for name, value in metadata.items():
            if name.startswith(prefix) and name.removeprefix(prefix) not in known and not _is_off(value):
                raise ValueError(f"{path} has {name} {_short(value)}, which npllm does not support")

    def error(self, name: str, must: str) -> ValueError:
        """The error for a field: what it is, and what it must be."""
        name = f"{self.architecture}.{name}"
        has = f"has {name} {_short(self.metadata[name])}" if name in self.metadata else f"lacks {name}"
        return ValueError(f"{self.path} {has}; it {must}")

    def get(self, name: str, default: Any = None) -> Any:
        """A field of the architecture, or the default."""
        return self.metadata.get(f"{self.architecture}.{name}", default)

    def number(self, name: str, default: float | None = None, lowest: float = 0.0) -> float:
        """A finite number above `lowest`; required without a default."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not lowest < value < math.inf:
            raise self.error(name, f"must be a number above {lowest:g}")
        return _shortest_float32(float(value))

    def size(self, name: str) -> int:
        """A positive integer, or a list with the same integer for every layer."""
        value = self.get(name)
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            value = value[0]
        if isinstance(value, list):
            raise self.error(name, "must be one number: npllm's layers have equal sizes")
        if type(value) is not int or not 0 < value < MAX_SIZE:
            raise self.error(name, "must be a positive integer")
        return value

    def sizes(self) -> dict[str, Any]:
        """model_type and all sizes, by the names of transformers."""
        config: dict[str, Any] = {"model_type": MODEL_TYPES[self.architecture]}
        config |= {theirs: self.size(name) for name, theirs in SIZES.items()}
        config |= {
            theirs: self.size(name) for name, theirs in OPTIONAL_SIZES.items() if self.get(name) not in (None, 0)
        }
        if config["model_type"] == "llama" and "num_experts" in config:
            config["model_type"] = "mixtral"
        return config

    def token_ids(self, vocab_size: int) -> dict[str, int | None]:
        """bos_token_id, eos_token_id and pad_token_id; None where the file has none."""
        found: dict[str, int | None] = {}
        for name, theirs in {"bos": "bos", "eos": "eos", "padding": "pad"}.items():
            value = self.metadata.get(f"tokenizer.ggml.{name}_token_id")
            if value is not None and (type(value) is not int or not 0 <= value < vocab_size):
                raise ValueError(
                    f"{self.path} has tokenizer.ggml.{name}_token_id {_short(value)}; it must be an id below the "
                    f"vocabulary's size, {vocab_size}"
                )
            found[f"{theirs}_token_id"] = value
        return found


def _checked_shapes(fields: _Fields, config: dict[str, Any], tensors: Mapping[str, GGUFTensor]) -> int:
    """The size of the vocabulary; raises ValueError unless the sizes are those of the tensors.

    So nothing is allocated that the file does not contain.
    """
    path, embedding = fields.path, tensors.get("token_embd.weight")
    if embedding is None or embedding.ndim != 2:
        raise ValueError(f"{path} has no tensor token_embd.weight with two axes; it must have the token embedding")
    vocab_size, d_model = embedding.shape
    if config["hidden_size"] != d_model:
        raise fields.error("embedding_length", f"must be that of token_embd.weight, {d_model}")
    if fields.get("vocab_size", vocab_size) != vocab_size:
        raise fields.error("vocab_size", f"must be the number of rows of token_embd.weight, {vocab_size}")
    layers = {int(match[1]) for name in tensors if (match := re.match(r"blk\.(\d{1,9})\.", name))}
    if layers != set(range(len(layers))) or config["num_hidden_layers"] != len(layers):
        raise fields.error("block_count", f"must be the number of layers with tensors, {len(layers)}")
    return vocab_size


def _head_dim(fields: _Fields, config: dict[str, Any]) -> int:
    """attention.key_length; without it d_model / num_heads."""
    heads, d_model = config["num_attention_heads"], config["hidden_size"]
    if heads % config["num_key_value_heads"]:
        raise fields.error("attention.head_count_kv", f"must be a divisor of attention.head_count, {heads}")
    if "head_dim" not in config and d_model % heads:
        raise fields.error("attention.head_count", f"must be a divisor of embedding_length, {d_model}")
    head_dim = config.get("head_dim", d_model // heads)
    if fields.get("attention.value_length", head_dim) != head_dim:
        raise fields.error("attention.value_length", f"must be that of the keys, {head_dim}")
    return head_dim


def _rope(fields: _Fields, config: dict[str, Any], tensors: Mapping[str, GGUFTensor]) -> dict[str, Any]:
    """rope_theta, rope_scaling and partial_rotary_factor."""
    found: dict[str, Any] = {"rope_theta": fields.number("rope.freq_base", 10000.0)}
    head_dim = config["head_dim"]
    rotated = fields.get("rope.dimension_count", head_dim)
    if type(rotated) is not int or not 0 < rotated <= head_dim or rotated % 2:
        raise fields.error("rope.dimension_count", f"must be even and at most the head dimension, {head_dim}")
    if rotated != head_dim:
        if config["model_type"] in INTERLEAVED:
            raise fields.error("rope.dimension_count", f"must be the head dimension, {head_dim}, in this architecture")
        found["partial_rotary_factor"] = rotated / head_dim
    scaling = _rope_scaling(fields, config)
    if "rope_freqs.weight" in tensors:
        factors = np.asarray(tensors["rope_freqs.weight"], np.float64).ravel()
        if scaling is not None or len(factors) != rotated // 2 or not np.isfinite(factors).all() or factors.min() <= 0:
            raise ValueError(f"{fields.path} has a tensor rope_freqs.weight that npllm does not support")
        scaling = _scaling_of_factors(fields.path, factors, found["rope_theta"], rotated)
    if "rope_factors_long.weight" in tensors or "rope_factors_short.weight" in tensors:
        scaling = _longrope(fields, tensors, rotated)
    return found | ({} if scaling is None else {"rope_scaling": scaling})


def _rope_scaling(fields: _Fields, config: dict[str, Any]) -> dict[str, Any] | None:
    """The rope_scaling of transformers for rope.scaling.…, or None."""
    kind = fields.get("rope.scaling.type", "linear" if fields.get("rope.scale_linear") else "none")
    if kind in ("none", "longrope"):  # the factors of longrope are tensors
        return None
    factor = fields.number("rope.scaling.factor", fields.get("rope.scale_linear", 1.0))
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor} if factor != 1.0 else None
    if kind != "yarn":
        raise fields.error("rope.scaling.type", "must be none, linear, yarn or longrope")
    if fields.get("rope.scaling.yarn_log_multiplier"):
        raise fields.error("rope.scaling.yarn_log_multiplier", "must be 0")
    original = fields.get("rope.scaling.original_context_length", config["max_position_embeddings"])
    scaling = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    if fields.get("rope.scaling.attn_factor") is not None:
        # llama.cpp multiplies its own factor, 1 + 0.1 ln(factor), by this one
        scaling["attention_factor"] = fields.number("rope.scaling.attn_factor") * (1 + 0.1 * math.log(factor))
    for name in ("beta_fast", "beta_slow"):
        if fields.get(f"rope.scaling.yarn_{name}") is not None:
            scaling[name] = fields.number(f"rope.scaling.yarn_{name}")
    return scaling


def _scaling_of_factors(path: Path, factors: np.ndarray, theta: float, rotated: int) -> dict[str, Any] | None:
    """Llama 3's scaling of the frequencies, from the divisor of each frequency that the file has.

    The conversion of Llama 3.1 and later writes the divisors only, computed from factor, low_freq_factor = 1,
    high_freq_factor = 4 and an original length of 8192. These are found again, and the divisors compared.
    """
    if (factors == 1).all():
        return None
    scaling = {"factor": float(factors.max()), "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    wavelengths = 2 * np.pi * theta ** (np.arange(0, rotated, 2) / rotated)
    original = 8192
    smooth = (original / wavelengths - 1.0) / (4.0 - 1.0)
    between = 1 / ((1 - smooth) / scaling["factor"] + smooth)
    expected = np.where(wavelengths < original / 4, 1.0, np.where(wavelengths > original, scaling["factor"], between))
    if not np.allclose(factors, expected, rtol=1e-5):
        raise ValueError(
            f"{path} has a tensor rope_freqs.weight that is not Llama 3's scaling with factor {scaling['factor']:g}, "
            f"which is the only one that npllm supports"
        )
    return {"rope_type": "llama3", **scaling, "original_max_position_embeddings": original}


def _longrope(fields: _Fields, tensors: Mapping[str, GGUFTensor], rotated: int) -> dict[str, Any]:
    """The rope_scaling of Phi-3's long models: a divisor of each frequency for long and for short texts."""
    scaling: dict[str, Any] = {"rope_type": "longrope"}
    for name in ("long", "short"):
        tensor = tensors.get(f"rope_factors_{name}.weight")
        factors = [] if tensor is None else np.asarray(tensor).ravel().tolist()
        if len(factors) != rotated // 2 or not all(0 < factor < math.inf for factor in factors):
            raise ValueError(f"{fields.path} must have a tensor rope_factors_{name}.weight of {rotated // 2} divisors")
        scaling[f"{name}_factor"] = [_shortest_float32(factor) for factor in factors]
    if fields.get("rope.scaling.attn_factor") is not None:
        scaling["attention_factor"] = fields.number("rope.scaling.attn_factor")
    return scaling


def _experts(fields: _Fields, config: dict[str, Any], tensors: Mapping[str, GGUFTensor]) -> dict[str, Any]:
    """The fields of a mixture of experts."""
    if "num_experts_per_tok" not in config:
        raise fields.error("expert_used_count", "must be a positive integer")
    experts = tensors.get("blk.0.ffn_gate_exps.weight")
    if experts is None or experts.ndim != 3 or experts.shape[0] != config["num_experts"]:
        raise fields.error("expert_count", "must be the number of experts in blk.0.ffn_gate_exps.weight")
    if config["model_type"] == "mixtral":
        return {"num_local_experts": config["num_experts"]}
    return {"moe_intermediate_size": experts.shape[1], "norm_topk_prob": True, "decoder_sparse_step": 1,
            "mlp_only_layers": []}  # fmt: skip


def _gemma(fields: _Fields, config: dict[str, Any]) -> dict[str, Any]:
    """What Gemma's files leave to the program: the pattern of the windows, the scale of attention."""
    kind, number = config["model_type"], config["num_hidden_layers"]
    period = 2 if kind == "gemma2" else 6
    layers = ["full_attention" if layer % period == period - 1 else "sliding_attention" for layer in range(number)]
    is_27b = number == NUM_LAYERS_27B[kind]
    scalar = config["hidden_size"] // config["num_attention_heads"] if is_27b else config["head_dim"]
    found = {"hidden_activation": "gelu_pytorch_tanh", "layer_types": layers, "query_pre_attn_scalar": scalar}
    if kind == "gemma2":
        found["attn_logit_softcapping"] = fields.number("attn_logit_softcapping", 50.0)
        found["final_logit_softcapping"] = fields.number("final_logit_softcapping", 30.0)
    else:
        found["rope_local_base_freq"] = fields.number("rope.freq_base_swa", 10000.0)
    return found


def _gpt2_config(fields: _Fields, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "gpt2",
        "vocab_size": config["vocab_size"],
        "n_positions": config["max_position_embeddings"],
        "n_embd": config["hidden_size"],
        "n_layer": config["num_hidden_layers"],
        "n_head": config["num_attention_heads"],
        "n_inner": config["intermediate_size"],
        "layer_norm_epsilon": fields.number("attention.layer_norm_epsilon"),
        "activation_function": "gelu_new",
        "tie_word_embeddings": config["tie_word_embeddings"],
        "bos_token_id": config["bos_token_id"],
        "eos_token_id": config["eos_token_id"],
    }


def _is_off(value: Any) -> bool:
    """Whether the value of an option means that it is not used."""
    return value is False or value == 0


def _shortest_float32(value: float) -> float:
    """The shortest decimal that is this float32: 9.999999747378752e-06 → 1e-05."""
    return float(str(np.float32(value))) if np.float32(value) == value else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
