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

from npllm.weights.model_folder import read_config, read_tensors, require, write

FIELDS = {  # npllm's name: that of transformers
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
}
DEFAULTS = {"tie_word_embeddings": True, "embd_pdrop": 0.1, "attn_pdrop": 0.1, "resid_pdrop": 0.1,
            "layer_norm_epsilon": 1e-5}  # fmt: skip
REQUIRED: dict[str, list] = {  # fields that npllm's GPT supports with these values only
    "model_type": ["gpt2"],
    "activation_function": ["gelu_new", "gelu_pytorch_tanh"],
    "scale_attn_weights": [True],
    "scale_attn_by_inverse_layer_idx": [False],
    "add_cross_attention": [False],
}
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
MASKS = (".attn.bias", ".attn.masked_bias")  # constants in older files


def load(path: str | PathLike) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Read a folder, or the safetensors file in one; return (fields of GPTConfig, state dict of npllm's GPT).

    The arrays are views of the mapped files. Raises FileNotFoundError, or ValueError that says what is wrong.
    """
    path = Path(path)
    fields = _fields(*read_config(path))
    tensors = read_tensors(path)
    state = {}
    for name, array in tensors.items():
        name = name.removeprefix("transformer.")
        if not name.endswith(MASKS):
            state[name] = array.T if name.endswith(TRANSPOSED) and array.ndim == 2 else array
    if fields["tied"]:
        state["lm_head.weight"] = state.get("wte.weight")
    if not fields["qkv_bias"]:
        _drop_zero_bias(path, state)
    return fields, state


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
        "activation_function": "gelu_new",
        "bos_token_id": None,  # the model alone does not know its tokenizer; models/saving.py writes both
        "eos_token_id": None,
        **{theirs: fields[ours] for ours, theirs in FIELDS.items()},
        "npllm_qkv_bias": fields["qkv_bias"],
    }
    write(folder, config, tensors)


def _fields(config, path):
    """The fields of GPTConfig, from those of config.json."""
    require(path, config, REQUIRED, "npllm's GPT")
    missing = [theirs for theirs in FIELDS.values() if theirs not in config and theirs not in DEFAULTS]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; it must be the configuration of a GPT-2")
    fields = {ours: config.get(theirs, DEFAULTS.get(theirs)) for ours, theirs in FIELDS.items()}
    if config.get("n_inner") not in (None, 4 * fields["d_model"]):
        raise ValueError(f"{path} has n_inner {config['n_inner']}; npllm's GPT needs 4 n_embd, {4 * fields['d_model']}")
    return fields | {"qkv_bias": config.get("npllm_qkv_bias", True)}


def _drop_zero_bias(path, state):
    for name in [name for name in state if name.endswith("attn.c_attn.bias")]:
        if state.pop(name).any():
            raise ValueError(f"{path} has a bias {name} that is not 0, but config.json says that there is none")
