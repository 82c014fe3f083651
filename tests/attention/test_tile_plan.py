"""The spans of a plan visit every visible tile once, in both orders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.attention import tile_plan
from npllm.attention.mask_rule import ArrayElement
from npllm.attention.tile_plan import TilePlan


@pytest.fixture(autouse=True, scope="module")
def small_tiles():
    """Tiles of 4 × 4 and spans of 2 tiles."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tile_plan, "BLOCK", 4)
        patch.setattr(tile_plan, "SPAN", 8)
        yield


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([0.0, 0.02, 0.9, 1.0]), st.integers(0, 99))
def test_spans_cover_the_mask_once_in_both_orders(T, S, density, seed):
    mask = np.random.default_rng(seed).random((T, S)) < density
    plan = TilePlan(ArrayElement(mask), T, S)
    for spans in (plan.by_query, plan.by_key):
        visits, seen = np.zeros((T, S), int), np.zeros((T, S), bool)
        for span in (span for row in spans for span in row):
            visits[span.rows, span.columns] += 1
            scores = np.zeros(visits[span.rows, span.columns].shape)
            plan.hide(scores, span)
            seen[span.rows, span.columns] = scores == 0
            assert max(scores.shape) <= 8
        assert visits.max() <= 1
        np.testing.assert_array_equal(seen, mask)


def test_without_a_mask_everything_is_visited():
    plan = TilePlan(None, 5, 9)
    assert [[(span.columns.start, span.columns.stop) for span in spans] for spans in plan.by_query] == [
        [(0, 8), (8, 9)]
    ] * 2
    assert not any(span.partial for spans in plan.by_key for span in spans)


def test_few_masks_are_kept():
    plan = TilePlan(
        ArrayElement(np.eye(40, dtype=bool)[:, ::-1] | np.eye(40, dtype=bool) | (np.arange(40) % 4 == 0)), 40, 40
    )
    for spans in plan.by_query:
        for span in spans:
            plan.hide(np.zeros((span.rows.stop - span.rows.start, span.columns.stop - span.columns.start)), span)
    assert len(plan._hidden) == tile_plan.MASKS_KEPT * 20
