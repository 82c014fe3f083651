"""The same arrays for both sides: read-only for NumPy, as tensors for PyTorch; and random cotangents."""

import numpy as np
import torch

from npllm.core.cache import Cache
from tests.equivalence.difference import as_tuple


def is_float(item):
    """Whether this is an array of floating-point numbers."""
    return isinstance(item, np.ndarray) and np.issubdtype(item.dtype, np.floating)


def read_only(item):
    """A view of an array that cannot be written to; anything else as it is."""
    if not isinstance(item, np.ndarray):
        return item
    view = item.view()
    view.setflags(write=False)
    return view


def as_tensor(item, is_constant=False):
    """A tensor with the array's numbers, which autograd differentiates by unless it is a constant."""
    if not isinstance(item, np.ndarray):
        return item
    contiguous = np.ascontiguousarray(item).reshape(item.shape)
    return torch.tensor(contiguous, requires_grad=is_float(item) and not is_constant)


def cotangent(y, dtype, rng):
    """A random, read-only dy of the output's shape; for several outputs a tuple of them."""
    if isinstance(y, tuple):
        return tuple(cotangent(output, dtype, rng) for output in y)
    return read_only(np.asarray(rng.standard_normal(np.shape(y)), dtype))


def as_tensors(dy):
    """A tuple of tensors for one cotangent or several."""
    return tuple(torch.from_numpy(d.copy()) for d in as_tuple(dy))


def make_cache_read_only(cache):
    """After this, writing to an array of the cache raises ValueError."""
    if isinstance(cache, Cache):
        for _, array in cache.arrays():
            array.setflags(write=False)
