"""Batches of small tiles visit every visible pair once, and few others; the plan with the least work is taken."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm import functional as F
from npllm.attention import BlockSparseMask, StridedMask
from npllm.attention.mask_rule import ArrayElement, MaskRule
from npllm.attention.small_tiles import SmallTiles, plan_of_mask
from npllm.attention.tile_plan import TilePlan
from tests.attention.test_mask_rule import mask_rules, whole


def visits(parts, shape):
    """How often each pair is visible in the batches of some parts."""
    counts = np.zeros(shape, int)
    for tiles in parts:
        for number, batch in enumerate(tiles.batches):
            hidden = tiles.hidden(number)
            seen = np.ones(1, int) if hidden is None else ~hidden
            queries, keys = np.broadcast_arrays(*tiles.pairs(batch))
            np.add.at(counts, (queries, keys), seen)
    return counts


@given(mask_rules(), st.integers(1, 6))
def test_every_visible_pair_is_visited_once(rule, block):
    mask = whole(rule)
    for index in np.ndindex(*rule.leading):
        for element in (rule.element(index), ArrayElement(mask[index])):
            parts = [SmallTiles(part, block) for part in element.parts()]
            np.testing.assert_array_equal(visits(parts, mask.shape[-2:]), mask[index])


def test_rows_of_blocks_and_back():
    x = np.arange(10.0).reshape(5, 2)
    tiles = SmallTiles(ArrayElement(np.eye(5, dtype=bool)).parts()[0], 2)
    np.testing.assert_array_equal(tiles.query_blocks(x).reshape(6, 2), [*x, [0, 0]])
    assert tiles.key_blocks(x).shape == (3, 2, 2)


LAYOUT = np.eye(64, dtype=bool) | (np.arange(64) % 8 == 0)
MASKS = {
    "causal": {},
    **{f"window {size}": {"window": size} for size in (16, 32, 64, 65, 100, 128, 256, 1000)},
    "window 64, sinks": {"window": 64, "sinks": 4},
    **{f"stride {stride}": {"pattern": StridedMask(stride)} for stride in (8, 16, 32, 50, 64, 128, 256)},
    "blocks": {"pattern": BlockSparseMask(64, (LAYOUT & np.tril(np.ones((64, 64), bool))).tolist())},
    **{f"documents of {n}": {"document_ids": np.arange(4096) // n} for n in (50, 128, 512)},
}


def pairs(options, T=4096):
    """The pairs that are visible, and those that the plan computes."""
    ids = options.get("document_ids")
    positions = np.arange(T) if ids is None else F.document_positions(ids)
    rule = MaskRule(positions, positions, **options)
    plan = plan_of_mask(rule.element(()), T, T)
    computed = plan.num_pairs if isinstance(plan, TilePlan) else sum(tiles.num_pairs for tiles in plan)
    return int(rule.array().sum()), computed, plan


@pytest.mark.parametrize("name", MASKS)
def test_what_is_computed_is_at_most_twice_what_is_visible(name):
    visible, computed, _ = pairs(MASKS[name])
    assert visible <= computed <= (2.8 if name == "documents of 50" else 2.05) * visible


def test_large_tiles_where_most_is_visible():
    assert isinstance(pairs({})[2], TilePlan)
    assert isinstance(plan_of_mask(None, 4096, 4096), TilePlan)
    assert isinstance(pairs({"window": 16}, 256)[2], TilePlan)
    assert [tiles.block for tiles in pairs({"window": 64})[2]] == [32]
