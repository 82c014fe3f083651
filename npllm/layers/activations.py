"""Activations: the bends between two linear maps, without which the two would be one.

    … → linear → [activation] → linear → …

GELU, which GPT-2 uses, weighs x by the chance Φ(x) that a standard normal variable lies below it. GPT-2 was
trained with the tanh approximation, and its weights want that one.

Hendrycks, Gimpel 2016, Gaussian Error Linear Units, sections 2 and 3; SiLU: section 4 of the same.
"""

import math

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_gradient
from npllm.layers.erf import erf

SQRT_2_OVER_PI = math.sqrt(2.0 / math.pi)
CUBIC = 0.044715


def relu(x):
    """y = max(x, 0)      (...) → (...)"""
    return np.maximum(as_floats(x=x), 0)


def relu_forward(x):
    """The value, and in the cache the input."""
    return relu(x), Cache(x=np.asarray(x))


def relu_backward(dy, cache):
    """dx = dy where x > 0, else 0      (...) → (...)"""
    return check_gradient(dy, cache.x.shape, cache.x.dtype) * (cache.x > 0)


def sigmoid(x):
    """σ(x) = 1 / (1 + exp(−x))      (...) → (...)

    Written with exp(−|x|), which never overflows.
    """
    x = as_floats(x=x)
    small = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, small) / (1.0 + small)


def sigmoid_forward(x):
    """The value, which is all that the derivative needs."""
    y = sigmoid(x)
    return y, Cache(y=y)


def sigmoid_backward(dy, cache):
    """dx = dy σ (1 − σ)      (...) → (...)"""
    return check_gradient(dy, cache.y.shape, cache.y.dtype) * cache.y * (1.0 - cache.y)


def silu(x):
    """y = x σ(x)      (...) → (...)

    Also called swish: relu with a rounded corner.
    """
    x = as_floats(x=x)
    return x * sigmoid(x)


def silu_forward(x):
    """The value, and in the cache the input and its sigmoid."""
    x = as_floats(x=x)
    gate = sigmoid(x)
    return x * gate, Cache(x=x, gate=gate)


def silu_backward(dy, cache):
    """dx = dy σ(x) (1 + x (1 − σ(x)))      (...) → (...)

    Product rule: σ + x σ′, and σ′ = σ (1 − σ).
    """
    x, gate = cache.x, cache.gate
    return check_gradient(dy, x.shape, x.dtype) * gate * (1.0 + x * (1.0 - gate))


def gelu(x, approximate="none"):
    """y = x Φ(x)      (...) → (...)

    approximate="none":  Φ(x) = (1 + erf(x/√2)) / 2
    approximate="tanh":  Φ(x) ≈ (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2
    """
    x = as_floats(x=x)
    return x * _normal_distribution(x, approximate)


def gelu_forward(x, approximate="none"):
    """The value, and in the cache the input, Φ(x) and which Φ it is."""
    x = as_floats(x=x)
    phi = _normal_distribution(x, approximate)
    return x * phi, Cache(x=x, phi=phi, approximate=approximate)


def gelu_backward(dy, cache):
    """dx = dy (Φ(x) + x Φ′(x))      (...) → (...)

    none:  Φ′(x) = exp(−x²/2) / √(2π), the normal density.
    tanh:  Φ = (1 + tanh u)/2, so Φ′ = (1 − tanh²u)/2 · u′ = 2 Φ (1 − Φ) u′,  u′ = √(2/π) (1 + 3 · 0.044715 x²).
    """
    phi = cache.phi
    x = _within_saturation(cache.x)
    if cache.approximate == "none":
        density = np.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))
    else:
        density = 2.0 * phi * (1.0 - phi) * SQRT_2_OVER_PI * (1.0 + 3.0 * CUBIC * x * x)
    return check_gradient(dy, x.shape, x.dtype) * (phi + x * density)


def _normal_distribution(x, approximate):
    """Φ(x), the chance that a standard normal variable lies below x."""
    x = _within_saturation(x)
    if approximate == "none":
        return 0.5 * (1.0 + erf(x * math.sqrt(0.5)))
    if approximate == "tanh":
        inner = SQRT_2_OVER_PI * (x + CUBIC * (x * x * x))  # x**3 on float32 is 100 times slower than x*x*x
        return 0.5 * (1.0 + np.tanh(inner))
    raise ValueError(f'approximate is {approximate!r}; it must be "none" or "tanh"')


def _within_saturation(x):
    """x cut to ±30: beyond, Φ is 0 or 1 to the last bit, and x³ would in the end overflow."""
    return np.clip(x, -30.0, 30.0)
