import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from tests.strategies import arrays, dtypes, leading, seeds, sizes


@given(st.data(), dtypes, leading, sizes, st.floats(0.01, 0.99), seeds)
def test_what_survives_is_scaled_by_what_was_lost(data, dtype, batch, size, p, seed):
    x = data.draw(arrays((*batch, size), dtype))
    y, cache = F.dropout_forward(x, p, rng=np.random.default_rng(seed))
    assert y.dtype == cache.dropout_mask.dtype == dtype
    kept = cache.dropout_mask != 0
    np.testing.assert_allclose(y, np.where(kept, x / (1 - p), 0), rtol=1e-5)
    np.testing.assert_array_equal(F.dropout(x, p, rng=np.random.default_rng(seed)), y)
    dy = np.ones_like(x) * 3
    np.testing.assert_array_equal(F.dropout_backward(dy, cache), dy * cache.dropout_mask)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_and_expected_value(p):
    mask = F.draw_dropout_mask((1000, 1000), p, np.random.default_rng(0))
    # the share of a million coins has standard deviation sqrt(p (1 − p) / 10⁶) ≤ 0.0005
    assert abs((mask == 0).mean() - p) < 0.003
    assert abs(mask.mean() - 1) < 0.01


def test_inference_and_p_zero_leave_x_alone():
    x = np.arange(6.0)
    np.testing.assert_array_equal(F.dropout(x, 0.5), x)
    np.testing.assert_array_equal(F.dropout(x, 0.0, rng=np.random.default_rng(0)), x)
    _, cache = F.dropout_forward(x, 0.5)
    np.testing.assert_array_equal(F.dropout_backward(x, cache), x)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, float("nan")])
def test_bad_probability(p):
    with pytest.raises(ValueError, match="p is"):
        F.dropout(np.zeros(3), p)
