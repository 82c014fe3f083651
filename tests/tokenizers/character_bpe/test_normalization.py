"""Steps of normalization, with the positions that the characters come from."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.character_bpe.normalization import (
    Metaspace,
    Prepend,
    Replace,
    aligned,
    normalize,
    normalize_aligned,
)

STEPS = [
    (Prepend("▁"), Replace(" ", "▁")),
    (Metaspace(),),
    (Metaspace("▁", "first"),),
    (Metaspace("▁", "never"),),
    (Replace("ab", "xyz"), Replace("b", ""), Prepend("ab")),
]


@given(st.sampled_from(STEPS), st.text("ab ▁", max_size=20), st.booleans())
def test_the_text_is_the_same_with_and_without_positions(steps, text, is_first):
    text_with_positions, starts, ends = normalize_aligned(aligned(text, 3), steps, is_first)
    assert text_with_positions == normalize(text, steps, is_first)
    assert len(starts) == len(ends) == len(text_with_positions)
    assert starts == sorted(starts)
    assert all(3 <= first < end <= 3 + len(text) for first, end in zip(starts, ends))


@pytest.mark.parametrize(
    ("step", "text", "is_first", "expected"),
    [
        (Prepend("▁"), "a", False, "▁a"),
        (Prepend("▁"), "▁a", True, "▁▁a"),
        (Prepend("▁"), "", True, ""),
        (Replace(" ", "▁"), " a b", True, "▁a▁b"),
        (Metaspace(), "a b", False, "▁a▁b"),
        (Metaspace(), " a b", False, "▁a▁b"),
        (Metaspace(), "", True, ""),
        (Metaspace("▁", "first"), "a b", True, "▁a▁b"),
        (Metaspace("▁", "first"), "a b", False, "a▁b"),
        (Metaspace("▁", "never"), "a b", True, "a▁b"),
    ],
)
def test_steps(step, text, is_first, expected):
    assert step.apply(text, is_first) == expected


def test_positions():
    assert Prepend("▁").apply_aligned(aligned("ab", 5), True) == ("▁ab", [5, 5, 6], [6, 6, 7])
    assert Replace("bc", "xyz").apply_aligned(aligned("abcd"), True) == ("axyzd", [0, 2, 2, 2, 3], [1, 3, 3, 3, 4])
