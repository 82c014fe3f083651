import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm.functional import erf


@pytest.mark.parametrize(("dtype", "error"), [(np.float64, 3e-16), (np.float32, 2e-7)])
def test_the_error_is_below_the_documented_bound(dtype, error):
    x = np.linspace(-8, 8, 40001).astype(dtype)
    y = erf(x)
    assert y.dtype == dtype
    exact = np.array([math.erf(float(number)) for number in x])
    assert np.abs(y - exact).max() <= error
    assert np.abs(y - torch.erf(torch.tensor(x)).numpy()).max() <= error + np.finfo(dtype).eps


@given(st.floats(allow_nan=False))
def test_the_function_is_odd_bounded_and_accurate(x):
    y = erf(np.array([x, -x]))
    assert y[0] == -y[1]
    assert abs(y[0]) <= 1
    assert y[0] == pytest.approx(math.erf(x), rel=5e-16)


def test_small_numbers_keep_their_relative_precision():
    x = np.array([1e-300, 1e-20, 1e-5])
    np.testing.assert_allclose(erf(x), [math.erf(number) for number in x], rtol=5e-16)


def test_nan_and_integers():
    assert np.isnan(erf(np.array([np.nan]))).all()
    with pytest.raises(TypeError, match="x has dtype int64"):
        erf(np.array([1]))


@pytest.mark.parametrize(("dtype", "units"), [(np.float64, 3), (np.float32, 4), (np.float16, 1)])
def test_the_error_in_units_of_the_last_place(dtype, units):
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=20000), rng.uniform(-6, 6, 20000), 10.0 ** rng.uniform(-4, 0, 20000)])
    x = x.astype(dtype)
    exact = np.array([math.erf(float(number)) for number in x])
    spacing = np.spacing(np.abs(exact).astype(dtype)).astype(np.float64)
    assert (np.abs(erf(x) - exact) / spacing).max() <= units


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_large_numbers_give_exactly_one(dtype):
    x = np.array([6, 10, 1e4, np.inf], dtype)
    np.testing.assert_array_equal(erf(x), 1)
    np.testing.assert_array_equal(erf(-x), -1)
