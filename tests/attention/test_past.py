import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import KeyValuePast, WindowPast
from tests.strategies import dtypes, seeds

pieces = st.lists(st.integers(1, 20), min_size=1, max_size=6)


def draw(rng, num_new, dtype=np.float64):
    """New keys and values of two sequences with three heads."""
    return rng.standard_normal((2, 3, num_new, 4)).astype(dtype), rng.standard_normal((2, 3, num_new, 5)).astype(dtype)


@given(pieces, seeds, dtypes)
def test_all_that_was_added_comes_back_in_order(pieces, seed, dtype):
    rng, past, everything = np.random.default_rng(seed), KeyValuePast(2), []
    for number in pieces:
        new = draw(rng, number, dtype)
        everything.append(new)
        k, v, places = past.extend(*new)
        for found, added in zip((k, v), zip(*everything)):
            np.testing.assert_array_equal(found, np.concatenate(added, axis=-2))
            assert found.dtype == dtype
        np.testing.assert_array_equal(places, np.arange(past.length))
    assert past.length == sum(pieces)
    assert past.nbytes == past.length * 2 * 3 * (4 + 5) * dtype.itemsize


@given(pieces, seeds, st.integers(1, 9), st.integers(0, 3))
def test_a_window_keeps_what_queries_may_see_and_no_more(pieces, seed, window, sinks):
    rng, past, everything = np.random.default_rng(seed), WindowPast(window, sinks, 2), []
    for number in pieces:
        start, new = past.length, draw(rng, number)
        everything.append(new[0])
        k, _, places = past.extend(*new)
        whole = np.concatenate(everything, axis=-2)
        np.testing.assert_array_equal(k, whole[..., places, :])
        queries = np.arange(start, past.length)
        needed = F.visible(queries, np.arange(past.length), window, sinks).any(axis=0)
        assert set(np.flatnonzero(needed)) <= set(places)
    assert past.nbytes <= (window + sinks) * 2 * 3 * (4 + 5) * 8


@given(seeds)
def test_places_with_filling(seed):
    padding = np.random.default_rng(seed).integers(0, 4, 2)
    past = KeyValuePast(2, padding)
    assert past.places(3).shape == ((2, 1, 3) if padding.any() else (3,))
    np.testing.assert_array_equal(np.broadcast_to(past.places(3), (2, 1, 3))[:, 0, 0], -padding)
    past.extend(*draw(np.random.default_rng(0), 3))
    np.testing.assert_array_equal(np.broadcast_to(past.places(1), (2, 1, 1))[:, 0, 0], 3 - padding)


def test_bad_arguments():
    with pytest.raises(ValueError, match="batch_size is 0"):
        KeyValuePast(0)
    with pytest.raises(ValueError, match=r"padding has shape \(3,\); it must be \(2,\)"):
        KeyValuePast(2, [1, 0, 0])
    for past in (KeyValuePast(3), WindowPast(2, 0, 3)):
        with pytest.raises(ValueError, match="past is of a batch of 3 and is given"):
            past.extend(*draw(np.random.default_rng(0), 2))
