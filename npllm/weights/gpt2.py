"""GPT-2 as Hugging Face stores it: other names of the hyperparameters, and transposed matrices.

    config.json         hyperparameters  n_embd, n_layer, …
    model.safetensors   weights          transformer.h.0.attn.c_attn.weight, …

In GPT-2's files the linear maps of the blocks (there called Conv1D) are stored (in, out); npllm's Linear, like
PyTorch's, has (out, in). The prefix `transformer.` is optional, and a tied head may be left out.
"""

from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npllm.utils.fields import Field, choice, flag, number, only, optional, read_fields, refuse, size
from npllm.utils.file_errors import FileError
from npllm.weights.config_fields import ACTIVATION_NAMES, MAX_LAYERS, SAVED_ACTIVATIONS
from npllm.weights.fitting import check_sizes
from npllm.weights.folder_files import as_path
from npllm.weights.model_folder import plain_name, read_config, read_tensors, renamed, untied_head, write

FIELDS: dict[str, Field] = {  # of config.json, with the defaults of transformers
    "model_type": choice("gpt2", ["gpt2"]),
    "vocab_size": size(50257),
    "n_positions": size(1024),
    "n_embd": size(768),
    "n_layer": size(12, high=MAX_LAYERS),
    "n_head": size(12),
    "n_inner": optional(size(None)),
    "activation_function": choice("gelu_new", ACTIVATION_NAMES),
    "embd_pdrop": number(0.1, low=0.0, high=0.999999),
    "attn_pdrop": number(0.1, low=0.0, high=0.999999),
    "resid_pdrop": number(0.1, low=0.0, high=0.999999),
    "layer_norm_epsilon": number(1e-5, low=0.0, high=1.0),
    "tie_word_embeddings": flag(True),
    "scale_attn_weights": flag(True),
    "scale_attn_by_inverse_layer_idx": flag(False),
    "reorder_and_upcast_attn": flag(False),  # another order of the same operations
    "add_cross_attention": only(False),
    "npllm_qkv_bias": flag(True),
}
ALIASES = {  # other names of fields, which count before the usual ones
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
NAMES = {  # npllm's name: that of transformers
    "vocab_size": "vocab_size",
    "context_length": "n_positions",
    "d_model": "n_embd",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "tied": "tie_word_embeddings",
    "embedding_dropout": "embd_pdrop",
    "attention_dropout": "attn_pdrop",
    "residual_dropout": "resid_pdrop",
    "layer_norm_eps": "layer_norm_epsilon",
    "d_hidden": "n_inner",
    "activation": "activation_function",
    "scale_scores": "scale_attn_weights",
    "scale_by_layer": "scale_attn_by_inverse_layer_idx",
}
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
MASKS = (".attn.bias", ".attn.masked_bias")  # constants in older files


def load(path: str | PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a folder, or the safetensors file in one; return (fields of GPTConfig, state dict of npllm's GPT).

    The arrays are views of the mapped files. Raises FileNotFoundError, or ValueError that says what is wrong.
    """
    path = as_path("path", path)
    config, config_path = read_config(path)
    fields = config_fields(config_path, config)
    state = renamed(path, read_tensors(path), _npllm_name)
    state = {name: array.T if name.endswith(TRANSPOSED) and array.ndim == 2 else array for name, array in state.items()}
    fields["tied"] = fields["tied"] and not untied_head(state, "wte.weight")
    if fields["tied"] and "wte.weight" in state:
        state["lm_head.weight"] = state["wte.weight"]
    if not fields["qkv_bias"]:
        _drop_zero_bias(path, state)
    blocks = {"wte.weight": (fields["vocab_size"], fields["d_model"])}
    blocks |= {"wpe.weight": (fields["context_length"], fields["d_model"])}
    check_sizes(path, state, blocks, "h.", fields["num_layers"], {"n_inner": fields["d_hidden"] or 0})
    return fields, state


def config_fields(path: str | Path, config: dict[str, Any]) -> dict[str, Any]:
    """The fields of GPTConfig, from those of config.json. Raises ValueError that names the file and the fields."""
    config = config | {name: config[alias] for alias, name in ALIASES.items() if alias in config}
    values = read_fields(path, config, FIELDS)
    d_model, heads = values["n_embd"], values["n_head"]
    if d_model % heads:
        must_be = f"a divisor of n_embd, {d_model}"
        refuse(path, [f"n_head {heads}; it must be {must_be}"], field="n_head", value=heads, must_be=must_be)
    values["activation_function"] = ACTIVATION_NAMES[values["activation_function"]]
    return {ours: values[theirs] for ours, theirs in NAMES.items()} | {"qkv_bias": values["npllm_qkv_bias"]}


def save(folder: str | PathLike, fields: dict[str, Any], state: dict[str, np.ndarray]) -> None:
    """Write both files into a folder, which is created if it does not exist. A tied head is left out."""
    tensors = {}
    for name, array in state.items():
        if name == "lm_head.weight":
            if not fields["tied"]:
                tensors[name] = array
            continue
        tensors[f"transformer.{name}"] = array.T if name.endswith(TRANSPOSED) else array
        if name.endswith("attn.c_attn.weight") and not fields["qkv_bias"]:  # transformers' layer always has a bias
            tensors[f"transformer.{name.removesuffix('weight')}bias"] = np.zeros(len(array), array.dtype)
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "bos_token_id": None,  # the model alone does not know its tokenizer; models/saving.py writes both
        "eos_token_id": None,
        **{theirs: fields[ours] for ours, theirs in NAMES.items()},
        "activation_function": SAVED_ACTIVATIONS[fields["activation"]],
        "npllm_qkv_bias": fields["qkv_bias"],
    }
    write(folder, config, tensors)


def _npllm_name(name: str) -> str | None:
    """transformer.h.0.attn.c_attn.weight → h.0.attn.c_attn.weight;  None for constants of older files"""
    return None if name.endswith(MASKS) else plain_name(name, "transformer.")


def _drop_zero_bias(path, state):
    for name in [name for name in state if name.endswith("attn.c_attn.bias")]:
        if state.pop(name).any():
            raise FileError(path, f"has a bias {name} that is not 0, but config.json says that there is none")
