"""Checkpoints: the complete state of a training run in one file.

    parameters, optimizer state, random generators, position in the data → one safetensors file

The arrays are stored as safetensors, the other values as JSON in its header; loading executes no code. The file has a
checksum, which is verified before use. It is replaced by an atomic rename, so a crash or power loss leaves either the
old checkpoint or the new one.
"""

import json
from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np

from npllm.utils.file_errors import FileError
from npllm.utils.json_files import as_json, parse_json_object
from npllm.weights import safetensors

FORMAT, VERSION = "npllm checkpoint", "3"


def save_checkpoint(
    path: str | PathLike,
    arrays: Mapping[str, np.ndarray],
    values: Mapping[str, Any],
    *,
    keep_as: str | PathLike | None = None,
) -> None:
    """Write a checkpoint atomically; `keep_as`: see `atomic_write`. The same contents give the same bytes."""
    text = json.dumps(values, sort_keys=True, allow_nan=False)
    safetensors.save(path, arrays, {"format": FORMAT, "version": VERSION, "values": text}, keep_as=keep_as)


def load_checkpoint(path: str | PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return (arrays, values) as they were saved; the arrays are read-only views of the memory-mapped file.

    Raises OSError, or FileError for a file that is truncated or damaged, even in a single bit, and for one that is not
    a checkpoint of this version.
    """
    arrays, metadata = safetensors.load(path, require_checksum=True)
    for name, expected in (("format", FORMAT), ("version", VERSION)):
        if metadata.get(name) != expected:
            raise FileError(
                path,
                f"is not a checkpoint that this npllm reads: it has {name} {as_json(metadata.get(name))}; it must be "
                f"{as_json(expected)}",
                field=name, value=metadata.get(name), must_be=expected,
            )  # fmt: skip
    return arrays, parse_json_object(metadata.get("values", "").encode(), f"{path}: the values of the checkpoint")
