"""Activations: the non-linear functions between two linear maps; without one, two linear maps equal a single one.

    … → linear → [activation] → linear → …

ReLU sets negative inputs to 0. The others are smooth. GELU multiplies x by Φ(x), the probability that a standard normal
variable is less than x. GPT-2 was trained with the tanh approximation of GELU, so its weights need that one. A model
must be run with the activation that it was trained with; the further ones here occur in published models.

Each formula is computed block by block (`map_elements`). The caches hold the input alone: to compute the function again
in the backward takes less time than to write its value to memory and to read it.

Hendrycks, Gimpel 2016, Gaussian Error Linear Units, section 2 (GELU, its approximations, SiLU); So et al. 2021,
Primer, section 4.1 (squared ReLU).
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_gradient, widen
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.row_blocks import map_elements
from npllm.layers.erf import erf

SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
CUBIC = 0.044715
QUICK = 1.702
Activation = Literal["relu", "squared_relu", "sigmoid", "tanh", "quick_gelu", "silu", "gelu", "gelu_tanh"]


def relu(x: np.ndarray) -> np.ndarray:
    """y = max(x, 0)      (...) → (...)"""
    return relu_forward(x)[0]


@ieee_arithmetic
def relu_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """y = max(x, 0); the cache holds x."""
    x = as_floats(x=x)
    return map_elements(lambda x: np.maximum(x, 0), x), Cache(x=x)


@ieee_arithmetic
def relu_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = 0 where x ≤ 0, else dy      (...) → (...)"""
    dy = check_gradient(dy, cache.x.shape, cache.x.dtype)
    return map_elements(lambda dy, x: np.where(x <= 0, 0, dy), dy, cache.x)


@ieee_arithmetic
def sigmoid(x: np.ndarray) -> np.ndarray:
    """σ(x) = 1 / (1 + exp(−x))      (...) → (...)

    For very negative x the exponential overflows to ∞, and 1/∞ = 0 is the limit.
    """
    return map_elements(_sigmoid, as_floats(x=x))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (1.0 / (1.0 + np.exp(-widen(x)))).astype(x.dtype, copy=False)


@ieee_arithmetic
def sigmoid_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """σ(x); the cache holds the output y."""
    y = sigmoid(x)
    return y, Cache(y=y)


