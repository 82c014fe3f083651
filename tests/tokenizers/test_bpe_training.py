from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import Merge, learn_merges, learn_merges_plain, split_pieces
from npllm.tokenizers.bpe_training import merge_pair
from tests.strategies import few_letters, texts


def pieces_of(text):
    return [piece.encode("utf-8", "replace") for piece in split_pieces(text)]


@given(st.lists(few_letters, max_size=8), st.integers(0, 40))
def test_both_trainers_agree_on_pieces_full_of_ties(parts, num_merges):
    pieces = [part.encode() for part in parts]
    assert learn_merges(pieces, num_merges) == learn_merges_plain(pieces, num_merges)


@given(st.text("ab", max_size=80), st.integers(0, 30))
def test_both_trainers_agree_on_one_long_piece(text, num_merges):
    assert learn_merges([text.encode()], num_merges) == learn_merges_plain([text.encode()], num_merges)


@given(texts, st.integers(0, 40))
def test_both_trainers_agree_on_any_text(text, num_merges):
    pieces = pieces_of(text)
    assert learn_merges(pieces, num_merges) == learn_merges_plain(pieces, num_merges)


def test_both_trainers_agree_on_the_shipped_story(story):
    pieces = pieces_of(story)
    assert learn_merges(pieces, 100) == learn_merges_plain(pieces, 100)


def test_the_trace():
    merges = learn_merges_plain([b"low", b"low", b"lower", b"newest", b"newest", b"newest", b"widest"], 4)
    assert merges == [Merge(b"w", b"e", 4), Merge(b"s", b"t", 4), Merge(b"l", b"o", 3), Merge(b"n", b"e", 3)]
    assert merges[1].token == b"st"


def test_among_equals_the_first_in_the_text_wins():
    assert learn_merges([b"zy", b"ab"], 1) == [Merge(b"z", b"y", 1)]
    assert learn_merges([b"ab", b"zy"], 1) == [Merge(b"a", b"b", 1)]
    assert learn_merges([b"xab", b"ab", b"x", b"xa"], 1) == [Merge(b"x", b"a", 2)]


def test_overlapping_pairs_are_counted_at_every_place_and_merged_from_the_left():
    assert learn_merges([b"aaaa"], 3) == [Merge(b"a", b"a", 3), Merge(b"aa", b"aa", 1)]
    assert merge_pair([b"a"] * 5, (b"a", b"a")) == [b"aa", b"aa", b"a"]


@given(st.lists(few_letters, max_size=6))
def test_every_merge_takes_a_most_frequent_pair(parts):
    words = [[bytes([byte]) for byte in part.encode()] for part in parts]
    for merge in learn_merges([part.encode() for part in parts], 15):
        pairs = [pair for word in words for pair in pairwise(word)]
        assert merge.count == pairs.count((merge.left, merge.right)) == max(map(pairs.count, pairs))
        words = [merge_pair(word, (merge.left, merge.right)) for word in words]


def test_it_ends_when_no_pair_is_left():
    assert len(learn_merges([b"abc", b"abc"], 1000)) == 2
    assert learn_merges([], 10) == learn_merges([b"", b"x"], 10) == learn_merges_plain([b"x"], 10) == []


def test_progress_is_told_merge_by_merge():
    seen = []
    assert learn_merges([b"banana band"], 5, on_merge=seen.append) == seen
