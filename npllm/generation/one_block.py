"""Moves the weights of a model into one block of memory, which a step of generation reads faster.

A step reads all weights once. Arrays of a few megabytes lie in pages of 4 KB, and the processor looks up the address of
each page; on Linux, NumPy asks for pages of 2 MB where an array has 4 MB or more. In one block all weights lie in such
pages, one after the other in the order in which they are read.

The values do not change. Arrays that were taken from the model before, such as those of a `state_dict`, keep the old
memory: call this after a model is loaded, not while it is trained.
"""

from collections.abc import Iterator

import numpy as np

from npllm.core.checks import check_instance
from npllm.core.module import Module, Parameter

ALIGNMENT = 64  # bytes: a cache line


def move_into_one_block(model: Module) -> None:
    """Move the parameters of a model into one array for each dtype, in the order of `named_parameters`.

    One parameter is copied at a time, so the memory in use grows by the largest of them only.
    """
    check_instance("model", model, Module)
    parameters: dict[np.dtype, list[Parameter]] = {}
    for _, parameter in model.named_parameters():
        parameters.setdefault(parameter.data.dtype, []).append(parameter)
    for dtype, of_dtype in parameters.items():
        _move(of_dtype, dtype)


def _move(parameters: list[Parameter], dtype: np.dtype) -> None:
    sizes = [parameter.size * dtype.itemsize for parameter in parameters]
    starts = list(_aligned(sizes))
    block = np.empty(starts[-1] + sizes[-1], np.uint8)
    for parameter, start, size in zip(parameters, starts, sizes):
        moved = block[start : start + size].view(dtype).reshape(parameter.shape)
        moved[...] = parameter.data
        parameter.data = moved


def _aligned(sizes: list[int]) -> Iterator[int]:
    """Where each of the arrays begins."""
    start = 0
    for size in sizes:
        yield start
        start += -(-size // ALIGNMENT) * ALIGNMENT
