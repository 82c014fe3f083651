import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from tests.strategies import seeds, sizes


def by_loop(rule, T, S, offset=0):
    """A mask from a rule on two positions, without arrays."""
    return np.array([[rule(offset + t, s) for s in range(S)] for t in range(T)]).reshape(T, S)


@given(sizes, sizes, st.integers(0, 5), st.none() | st.integers(1, 8), st.integers(0, 3))
def test_causal_with_offset_window_and_sinks(T, S, offset, window, sinks):
    sinks = 0 if window is None else sinks
    expected = by_loop(lambda t, s: s <= t and (window is None or t - s < window or s < sinks), T, S, offset)
    np.testing.assert_array_equal(F.causal_mask(T, S, offset, window, sinks), expected)


@given(sizes, st.integers(1, 7))
def test_a_window_as_long_as_the_sequence_is_causal(T, more):
    np.testing.assert_array_equal(F.causal_mask(T, T, window=T + more - 1), np.tri(T, dtype=bool))


def test_every_query_attends_to_window_keys_and_no_more():
    assert F.causal_mask(9, 9, window=3).sum(axis=1).tolist() == [1, 2, 3, 3, 3, 3, 3, 3, 3]
    assert F.causal_mask(9, 9, window=3, sinks=2).sum(axis=1).tolist() == [1, 2, 3, 4, 5, 5, 5, 5, 5]


def test_no_query_attends_to_padding():
    positions = np.array([[[-2, -1, 0, 1]], [[0, 1, 2, 3]]])
    mask = F.position_mask(positions, positions)
    assert mask.shape == (2, 1, 4, 4)
    assert mask[0, 0].tolist() == [[False] * 4, [False] * 4, [False, False, True, False], [False, False, True, True]]
    np.testing.assert_array_equal(mask[1, 0], np.tri(4, dtype=bool))


def test_padding():
    mask = F.padding_mask([1, 3, 0], 3)
    assert mask.shape == (3, 1, 1, 3)
    assert mask[:, 0, 0].tolist() == [[True, False, False], [True, True, True], [False, False, False]]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=8), seeds)
def test_documents(numbers, seed):
    rng = np.random.default_rng(seed)
    documents = [list(range(n + 1)) for n in numbers]
    document_ids = np.concatenate([[index % 2] * len(indices) for index, indices in enumerate(documents)])
    assert F.document_positions(document_ids).tolist() == sum(documents, [])
    document = np.repeat(np.arange(len(documents)), [len(indices) for indices in documents])
    expected = by_loop(lambda t, s: s <= t and document[t] == document[s], len(document), len(document))
    np.testing.assert_array_equal(F.document_mask(document_ids), expected)
    order = rng.permutation(3)
    rows = np.stack([document_ids, document_ids[::-1], np.zeros_like(document_ids)])[order]
    np.testing.assert_array_equal(F.document_mask(rows)[1], F.document_mask(rows[1]))
    np.testing.assert_array_equal(F.document_positions(rows)[2], F.document_positions(rows[2]))


@given(sizes, sizes, st.integers(1, 4), st.integers(0, 3))
def test_strided(T, S, stride, offset):
    expected = by_loop(lambda t, s: t - s < stride or (t - s) % stride == 0, T, S, offset)
    np.testing.assert_array_equal(F.strided_mask(np.arange(offset, offset + T), np.arange(S), stride), expected)


def test_two_strided_layers_connect_any_two_positions():
    positions = np.arange(16)
    mask = (F.strided_mask(positions, positions, 4) & F.position_mask(positions, positions)).astype(int)
    assert (mask @ mask > 0).sum() == 16 * 17 // 2


@given(sizes, sizes, st.integers(1, 3), seeds, st.integers(0, 3))
def test_blocks(T, S, block, seed, offset):
    layout = np.random.default_rng(seed).random((10, 10)) < 0.5
    expected = by_loop(lambda t, s: layout[t // block, s // block], T, S, offset)
    np.testing.assert_array_equal(F.block_mask(np.arange(offset, offset + T), np.arange(S), block, layout), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.causal_mask(3, 3, offset=-1), "offset is -1; it must be at least 0"),
        (lambda: F.causal_mask(3, 3, window=0), "window is 0; it must be at least 1"),
        (lambda: F.causal_mask(3, 3, sinks=1), "sinks is 1 but window is None"),
        (lambda: F.causal_mask(3, 3, window=2, sinks=-1), "sinks is -1"),
        (lambda: F.strided_mask([0], [0], 0), "stride is 0"),
        (lambda: F.block_mask([4], [4], 2, np.eye(2)), r"layout has shape \(2, 2\); .* blocks of 2 .* \(3, 3\)"),
        (lambda: F.block_mask([4], [4], 2, np.ones(9)), r"layout has shape \(9,\)"),
        (lambda: F.document_mask(3), "document_ids is a single number"),
    ],
)
def test_invalid_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
