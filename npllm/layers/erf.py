"""The error function, which the exact GELU needs and NumPy does not have.

    erf(x) = 2/√π ∫₀ˣ exp(−t²) dt

erf(x)/x is a smooth function of u = x², so a polynomial approximates it: a sum of a few dozen Chebyshev polynomials.
Their coefficients are computed once, from values of Python's `math.erf`, which takes one number at a time. For
|x| ≥ limit, erf(x) rounds to ±1.

Trefethen, Approximation Theory and Approximation Practice, chapters 3 and 4.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.polynomial import chebyshev

from npllm.core.checks import as_array
from npllm.core.ieee_arithmetic import ieee_arithmetic

# dtype: (limit, number of coefficients). More coefficients or a larger limit do not reduce the error, which
# tests/layers/test_erf.py measures.
_PRECISION = {
    np.dtype(np.float64): (6.0, 44),
    np.dtype(np.float32): (4.0, 24),
    np.dtype(np.float16): (3.0, 14),
}


@ieee_arithmetic
def erf(x: np.ndarray) -> np.ndarray:
    """erf(x) = 2/√π ∫₀ˣ exp(−t²) dt      (...) → (...)

    The absolute error is at most 3e-14 in float64 and 3e-7 in float32. Raises TypeError for a dtype other than float16,
    float32 and float64.
    """
    x = as_array("x", x)
    if x.dtype not in _PRECISION:
        raise TypeError(f"x has dtype {x.dtype}; it must be float16, float32 or float64")
    limit, num_coefficients = _PRECISION[x.dtype]
    clipped = np.clip(x, -limit, limit)
    u = (
        clipped * clipped * (2 / limit**2) - 1.0
    )  # x² in [0, limit²] is mapped to [−1, 1], the domain of the polynomials
    y = clipped * chebyshev.chebval(u, _coefficients(limit, num_coefficients).astype(x.dtype))
    return np.where(np.abs(x) >= limit, np.sign(x), np.clip(y, -1, 1))


@lru_cache
def _coefficients(limit: float, count: int) -> np.ndarray:
    """The Chebyshev coefficients of erf(√u)/√u for u in [0, limit²]."""
    points = chebyshev.chebpts1(count)
    roots = np.sqrt((points + 1.0) / 2.0) * limit  # √u
    return chebyshev.chebfit(points, [math.erf(root) / root for root in roots], count - 1)
