"""Dropout silences a random share of the numbers while training, so that no unit can rely on another one.

    … → attention weights → [dropout] → context → …

What survives is scaled up by 1/(1 − p), so the expected value stays and inference needs no change.

Srivastava et al. 2014, Dropout, section 10 (the "inverted" form).

Dropout as a layer, so that a model's drawing of masks can be followed by name.
"""

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_gradient, check_probability
from npllm.core.module import Module


def draw_dropout_mask(shape, p, rng, dtype=np.float32):
    """mask = 0 with probability p, else 1/(1 − p)      an array of the given shape

    `rng` is a numpy.random.Generator: the same generator state gives the same mask. Multiply by the mask to drop.
    """
    p = check_probability("p", p)
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng is {rng!r}; it must be a numpy.random.Generator, such as np.random.default_rng(0)")
    kept = rng.random(shape, dtype=np.float32) >= p
    return kept.astype(dtype) * (1.0 / (1.0 - p))


def dropout(x, p=0.5, rng=None):
    """y = x · mask      (...) → (...)

    rng=None means inference: nothing is dropped and y is x.
    """
    return dropout_forward(x, p, rng)[0]


def dropout_forward(x, p=0.5, rng=None):
    """The value, and in the cache the mask (None where nothing is dropped)."""
    x, p = as_floats(x=x), check_probability("p", p)
    if rng is None or p == 0.0:
        return x, Cache(mask=None)
    mask = draw_dropout_mask(x.shape, p, rng, x.dtype)
    return x * mask, Cache(mask=mask)


def dropout_backward(dy, cache):
    """dx = dy · mask      (...) → (...)

    What was silenced gets no gradient; what was scaled up has its gradient scaled up.
    """
    if cache.mask is None:
        return dy
    return check_gradient(dy, cache.mask.shape, cache.mask.dtype) * cache.mask


class Dropout(Module):
    """y = x · mask      (...) → (...)

    Active only in `forward` with a generator: `layer(x)` and `layer.forward(x)` leave x alone.
    """

    def __init__(self, p=0.5):
        self.p = check_probability("p", p)

    def draw_mask(self, shape, rng, dtype):
        """The factors by which to multiply an array of this shape; None where nothing is dropped."""
        return None if rng is None or self.p == 0.0 else draw_dropout_mask(shape, self.p, rng, dtype)

    def forward(self, x, rng=None):
        """The value, and in the cache the mask."""
        return dropout_forward(x, self.p, rng)

    def backward(self, dy, cache):
        """dx = dy · mask."""
        return dropout_backward(dy, cache)
