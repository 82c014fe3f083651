"""GPT-2 as Hugging Face stores it: other names for the shape, and some matrices the other way round.

    config.json         the shape        n_embd, n_layer, …
    model.safetensors   the weights      transformer.h.0.attn.c_attn.weight, …

In GPT-2's files the linear maps inside the blocks (there called Conv1D) are stored (in, out); npllm's Linear, like
PyTorch's, has (out, in). The prefix `transformer.` may be there or not; a head that is tied may be left out.
"""

import json
from pathlib import Path

import numpy as np

from npllm.files import atomic_write
from npllm.interop import safetensors

FIELDS = {  # ours: theirs
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
ONLY = {  # what npllm's GPT is not built for must have these values
    "model_type": {"gpt2"},
    "activation_function": {"gelu_new", "gelu_pytorch_tanh"},
    "scale_attn_weights": {True},
    "scale_attn_by_inverse_layer_idx": {False},
    "add_cross_attention": {False},
}
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")
MASKS = (".attn.bias", ".attn.masked_bias")  # constants that old files hold


def load(path):
    """Read a folder, or the safetensors file in one; return (fields of GPTConfig, state dict of npllm's GPT).

    The arrays are views of the mapped files. Raises FileNotFoundError, or ValueError saying what is wrong.
    """
    path = Path(path)
    folder = path if path.is_dir() else path.parent
    fields = _read_config(folder / CONFIG)
    tensors = _read_tensors(path)
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


def save(folder, fields, state):
    """Write both files into a folder, which is made if need be. A head that is tied is left out."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {}
    for name, array in state.items():
        if name == "lm_head.weight":
            if not fields["tied"]:
                tensors[name] = array
            continue
        tensors[f"transformer.{name}"] = array.T if name.endswith(TRANSPOSED) else array
        if name.endswith("attn.c_attn.weight") and not fields["qkv_bias"]:  # their layer always has a bias
            tensors[f"transformer.{name.removesuffix('weight')}bias"] = np.zeros(len(array), array.dtype)
    safetensors.save(folder / WEIGHTS, tensors, {"format": "pt"})
    config = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "activation_function": "gelu_new",
        "bos_token_id": fields["vocab_size"] - 1,
        "eos_token_id": fields["vocab_size"] - 1,
        **{theirs: fields[ours] for ours, theirs in FIELDS.items()},
        "npllm_qkv_bias": fields["qkv_bias"],
    }
    with atomic_write(folder / CONFIG) as file:
        file.write(json.dumps(config, indent=2).encode())


def _read_config(path):
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; next to the weights there must be their {CONFIG}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is no object")
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    for name, allowed in ONLY.items():
        if name in config and config[name] not in allowed:
            raise ValueError(f"{path} has {name} {config[name]!r}; npllm's GPT needs {' or '.join(map(repr, allowed))}")
    missing = [theirs for theirs in FIELDS.values() if theirs not in config and theirs not in DEFAULTS]
    if missing:
        raise ValueError(f"{path} lacks {', '.join(missing)}; it must be the configuration of a GPT-2")
    fields = {ours: config.get(theirs, DEFAULTS.get(theirs)) for ours, theirs in FIELDS.items()}
    if config.get("n_inner") not in (None, 4 * fields["d_model"]):
        raise ValueError(f"{path} has n_inner {config['n_inner']}; npllm's GPT needs 4 n_embd, {4 * fields['d_model']}")
    return fields | {"qkv_bias": config.get("npllm_qkv_bias", True)}


def _read_tensors(path):
    """The tensors of a file, of a folder's model.safetensors, or of the files that a folder's index names."""
    if not path.is_dir():
        return safetensors.load(path)[0]
    if (path / WEIGHTS).is_file():
        return safetensors.load(path / WEIGHTS)[0]
    if not (path / INDEX).is_file():
        raise FileNotFoundError(f"there is no {WEIGHTS} in {path}")
    try:
        parts = sorted(set(json.loads((path / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path / INDEX} is damaged: {error}") from None
    return {name: array for part in parts for name, array in safetensors.load(path / Path(part).name)[0].items()}


def _drop_zero_bias(path, state):
    for name in [name for name in state if name.endswith("attn.c_attn.bias")]:
        if state.pop(name).any():
            raise ValueError(f"{path} has a bias {name} that is not 0, but {CONFIG} says that there is none")
