import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.core.gradient_check import check_function_gradients
from tests.equivalence import check_function, implementation
from tests.strategies import arrays, dtypes, leading, sizes

FORMS = [
    pytest.param("relu", {}, marks=pytest.mark.covers("relu")),
    pytest.param("sigmoid", {}, marks=pytest.mark.covers("sigmoid")),
    pytest.param("silu", {}, marks=pytest.mark.covers("silu")),
    pytest.param("quick_gelu", {}, marks=pytest.mark.covers("quick_gelu")),
    pytest.param("tanh", {}, marks=pytest.mark.covers("tanh")),
    pytest.param("gelu", {"approximate": "none"}, marks=pytest.mark.covers("gelu")),
    pytest.param("gelu", {"approximate": "tanh"}, marks=pytest.mark.covers("gelu")),
]


@pytest.mark.parametrize(("name", "options"), FORMS)
@given(data=st.data(), dtype=dtypes, batch=leading, size=sizes, scale=st.sampled_from([1.0, 5.0, 100.0]))
def test_equals_pytorch(name, options, data, dtype, batch, size, scale):
    # erf is exact to 3e-7 in float32 and 3e-14 in float64; gelu multiplies that by x before it saturates at 4 or 6
    check_function(name, data.draw(arrays((*batch, size), dtype, scale)), loosen=2.0, **options)


@pytest.mark.parametrize(("name", "options"), FORMS)
def test_finite_differences(name, options):
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal((4, 5))
    check_function_gradients(getattr(F, f"{name}_forward"), getattr(F, f"{name}_backward"), [x], rng, **options)


@pytest.mark.covers("squared_relu")
@given(data=st.data(), dtype=dtypes, batch=leading, size=sizes)
def test_squared_relu_equals_pytorch(data, dtype, batch, size):
    check_function("squared_relu", data.draw(arrays((*batch, size), dtype)))


def test_finite_differences_of_squared_relu():
    rng = np.random.default_rng(0)
    check_function_gradients(F.squared_relu_forward, F.squared_relu_backward, [rng.standard_normal((4, 5))], rng)


@pytest.mark.parametrize(("name", "options"), FORMS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_inputs_give_the_limits_without_a_warning(name, options, dtype):
    x = np.array([-np.finfo(dtype).max / 2, -1e6, 0.0, 1e6, np.finfo(dtype).max / 2], dtype)
    y, cache = getattr(F, f"{name}_forward")(x, **options)
    dy = np.random.default_rng(0).standard_normal(x.shape).astype(dtype)
    dx = getattr(F, f"{name}_backward")(dy, cache)
    assert y.dtype == dx.dtype == dtype
    far = [0, 1, 3, 4]
    limits = {"sigmoid": [0, 0, 1, 1], "tanh": [-1, -1, 1, 1]}
    expected = limits.get(name, np.where(x > 0, x, 0)[far])
    np.testing.assert_array_equal(y[far], expected)
    slope = np.array([0, 0, 0, 0] if name in limits else [0, 0, 1, 1], dtype)
    np.testing.assert_allclose(dx[far], slope * dy[far], rtol=0, atol=1e-100)


@pytest.mark.covers("gelu")
def test_gelu_is_x_times_the_normal_distribution():
    x = np.linspace(-6, 6, 101)
    expected = [number * 0.5 * math.erfc(-number / math.sqrt(2)) for number in x]
    np.testing.assert_allclose(implementation("gelu")(x), expected, atol=1e-13)


@pytest.mark.covers("gelu")
def test_the_approximation_of_gelu_differs_by_less_than_a_thousandth():
    x = np.linspace(-4, 4, 101)
    gap = np.abs(implementation("gelu")(x) - implementation("gelu")(x, approximate="tanh")).max()
    assert 1e-4 < gap < 5e-4


def test_invalid_arguments():
    with pytest.raises(ValueError, match="approximate is 'fast'; it must be"):
        F.gelu(np.zeros(3), approximate="fast")
    for name in ("relu", "sigmoid", "silu", "gelu"):
        with pytest.raises(TypeError, match="x has dtype int64"):
            getattr(F, name)(np.array([1, 2]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["silu", "gelu", "quick_gelu", "relu", "squared_relu"])
def test_infinite_inputs_give_the_limits(name, dtype):
    """x σ(x) → 0 for x → −∞, where −inf · 0 is nan; the derivative tends to 0 on the left and to 1 on the right."""
    forward, backward = getattr(F, f"{name}_forward"), getattr(F, f"{name}_backward")
    x = np.array([-np.inf, np.finfo(dtype).min, np.inf], dtype)
    y, cache = forward(x)
    np.testing.assert_array_equal(y, [0, 0, np.inf])
    slope = np.inf if name == "squared_relu" else 1
    np.testing.assert_allclose(backward(np.ones_like(x), cache), [0, 0, slope], atol=1e-190)
