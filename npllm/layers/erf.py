"""The error function, which the exact GELU needs and NumPy does not have.

    erf(x) = 2/√π ∫₀ˣ exp(−t²) dt

float64: near 0, erf(x)/x is a smooth function of x², so a polynomial approximates it. Farther out,
erf(x) = 1 − exp(−x²) r(x), and r is a polynomial in (x − 3)/(x + 3).

float32: erf and tanh are alike, erf(x) = tanh(x g(x²)), and a short polynomial approximates g over the whole range. An
error of g hardly counts where both are close to ±1.

The coefficients are computed once, from values of Python's `math.erf` and `math.erfc`, which take one number at a time.

Trefethen, Approximation Theory and Approximation Practice, chapters 3 and 4; Cody 1969, Rational Chebyshev
Approximations for the Error Function (the two ranges).
"""

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.polynomial import Polynomial, chebyshev

from npllm.core.checks import as_array
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.row_blocks import map_elements

BOUNDARY = 1.0  # between both ranges of float64
LIMIT = 6.0  # beyond, erf(x) rounds to 1 in float64
LIMIT32 = 4.0  # beyond, erf(x) rounds to 1 in float32
CENTER = 3.0  # of r's variable


@ieee_arithmetic
def erf(x: np.ndarray) -> np.ndarray:
    """erf(x) = 2/√π ∫₀ˣ exp(−t²) dt      (...) → (...)

    The error is at most 3 units in the last place in float64, most often 1, and 4 in float32. float16 is computed in
    float32 and rounded once. Raises TypeError for a dtype other than these.
    """
    x = as_array("x", x)
    if x.dtype == np.float16:
        return map_elements(lambda x: _erf32(x.astype(np.float32)).astype(np.float16), x)
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(f"x has dtype {x.dtype}; it must be float16, float32 or float64")
    return map_elements(_erf32 if x.dtype == np.float32 else _erf64, x)


def _erf32(x: np.ndarray) -> np.ndarray:
    """erf(x) = tanh(x g(x²)); beyond the limit g is constant, and tanh rounds to 1."""
    u = np.clip(x * x, 0.0, LIMIT32 * LIMIT32)
    g = _polynomial(u, _tanh_coefficients())
    g *= x
    return np.tanh(g, out=g)


def _erf64(x: np.ndarray) -> np.ndarray:
    """erf(x) = x + x p(x²) for |x| < 1, and ±(1 − exp(−x²) r(|x|)) beyond."""
    size = np.minimum(np.abs(x), LIMIT)
    small, large = np.minimum(size, BOUNDARY), np.maximum(size, BOUNDARY)
    near = small + small * _polynomial(small * small, _near_coefficients())
    far = 1.0 - np.exp(-large * large) * _polynomial((large - CENTER) / (large + CENTER), _far_coefficients())
    return np.copysign(np.where(size < BOUNDARY, near, far), x)


def _polynomial(x: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    """c₀ + x (c₁ + x (c₂ + …)), Horner's rule."""
    highest, *others = reversed(coefficients)
    y = np.full_like(x, highest)
    for coefficient in others:
        y *= x
        y += coefficient
    return y


@lru_cache
def _near_coefficients() -> tuple[float, ...]:
    """The polynomial p(u) = erf(√u)/√u − 1 for u in [0, 1]."""
    return _fit(lambda u: math.erf(math.sqrt(u)) / math.sqrt(u) - 1.0, 0.0, BOUNDARY**2, 12)


@lru_cache
def _far_coefficients() -> tuple[float, ...]:
    """The polynomial r = exp(x²) (1 − erf(x)) in t = (x − 3)/(x + 3), for x in [1, 6]."""

    def scaled(t: float) -> float:
        x = CENTER * (1.0 + t) / (1.0 - t)
        return math.exp(x * x) * math.erfc(x)

    low, high = ((x - CENTER) / (x + CENTER) for x in (BOUNDARY, LIMIT))
    return _fit(scaled, low, high, 14)


@lru_cache
def _tanh_coefficients() -> tuple[float, ...]:
    """The polynomial g(u) = artanh(erf(√u))/√u for u in [0, 16], weighted with the effect that its error has on erf."""

    def g(u: float) -> float:
        x = math.sqrt(u)
        return 0.5 * (math.log1p(math.erf(x)) - math.log(math.erfc(x))) / x

    def weight(u: float) -> float:
        x = math.sqrt(u)
        return x * (1.0 - math.erf(x) ** 2) / math.erf(x)

    return _fit(g, 0.0, LIMIT32**2, 7, weight)


def _fit(
    function: Callable[[float], float],
    low: float,
    high: float,
    degree: int,
    weight: Callable[[float], float] = lambda u: 1.0,
) -> tuple[float, ...]:
    """The coefficients of the polynomial with the smallest weighted squares of errors at many Chebyshev points."""
    points = chebyshev.chebpts1(200)
    arguments = ((points + 1.0) / 2.0 * (high - low) + low).tolist()
    series = chebyshev.chebfit(points, [function(u) for u in arguments], degree, w=[weight(u) for u in arguments])
    scaled = Polynomial(chebyshev.cheb2poly(series))
    return tuple(scaled(Polynomial([-1.0 - 2.0 * low / (high - low), 2.0 / (high - low)])).coef.tolist())
