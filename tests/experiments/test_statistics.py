import math

import numpy as np
import pytest

from npllm.experiments.statistics import log_slope, mean_interval, t_quantile


def probability(t, degrees):
    """P(|T| < t) of Student's distribution, from its density."""
    x = np.linspace(0, t, 20_001)
    factor = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    return 2 * np.trapezoid(factor * (1 + x * x / degrees) ** (-(degrees + 1) / 2), x)


def test_quantiles_of_student():
    for degrees in range(1, 31):
        assert probability(t_quantile(degrees), degrees) == pytest.approx(0.95, abs=1e-4)
    for degrees in (31, 50, 200, 10_000):
        assert 0.95 - 1e-5 <= probability(t_quantile(degrees), degrees) <= 0.951


def test_the_interval_contains_the_true_mean_in_95_of_100_samples():
    rng = np.random.default_rng(0)
    contained = [(i := mean_interval(rng.normal(3.0, 2.0, 4))).low <= 3.0 <= i.high for _ in range(4000)]
    assert np.mean(contained) == pytest.approx(0.95, abs=0.01)


def test_one_value_has_no_bounds_and_no_value_no_mean():
    interval = mean_interval([2.0])
    assert (interval.mean, interval.low, interval.high) == (2.0, -math.inf, math.inf)
    assert str(interval) == "2"
    assert not interval.is_above(-1e9) and not interval.is_below(1e9)
    with pytest.raises(ValueError, match="values is empty"):
        mean_interval([])


def test_bounds():
    interval = mean_interval([1.0, 2.0, 3.0])
    assert interval.low == pytest.approx(2 - 4.303 / math.sqrt(3), abs=1e-3)
    assert interval.is_above(-0.5) and not interval.is_above(0.0)
    assert interval.is_below(4.5) and not interval.is_below(4.0)
    assert str(interval) == "2 ± 2.5"


def test_the_slope_of_a_power():
    x = np.array([1.0, 2.0, 8.0, 100.0])
    assert log_slope(x, 3 * x**-1.5) == pytest.approx(-1.5)
    with pytest.raises(ValueError, match="positive"):
        log_slope([1, 2], [1, 0])
    with pytest.raises(ValueError, match="two different"):
        log_slope([2, 2], [1, 3])
