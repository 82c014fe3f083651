import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.core.gradient_check import check_function_gradients
from tests.equivalence import check_function, implementation
from tests.strategies import arrays, dtypes, leading, sizes


@st.composite
def scores(draw, scale=1.0):
    """An array of one to four axes and one of its axes."""
    shape = (*draw(leading), draw(sizes), draw(sizes))
    x = draw(arrays(shape, draw(dtypes), scale))
    return x, draw(st.integers(-len(shape), len(shape) - 1))


@st.composite
def masked_scores(draw):
    """Scores, some of them −inf, often a whole row."""
    x, _ = draw(scores(10.0))
    x = x.copy()
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    x[rng.random(x.shape) < draw(st.sampled_from([0.0, 0.3, 0.9]))] = -np.inf
    if draw(st.booleans()):
        x[..., 0, :] = -np.inf
    return x


@pytest.mark.covers("softmax")
class TestSoftmax:
    @given(scores(100.0))
    def test_equals_pytorch(self, drawn):
        x, axis = drawn
        check_function("softmax", x, axis=axis)

    @given(masked_scores())
    def test_equals_pytorch_with_masked_scores(self, x):
        check_function("softmax", x)

    @given(masked_scores())
    def test_rows_sum_to_one_unless_all_is_masked(self, x):
        y = implementation("softmax")(x)
        expected = np.where((x == -np.inf).all(axis=-1), 0.0, 1.0)
        np.testing.assert_allclose(y.sum(axis=-1), expected, rtol=0, atol=1e-6)
        assert (y >= 0).all()
        assert (y[x == -np.inf] == 0).all()

    @given(scores(), st.floats(-1e4, 1e4))
    def test_shift_invariance(self, drawn, shift):
        x, axis = drawn
        x = x.astype(np.float64)
        softmax = implementation("softmax")
        np.testing.assert_allclose(softmax(x + shift, axis=axis), softmax(x, axis=axis), rtol=1e-8, atol=1e-9)

    @given(scores())
    def test_a_higher_score_never_gets_a_lower_weight(self, drawn):
        x = np.sort(drawn[0], axis=-1)
        assert (np.diff(implementation("softmax")(x), axis=-1) >= 0).all()

    def test_rows_of_very_different_magnitude_are_independent(self):
        x = np.array([[0.0, 1.0], [1e4, 1e4 + 1], [-1e4, -1e4 + 1]], np.float32)
        y = implementation("softmax")(x)
        np.testing.assert_array_equal(y[1], y[0])
        np.testing.assert_array_equal(y[2], y[0])

    def test_plain_loop(self):
        x = np.random.default_rng(0).standard_normal((4, 5))
        expected = [[math.exp(a) / sum(math.exp(b) for b in row) for a in row] for row in x]
        np.testing.assert_allclose(implementation("softmax")(x), expected, rtol=1e-13)

    def test_equals_the_operator_of_pytorch(self):
        x = np.random.default_rng(0).standard_normal((4, 5, 6)) * 30
        np.testing.assert_allclose(implementation("softmax")(x, axis=1), torch.tensor(x).softmax(1), rtol=1e-12)

    def test_large_and_infinite_scores(self):
        softmax = implementation("softmax")
        largest = np.finfo(np.float32).max
        np.testing.assert_array_equal(softmax(np.array([largest, largest, -largest], np.float32)), [0.5, 0.5, 0.0])
        np.testing.assert_array_equal(softmax(np.array([-np.inf, -np.inf])), [0.0, 0.0])

    def test_nan_stays_nan(self):
        assert np.isnan(implementation("softmax")(np.array([0.0, np.nan]))).all()

    @pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3)])
    def test_empty(self, shape):
        assert implementation("softmax")(np.zeros(shape, np.float32)).shape == shape


@pytest.mark.covers("log_softmax")
class TestLogSoftmax:
    @given(scores(100.0))
    def test_equals_pytorch(self, drawn):
        x, axis = drawn
        check_function("log_softmax", x, axis=axis)

    @given(masked_scores())
    def test_is_the_logarithm_of_softmax(self, x):
        with np.errstate(divide="ignore"):
            expected = np.log(F.softmax(x.astype(np.float64)))
        np.testing.assert_allclose(implementation("log_softmax")(x.astype(np.float64)), expected, rtol=1e-9, atol=1e-9)

    def test_stays_finite_where_softmax_rounds_to_zero(self):
        x = np.array([0.0, 1000.0], np.float32)
        assert F.softmax(x)[0] == 0
        np.testing.assert_array_equal(implementation("log_softmax")(x), [-1000.0, 0.0])


