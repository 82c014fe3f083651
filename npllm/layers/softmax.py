"""Softmax turns scores into positive weights whose sum is 1.

    ids → embedding → scores → [softmax] → context → logits → loss

Three ways to normalize, each a correction of the previous one: divide by the sum (fails for scores of both signs);
exponentiate first (overflows for large scores); subtract the maximum before that (correct for all scores).

Raschka, Build a Large Language Model (From Scratch), section 3.3.1; numerical stability: Goodfellow, Bengio, Courville,
Deep Learning, section 4.1.
"""

import numpy as np
from numpy.typing import DTypeLike

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_axis, check_gradient, widen
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.row_blocks import map_rows, update_rows


def normalize_by_sum(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """yᵢ = xᵢ / Σⱼ xⱼ      (..., N) → (..., N)

    The weights are positive only if all scores have the same sign. Raises ValueError where the sum is 0.
    """
    return normalize_by_sum_forward(x, axis)[0]


@ieee_arithmetic
def normalize_by_sum_forward(x: np.ndarray, axis: int = -1) -> tuple[np.ndarray, Cache]:
    """yᵢ = xᵢ / Σⱼ xⱼ; the cache holds y, the sum as `total`, and the axis."""
    x = as_floats(x=x)
    axis = check_axis(axis, x)
    total = widen(x).sum(axis=axis, keepdims=True)
    if (total == 0).any():
        raise ValueError("the sum of x along the axis is 0; it must not be 0 (softmax has no such restriction)")
    y = (x / total).astype(x.dtype, copy=False)
    return y, Cache(y=y, total=total, axis=axis)


@ieee_arithmetic
def normalize_by_sum_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dxᵢ = (dyᵢ − Σⱼ dyⱼ yⱼ) / Σⱼ xⱼ      (..., N) → (..., N)

    ∂yⱼ/∂xᵢ = [i = j]/s − xⱼ/s² = ([i = j] − yⱼ)/s,  with s = Σⱼ xⱼ
    """
    dy = check_gradient(dy, cache.y.shape, cache.y.dtype)
    dot = (widen(dy) * widen(cache.y)).sum(axis=cache.axis, keepdims=True)
    return ((dy - dot) / cache.total).astype(cache.y.dtype, copy=False)


def softmax_naive(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """yᵢ = exp(xᵢ) / Σⱼ exp(xⱼ)      (..., N) → (..., N)

    The definition of softmax. In floating-point numbers it fails for scores above `softmax_naive_limit`, where the sum
    is inf and the result 0 or nan, and where all exponentials round to 0, so that the result is 0/0 = nan.
    """
    return softmax_naive_forward(x, axis)[0]


@ieee_arithmetic
def softmax_naive_forward(x: np.ndarray, axis: int = -1) -> tuple[np.ndarray, Cache]:
    """yᵢ = exp(xᵢ) / Σⱼ exp(xⱼ); the cache holds y and the axis."""
    x = as_floats(x=x)
    axis = check_axis(axis, x)
    exponentials = np.exp(x)
    y = exponentials / exponentials.sum(axis=axis, keepdims=True)
    return y, Cache(y=y, axis=axis)


def softmax_naive_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dxᵢ = yᵢ (dyᵢ − Σⱼ dyⱼ yⱼ)      (..., N) → (..., N)

    The derivative of softmax: where both results are finite, the two functions are equal.
    """
    return softmax_backward(dy, cache)


def softmax_naive_limit(dtype: DTypeLike, n: int = 1) -> np.floating:
    """Return the largest score for which `softmax_naive` of n equal scores does not overflow, exact to the last bit.

    n exp(x) must be at most the largest number of the dtype, so the limit is about ln(max) − ln(n). For n = 1 it is
    11.09 in float16, 88.72 in float32 and 709.78 in float64.
    """
    dtype = np.dtype(dtype)
    largest = np.finfo(dtype).max
    x = np.log(largest / dtype.type(n))
    with np.errstate(over="ignore"):
        while not _sum_is_finite(x, n):
            x = np.nextafter(x, -largest)
        while _sum_is_finite(above := np.nextafter(x, largest), n):
            x = above
    return x


def _sum_is_finite(x: np.floating, n: int) -> bool:
    return bool(np.isfinite(np.full(n, np.exp(x)).sum()))


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """yᵢ = exp(xᵢ − m) / Σⱼ exp(xⱼ − m),  m = maxⱼ xⱼ      (..., N) → (..., N)

    Numerator and denominator of the definition are divided by exp(m). The value is the same, and no exponent is
    positive, so nothing overflows. A score of −inf has weight 0. A row in which all scores are −inf (all keys are
    masked) has only zeros, where 0/0 would give nan. float16 is computed in float32 and rounded once: a sum of float16
    numbers does not grow beyond 2048. Raises TypeError unless x is floating point.
    """
    return softmax_forward(x, axis)[0]


@ieee_arithmetic
def softmax_forward(x: np.ndarray, axis: int = -1) -> tuple[np.ndarray, Cache]:
    """yᵢ = exp(xᵢ − m) / Σⱼ exp(xⱼ − m),  m = maxⱼ xⱼ; the cache holds y and the axis."""
    x = as_floats(x=x)
    axis = _from_the_end(axis, x)

    def formula(x: np.ndarray, y: np.ndarray) -> None:
        shifted = _subtract_maximum(widen(x), axis, out=widen(y))
        exponentials = np.exp(shifted, out=shifted)
        total = exponentials.sum(axis=axis, keepdims=True)
        np.divide(exponentials, np.where(total == 0, 1, total), out=y, casting="same_kind")

    y = np.empty(x.shape, x.dtype)
    update_rows(formula, x, y, axis=axis)
    return y, Cache(y=y, axis=axis)


@ieee_arithmetic
def softmax_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dxᵢ = yᵢ (dyᵢ − Σⱼ dyⱼ yⱼ)      (..., N) → (..., N)

    ∂yⱼ/∂xᵢ = yⱼ ([i = j] − yᵢ), so  dxᵢ = Σⱼ dyⱼ yⱼ ([i = j] − yᵢ) = yᵢ dyᵢ − yᵢ Σⱼ dyⱼ yⱼ.
    The maximum m is treated as a constant, because y does not depend on it.
    """

    def formula(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
        dy, y = widen(dy), widen(y)
        dx = dy * y
        dot = dx.sum(axis=cache.axis, keepdims=True)
        np.subtract(dy, dot, out=dx)
        dx *= y
        return dx.astype(cache.y.dtype, copy=False)

    return map_rows(formula, check_gradient(dy, cache.y.shape, cache.y.dtype), cache.y, axis=cache.axis)


def log_softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """yᵢ = (xᵢ − m) − ln Σⱼ exp(xⱼ − m),  m = maxⱼ xⱼ      (..., N) → (..., N)

    The logarithm of softmax, computed without softmax: a very small probability would round to 0, and its logarithm to
    −inf. A row in which all scores are −inf stays −inf. Raises TypeError unless x is floating point.
    """
    return log_softmax_forward(x, axis)[0]


@ieee_arithmetic
def log_softmax_forward(x: np.ndarray, axis: int = -1) -> tuple[np.ndarray, Cache]:
    """yᵢ = (xᵢ − m) − ln Σⱼ exp(xⱼ − m),  m = maxⱼ xⱼ; the cache holds y and the axis."""
    x = as_floats(x=x)
    axis = _from_the_end(axis, x)

    def formula(x: np.ndarray) -> np.ndarray:
        shifted = _subtract_maximum(widen(x), axis)
        total = np.exp(shifted).sum(axis=axis, keepdims=True)
        return (shifted - np.log(np.where(total == 0, 1, total))).astype(x.dtype, copy=False)

    y = map_rows(formula, x, axis=axis)
    return y, Cache(y=y, axis=axis)


@ieee_arithmetic
def log_softmax_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dxᵢ = dyᵢ − exp(yᵢ) Σⱼ dyⱼ      (..., N) → (..., N)

    ∂yⱼ/∂xᵢ = [i = j] − softmax(x)ᵢ, and softmax(x) = exp(y).
    """

    def formula(dy: np.ndarray, y: np.ndarray) -> np.ndarray:
        dy, y = widen(dy), widen(y)
        return (dy - np.exp(y) * dy.sum(axis=cache.axis, keepdims=True)).astype(cache.y.dtype, copy=False)

    return map_rows(formula, check_gradient(dy, cache.y.shape, cache.y.dtype), cache.y, axis=cache.axis)


def _from_the_end(axis: int, x: np.ndarray) -> int:
    """The axis as a negative number, which stays the same where several leading axes become one."""
    axis = check_axis(axis, x)
    return axis - x.ndim if axis >= 0 else axis


def _subtract_maximum(x: np.ndarray, axis: int, out: np.ndarray | None = None) -> np.ndarray:
    """x − max x along the axis; x itself where the maximum is −inf, because −inf − (−inf) is nan."""
    maximum = x.max(axis=axis, keepdims=True, initial=-np.inf)
    finite = np.where(maximum == -np.inf, 0, maximum)
    return np.subtract(x, finite, out=out)  # where it overflows to −inf, exp gives the correct weight 0
