"""Normalization gives the channels of each position a common scale, whatever the scale of the input.

    ids → embedding → [norm] → attention → + → [norm] → feed-forward → + → logits

Layer norm subtracts the mean of the channels and divides by their standard deviation. RMS norm divides by the root mean
square and does not subtract the mean. L2 normalization divides by the length, so that the length becomes 1.

Ba, Kiros, Hinton 2016, Layer Normalization, equation 3; Zhang, Sennrich 2019, Root Mean Square Layer Normalization,
equation 4; Raschka, Build a Large Language Model (From Scratch), section 4.2.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from npllm.core.cache import Cache
from npllm.core.checks import (
    as_dtype,
    as_floats,
    check_gradient,
    check_not_negative,
    check_positive,
    check_shape,
    drop_none,
    reject_half,
)
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.module import Module, Parameter
from npllm.core.row_blocks import map_rows, update_rows


def layer_norm(
    x: np.ndarray, weight: np.ndarray | None = None, bias: np.ndarray | None = None, eps: float = 1e-5
) -> np.ndarray:
    """y = x̂ · weight + bias,  x̂ = (x − mean) / √(variance + eps)      (..., C), (C), (C) → (..., C)

    Mean and variance are those of the last axis. The variance is divided by C, not by C − 1, as in PyTorch.
    """
    return layer_norm_forward(x, weight, bias, eps)[0]


@ieee_arithmetic
def layer_norm_forward(
    x: np.ndarray, weight: np.ndarray | None = None, bias: np.ndarray | None = None, eps: float = 1e-5
) -> tuple[np.ndarray, Cache]:
    """y = x̂ · weight + bias; the cache holds x̂ (`normalized`), 1/√(variance + eps) (`inverse_std`) and the weight."""
    x, weight, bias = _check_channels(x, weight, bias)
    y, normalized, inverse_std = _normalize_rows(_standardize, x, eps, weight, bias)
    return y, Cache(normalized=normalized, inverse_std=inverse_std, weight=weight, has_bias=bias is not None)


def _standardize(x: np.ndarray, eps: Any, out: np.ndarray) -> np.ndarray:
    centered = np.subtract(x, _mean(x), out=out)
    variance = _mean_of_products(centered, centered)
    inverse_std = 1.0 / np.sqrt(variance + eps)
    np.multiply(centered, inverse_std, out=out)
    return inverse_std


@ieee_arithmetic
def layer_norm_backward(dy: np.ndarray, cache: Cache) -> Any:
    """dx = (dx̂ − mean(dx̂) − x̂ mean(dx̂ x̂)) / std      (..., C) → (..., C), (C), (C)

    With x̂ = (x − μ)/σ:  ∂x̂ⱼ/∂xᵢ = ([i = j] − 1/C − x̂ᵢ x̂ⱼ/C) / σ.
    The term 1/C is the derivative of μ, the term x̂ᵢ x̂ⱼ/C that of σ. x̂ does not change when all channels are shifted or
    scaled, so dx is orthogonal to (1, …, 1) and, for eps = 0, to x̂.
    """
    weight, has_bias = cache.weight, cache.has_bias

    def formula(dy: np.ndarray, normalized: np.ndarray, inverse_std: np.ndarray, dx: np.ndarray) -> tuple[Any, Any]:
        dnormalized = dy if weight is None else np.multiply(dy, weight, out=dx)
        mean = _mean(dnormalized)
        projection = normalized * _mean_of_products(dnormalized, normalized)
        np.subtract(dnormalized, mean, out=dx)
        dx -= projection
        dx *= inverse_std
        dweight = None if weight is None else _sum_over_positions(np.multiply(dy, normalized, out=projection))
        return dweight, _sum_over_positions(dy) if has_bias else None

    dy = check_gradient(dy, cache.normalized.shape, cache.normalized.dtype)
    return _dx_and_sums(formula, dy, cache.normalized, cache.inverse_std)


def rms_norm(x: np.ndarray, weight: np.ndarray | None = None, eps: float = 1e-6) -> np.ndarray:
    """y = x̂ · weight,  x̂ = x / √(mean(x²) + eps)      (..., C), (C) → (..., C)

    Layer norm without the mean and without the bias.
    """
    return rms_norm_forward(x, weight, eps)[0]


@ieee_arithmetic
def rms_norm_forward(x: np.ndarray, weight: np.ndarray | None = None, eps: float = 1e-6) -> tuple[np.ndarray, Cache]:
    """y = x̂ · weight; the cache holds x̂ (`normalized`), 1/√(mean(x²) + eps) (`inverse_rms`) and the weight."""
    x, weight, _ = _check_channels(x, weight)
    y, normalized, inverse_rms = _normalize_rows(_divide_by_rms, x, eps, weight)
    return y, Cache(normalized=normalized, inverse_rms=inverse_rms, weight=weight)


def _divide_by_rms(x: np.ndarray, eps: Any, out: np.ndarray) -> np.ndarray:
    inverse_rms = 1.0 / np.sqrt(_mean_of_products(x, x) + eps)
    np.multiply(x, inverse_rms, out=out)
    return inverse_rms


@ieee_arithmetic
def rms_norm_backward(dy: np.ndarray, cache: Cache) -> Any:
    """dx = (dx̂ − x̂ mean(dx̂ x̂)) / rms      (..., C) → (..., C), (C)

    The derivative of layer norm without the term of the mean.
    """
    weight = cache.weight

    def formula(dy: np.ndarray, normalized: np.ndarray, inverse_rms: np.ndarray, dx: np.ndarray) -> tuple[Any, ...]:
        dnormalized = dy if weight is None else np.multiply(dy, weight, out=dx)
        projection = normalized * _mean_of_products(dnormalized, normalized)
        np.subtract(dnormalized, projection, out=dx)
        dx *= inverse_rms
        return (None if weight is None else _sum_over_positions(np.multiply(dy, normalized, out=projection)),)

    dy = check_gradient(dy, cache.normalized.shape, cache.normalized.dtype)
    return _dx_and_sums(formula, dy, cache.normalized, cache.inverse_rms)


def l2_normalize(x: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    """y = x / √(Σ x² + eps)      (..., C) → (..., C)

    The direction of x as a vector of length 1.
    """
    return l2_normalize_forward(x, eps)[0]


@ieee_arithmetic
def l2_normalize_forward(x: np.ndarray, eps: float = 1e-6) -> tuple[np.ndarray, Cache]:
    """y = x / √(Σ x² + eps); the cache holds y, and 1/√(Σ x² + eps) as `inverse_length`."""
    x, *_ = _check_channels(x)
    _, y, inverse_length = _normalize_rows(_divide_by_length, x, eps)
    return y, Cache(y=y, inverse_length=inverse_length)


def _divide_by_length(x: np.ndarray, eps: Any, out: np.ndarray) -> np.ndarray:
    inverse_length = 1.0 / np.sqrt((x * x).sum(axis=-1, keepdims=True) + eps)
    np.multiply(x, inverse_length, out=out)
    return inverse_length


@ieee_arithmetic
def l2_normalize_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = (dy − y Σ dy y) / length      (..., C) → (..., C)

    ∂yⱼ/∂xᵢ = ([i = j] − yᵢ yⱼ) / length. A longer x has the same y, so the component of dy along y does not count.
    """

    def formula(dy: np.ndarray, y: np.ndarray, inverse_length: np.ndarray) -> np.ndarray:
        projection = (dy * y).sum(axis=-1, keepdims=True)
        return (dy - y * projection) * inverse_length

    return map_rows(formula, check_gradient(dy, cache.y.shape, cache.y.dtype), cache.y, cache.inverse_length)


