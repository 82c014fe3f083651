"""The divisor of linear attention, the sum of the weights: each value gets one more channel, which holds a 1.

    Σ a_s [v_s | 1] = [n | d],      y = n / d

So the weighted sum of the values and the sum of the weights are one matrix product, and S and z are one state [S | z].

Katharopoulos, Vyas, Pappas, Fleuret 2020, Transformers are RNNs, section 3.2.
"""

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import check_gradient


def append_ones(v: np.ndarray) -> np.ndarray:
    """Each value with one more channel, which holds a 1: (..., T, E) → (..., T, E + 1)."""
    return np.concatenate([v, np.ones((*v.shape[:-1], 1), v.dtype)], axis=-1)


def divide(sums: np.ndarray) -> tuple[np.ndarray, Cache]:
    """y = n / d for sums = [n | d], and 0 where d is 0: (..., T, E + 1) → (..., T, E). The cache has y and 1 / d."""
    divisor = sums[..., -1:]
    inverse = np.divide(1, divisor, out=np.zeros_like(divisor), where=divisor != 0)
    y = sums[..., :-1] * inverse
    return y, Cache(y=y, inverse=inverse)


def divide_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dn = dy / d,  dd = −Σ dy n / d² = −Σ dy y / d: (..., T, E) → (..., T, E + 1)."""
    dy = check_gradient(dy, cache.y.shape, cache.y.dtype)
    ddivisor = -(dy * cache.y).sum(axis=-1, keepdims=True) * cache.inverse
    return np.concatenate([dy * cache.inverse, ddivisor], axis=-1)
