"""The cache: what a forward pass keeps for its backward, as named arrays, nested as the calls are.

    y        = f(x)                    the value
    y, cache = f_forward(x)            the value, and the named arrays that the backward needs
    dx       = f_backward(dy, cache)   the gradient of each floating-point input, in argument order

A cache is an argument and a result like any other, not hidden state: a layer may run several times before its first
backward, and walking a cache shows every intermediate array of a model. (The keys and values that generation keeps are
something else: the key-value cache, `kv_cache`.)
"""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np


class Cache(SimpleNamespace):
    """The intermediate results of one forward pass, as attributes; a value may be a Cache, or a list of them."""

    def arrays(self, prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
        """Yield (dotted name, array) for every array in the cache, nested ones included."""
        for name, value in vars(self).items():
            yield from _named_arrays(f"{prefix}{name}", value)

    @property
    def nbytes(self) -> int:
        """Bytes of memory that the arrays keep alive; memory that several of them share is counted once."""
        return sum(buffer.nbytes for buffer in self.buffers().values())

    def buffers(self) -> dict[int, np.ndarray]:
        """The arrays that own the memory of the cached ones, by id."""
        return {id(buffer): buffer for buffer in (_owner(array) for _, array in self.arrays())}

    def __repr__(self) -> str:
        """The tree of names, with the shape and dtype of every array."""
        lines = [line for name, value in vars(self).items() for line in _describe(name, value)]
        return "Cache(" + "".join(f"\n  {line}" for line in lines) + ("\n)" if lines else ")")


def _owner(array: np.ndarray) -> np.ndarray:
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _named_arrays(name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, Cache):
        yield from value.arrays(f"{name}.")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _named_arrays(f"{name}.{index}", item)


def _describe(name: str, value: Any) -> list[str]:
    """The lines of one entry of a cache."""
    if isinstance(value, np.ndarray):
        return [f"{name}: {value.shape} {value.dtype}"]
    if isinstance(value, Cache):
        return [f"{name}:", *(f"  {line}" for key, item in vars(value).items() for line in _describe(key, item))]
    if isinstance(value, (list, tuple)) and any(isinstance(item, (np.ndarray, Cache)) for item in value):
        return [f"{name}:", *(f"  {line}" for i, item in enumerate(value) for line in _describe(str(i), item))]
    return [f"{name}: {value!r}"]
