"""RoPE in a GGUF file: base, scaling, and the divisors of the frequencies that are tensors, as transformers' fields.

    rope.freq_base           rope_theta
    rope.scaling.…           rope_scaling: linear, yarn
    rope_freqs.weight        rope_scaling: llama3
    rope_factors_….weight    rope_scaling: longrope

llama.cpp, convert_hf_to_gguf.py and src/llama-graph.cpp
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from npllm.utils.file_errors import FileError
from npllm.utils.gguf_file import GGUFTensor
from npllm.weights.gguf_fields import Fields, shortest_float32

INTERLEAVED = ("llama", "mixtral", "smollm3", "granite")  # RoPE of neighbouring pairs: rows of W_q, W_k are permuted
ROPE_TENSORS = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")


def rope(fields: Fields, config: dict[str, Any], tensors: Mapping[str, GGUFTensor]) -> dict[str, Any]:
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
            raise FileError(fields.path, "has a tensor rope_freqs.weight that npllm does not support")
        scaling = _scaling_of_factors(fields.path, factors, found["rope_theta"], rotated)
    if "rope_factors_long.weight" in tensors or "rope_factors_short.weight" in tensors:
        scaling = _longrope(fields, tensors, rotated)
    return found | ({} if scaling is None else {"rope_scaling": scaling})


def _rope_scaling(fields: Fields, config: dict[str, Any]) -> dict[str, Any] | None:
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
        raise FileError(
            path,
            f"has a tensor rope_freqs.weight that is not Llama 3's scaling with factor {scaling['factor']:g}, "
            f"which is the only one that npllm supports",
        )
    return {"rope_type": "llama3", **scaling, "original_max_position_embeddings": original}


def _longrope(fields: Fields, tensors: Mapping[str, GGUFTensor], rotated: int) -> dict[str, Any]:
    """The rope_scaling of Phi-3's long models: a divisor of each frequency for long and for short texts."""
    scaling: dict[str, Any] = {"rope_type": "longrope"}
    for name in ("long", "short"):
        tensor = tensors.get(f"rope_factors_{name}.weight")
        factors = [] if tensor is None else np.asarray(tensor).ravel().tolist()
        if len(factors) != rotated // 2 or not all(0 < factor < math.inf for factor in factors):
            raise FileError(fields.path, f"must have a tensor rope_factors_{name}.weight of {rotated // 2} divisors")
        scaling[f"{name}_factor"] = [shortest_float32(factor) for factor in factors]
    if fields.get("rope.scaling.attn_factor") is not None:
        scaling["attention_factor"] = fields.number("rope.scaling.attn_factor")
    return scaling
