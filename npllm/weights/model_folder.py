"""A model as a folder in Hugging Face's layout: hyperparameters in config.json, weights in safetensors files.

config.json                        a dict of plain values
model.safetensors                  the weights, or
model.safetensors.index.json       the file of each weight, where there are several
"""

import json
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npllm.utils.files import atomic_write
from npllm.utils.gguf_file import is_gguf
from npllm.weights import gguf, safetensors

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


def read_config(path: str | PathLike) -> tuple[dict[str, Any], Path]:
    """The config.json of a folder, or of the folder of a weight file, as a dict; and its path.

    Raises FileNotFoundError, or ValueError if it is not a JSON object.
    """
    path = Path(path)
    if is_gguf(path):
        return gguf.read_config(path), path
    path = (path if path.is_dir() else path.parent) / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; the folder of the weights must have a {CONFIG}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is not an object")
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return config, path


def read_tensors(path: str | PathLike) -> dict[str, np.ndarray]:
    """The tensors of a file, of a folder's model.safetensors, or of the files that a folder's index names."""
    path = Path(path)
    if is_gguf(path):
        return gguf.read_tensors(path)
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


def write(folder: str | PathLike, config: dict[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Write both files into a folder, which is created if it does not exist."""
    folder, text = (
        Path(folder),
        json.dumps(config, indent=2),
    )  # fails before a file is changed
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.save(folder / WEIGHTS, tensors, {"format": "pt"})
    with atomic_write(folder / CONFIG) as file:
        file.write(text.encode())


def require(path: Path, config: dict[str, Any], allowed: dict[str, list], model: str) -> None:
    """Raise ValueError for a field whose value is not among those allowed for it."""
    for name, values in allowed.items():
        if name in config and config[name] not in values:
            raise ValueError(f"{path} has {name} {config[name]!r}; {model} needs {' or '.join(map(repr, values))}")
