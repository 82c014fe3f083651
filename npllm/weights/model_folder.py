"""A model as a folder, in Hugging Face's manner: its shape in config.json, its weights in safetensors files.

config.json                        a dict of plain values
model.safetensors                  the weights, or
model.safetensors.index.json       which of several files has which weight
"""

import json
from pathlib import Path

from npllm.utils.files import atomic_write
from npllm.weights import safetensors

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"


def read_config(path):
    """The config.json of a folder, or of the folder that a weight file stands in, as a dict; and its path.

    Raises FileNotFoundError, or ValueError if it is no JSON object.
    """
    path = Path(path)
    path = (path if path.is_dir() else path.parent) / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; next to the weights there must be their {CONFIG}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is no object")
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    return config, path


def read_tensors(path):
    """The tensors of a file, of a folder's model.safetensors, or of the files that a folder's index names."""
    path = Path(path)
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


def write(folder, config, tensors):
    """Write both files into a folder, which is made if need be."""
    folder, text = Path(folder), json.dumps(config, indent=2)  # what JSON cannot hold fails before a file is touched
    folder.mkdir(parents=True, exist_ok=True)
    safetensors.save(folder / WEIGHTS, tensors, {"format": "pt"})
    with atomic_write(folder / CONFIG) as file:
        file.write(text.encode())


def require(path, config, allowed, model):
    """Raise ValueError where the config has a value that is not among those allowed for its name."""
    for name, values in allowed.items():
        if name in config and config[name] not in values:
            raise ValueError(f"{path} has {name} {config[name]!r}; {model} needs {' or '.join(map(repr, values))}")
