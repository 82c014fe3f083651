"""The metadata fields of a GGUF file, each checked: its type, its range, and whether npllm supports it.

    llama.block_count = 30       num_hidden_layers 30

A field of the architecture that is not listed here is refused, because it may change what the model computes.

llama.cpp, gguf-py/gguf/constants.py
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

from npllm.utils.file_errors import FileError

MODEL_TYPES = {  # general.architecture: model_type of transformers
    "llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "qwen3moe": "qwen3_moe",
    "phi3": "phi3", "gemma": "gemma", "gemma2": "gemma2", "gemma3": "gemma3_text", "olmo2": "olmo2",
    "smollm3": "smollm3", "granite": "granite", "starcoder2": "starcoder2", "gptneox": "gpt_neox", "gpt2": "gpt2",
}  # fmt: skip
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
    "tensor_data_layout",
}  # fmt: skip
FACTORS = {  # of Granite
    "attention.scale": "attention_multiplier",
    "embedding_scale": "embedding_multiplier",
    "residual_scale": "residual_multiplier",
    "logit_scale": "logits_scaling",
}
MAX_SIZE = 1 << 31


class Fields:
    """The metadata of one file, with the checks that name file and field."""

    def __init__(self, path: Path, metadata: dict[str, Any]) -> None:
        self.path, self.metadata = path, metadata
        self.architecture = str(metadata.get("general.architecture"))
        if self.architecture not in MODEL_TYPES:
            known = ", ".join(MODEL_TYPES)
            raise FileError(path, f"has general.architecture {self.architecture!r}; it must be one of {known}")
        if metadata.get("split.count", 0) not in (0, 1):
            raise FileError(
                path,
                f"has split.count {metadata['split.count']}: it is a part of a model; join the parts with "
                f"llama.cpp's gguf-split --merge",
            )
        prefix = f"{self.architecture}."
        known = {*SIZES, *OPTIONAL_SIZES, *CHECKED, *(FACTORS if self.architecture == "granite" else ())}
        for name, value in metadata.items():
            if name.startswith(prefix) and name.removeprefix(prefix) not in known and not _is_off(value):
                raise FileError(path, f"has {name} {_short(value)}, which npllm does not support")

    def error(self, name: str, must: str) -> FileError:
        """The error for a field: what it is, and what it must be."""
        name = f"{self.architecture}.{name}"
        has = f"has {name} {_short(self.metadata[name])}" if name in self.metadata else f"lacks {name}"
        value = self.metadata.get(name)
        return FileError(self.path, f"{has}; it {must}", field=name, value=value, must_be=must.removeprefix("must be "))

    def get(self, name: str, default: Any = None) -> Any:
        """A field of the architecture, or the default."""
        return self.metadata.get(f"{self.architecture}.{name}", default)

    def number(self, name: str, default: float | None = None, lowest: float = 0.0) -> float:
        """A finite number above `lowest`; required without a default."""
        value = self.get(name, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not lowest < value < math.inf:
            raise self.error(name, f"must be a number above {lowest:g}")
        return shortest_float32(float(value))

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
                raise FileError(
                    self.path,
                    f"has tokenizer.ggml.{name}_token_id {_short(value)}; it must be an id below the "
                    f"vocabulary's size, {vocab_size}",
                )
            found[f"{theirs}_token_id"] = value
        return found


def _is_off(value: Any) -> bool:
    """Whether the value of an option means that it is not used."""
    return value is False or value == 0


def shortest_float32(value: float) -> float:
    """The shortest decimal that is this float32: 9.999999747378752e-06 → 1e-05."""
    return float(str(np.float32(value))) if np.float32(value) == value else value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
