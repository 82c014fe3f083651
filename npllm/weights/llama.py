"""The weights of a decoder as Hugging Face stores them: Llama, Mistral, Qwen, Gemma, Phi-3, OLMo, GPT-NeoX and others.

The names of the tensors are in tensor_names.py; what config.json means is in models/hugging_face. A decoder without a
counterpart in transformers is stored in the same two files under the model_type `npllm_decoder`, with the names of
npllm.
"""

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from npllm.weights.model_folder import read_tensors, untied_head, write
from npllm.weights.tensor_names import OWN, from_hugging_face, to_hugging_face


def load_weights(path: str | PathLike, config: Mapping[str, Any], tied: bool) -> tuple[dict[str, np.ndarray], bool]:
    """The state dict of npllm's Decoder from a folder, or from a safetensors file; and whether the head is tied.

    config   the content of config.json, which says the names of the tensors
    tied     the head is tied by config.json; a file may have a head of its own: as in transformers, the file counts

    The arrays are views of the mapped files. Raises FileNotFoundError, or ValueError that says what is wrong.
    """
    state = from_hugging_face(path, read_tensors(path), config)
    tied = tied and not untied_head(state, "embed_tokens.weight")
    if tied and "embed_tokens.weight" in state:
        state["lm_head.weight"] = state["embed_tokens.weight"]
    return state, tied


def save(folder: str | PathLike, config: dict[str, Any], state: dict[str, np.ndarray], tied: bool) -> None:
    """Write config.json and model.safetensors; a tied head is left out."""
    kept = {name: array for name, array in state.items() if not (tied and name == "lm_head.weight")}
    write(folder, config, to_hugging_face(kept, config))


__all__ = ["OWN", "load_weights", "save"]
