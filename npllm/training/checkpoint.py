"""Checkpoints: the complete state of a training run in one file.

    parameters, optimizer state, random generators, position in the data → one safetensors file

The arrays are stored as safetensors, the other values as JSON in its header; loading executes no code. The file is
replaced by an atomic rename, so a crash or power loss leaves either the old checkpoint or the new one.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from npllm.weights import safetensors

FORMAT, VERSION = "npllm checkpoint", "2"


def save_checkpoint(path: str | Path, arrays: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically. The same contents give the same bytes."""
    metadata = {"format": FORMAT, "version": VERSION, "values": json.dumps(values, sort_keys=True)}
    safetensors.save(path, arrays, metadata)


def load_checkpoint(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return (arrays, values) as they were saved; the arrays are read-only views of the memory-mapped file.

    Raises FileNotFoundError, or ValueError for a file that is truncated, damaged, or not a checkpoint of this version.
    """
    arrays, metadata = safetensors.load(path)
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is not a checkpoint: its format is {metadata.get('format')!r}, not {FORMAT!r}")
    if metadata.get("version") != VERSION:
        raise ValueError(
            f"{path} is a checkpoint of version {metadata.get('version')}; this npllm reads version {VERSION} only"
        )
    try:
        values = json.loads(metadata["values"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged: its values cannot be read ({error})") from None
    return arrays, values
