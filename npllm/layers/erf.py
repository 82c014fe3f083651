"""The error function, which NumPy lacks and the exact GELU needs.

    erf(x) = 2/√π ∫₀ˣ exp(−t²) dt,  the chance that a normal variable of variance 1/2 lies within ±x

erf(x)/x is a smooth function of u = x², and a smooth function is a short sum of Chebyshev polynomials. Python's
`math.erf` is exact but takes one number at a time: we call it at a few dozen points, once, and read the sum's
coefficients off. Beyond ±limit, erf is ±1 to the last bit.

Trefethen, Approximation Theory and Approximation Practice, chapters 3 and 4.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.polynomial import chebyshev

# dtype: (limit, number of coefficients). More coefficients, or a wider range, do not lower the error, which
# tests/functional/test_erf.py measures: 3e-14 in float64, 3e-7 in float32.
_PRECISION = {
    np.dtype(np.float64): (6.0, 44),
    np.dtype(np.float32): (4.0, 24),
    np.dtype(np.float16): (3.0, 14),
}


def erf(x):
    """erf(x) = 2/√π ∫₀ˣ exp(−t²) dt      (...) → (...)

    Absolute error 3e-14 in float64, 3e-7 in float32. Raises TypeError for other dtypes.
    """
    x = np.asarray(x)
    if x.dtype not in _PRECISION:
        raise TypeError(f"x has dtype {x.dtype}; erf is made for float16, float32 and float64")
    limit, count = _PRECISION[x.dtype]
    clipped = np.clip(x, -limit, limit)
    scaled = clipped * clipped * (2 / limit**2) - 1.0  # u = x² from [0, limit²] to [−1, 1], where Chebyshev lives
    y = clipped * chebyshev.chebval(scaled, _coefficients(limit, count).astype(x.dtype))
    return np.where(np.abs(x) >= limit, np.sign(x), np.clip(y, -1, 1))


@lru_cache
def _coefficients(limit, count):
    """The Chebyshev coefficients of erf(√u)/√u for u in [0, limit²]."""
    points = chebyshev.chebpts1(count)
    roots = np.sqrt((points + 1.0) / 2.0) * limit
    return chebyshev.chebfit(points, [math.erf(root) / root for root in roots], count - 1)
