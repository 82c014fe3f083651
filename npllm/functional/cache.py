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
        """Bytes held by the arrays, each array counted once even if it has two names."""
        distinct = {id(array): array for _, array in self.arrays()}
        return sum(array.nbytes for array in distinct.values())


def _walk(name, value):
    if isinstance(value, np.ndarray):
        yield name, value
    elif isinstance(value, Cache):
        yield from value.arrays(f"{name}.")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _walk(f"{name}.{index}", item)
