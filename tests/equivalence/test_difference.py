import numpy as np
import pytest
import torch

from tests.equivalence.difference import TOLERANCE, difference


def measure(ours, theirs):
    return difference("x", np.array(ours), torch.tensor(theirs, dtype=torch.float64), np.dtype(np.float64))


def test_nan_and_infinity_must_be_at_the_same_positions():
    assert measure([np.nan, np.inf, 1.0], [np.nan, np.inf, 1.0]).tolerance_ratio == 0
    for ours in ([0.0, np.inf, 1.0], [np.nan, -np.inf, 1.0], [np.nan, np.inf, np.nan], [np.nan, 5.0, 1.0]):
        assert measure(ours, [np.nan, np.inf, 1.0]).tolerance_ratio == np.inf


def test_tolerance_ratio():
    rtol, atol = TOLERANCE[np.dtype(np.float64)]
    assert measure([1.0 + 2 * (rtol + atol)], [1.0]).tolerance_ratio == pytest.approx(2, rel=1e-4)


def test_shapes_must_be_equal():
    with pytest.raises(AssertionError, match="shape"):
        measure([[1.0]], [1.0])
