"""The names of a decoder's tensors in Hugging Face's files, by model type, and the tensors that are stored as one.

    model.layers.0.self_attn.q_proj.weight           layers.0.self_attn.q_proj.weight
    model.layers.0.block_sparse_moe.experts.0.w1     layers.0.mlp.experts.0.gate_proj               Mixtral
    model.layers.0.self_attn.qkv_proj                layers.0.self_attn.q_proj, k_proj, v_proj      Phi-3
    gpt_neox.layers.0.attention.query_key_value      the same three, one head after the other       GPT-NeoX

On the left the names of the file, on the right those of npllm, which are Llama's. The rows of a fused tensor are split
when it is read, and joined when it is written.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np

from npllm.utils.file_errors import FileError
from npllm.weights.model_folder import plain_name

OWN = "npllm_decoder"  # the model_type of a decoder without a counterpart in transformers
IGNORED = ("rotary_emb.inv_freq", "attention.bias", "attention.masked_bias")  # buffers in older files: no weights


@dataclass(frozen=True)
class Fused:
    """One tensor of the file and its parts.

    counts       for each part its number of blocks of rows: a name of config.json (blocks are heads), or a number
    interleaved  the first block of each part, then the second of each, …; else the whole first part comes first
    """

    parts: tuple[str, ...]
    counts: tuple[str | int, ...]
    interleaved: bool = False


@dataclass(frozen=True)
class TensorNames:
    """The names of one model type.

    prefix   of all names but the head's
    renamed  parts of a name in the file, and in npllm; those that begin with a dot anywhere in it, others at its start
    fused    the last part of a name before ".weight" or ".bias"
    """

    prefix: str = "model."
    renamed: Mapping[str, str] = field(default_factory=dict)
    fused: Mapping[str, Fused] = field(default_factory=dict)


QKV = ("q_proj", "k_proj", "v_proj")
NAMES = {  # model types that are not here have Llama's names
    OWN: TensorNames(prefix=""),
    "mixtral": TensorNames(
        renamed={
            ".block_sparse_moe.": ".mlp.",
            ".w1.": ".gate_proj.",
            ".w2.": ".down_proj.",
            ".w3.": ".up_proj.",
        }
    ),
    "phi3": TensorNames(
        fused={
            "qkv_proj": Fused(QKV, ("num_attention_heads", "num_key_value_heads", "num_key_value_heads")),
            "gate_up_proj": Fused(("gate_proj", "up_proj"), (1, 1)),
        }
    ),
    "gpt_neox": TensorNames(
        prefix="gpt_neox.",
        renamed={
            "embed_in.": "embed_tokens.",
            "embed_out.": "lm_head.",
            "final_layer_norm.": "norm.",
            ".attention.dense.": ".self_attn.o_proj.",
            ".attention.": ".self_attn.",
            ".dense_h_to_4h.": ".c_fc.",
            ".dense_4h_to_h.": ".c_proj.",
        },
        fused={"query_key_value": Fused(QKV, ("num_attention_heads",) * 3, interleaved=True)},
    ),
}


def from_hugging_face(
    path: str | PathLike, tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The state dict of npllm's Decoder: names of npllm, fused tensors split (views where the rows allow it).

    path   of the file, for messages

    Raises ValueError for two tensors of one name, and for a fused tensor whose rows cannot be divided among its parts.
    """
    names = NAMES.get(config["model_type"], TensorNames())
    state: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        if name.endswith(IGNORED):
            continue
        for own, rows in _split(path, _npllm_name(name, names), tensor, names, config).items():
            if own in state:
                raise FileError(path, f"has two tensors for {own}, one of them {name}")
            state[own] = rows
    return state


def to_hugging_face(state: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inverse of `from_hugging_face`."""
    names = NAMES.get(config["model_type"], TensorNames())
    state, tensors = dict(state), {}
    for last, fused in names.fused.items():
        first = fused.parts[0]
        for name in [name for name in state if f".{first}." in name]:
            parts = [state.pop(name.replace(f".{first}.", f".{part}.")) for part in fused.parts]
            joined = join_rows(parts, _counts(fused, config), fused.interleaved)
            state[name.replace(f".{first}.", f".{last}.")] = joined
    back = [(ours, theirs) for theirs, ours in names.renamed.items()]
    for name, tensor in state.items():
        theirs = _renamed(name, back)
        tensors[theirs if theirs in ("lm_head.weight", "embed_out.weight") else f"{names.prefix}{theirs}"] = tensor
    return tensors


def _npllm_name(name: str, names: TensorNames) -> str:
    """model.layers.0.self_attn.q_norm.weight → layers.0.self_attn.q_norm.weight"""
    return _renamed(plain_name(name, *filter(None, [names.prefix])), names.renamed.items())


def _split(
    path: str | PathLike, name: str, tensor: np.ndarray, names: TensorNames, config: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The parts of a fused tensor by name; any other tensor as it is."""
    layer, _, kind = name.rpartition(".")  # layers.0.self_attn.qkv_proj, weight
    parent, _, last = layer.rpartition(".")
    if last not in names.fused:
        return {name: tensor}
    fused = names.fused[last]
    try:
        parts = split_rows(tensor, _counts(fused, config), fused.interleaved)
    except ValueError as error:
        raise FileError(path, f"has {name}, which {error}") from None
    return {f"{parent}.{part}.{kind}": rows for part, rows in zip(fused.parts, parts)}


def split_rows(tensor: np.ndarray, counts: tuple[int, ...], interleaved: bool = False) -> list[np.ndarray]:
    """The parts of a fused tensor along its first axis: for `counts` (H, K, K) H blocks of rows, K blocks, K blocks.

    Raises ValueError unless the rows can be divided into blocks of one size.
    """
    if tensor.ndim == 0 or len(tensor) % sum(counts):
        raise ValueError(f"has shape {tensor.shape}; its number of rows must be a multiple of {sum(counts)}")
    rest, rows = tensor.shape[1:], len(tensor) // sum(counts)
    if interleaved:  # (H, 3, D, …): every block of the first part is followed by one of each other part
        blocks = tensor.reshape(counts[0], len(counts), rows, *rest)
        return [blocks[:, part].reshape(-1, *rest) for part in range(len(counts))]
    ends = np.cumsum(counts) * rows
    return [tensor[end - count * rows : end] for end, count in zip(ends, counts)]


def join_rows(parts: list[np.ndarray], counts: tuple[int, ...], interleaved: bool = False) -> np.ndarray:
    """The inverse of `split_rows`."""
    if not interleaved:
        return np.concatenate(parts)
    rest = parts[0].shape[1:]
    blocks = [part.reshape(count, -1, *rest) for part, count in zip(parts, counts)]
    return np.stack(blocks, axis=1).reshape(-1, *rest)


def _renamed(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    """The name with each first part of a pair replaced by the second."""
    for old, new in pairs:
        if old.startswith("."):
            name = name.replace(old, new)
        elif name.startswith(old):
            name = new + name.removeprefix(old)
    return name


def _counts(fused: Fused, config: Mapping[str, Any]) -> tuple[int, ...]:
    """The counts as numbers; num_key_value_heads is num_attention_heads where the file leaves it out."""
    heads = config.get("num_attention_heads")
    return tuple(count if isinstance(count, int) else int(config.get(count) or heads or 0) for count in fused.counts)
