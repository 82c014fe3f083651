"""What a forward pass keeps for its backward: arrays by name, nested as the calls are.

    ids → embedding → attention → loss        each arrow f has three forms:

    y        = f(x)                    the value alone; nothing is kept
    y, cache = f_forward(x)            the value, and here, by name, what its derivative will need
    dx       = f_backward(dy, cache)   the gradient of each floating-point input, in argument order

A cache is an argument and a result like any other, never hidden state: a layer may run twice before its
first backward, and walking a cache shows every intermediate array of a model.
"""

from types import SimpleNamespace

import numpy as np


class Cache(SimpleNamespace):
    """The intermediate results of one forward pass, as attributes; a value may be a Cache, or a list of them."""

    def arrays(self, prefix=""):
        """Walk the cache: yield (dotted name, array) for every array in it, nested ones included."""
        for name, value in vars(self).items():
            yield from _walk(f"{prefix}{name}", value)

    @property
    def nbytes(self):
        """Bytes of memory that the arrays keep alive; what several of them show is counted once."""
        return sum(buffer.nbytes for buffer in self.buffers().values())

    def buffers(self):
        """The arrays that own the memory which the cached ones show, by id."""
        return {id(buffer): buffer for buffer in (_buffer(array) for _, array in self.arrays())}


def _buffer(array):
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _walk(name, value):
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, Cache):
        yield from value.arrays(f"{name}.")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _walk(f"{name}.{index}", item)