@ieee_arithmetic
def sigmoid_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dy σ (1 − σ)      (...) → (...)"""
    dy = check_gradient(dy, cache.y.shape, cache.y.dtype)
    return map_elements(lambda dy, y: dy * y * (1.0 - y), dy, cache.y)


def silu(x: np.ndarray) -> np.ndarray:
    """y = x σ(x)      (...) → (...)

    Also called swish.
    """
    return silu_forward(x)[0]


@ieee_arithmetic
def silu_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """y = x σ(x); the cache holds x."""
    x = as_floats(x=x)
    return map_elements(lambda x: _without_minus_inf(x) * _sigmoid(x), x), Cache(x=x)


@ieee_arithmetic
def silu_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dy (σ(x) + x σ(x) (1 − σ(x)))      (...) → (...)

    By the product rule the derivative is σ + x σ′, and σ′ = σ (1 − σ).
    """

    def formula(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        x = _clip_to_finite(x)
        gate = _sigmoid(x)
        return dy * (gate + x * gate * (1.0 - gate))

    return map_elements(formula, check_gradient(dy, cache.x.shape, cache.x.dtype), cache.x)


def gelu(x: np.ndarray, approximate: str = "none") -> np.ndarray:
    """y = x Φ(x)      (...) → (...)

    approximate="none":  Φ(x) = (1 + erf(x/√2)) / 2
    approximate="tanh":  Φ(x) ≈ (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2

    Raises ValueError for another `approximate`.
    """
    return gelu_forward(x, approximate)[0]


@ieee_arithmetic
def gelu_forward(x: np.ndarray, approximate: str = "none") -> tuple[np.ndarray, Cache]:
    """y = x Φ(x); the cache holds x and `approximate`."""
    x, normal_cdf = as_floats(x=x), _normal_cdf(approximate)
    return map_elements(lambda x: _without_minus_inf(x) * normal_cdf(x), x), Cache(x=x, approximate=approximate)


@ieee_arithmetic
def gelu_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dy (Φ(x) + x Φ′(x))      (...) → (...)

    none:  Φ′(x) = exp(−x²/2) / √(2π), the normal density.
    tanh:  Φ = (1 + tanh u)/2, so Φ′ = (1 − tanh²u)/2 · u′ = 2 Φ (1 − Φ) u′,  u′ = √(2/π) (1 + 3 · 0.044715 x²).
    """
    normal_cdf = _normal_cdf(cache.approximate)

    def formula(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        x = _clip_to_saturation(x)
        phi = normal_cdf(x)
        if cache.approximate == "none":
            density = np.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))
        else:
            density = (2.0 * SQRT_2_OVER_PI) * (phi * (1.0 - phi)) * (1.0 + (3.0 * CUBIC) * (x * x))
        return dy * (phi + x * density)

    return map_elements(formula, check_gradient(dy, cache.x.shape, cache.x.dtype), cache.x)


def quick_gelu(x: np.ndarray) -> np.ndarray:
    """y = x σ(1.702 x)      (...) → (...)

    A faster approximation of GELU.
    """
    return quick_gelu_forward(x)[0]


@ieee_arithmetic
def quick_gelu_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """y = x σ(1.702 x); the cache holds x."""
    x = as_floats(x=x)
    return map_elements(lambda x: _without_minus_inf(x) * _sigmoid(QUICK * x), x), Cache(x=x)


@ieee_arithmetic
def quick_gelu_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dy (gate + 1.702 x gate (1 − gate))      (...) → (...)

    By the product rule the derivative is σ(u) + x σ′(u) u′ with u = 1.702 x and σ′ = σ (1 − σ).
    """

    def formula(dy: np.ndarray, x: np.ndarray) -> np.ndarray:
        x = _clip_to_finite(x)
        gate = _sigmoid(QUICK * x)
        return dy * (gate + QUICK * (x * gate * (1.0 - gate)))

    return map_elements(formula, check_gradient(dy, cache.x.shape, cache.x.dtype), cache.x)


def tanh(x: np.ndarray) -> np.ndarray:
    """y = tanh(x)      (...) → (...)"""
    return tanh_forward(x)[0]


@ieee_arithmetic
def tanh_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """y = tanh(x); the cache holds y."""
    y = map_elements(np.tanh, as_floats(x=x))
    return y, Cache(y=y)


@ieee_arithmetic
def tanh_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = dy (1 − y²)      (...) → (...)"""
    dy = check_gradient(dy, cache.y.shape, cache.y.dtype)
    return map_elements(lambda dy, y: dy * (1.0 - y * y), dy, cache.y)


def squared_relu(x: np.ndarray) -> np.ndarray:
    """y = max(x, 0)²      (...) → (...)"""
    return squared_relu_forward(x)[0]


@ieee_arithmetic
def squared_relu_forward(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """y = max(x, 0)²; the cache holds max(x, 0), called `root`."""
    root = np.maximum(as_floats(x=x), 0)
    return root * root, Cache(root=root)


@ieee_arithmetic
def squared_relu_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dx = 2 dy max(x, 0)      (...) → (...)"""
    dy = check_gradient(dy, cache.root.shape, cache.root.dtype)
    return np.where(cache.root == 0, 0, 2.0 * (dy * cache.root))


ACTIVATIONS: dict[str, tuple[Any, Any]] = {  # the name in configurations: forward and backward
    "relu": (relu_forward, relu_backward),
    "squared_relu": (squared_relu_forward, squared_relu_backward),
    "sigmoid": (sigmoid_forward, sigmoid_backward),
    "tanh": (tanh_forward, tanh_backward),
    "quick_gelu": (quick_gelu_forward, quick_gelu_backward),
    "silu": (silu_forward, silu_backward),
    "gelu": (gelu_forward, gelu_backward),
    "gelu_tanh": (partial(gelu_forward, approximate="tanh"), gelu_backward),
}


def activation_forward(x: np.ndarray, name: str) -> tuple[np.ndarray, Cache]:
    """y = the activation of this name of x, and its cache. Raises ValueError for a name not in ACTIVATIONS."""
    return ACTIVATIONS[check_activation(name)][0](x)


def activation_backward(dy: np.ndarray, cache: Cache, name: str) -> np.ndarray:
    """dx = dy times the derivative of the activation of this name."""
    return ACTIVATIONS[name][1](dy, cache)


def check_activation(name: str) -> str:
    """The name; raise ValueError unless it is one of ACTIVATIONS."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation is {name!r}; it must be one of {', '.join(ACTIVATIONS)}")
    return name


def _normal_cdf(approximate: str) -> Callable[[np.ndarray], np.ndarray]:
    """Φ, the cumulative distribution function of the standard normal distribution, or its approximation."""
    if approximate == "none":
        return lambda x: 0.5 * (1.0 + erf(x * math.sqrt(0.5)))
    if approximate == "tanh":  # x**3 is 100 times slower in float32
        return lambda x: 0.5 * (1.0 + np.tanh(SQRT_2_OVER_PI * (x + CUBIC * (x * x * x))))
    raise ValueError(f'approximate is {approximate!r}; it must be "none" or "tanh"')


def _clip_to_saturation(x: np.ndarray) -> np.ndarray:
    """x, limited to ±30: beyond, Φ(x) rounds to 0 or 1, and the squares in the derivative could overflow."""
    return np.clip(x, -30.0, 30.0)


def _without_minus_inf(x: np.ndarray) -> np.ndarray:
    """x with the most negative finite number for −inf: the limit of x σ(x) is 0, and −inf · 0 is nan."""
    return np.clip(x, np.finfo(x.dtype).min, np.inf)  # twice as fast as np.maximum


def _clip_to_finite(x: np.ndarray) -> np.ndarray:
    """x with the largest finite numbers for ±inf: in a derivative, inf · 0 stands for a limit that is 0."""
    limits = np.finfo(x.dtype)
    return np.clip(x, limits.min, limits.max)
