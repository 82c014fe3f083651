import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.layers import Dropout
from tests.equivalence import check_layer
from tests.strategies import arrays, dtypes, leading, seeds, sizes


@given(st.data(), dtypes, leading, sizes, st.floats(0.01, 0.99), seeds)
def test_numbers_that_are_kept_are_divided_by_their_probability(data, dtype, batch, size, p, seed):
    x = data.draw(arrays((*batch, size), dtype))
    y, cache = F.dropout_forward(x, p, rng=np.random.default_rng(seed))
    assert y.dtype == cache.dropout_mask.dtype == dtype
    kept = cache.dropout_mask != 0
    np.testing.assert_allclose(y, np.where(kept, x / (1 - p), 0), rtol=1e-5)
    np.testing.assert_array_equal(F.dropout(x, p, rng=np.random.default_rng(seed)), y)
    dy = np.random.default_rng(1).standard_normal(x.shape).astype(dtype)
    np.testing.assert_array_equal(F.dropout_backward(dy, cache), dy * cache.dropout_mask)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_fraction_of_zeros_and_expected_value(p):
    dropout_mask = F.draw_dropout_mask((1000, 1000), p, np.random.default_rng(0))
    # of a million draws the fraction has standard deviation sqrt(p (1 − p) / 10⁶) ≤ 0.0005
    assert abs((dropout_mask == 0).mean() - p) < 0.003
    assert abs(dropout_mask.mean() - 1) < 0.01


def test_the_default_probability_is_that_of_pytorch():
    x = np.ones((100, 100))
    for y in (F.dropout(x, rng=np.random.default_rng(0)), Dropout().forward(x, rng=np.random.default_rng(0))[0]):
        assert set(np.unique(y)) == {0.0, 2.0}


def test_inference_and_p_zero_leave_x_unchanged():
    x = np.arange(6.0)
    np.testing.assert_array_equal(F.dropout(x, 0.5), x)
    np.testing.assert_array_equal(F.dropout(x, 0.0, rng=np.random.default_rng(0)), x)
    _, cache = F.dropout_forward(x, 0.5)
    np.testing.assert_array_equal(F.dropout_backward(x, cache), x)
    assert Dropout(0.5).draw_dropout_mask((3,), None, "float32") is None
    assert Dropout(0.0).draw_dropout_mask((3,), np.random.default_rng(0), "float32") is None


@pytest.mark.covers("Dropout")
@given(st.data(), dtypes, leading, sizes, st.booleans())
def test_layer_equals_pytorch(data, dtype, batch, channels, dropout):
    check_layer("Dropout", {"p": 0.4}, data.draw(arrays((*batch, channels), dtype)), dtype=dtype, dropout=dropout)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_invalid_probability(p):
    with pytest.raises(ValueError, match="p is"):
        F.dropout(np.zeros(3), p)
    with pytest.raises(ValueError, match="p is"):
        Dropout(p)


def test_the_generator_is_keyword_only():
    with pytest.raises(TypeError, match="positional"):
        Dropout(0.5).forward(np.zeros(3), np.random.default_rng(0))
