"""Softmax turns scores into weights that are positive and sum to one.

    ids → embedding → scores → [softmax] → context → logits → loss

Three ways to normalise, in the order in which one arrives at them: divide by the sum (negative scores break
it), exponentiate first (large scores overflow), subtract the maximum before that (nothing breaks).

Raschka, Build a Large Language Model (From Scratch), section 3.3.1; stability: Goodfellow, Bengio, Courville,
Deep Learning, section 4.1.
"""

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_gradient


def normalize_by_sum(x, axis=-1):
    """yᵢ = xᵢ / Σⱼ xⱼ      (..., N) → (..., N)

    The first idea for turning scores into weights. It takes scores of one sign; a score and its negative
    divide by zero, which raises ValueError.
    """
    return normalize_by_sum_forward(x, axis)[0]


def normalize_by_sum_forward(x, axis=-1):
    """The value, and in the cache the value `y`, the sum it was divided by, and the axis."""
    x = as_floats(x=x)
    total = x.sum(axis=axis, keepdims=True)
    if (total == 0).any():
        raise ValueError("x sums to 0 along the axis; normalize_by_sum needs a sum other than 0 (softmax does not)")
    y = x / total
    return y, Cache(y=y, total=total, axis=axis)


def normalize_by_sum_backward(dy, cache):
    """dxᵢ = (dyᵢ − Σⱼ dyⱼ yⱼ) / Σⱼ xⱼ      (..., N) → (..., N)

    ∂yⱼ/∂xᵢ = [i = j]/s − xⱼ/s² = ([i = j] − yⱼ)/s,  with s = Σⱼ xⱼ
    """
    dy = check_gradient(dy, cache.y.shape, cache.y.dtype)
    dot = (dy * cache.y).sum(axis=cache.axis, keepdims=True)
    return (dy - dot) / cache.total


def softmax_naive(x, axis=-1):
    """yᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)      (..., N) → (..., N)

    The formula as it stands in books. `softmax_naive_limit` says where it breaks: above, the sum is inf and the
    result nan or 0; where all scores are very negative every exponential is 0, and 0/0 is nan.
    """
    x = as_floats(x=x)
    with np.errstate(over="ignore", invalid="ignore"):  # the overflow is what this function is here to show
        exponentials = np.exp(x)
        return exponentials / exponentials.sum(axis=axis, keepdims=True)


def softmax_naive_forward(x, axis=-1):
    """The value, and in the cache the value `y` and the axis."""
    y = softmax_naive(x, axis)
    return y, Cache(y=y, axis=axis)


def softmax_naive_backward(dy, cache):
    """dxᵢ = yᵢ (dyᵢ − Σⱼ dyⱼ yⱼ)      (..., N) → (..., N)

    The same derivative as softmax: where both are finite they are the same function.
    """
    return softmax_backward(dy, cache)


def softmax_naive_limit(dtype, n=1):
    """Return the largest score, to the last bit, that `n` equal scores may have before softmax_naive overflows.

    n · exp(x) ≤ largest number of the dtype, so x is about ln(max) − ln(n): 11.09 in float16, 88.72 in float32,
    709.78 in float64 for n = 1.
    """
    dtype = np.dtype(dtype)
    largest = np.finfo(dtype).max
    x = np.log(largest / dtype.type(n))
    with np.errstate(over="ignore"):
        while not _sum_is_finite(x, n):
            x = np.nextafter(x, dtype.type(-np.inf))
        while _sum_is_finite(above := np.nextafter(x, largest), n):
            x = above
    return x


def _sum_is_finite(x, n):
    return np.isfinite(np.full(n, np.exp(x)).sum())


def softmax(x, axis=-1):
    """yᵢ = exp(xᵢ − m) / Σⱼ exp(xⱼ − m),  m = maxⱼ xⱼ      (..., N) → (..., N)

    Numerator and denominator are both divided by exp(m): the same number, but no exponent is above 0, so nothing
    overflows. A score of −inf gets weight 0; a row of nothing but −inf (every key masked) gets all zeros, so that
    whoever may look at nothing takes nothing, where 0/0 would spread nan.

    Works along any `axis`; dtype in = dtype out. Raises TypeError unless x is floating point.
    """
    x = as_floats(x=x)
    exponentials = np.exp(_subtract_maximum(x, axis))
    total = exponentials.sum(axis=axis, keepdims=True)
    return exponentials / np.where(total == 0, 1, total)


def softmax_forward(x, axis=-1):
    """The value, and in the cache the value `y` and the axis: the derivative needs nothing else."""
    y = softmax(x, axis)
    return y, Cache(y=y, axis=axis)


def softmax_backward(dy, cache):
    """dxᵢ = yᵢ (dyᵢ − Σⱼ dyⱼ yⱼ)      (..., N) → (..., N)

    ∂yⱼ/∂xᵢ = yⱼ ([i = j] − yᵢ), so  dxᵢ = Σⱼ dyⱼ yⱼ ([i = j] − yᵢ) = yᵢ dyᵢ − yᵢ Σⱼ dyⱼ yⱼ.
    The max needs no derivative: the value does not depend on it.
    """
    dy = check_gradient(dy, cache.y.shape, cache.y.dtype)
    dot = (dy * cache.y).sum(axis=cache.axis, keepdims=True)
    return cache.y * (dy - dot)


def log_softmax(x, axis=-1):
    """yᵢ = (xᵢ − m) − ln Σⱼ exp(xⱼ − m),  m = maxⱼ xⱼ      (..., N) → (..., N)

    The logarithm is taken before anything can round to 0, so a very unlikely class still has a finite log
    probability. A row of nothing but −inf stays −inf, the logarithm of softmax's zeros.
    """
    x = as_floats(x=x)
    shifted = _subtract_maximum(x, axis)
    total = np.exp(shifted).sum(axis=axis, keepdims=True)
    return shifted - np.log(np.where(total == 0, 1, total))


def log_softmax_forward(x, axis=-1):
    """The value, and in the cache the value `y` and the axis."""
    y = log_softmax(x, axis)
    return y, Cache(y=y, axis=axis)


def log_softmax_backward(dy, cache):
    """dxᵢ = dyᵢ − exp(yᵢ) Σⱼ dyⱼ      (..., N) → (..., N)

    ∂yⱼ/∂xᵢ = [i = j] − softmax(x)ᵢ, and softmax(x) = exp(y).
    """
    dy = check_gradient(dy, cache.y.shape, cache.y.dtype)
    return dy - np.exp(cache.y) * dy.sum(axis=cache.axis, keepdims=True)


def _subtract_maximum(x, axis):
    """x − max x, one maximum for each row; x itself where that is −inf, because −inf − (−inf) is nan."""
    maximum = x.max(axis=axis, keepdims=True, initial=-np.inf)
    with np.errstate(over="ignore"):  # the difference of the two largest numbers is −inf, and exp makes it 0: right
        return x - np.where(maximum == -np.inf, 0, maximum)