class LayerNorm(Module):
    """y = (x − mean) / √(variance + eps) · weight + bias      (..., C) → (..., C)

    `weight` (C) is initialized with 1 and `bias` (C) with 0. No random numbers are drawn. Without `elementwise_affine`
    there is neither, as in OLMo 1; without `bias` there is the weight alone.
    """

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-5,
        bias: bool = True,
        elementwise_affine: bool = True,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> None:
        check_positive(num_channels=num_channels)
        self.weight = Parameter(np.zeros(num_channels, as_dtype(dtype))) if elementwise_affine else None
        self.bias = Parameter(np.zeros(num_channels, as_dtype(dtype))) if elementwise_affine and bias else None
        self.eps = check_not_negative("eps", eps)
        if init:
            self.init_weights(rng)

    def init_weights(self, rng: np.random.Generator | None = None) -> None:
        """Set the weight to 1 and the bias to 0."""
        if self.weight is not None:
            self.weight.data[...] = 1
        if self.bias is not None:
            self.bias.data[...] = 0

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """y = x̂ · weight + bias; the cache is that of `layer_norm_forward`."""
        weight = None if self.weight is None else self.weight.data
        return layer_norm_forward(x, weight, None if self.bias is None else self.bias.data, self.eps)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """dx; dweight and dbias are added to the gradients of the parameters."""
        if self.weight is None:
            return layer_norm_backward(dy, cache)
        dx, dweight, *dbias = layer_norm_backward(dy, cache)
        self.add_grads(weight=dweight, bias=dbias[0] if dbias else None)
        return dx


