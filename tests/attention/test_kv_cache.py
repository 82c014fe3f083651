import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import KVCache, SlidingWindowKVCache
from npllm.attention.kv_cache import RecurrentState
from tests.strategies import dtypes, seeds

chunks = st.lists(st.integers(1, 20), min_size=1, max_size=6)


def draw(rng, num_new, dtype=np.float64):
    """New keys and values of two sequences with three heads."""
    return rng.standard_normal((2, 3, num_new, 4)).astype(dtype), rng.standard_normal((2, 3, num_new, 5)).astype(dtype)


@given(chunks, seeds, dtypes)
def test_all_columns_are_returned_in_order(chunks, seed, dtype):
    rng, kv_cache, everything = np.random.default_rng(seed), KVCache(2), []
    for number in chunks:
        new = draw(rng, number, dtype)
        everything.append(new)
        k, v, positions = kv_cache.append(*new)
        for found, added in zip((k, v), zip(*everything)):
            np.testing.assert_array_equal(found, np.concatenate(added, axis=-2))
            assert found.dtype == dtype
        np.testing.assert_array_equal(positions, np.arange(kv_cache.length))
    assert kv_cache.length == sum(chunks)
    assert kv_cache.nbytes == kv_cache.length * 2 * 3 * (4 + 5) * dtype.itemsize


@given(chunks, seeds, st.integers(1, 9), st.integers(0, 3))
def test_a_window_keeps_the_keys_that_later_queries_need_and_no_others(chunks, seed, window, sinks):
    rng, kv_cache, everything = np.random.default_rng(seed), SlidingWindowKVCache(window, sinks, 2), []
    for number in chunks:
        start, new = kv_cache.length, draw(rng, number)
        everything.append(new[0])
        k, _, positions = kv_cache.append(*new)
        whole = np.concatenate(everything, axis=-2)
        np.testing.assert_array_equal(k, whole[..., positions, :])
        queries = np.arange(start, kv_cache.length)
        needed = F.position_mask(queries, np.arange(kv_cache.length), window, sinks).any(axis=0)
        assert set(np.flatnonzero(needed)) <= set(positions)
    kept = F.position_mask(kv_cache.positions(1), np.arange(kv_cache.length), window, sinks).sum()
    assert kv_cache.nbytes == kept * 2 * 3 * (4 + 5) * 8


@given(st.integers(1, 40), seeds, st.integers(1, 9), st.integers(0, 3), st.booleans(), st.integers(0, 12))
def test_columns_one_by_one_are_those_that_the_query_needs(num_columns, seed, window, sinks, padded, first):
    """After a chunk of `first` columns, with and without padding; `append_one` and `append` return the same."""
    rng = np.random.default_rng(seed)
    left_padding = rng.integers(0, 4, 2) if padded else None
    caches = [SlidingWindowKVCache(window, sinks, 2, left_padding) for _ in range(2)] + [KVCache(2, left_padding)]
    whole = draw(rng, first + num_columns)
    for kv_cache in caches:
        if first:
            kv_cache.append(*(x[..., :first, :] for x in whole))
    for column in range(first, first + num_columns):
        new = [x[..., column : column + 1, :] for x in whole]
        k, v, positions = caches[0].append(*new)
        for expected, found in zip((k, v), caches[1].append_one(*(x[..., 0, :] for x in new))):
            np.testing.assert_array_equal(found, expected)
        for expected, found in zip(whole, caches[2].append_one(*(x[..., 0, :] for x in new))):
            np.testing.assert_array_equal(found, expected[..., : column + 1, :])
        columns = positions if positions.ndim == 1 else positions[0, 0] + caches[0].left_padding[0]
        assert len(set(columns)) == len(columns) and column in columns
        for expected, found in zip(whole, (k, v)):
            np.testing.assert_array_equal(found, expected[..., columns, :])
        query, every = caches[0]._positions_of(np.array([column])), caches[0]._positions_of(np.arange(column + 1))
        needed = F.position_mask(query, every, window, sinks).any(axis=tuple(range(every.ndim)))
        assert set(np.flatnonzero(needed)) <= set(columns)
        if not padded:
            assert len(columns) == needed.sum() and F.position_mask(query, columns, window, sinks).all()
    assert {kv_cache.length for kv_cache in caches} == {first + num_columns}


def test_a_window_copies_nothing_for_a_single_column():
    kv_cache = SlidingWindowKVCache(100)
    new = np.ones((1, 2, 1, 4))
    kv_cache.append(np.ones((1, 2, 130, 4)))
    kv_cache.append(new)
    memory = kv_cache._arrays[0]
    for _ in range(300):
        kv_cache.append(new)
        assert kv_cache._arrays[0] is memory
    assert kv_cache.nbytes == 99 * 2 * 4 * 8  # the next query attends to these and to its own key


@pytest.mark.parametrize("kv_cache", [KVCache(2), SlidingWindowKVCache(3, 1, 2)])
def test_append_one_refuses_what_append_refuses(kv_cache):
    kv_cache.append_one(*(np.zeros((2, 3, 4)), np.zeros((2, 3, 5))))
    for new, error in (
        ((np.zeros((1, 3, 4)), np.zeros((1, 3, 5))), ValueError),
        ((np.zeros((2, 3, 4)), np.zeros((2, 3, 4))), ValueError),
        ((np.zeros((2, 3, 4)),), ValueError),
        ((np.zeros((2, 3, 4), np.float32), np.zeros((2, 3, 5), np.float32)), TypeError),
    ):
        with pytest.raises(error, match="the kv_cache h"):
            kv_cache.append_one(*new)
    assert kv_cache.length == 1


@given(seeds)
def test_positions_with_padding(seed):
    left_padding = np.random.default_rng(seed).integers(0, 4, 2)
    kv_cache = KVCache(2, left_padding)
    assert kv_cache.positions(3).shape == ((2, 1, 3) if left_padding.any() else (3,))
    np.testing.assert_array_equal(np.broadcast_to(kv_cache.positions(3), (2, 1, 3))[:, 0, 0], -left_padding)
    kv_cache.append(*draw(np.random.default_rng(0), 3))
    np.testing.assert_array_equal(np.broadcast_to(kv_cache.positions(1), (2, 1, 1))[:, 0, 0], 3 - left_padding)


def test_the_default_is_one_sequence_without_padding():
    for kv_cache in (KVCache(), SlidingWindowKVCache(2), RecurrentState()):
        assert (kv_cache.batch_size, kv_cache.length, kv_cache.left_padding) == (1, 0, None)


def test_invalid_arguments():
    with pytest.raises(ValueError, match="batch_size is 0"):
        KVCache(0)
    with pytest.raises(ValueError, match=r"left_padding has shape \(3,\); it must be \(B\) with B = 2"):
        KVCache(2, [1, 0, 0])
    for kv_cache in (KVCache(3), SlidingWindowKVCache(2, 0, 3)):
        with pytest.raises(ValueError, match=r"the kv_cache has batch_size 3 but the input has shape \(2, 3, 2, 4\)"):
            kv_cache.append(*draw(np.random.default_rng(0), 2))
