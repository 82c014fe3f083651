"""The checkpoints in the folder of a run: which one is loaded, and what is offered if it is damaged.

    checkpoint.safetensors → checked against the run → model and trainer

The sizes in run.json are compared with the arrays of the checkpoint before a model is built.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from npllm.core.config import to_dict
from npllm.core.state import copy_into
from npllm.models.presets import build
from npllm.training.checkpoint import load_checkpoint
from npllm.training.run_config import RUN, RunConfig
from npllm.training.trainer import model_arrays
from npllm.utils.fields import REQUIRED, number, read_fields, size
from npllm.utils.file_errors import FileError, reading

CHECKPOINT, PREVIOUS, BEST = "checkpoint.safetensors", "checkpoint.previous.safetensors", "best.safetensors"
LAYER = re.compile(r"model\.(?:model\.)?(?:h|layers)\.(\d+)\.")
BEST_FIELDS = {"steps_done": size(REQUIRED, low=0, high=2**53), "validation_loss": number(REQUIRED)}


def load_run_checkpoint(folder: Path, name: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Load a checkpoint of a run. The error for a damaged or missing one says how to continue."""
    try:
        return load_checkpoint(folder / name)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; {_way_out(folder, name)}") from None
    except FileError as error:
        raise FileError(
            error.path, f"{error.problem}; {_way_out(folder, name)}",
            field=error.field, value=error.value, must_be=error.must_be,
        ) from error  # fmt: skip


def _way_out(folder, name):
    if name == BEST:
        return "remove it to continue the run, which then records its next lowest validation loss"
    if name == PREVIOUS:
        return "there is no earlier checkpoint"
    try:
        steps_done = load_checkpoint(folder / PREVIOUS)[1].get("steps_done")
    except (OSError, ValueError):
        return f"{PREVIOUS}, the checkpoint before it, is missing or damaged, too"
    return (
        f"the checkpoint before it, of step {steps_done}, is intact; to continue from it: "
        f"npllm train --out {folder} --resume --previous"
    )


def build_model(folder: Path, config: RunConfig, arrays: Mapping[str, np.ndarray], dtype: str, path: Path) -> Any:
    """The model of a run with the weights of a checkpoint; raises FileError unless they belong together."""
    arrays = {name: array for name, array in arrays.items() if name.startswith("model.")}
    _check_sizes(folder / RUN, config.model, arrays)
    with reading(folder / RUN):
        try:
            model = build(config.model, dtype=dtype, init=False)
        except (MemoryError, OverflowError):
            raise FileError(folder / RUN, "has a model that does not fit into memory") from None
    with belonging(path):
        check_dtypes(model_arrays(model), arrays)
        copy_into(model_arrays(model), arrays, "the model of this run")
    return model


def check_dtypes(own: Mapping[str, np.ndarray], saved: Mapping[str, np.ndarray]) -> None:
    """Raise TypeError unless every saved array has the dtype of the trainer's, or float32 for float64."""
    for name in own.keys() & saved.keys():
        dtype = saved[name].dtype
        if dtype not in (np.float32, np.float64) or dtype.itemsize > own[name].dtype.itemsize:
            raise TypeError(f"{name} has dtype {dtype}; it must be {own[name].dtype}")


@contextmanager
def belonging(path: Path) -> Iterator[None]:
    """Turn the errors of arrays and values that do not fit into a FileError of this checkpoint."""
    try:
        yield
    except (KeyError, ValueError, TypeError, OverflowError) as error:
        message = error.args[0] if isinstance(error, KeyError) else error
        raise FileError(path, f"does not belong to this run: {message}") from error


def _check_sizes(path, config, arrays):
    """Compare the numbers of layers, heads, experts … with the arrays: a loop over 10⁹ layers would not end."""
    layers = {found[1] for name in arrays if (found := LAYER.match(name))}
    if config.num_layers != len(layers):
        raise FileError(
            path, f"has num_layers {config.num_layers}; the checkpoint has {len(layers)} layers",
            field="num_layers", value=config.num_layers, must_be=str(len(layers)),
        )  # fmt: skip
    limit = sum(array.size for array in arrays.values())
    for name, value in _integers(to_dict(config)):
        if name.startswith("num_") and value > limit:
            raise FileError(path, f"has {name} {value}; the checkpoint has {limit} parameters", field=name, value=value)


def _integers(data, name=""):
    """(name, value) of every integer in nested dicts and lists."""
    if type(data) is int:
        yield name, data
    elif isinstance(data, dict):
        for key, value in data.items():
            yield from _integers(value, key)
    elif isinstance(data, (list, tuple)):
        for value in data:
            yield from _integers(value, name)


def read_best(folder: Path) -> tuple[int, float] | None:
    """(step, validation loss) of best.safetensors; None if there is none."""
    if not (folder / BEST).exists():
        return None
    values = read_fields(folder / BEST, load_run_checkpoint(folder, BEST)[1], BEST_FIELDS)
    return values["steps_done"], values["validation_loss"]
