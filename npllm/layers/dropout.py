"""Dropout sets a random fraction p of the numbers to zero during training, and scales the others by 1/(1 − p).

    … → attention weights → [dropout] → context → …

A unit cannot rely on another unit that may be dropped; this reduces overfitting. Because of the scaling the expected
value of the output is the input, so inference needs no change.

Srivastava et al. 2014, Dropout, section 10 (the "inverted" form).
"""

import numpy as np
from numpy.typing import DTypeLike

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_gradient, check_probability
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.module import Module, check_generator
from npllm.core.row_blocks import map_elements


def draw_dropout_mask(
    shape: tuple[int, ...], p: float, rng: np.random.Generator, dtype: DTypeLike = np.float32
) -> np.ndarray:
    """dropout_mask = 0 with probability p, else 1/(1 − p)      an array of the given shape

    The same state of `rng` gives the same mask. Raises ValueError unless 0 ≤ p < 1, TypeError for another `rng`.
    """
    p = check_probability("p", p)
    kept = check_generator(rng).random(shape, dtype=np.float32) >= p
    return kept.astype(dtype) * (1.0 / (1.0 - p))


def dropout(x: np.ndarray, p: float = 0.5, *, rng: np.random.Generator | None = None) -> np.ndarray:
    """y = x · dropout_mask      (...) → (...)

    `rng` draws the mask. Without it, or for p = 0, nothing is dropped: y is x itself, not a copy, and dx is dy itself.
    """
    return dropout_forward(x, p, rng=rng)[0]


@ieee_arithmetic
def dropout_forward(
    x: np.ndarray, p: float = 0.5, *, rng: np.random.Generator | None = None
) -> tuple[np.ndarray, Cache]:
    """y = x · dropout_mask; the cache holds `dropout_mask`, None where nothing is dropped, and x's shape and dtype."""
    x, p = as_floats(x=x), check_probability("p", p)
    if rng is not None:
        check_generator(rng)
    if rng is None or p == 0.0:
        return x, Cache(dropout_mask=None, shape=x.shape, dtype=x.dtype)
    dropout_mask = draw_dropout_mask(x.shape, p, rng, x.dtype)
    return map_elements(np.multiply, x, dropout_mask), Cache(dropout_mask=dropout_mask, shape=x.shape, dtype=x.dtype)


@ieee_arithmetic
def dropout_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dy · dropout_mask      (...) → (...)

    y is x times a constant, so dx is dy times the same constant.
    """
    dy = check_gradient(dy, cache.shape, cache.dtype)
    return dy if cache.dropout_mask is None else map_elements(np.multiply, dy, cache.dropout_mask)


class Dropout(Module):
    """y = x · dropout_mask      (...) → (...)

    Dropout is active only in `forward(x, rng=rng)`; `layer(x)` and `layer.forward(x)` return x.
    """

    def __init__(self, p: float = 0.5) -> None:
        self.p = check_probability("p", p)

    def draw_dropout_mask(
        self, shape: tuple[int, ...], rng: np.random.Generator | None, dtype: DTypeLike
    ) -> np.ndarray | None:
        """A dropout mask of the given shape; None where nothing is dropped: without `rng`, or for p = 0."""
        if rng is not None:
            check_generator(rng)
        return None if rng is None or self.p == 0.0 else draw_dropout_mask(shape, self.p, rng, dtype)

    def forward(self, x: np.ndarray, *, rng: np.random.Generator | None = None) -> tuple[np.ndarray, Cache]:
        """y = x · dropout_mask; the cache holds `dropout_mask`."""
        return dropout_forward(x, self.p, rng=rng)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """dx = dy · dropout_mask."""
        return dropout_backward(dy, cache)
