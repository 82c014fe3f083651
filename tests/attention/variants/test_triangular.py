import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.attention.variants.triangular import unit_lower_inverse
from tests.strategies import dtypes


@given(st.integers(0, 3), st.integers(0, 70), dtypes, st.integers(0, 999))
def test_the_product_with_the_matrix_is_the_identity(count, size, dtype, seed):
    below = np.tril(np.random.default_rng(seed).uniform(-0.3, 0.3, (count, size, size)), -1).astype(dtype)
    kept = below.copy()
    inverse = unit_lower_inverse(below)
    assert inverse.dtype == dtype
    np.testing.assert_array_equal(below, kept)
    identity = np.broadcast_to(np.eye(size), inverse.shape)
    np.testing.assert_allclose((below + identity) @ inverse, identity, atol=1e-4 if dtype == np.float32 else 1e-10)
    np.testing.assert_array_equal(np.triu(inverse, 1), np.zeros_like(inverse))


def test_equal_keys_lose_no_digits():
    """Powers of N have entries of 10¹⁷ here, but the inverse is 1 on the diagonal and −1 below it."""
    ones = np.tril(np.ones((1, 64, 64), np.float32), -1)
    np.testing.assert_array_equal(unit_lower_inverse(ones)[0], np.eye(64) - np.eye(64, k=-1))


@pytest.mark.filterwarnings("ignore:.*encountered")
def test_what_is_not_finite_raises_nothing():
    below = np.tril(np.ones((2, 20, 20)), -1)
    below[0, 9, 3] = np.inf
    inverse = unit_lower_inverse(below)
    assert not np.isfinite(inverse[0]).all()
    np.testing.assert_array_equal(inverse[1], np.eye(20) - np.eye(20, k=-1))
