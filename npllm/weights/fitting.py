"""The weights of a file in a model: whether they fit, before the model is allocated and before one is copied.

    check_sizes    the sizes of config.json, against the shapes of the tensors
    load_into      every name and shape, no integers, and no value that is nan or infinite

A folder of 5 kB can claim a vocabulary of 10⁹ tokens. So every size that config.json names is compared with the
weights before a model of this size is allocated.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from npllm.core.module import Module
from npllm.utils.file_errors import FileError
from npllm.weights.folder_files import CONFIG

USE_INSTEAD = "use the model's weights in bfloat16, float16 or float32"
MAX_NAMES = 6  # in a message


def check_sizes(
    path: str | PathLike, state: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]], blocks: str,
    num_blocks: int, sizes: Mapping[str, int], num_experts: int = 0,
) -> None:  # fmt: skip
    """Raise FileError where the weights contradict config.json, before a model of the sizes in it is allocated.

    shapes       of tensors that every model has, by name
    blocks       what the names of the blocks' tensors begin with, such as `layers.`; their number is num_blocks
    sizes        sizes by name; no axis of a tensor is smaller
    num_experts  of all blocks together; there are at least as many tensors
    """
    indices = {name.removeprefix(blocks).split(".")[0] for name in state if name.startswith(blocks)}
    if len(indices) != num_blocks:
        raise FileError(path, f"has the weights of {len(indices)} layers; by its {CONFIG} it must have {num_blocks}")
    if missing := sorted(shapes.keys() - state.keys()):
        raise FileError(path, f"does not fit its {CONFIG}: the tensors {_names(missing)} are missing", field=missing[0])
    for name, shape in shapes.items():
        if state[name].shape != shape:
            problem = f"has {name} with shape {state[name].shape}; by its {CONFIG} it must be {shape}"
            raise FileError(path, problem, field=name, value=state[name].shape, must_be=str(shape))
    largest = max(axis for array in state.values() for axis in (*array.shape, 1))
    for name, size in sizes.items():
        if size > largest:
            raise FileError(
                path, f"has no axis larger than {largest}; by its {CONFIG}, {name} is {size}", field=name, value=size,
                must_be=f"at most {largest}",
            )  # fmt: skip
    if num_experts > len(state):
        raise FileError(path, f"has {len(state)} tensors; by its {CONFIG} it must have those of {num_experts} experts")


def load_into(build: Callable[[], Any], state: Mapping[str, np.ndarray], path: str | PathLike) -> Any:
    """The model that `build` allocates, with the arrays of `state` as its weights.

    Raises FileError that names the file and the tensors which are missing, unexpected, of another shape, integers, or
    not finite: one nan would make every output of the model nan.
    """
    for name, array in state.items():
        if not np.issubdtype(array.dtype, np.floating):
            problem = f"has {name} with dtype {array.dtype}: the model is quantised; {USE_INSTEAD}"
            raise FileError(path, problem, field=name, value=str(array.dtype))
    try:
        model: Module = build()
    except MemoryError:
        raise FileError(path, f"has a {CONFIG} for whose sizes there is no memory") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise FileError(Path(path) / CONFIG if Path(path).is_dir() else path, f"is not valid: {error}") from None
    own = model.state_dict()
    _check_names_and_shapes(path, own, state)
    with np.errstate(over="ignore", invalid="ignore"):  # a float64 above 3e38 becomes infinite, which is refused below
        model.load_state_dict(state)
    _check_finite(path, own)
    return model


def _check_names_and_shapes(
    path: str | PathLike, own: Mapping[str, np.ndarray], state: Mapping[str, np.ndarray]
) -> None:
    missing, unexpected = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
    problems = [f"the tensors {_names(missing)} are missing"] if missing else []
    problems += [f"the tensors {_names(unexpected)} are unexpected"] if unexpected else []
    other = [name for name, array in own.items() if name in state and state[name].shape != array.shape]
    problems += [f"{name} has shape {state[name].shape}, which must be {own[name].shape}" for name in other[:MAX_NAMES]]
    if problems:
        problem = f"does not fit its {CONFIG}: {'; '.join(problems)}"
        raise FileError(path, problem, field=next(iter([*missing, *unexpected, *other])))


def _check_finite(path: str | PathLike, own: Mapping[str, np.ndarray]) -> None:
    """Raise FileError for the first tensor with a value that is nan or infinite.

    The sum of the squares is finite only if all values are. It is the fastest test; where the sum is not finite,
    because one value is not or because it overflows, each value is tested.
    """
    distinct = {id(array): (name, array) for name, array in reversed(list(own.items()))}  # a tied weight has two names
    for name, array in reversed(list(distinct.values())):
        values = array.reshape(-1)
        with np.errstate(over="ignore", invalid="ignore"):
            total = float(np.dot(values, values))
        if math.isfinite(total) or np.isfinite(array).all():
            continue
        value = float(array[~np.isfinite(array)][0])
        raise FileError(
            path, f"has the tensor {name} with the value {value}; all values must be finite in {array.dtype}",
            field=name, value=value, must_be="finite",
        )  # fmt: skip


def _names(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(name[:100] for name in names[:MAX_NAMES]) + more
