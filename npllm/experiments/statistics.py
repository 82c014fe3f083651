"""Means over seeds with their confidence intervals, and slopes on logarithmic axes.

    mean ± t s / √n        n seeds, s the standard deviation of the sample, t of Student's distribution with n − 1

Two conditions with the same seeds are compared by the interval of their differences: what a seed does to both of them
cancels.

Student 1908, The Probable Error of a Mean.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# 97.5% quantiles of Student's t for 1 to 30 degrees of freedom
T_QUANTILES = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip


@dataclass(frozen=True)
class Interval:
    """A mean and the bounds of its 95% confidence interval; of a single value the bounds are infinite."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """The mean and half of the interval's length, such as 1.23 ± 0.04."""
        half = (self.high - self.low) / 2
        return f"{self.mean:.4g}" if math.isinf(half) or half == 0 else f"{self.mean:.4g} ± {half:.2g}"

    def is_above(self, bound: float) -> bool:
        """Whether the whole interval is above the bound."""
        return self.low > bound

    def is_below(self, bound: float) -> bool:
        """Whether the whole interval is below the bound."""
        return self.high < bound


def mean_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """mean ± t s / √n of independent values.

    Raises ValueError for no values.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.size == 0:
        raise ValueError("values is empty; it must have at least one number")
    mean = float(numbers.mean())
    if numbers.size == 1:
        return Interval(mean, -math.inf, math.inf)
    half = t_quantile(numbers.size - 1) * float(numbers.std(ddof=1)) / math.sqrt(numbers.size)
    return Interval(mean, mean - half, mean + half)


def t_quantile(degrees: int) -> float:
    """The 97.5% quantile of Student's t; beyond 30 degrees of freedom 1.96 + 2.5 / degrees, slightly too large."""
    return T_QUANTILES[degrees - 1] if degrees <= len(T_QUANTILES) else 1.96 + 2.5 / degrees


def log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """The slope b of the least-squares line ln y = a + b ln x: y grows as x to the power b.

    Raises ValueError unless all numbers are positive and two of x differ.
    """
    log_x, log_y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if not ((log_x > 0).all() and (log_y > 0).all()):
        raise ValueError("x and y must be positive; a logarithm is taken of both")
    log_x, log_y = np.log(log_x), np.log(log_y)
    centered = log_x - log_x.mean()
    if not centered.any():
        raise ValueError(f"x is {list(x)}; it must have two different numbers")
    return float(centered @ log_y / (centered @ centered))
