"""Segments: merged one by one, they give the tokens of the whole text."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.character_bpe.merge import merge_by_pair_rank_heap
from npllm.tokenizers.character_bpe.segments import MIN_CHARS, Segmenter
from tests.tokenizers.character_bpe.test_merge import rank_tables

few_letters = st.text("abcd", max_size=80)


@given(few_letters, rank_tables())
def test_the_tokens_of_the_segments_are_those_of_the_text(text, ranks):
    divided = Segmenter(ranks, "abc", joins_unknown=False).split(text)
    assert "".join(divided) == text
    tokens = [token for segment in divided for token in merge_by_pair_rank_heap(segment, ranks)]
    assert tokens == merge_by_pair_rank_heap(text, ranks)


@given(st.text("abcd", min_size=1, max_size=30), rank_tables(), st.booleans())
def test_array_operations_give_segments_of_whole_plain_segments(text, ranks, joins_unknown):
    segmenter = Segmenter(ranks, "abc", joins_unknown)
    text *= MIN_CHARS // len(text) + 1
    ends = set(np.cumsum([len(segment) for segment in segmenter.split(text)]).tolist())
    assert ends <= set(np.cumsum([len(segment) for segment in segmenter._split_plain(text)]).tolist())


def test_a_table_of_one_slot_joins_everything(monkeypatch):
    """Pairs of the same slot make segments longer, and the tokens stay the same."""
    ranks = {("a", "b"): 0}
    monkeypatch.setattr(Segmenter, "_slots", lambda self, first, second: np.zeros(len(first), np.uint32))
    assert Segmenter(ranks, "abc", joins_unknown=False).split("abcab" * MIN_CHARS) == ["abcab" * MIN_CHARS]


def test_most_positions_where_no_merge_can_cross_are_found():
    segmenter = Segmenter({("▁", "t"): 0, ("▁t", "he"): 1, ("h", "e"): 2}, "▁the", joins_unknown=False)
    assert segmenter.split("▁the▁▁the1the") == ["▁the", "▁", "▁the", "1", "the"]
    assert segmenter.split("▁the" * 200) == ["▁the"] * 200


@pytest.mark.parametrize("repetitions", [1, MIN_CHARS])
def test_unknown_characters_stay_together_where_they_are_one_token(repetitions):
    text = "aXYb" * repetitions
    assert Segmenter({}, "ab", joins_unknown=True).split(text)[:3] == ["a", "XY", "b"]
    assert Segmenter({}, "ab", joins_unknown=False).split(text)[:4] == ["a", "X", "Y", "b"]


@given(st.lists(st.text("abcd", min_size=1, max_size=9), min_size=1, max_size=20), rank_tables())
def test_several_texts_are_divided_at_their_ends(parts, ranks):
    divided, firsts = Segmenter(ranks, "abc", joins_unknown=False).split_texts(parts)
    joined = ["".join(divided[first:end]) for first, end in zip(firsts, [*firsts[1:], len(divided)])]
    assert joined == parts


def test_no_text_has_no_segments():
    assert Segmenter({}, "ab", joins_unknown=True).split("") == []
