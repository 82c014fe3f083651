"""The rotary positions of a config.json: rope_theta, rope_scaling or rope_parameters ↔ RoPE.

    {"rope_theta": 1e6, "rope_scaling": {"type": "yarn", "factor": 4.0}, "original_max_position_embeddings": 32768}
    {"rope_parameters": {"rope_theta": 1e6, "rope_type": "yarn", "factor": 4.0, …}}

Files of transformers 5 have rope_parameters, older ones rope_theta and rope_scaling. Where a file has both,
transformers takes rope_scaling; a number that is not in that object is read beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npllm.attention.variants.rope import RoPE
from npllm.attention.variants.rope_scaling import (
    DynamicNTKScaling,
    LinearScaling,
    Llama3Scaling,
    LongRoPEScaling,
    RoPEScaling,
    YaRNScaling,
)
from npllm.utils.fields import Field, choice, flag, items, number, optional, read_fields, refuse, size, table
from npllm.utils.file_errors import FileError
from npllm.utils.json_files import as_json

FACTOR = number(None, low=1.0)
ABOVE_ZERO = number(None, above=0.0)
SCALINGS: dict[str, dict[str, Field]] = {  # rope_type: its fields; a field with the default None must be there
    "default": {},
    "linear": {"factor": FACTOR},
    "dynamic": {"factor": FACTOR},
    "yarn": {
        "factor": optional(FACTOR),
        "original_max_position_embeddings": size(None),
        "beta_fast": optional(number(32.0, low=0.0)),
        "beta_slow": optional(number(1.0, low=0.0)),
        "attention_factor": optional(ABOVE_ZERO),
        "mscale": optional(number(None, low=0.0)),
        "mscale_all_dim": optional(number(None, low=0.0)),
        "truncate": flag(True),
    },
    "llama3": {
        "factor": FACTOR,
        "original_max_position_embeddings": size(None),
        "low_freq_factor": ABOVE_ZERO,
        "high_freq_factor": ABOVE_ZERO,
    },
    "longrope": {
        "short_factor": items(None, ABOVE_ZERO),
        "long_factor": items(None, ABOVE_ZERO),
        "original_max_position_embeddings": size(None, low=2),
        "factor": optional(FACTOR),
        "attention_factor": optional(ABOVE_ZERO),
    },
}
REQUIRED = {
    "linear": ("factor",),
    "dynamic": ("factor",),
    "yarn": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor"),
    "longrope": ("short_factor", "long_factor"),
}
ROPE_FIELDS: dict[str, Field] = {  # of config.json itself
    "rope_parameters": optional(table()),
    "rope_scaling": optional(table()),
    "rope_theta": optional(number(None, above=1.0)),
    "partial_rotary_factor": optional(number(None, above=0.0, high=1.0)),
    "original_max_position_embeddings": optional(size(None)),
}


@dataclass(frozen=True)
class RopeRules:
    """What differs between model types.

    theta             transformers' default of rope_theta
    is_partial        partial_rotary_factor rotates the first channels of each head only; else it is ignored for
                      unscaled frequencies, as in transformers, and must be 1 for scaled ones
    partial_default   the default of partial_rotary_factor
    """

    theta: float = 10000.0
    is_partial: bool = False
    partial_default: float = 1.0


LLAMA_RULES = RopeRules()


def read_rope(
    path: str | Path,
    config: Mapping[str, Any],
    head_dim: int,
    rules: RopeRules = LLAMA_RULES,
    layer_type: str | None = None,
) -> RoPE:
    """The RoPE of a config.json whose fields in ROPE_FIELDS are valid.

    layer_type   the entry to read where rope_parameters has one object for each type of layer

    Raises ValueError that names the file, the field, what it is and what it must be.
    """
    name = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    given = config.get(name) or {}
    if layer_type is not None and isinstance(given.get(layer_type), dict):
        name, given = f"{name}.{layer_type}", given[layer_type]
    given = _with_fields_beside_it(given, config, rules)
    nested = [key for key, value in given.items() if isinstance(value, dict)]
    refuse(path, [f"an object {name}.{key}; this model_type has one RoPE for all layers" for key in nested])
    kind_field = "rope_type" if "rope_type" in given else "type"  # older files have type
    kind = read_fields(path, given, {kind_field: choice("default", SCALINGS)}, name)[kind_field]
    common = {
        "rope_theta": number(rules.theta, above=1.0),
        "partial_rotary_factor": number(rules.partial_default, above=0.0, high=1.0),
    }
    missing = [key for key in REQUIRED.get(kind, ()) if key not in given]
    refuse(path, [f"no {name}.{key}; rope_type {as_json(kind)} must have one" for key in missing])
    values = read_fields(path, given, common | SCALINGS[kind], name)
    fraction = values["partial_rotary_factor"]
    if kind != "default" and fraction != 1.0 and not rules.is_partial:
        raise FileError(
            path,
            f"has {name}.partial_rotary_factor {fraction} beside rope_type {as_json(kind)}; for this model_type it "
            f"must be 1.0",
            field=f"{name}.partial_rotary_factor", value=fraction, must_be="1.0",
        )  # fmt: skip
    fraction = fraction if rules.is_partial else 1.0
    try:
        rope = RoPE(values["rope_theta"], fraction, scaling=_scaling(kind, values, config["max_position_embeddings"]))
        rope.frequencies(head_dim)
    except ValueError as error:
        raise FileError(path, f"has a {name} that is not valid: {error}", field=name) from None
    return rope


def rope_fields(rope: RoPE) -> dict[str, Any]:
    """The rope_parameters of transformers 5 for this RoPE; `read_rope` is the inverse."""
    scaling = rope.scaling
    fields: dict[str, Any] = {"rope_theta": rope.theta, "rope_type": "default"}
    if rope.partial_rotary_factor != 1.0:
        fields["partial_rotary_factor"] = rope.partial_rotary_factor
    if isinstance(scaling, LinearScaling):
        return fields | {"rope_type": "linear", "factor": scaling.factor}
    if isinstance(scaling, DynamicNTKScaling):
        return fields | {"rope_type": "dynamic", "factor": scaling.factor}
    if isinstance(scaling, (YaRNScaling, Llama3Scaling, LongRoPEScaling)):
        names = {YaRNScaling: "yarn", Llama3Scaling: "llama3", LongRoPEScaling: "longrope"}
        numbers: dict[str, Any] = {"original_max_position_embeddings": scaling.original_length}
        for key, value in vars(scaling).items():
            if key != "original_length" and value is not None:
                numbers[key] = list(value) if isinstance(value, tuple) else value
        return fields | {"rope_type": names[type(scaling)]} | numbers
    return fields


def context_length(max_position_embeddings: int, rope: RoPE | None) -> int:
    """The longest text: max_position_embeddings; with dynamic NTK, `factor` times it, since it is that of training."""
    scaling = None if rope is None else rope.scaling
    if isinstance(scaling, DynamicNTKScaling):
        return int(max_position_embeddings * scaling.factor)
    return max_position_embeddings


def _with_fields_beside_it(given: Mapping[str, Any], config: Mapping[str, Any], rules: RopeRules) -> dict[str, Any]:
    """The object, with the numbers that it lacks from the config.json itself."""
    merged = dict(given)
    for key in ("rope_theta", "partial_rotary_factor"):
        if config.get(key) is not None:
            merged.setdefault(key, config[key])
    outside = config.get("original_max_position_embeddings")
    if outside is not None:  # this one counts before the one inside
        merged["original_max_position_embeddings"] = outside
    merged.setdefault("original_max_position_embeddings", config["max_position_embeddings"])
    return merged


def _scaling(kind: str, values: dict[str, Any], max_position_embeddings: int) -> RoPEScaling | None:
    """The scaling of this rope_type, by the values of its fields."""
    if kind == "default":
        return None
    if kind == "linear":
        return LinearScaling(values["factor"])
    if kind == "dynamic":
        return DynamicNTKScaling(values["factor"], max_position_embeddings)
    original = values["original_max_position_embeddings"]
    ratio = max_position_embeddings / original
    if kind == "llama3":
        return Llama3Scaling(values["factor"], original, values["low_freq_factor"], values["high_freq_factor"])
    if kind == "longrope":
        return LongRoPEScaling(
            tuple(values["short_factor"]),
            tuple(values["long_factor"]),
            original,
            values["factor"] or max(ratio, 1.0),
            values["attention_factor"],
        )
    return YaRNScaling(
        values["factor"] or ratio,
        original,
        values["beta_fast"] or 32.0,
        values["beta_slow"] or 1.0,
        values["attention_factor"],
        values["truncate"],
        values["mscale"] or None,
        values["mscale_all_dim"] or None,
    )
