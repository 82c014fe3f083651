"""The weights of Llama, Mistral, Qwen and Mixtral as Hugging Face stores them: the names of the tensors.

    model.layers.0.self_attn.q_proj.weight            layers.0.self_attn.q_proj.weight
    model.layers.0.block_sparse_moe.experts.0.w1…     layers.0.mlp.experts.0.gate_proj…     (Mixtral)

What config.json means is in models/hugging_face.py. A decoder without a counterpart in transformers is stored in the
same two files under the model_type `npllm_decoder`, with the names of npllm.
"""

from os import PathLike
from typing import Any

import numpy as np

from npllm.weights.model_folder import read_tensors, write

OWN = "npllm_decoder"
EXPERT_NAMES = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}  # Mixtral's: Qwen's, which are npllm's


def load_weights(path: str | PathLike, tied: bool) -> dict[str, np.ndarray]:
    """The state dict of npllm's Decoder from a folder, or from a safetensors file.

    The arrays are views of the mapped files. Raises FileNotFoundError, or ValueError that says what is wrong.
    """
    state = {_npllm_name(name): array for name, array in read_tensors(path).items()}
    if tied:
        state["lm_head.weight"] = state.get("embed_tokens.weight")
    return {name: array for name, array in state.items() if not name.endswith("rotary_emb.inv_freq")}


def save(folder: str | PathLike, config: dict[str, Any], state: dict[str, np.ndarray], tied: bool) -> None:
    """Write config.json and model.safetensors; a tied head is left out."""
    kind = config["model_type"]
    tensors = {_hugging_face_name(name, kind): array for name, array in state.items()}
    if tied:
        del tensors["lm_head.weight"]
    write(folder, config, tensors)


def _npllm_name(name: str) -> str:
    """model.layers.0.self_attn.q_norm.weight → layers.0.self_attn.q_norm.weight"""
    name = name.removeprefix("model.").replace("block_sparse_moe.", "mlp.")
    for mixtral, own in EXPERT_NAMES.items():
        name = name.replace(f".{mixtral}.weight", f".{own}.weight")
    return name


def _hugging_face_name(name: str, kind: str) -> str:
    """The name in a model of this model_type; npllm's own models keep their names."""
    if kind == OWN:
        return name
    if kind == "mixtral" and ".mlp." in name:
        name = name.replace(".mlp.", ".block_sparse_moe.")
        for mixtral, own in EXPERT_NAMES.items():
            name = name.replace(f".{own}.weight", f".{mixtral}.weight")
    return name if name.startswith("lm_head.") else f"model.{name}"
