"""Masks as rules: the kinds of tiles are true to the mask, and every tile is a part of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import BlockSparseMask, StridedMask
from npllm.attention.mask_rule import ALL, SKIP, ArrayElement, MaskRule

LAYOUT = np.tril(np.ones((20, 20), bool))
LAYOUT[3:, 1] = LAYOUT[9, 2:7] = False


@st.composite
def mask_rules(draw, batch=2):
    """A rule, with documents, or with keys of a cache, with or without padding; T and S up to 19."""
    window = draw(st.none() | st.integers(1, 9))
    sinks = 0 if window is None else draw(st.integers(0, 5))
    pattern = draw(
        st.sampled_from([None, StridedMask(1), StridedMask(3), StridedMask(7), BlockSparseMask(2, LAYOUT.tolist())])
    )
    options = {"window": window, "sinks": sinks, "pattern": pattern}
    T, rng = draw(st.integers(1, 19)), np.random.default_rng(draw(st.integers(0, 99)))
    if draw(st.booleans()):
        ids = np.sort(rng.integers(0, 3, (batch, 1, T)), axis=-1)
        positions = F.document_positions(ids)
        return MaskRule(positions, positions, document_ids=ids, **options)
    keys = np.arange(T + draw(st.integers(0, 19 - T)))
    if draw(st.booleans()):
        keys = keys - rng.integers(0, 12, (batch, 1, 1))
    return MaskRule(keys[..., -T:], keys, **options)


def whole(rule):
    """The mask as an array (..., T, S)."""
    mask, shape = rule.array(), (rule.query_positions.shape[-1], rule.key_positions.shape[-1])
    return np.broadcast_to(True if mask is None else mask, (*rule.leading, *shape))


@given(mask_rules(), st.integers(1, 6))
def test_kinds_and_tiles_are_those_of_the_mask(rule, block):
    mask = whole(rule)
    for index in np.ndindex(*rule.leading):
        for element in (rule.element(index), ArrayElement(mask[index])):
            kinds = element.kinds(block)
            for i, j in np.ndindex(*kinds.shape):
                rows, columns = slice(i * block, (i + 1) * block), slice(j * block, (j + 1) * block)
                tile = mask[index][rows, columns]
                np.testing.assert_array_equal(element.tile(rows, columns), tile)
                assert kinds[i, j] != SKIP or not tile.any()
                assert kinds[i, j] != ALL or tile.all()


@pytest.mark.parametrize(
    ("options", "visited"),
    [
        ({}, 36),
        ({"window": 5}, 15),
        ({"window": 6}, 21),
        ({"window": 1}, 8),
        ({"window": 5, "sinks": 2}, 21),
        ({"pattern": BlockSparseMask(4, np.eye(8).tolist())}, 8),
    ],
)
def test_what_is_hidden_is_skipped(options, visited):
    positions = np.arange(32)
    kinds = MaskRule(positions, positions, **options).element(()).kinds(4)
    assert (kinds != SKIP).sum() == visited
    assert (kinds == ALL).sum() == (0 if options else 28)


def test_documents_see_no_tile_of_another():
    ids = np.repeat([0, 1, 2, 3], 8)
    positions = F.document_positions(ids)
    kinds = MaskRule(positions, positions, document_ids=ids).element(()).kinds(4)
    assert (kinds != SKIP).sum() == 4 * 3


def test_invalid_rules():
    with pytest.raises(ValueError, match="sinks need a window"):
        MaskRule(np.arange(3), np.arange(3), sinks=1)
    with pytest.raises(
        ValueError, match=r"the mask rule has shape \(3, 3\); it must broadcast to the scores' \(4, 3\)"
    ):
        MaskRule(np.arange(3), np.arange(3)).check((4, 3))
