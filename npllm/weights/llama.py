"""The weights of Llama, Mistral, Qwen and Mixtral as Hugging Face stores them: the names of the tensors.

    model.layers.0.self_attn.q_proj.weight            layers.0.self_attn.q_proj.weight
    model.layers.0.block_sparse_moe.experts.0.w1…     layers.0.mlp.experts.0.gate_proj…     (Mixtral)

What config.json means is in models/hugging_face. A decoder without a counterpart in transformers is stored in the
same two files under the model_type `npllm_decoder`, with the names of npllm.
"""

from os import PathLike
from typing import Any

import numpy as np

from npllm.weights.model_folder import plain_name, read_tensors, renamed, untied_head, write

OWN = "npllm_decoder"
EXPERT_NAMES = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}  # Mixtral's: Qwen's, which are npllm's


def load_weights(path: str | PathLike, tied: bool) -> tuple[dict[str, np.ndarray], bool]:
    """The state dict of npllm's Decoder from a folder, or from a safetensors file; and whether the head is tied.

    A file may have a head of its own although config.json says that it is tied: as in transformers, the file counts.
    The arrays are views of the mapped files. Raises FileNotFoundError, or ValueError that says what is wrong.
    """
    state = renamed(path, read_tensors(path), _npllm_name)
    tied = tied and not untied_head(state, "embed_tokens.weight")
    if tied and "embed_tokens.weight" in state:
        state["lm_head.weight"] = state["embed_tokens.weight"]
    return state, tied


def save(folder: str | PathLike, config: dict[str, Any], state: dict[str, np.ndarray], tied: bool) -> None:
    """Write config.json and model.safetensors; a tied head is left out."""
    kind = config["model_type"]
    tensors = {_hugging_face_name(name, kind): array for name, array in state.items()}
    if tied:
        del tensors["lm_head.weight"]
    write(folder, config, tensors)


def _npllm_name(name: str) -> str | None:
    """model.layers.0.self_attn.q_norm.weight → layers.0.self_attn.q_norm.weight;  None for constants of older files"""
    if name.endswith("rotary_emb.inv_freq"):
        return None
    name = plain_name(name, "model.").replace("block_sparse_moe.", "mlp.")
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