class RMSNorm(Module):
    """y = x / √(mean(x²) + eps) · weight      (..., C) → (..., C)

    `weight` (C) is initialized with 1. With `unit_offset` the scale is 1 + weight, as in Gemma, and the weight is
    initialized with 0: weight decay then pulls the scale towards 1. No random numbers are drawn.
    """

    def __init__(
        self,
        num_channels: int,
        eps: float = 1e-6,
        unit_offset: bool = False,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> None:
        check_positive(num_channels=num_channels)
        self.weight = Parameter(np.zeros(num_channels, as_dtype(dtype)))
        self.eps, self.unit_offset = check_not_negative("eps", eps), unit_offset
        if init:
            self.init_weights(rng)

    def init_weights(self, rng: np.random.Generator | None = None) -> None:
        """Set the weight so that the scale is 1."""
        self.weight.data[...] = 0 if self.unit_offset else 1

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """y = x̂ · scale,  scale = weight or 1 + weight; the cache is that of `rms_norm_forward`."""
        scale = 1.0 + self.weight.data if self.unit_offset else self.weight.data
        return rms_norm_forward(x, scale, self.eps)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """dx; dweight = dscale, with the offset and without, is added to the gradient of the parameter."""
        dx, dscale = rms_norm_backward(dy, cache)
        self.add_grads(weight=dscale)
        return dx


def _normalize_rows(
    normalize: Callable, x: np.ndarray, eps: float, weight: np.ndarray | None = None, bias: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x̂ · weight + bias, x̂ and the inverse of the scale; normalize(x, eps, out) stores x̂ and returns the inverse."""
    eps = check_not_negative("eps", eps)
    normalized, inverse = np.empty(x.shape, x.dtype), np.empty((*x.shape[:-1], 1), x.dtype)
    y = normalized if weight is None and bias is None else np.empty(x.shape, x.dtype)

    def formula(x: np.ndarray, y: np.ndarray, normalized: np.ndarray, inverse: np.ndarray) -> None:
        inverse[...] = _without_overflow(normalize, x, eps, normalized)
        if weight is not None:
            np.multiply(normalized, weight, out=y)
        if bias is not None:
            np.add(normalized if weight is None else y, bias, out=y)

    update_rows(formula, x, y, normalized, inverse)
    return y, normalized, inverse


def _without_overflow(normalize: Callable, x: np.ndarray, eps: float, out: np.ndarray) -> np.ndarray:
    """normalize(x, eps, out), also where the squares of x overflow.

    With s = max |x| of the row, f(x, ε) = f(x/s, ε/s²), and the inverse of the scale is divided by s.
    """
    inverse = normalize(x, eps, out)
    if (inverse > 0).all():  # an infinite sum of squares gives 0
        return inverse
    s = np.abs(x).max(axis=-1, keepdims=True)
    s = np.where((s > 1) & (s < np.inf), s, 1).astype(x.dtype)
    return normalize(x / s, eps / s / s, out) / s


def _mean(x: np.ndarray) -> np.ndarray:
    """Σ x / C along the last axis: the dot product with ones takes a quarter of the time of x.mean(axis=-1)."""
    return _mean_of_products(x, np.ones(x.shape[-1], x.dtype))


def _mean_of_products(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Σ a b / C along the last axis: np.vecdot stores no product."""
    return np.vecdot(a, b)[..., None] / a.shape[-1]


def _dx_and_sums(formula: Callable, dy: np.ndarray, *arrays: np.ndarray) -> Any:
    """dx and the sums that are not None; formula(dy, *arrays, dx) stores dx and returns the sums over its positions."""
    dx = np.empty(dy.shape, dy.dtype)
    blocks = update_rows(formula, dy, *arrays, dx)
    return drop_none(dx, *(None if parts[0] is None else sum(parts[1:], start=parts[0]) for parts in zip(*blocks)))


def _sum_over_positions(gradient: np.ndarray) -> np.ndarray:
    return gradient.sum(axis=tuple(range(gradient.ndim - 1)))


def _check_channels(
    x: np.ndarray, weight: np.ndarray | None = None, bias: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    x, weight, bias = as_floats(x=x, weight=weight, bias=bias)
    reject_half(x)
    check_shape("x", x, "(..., C)")
    if x.shape[-1] == 0:
        raise ValueError(f"x has shape {x.shape}; its last axis must have at least one channel")
    for name, parameter in {"weight": weight, "bias": bias}.items():
        if parameter is not None:
            check_shape(name, parameter, "(C)", C=x.shape[-1])
    return x, weight, bias
