import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm.functional import erf


@pytest.mark.parametrize(("dtype", "error"), [(np.float64, 3e-14), (np.float32, 3e-7)])
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
    assert y[0] == pytest.approx(math.erf(x), abs=3e-14)


def test_small_numbers_keep_their_relative_precision():
    x = np.array([1e-300, 1e-20, 1e-5])
    np.testing.assert_allclose(erf(x), [math.erf(number) for number in x], rtol=1e-13)


def test_nan_and_integers():
    assert np.isnan(erf(np.array([np.nan]))).all()
    with pytest.raises(TypeError, match="x has dtype int64"):
        erf(np.array([1]))