@pytest.mark.covers("softmax_naive")
class TestSoftmaxNaive:
    @given(scores())
    def test_equals_pytorch(self, drawn):
        x, axis = drawn
        check_function("softmax_naive", x, axis=axis)

    @given(scores())
    def test_equals_softmax_while_nothing_overflows(self, drawn):
        x, axis = drawn
        np.testing.assert_allclose(
            implementation("softmax_naive")(x, axis=axis), F.softmax(x, axis=axis), rtol=1e-5, atol=1e-7
        )

    @pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
    @pytest.mark.parametrize("n", [1, 2, 100])
    def test_overflows_exactly_above_its_limit(self, dtype, n):
        limit = F.softmax_naive_limit(dtype, n)
        assert limit.dtype == dtype
        fits = np.full(n, limit, dtype)
        np.testing.assert_allclose(implementation("softmax_naive")(fits), 1 / n, rtol=1e-2)
        above = np.nextafter(fits, np.full(n, np.inf, dtype))
        assert (implementation("softmax_naive")(above) != F.softmax(above)).all()

    def test_limits_equal_the_documented_ones(self):
        limits = [float(F.softmax_naive_limit(dtype)) for dtype in (np.float16, np.float32, np.float64)]
        assert [f"{limit:.2f}" for limit in limits] == ["11.09", "88.72", "709.78"]


@pytest.mark.covers("normalize_by_sum")
class TestNormalizeBySum:
    @given(scores())
    def test_equals_pytorch(self, drawn):
        x, axis = drawn
        check_function("normalize_by_sum", np.abs(x) + x.dtype.type(0.5), axis=axis)

    def test_sum_of_zero_is_an_error(self):
        with pytest.raises(ValueError, match="the sum of x along the axis is 0"):
            implementation("normalize_by_sum")(np.array([[1.0, 2.0], [1.0, -1.0]]))


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmax_naive", "normalize_by_sum"])
class TestAll:
    def test_finite_differences(self, name):
        rng = np.random.default_rng(0)
        forward, backward = getattr(F, f"{name}_forward"), getattr(F, f"{name}_backward")
        check_function_gradients(forward, backward, [rng.random((3, 4, 5)) + 0.5], rng, axis=1)

    def test_integers_are_refused(self, name):
        with pytest.raises(TypeError, match="x has dtype int64; it must be floating point"):
            getattr(F, name)(np.array([1, 2, 3]))

    def test_no_warning_escapes(self, name):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            getattr(F, name)(np.array([1.0, 3.0, 1e4]))


class TestFloat16:
    """Sums are taken in float32: in float16 a sum of ones does not grow beyond 2048."""

    @pytest.mark.parametrize(
        ("x", "axis"),
        [
            (np.zeros((4096, 2), np.float16), 0),
            (np.zeros((2, 4096, 3), np.float16), 1),
            (np.zeros((4096, 3), np.float16).T, -1),
            (np.zeros(70000, np.float16), -1),
            (np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float16), 0),
        ],
    )
    @pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmax_backward", "log_softmax_backward"])
    def test_equals_float64_rounded_along_a_long_axis(self, name, x, axis):
        y, cache = getattr(F, f"{name.removesuffix('_backward')}_forward")(x, axis)
        theirs = torch.tensor(np.ascontiguousarray(x), dtype=torch.float64, requires_grad=True)
        expected = getattr(torch, name.removesuffix("_backward"))(theirs, axis)
        tolerance = 1e-3
        if name.endswith("_backward"):
            dy = np.random.default_rng(1).normal(size=x.shape).astype(np.float16)
            expected.backward(torch.tensor(dy, dtype=torch.float64))
            y, expected = getattr(F, name)(dy, cache), theirs.grad
            tolerance = 1e-2  # the cache holds y rounded to float16: −11.156 to the next 1/128
        assert y.dtype == np.float16
        np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-3, atol=tolerance * float(np.abs(y).max()))
