from itertools import pairwise

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import Merge, learn_merges, learn_merges_plain, split_pieces, train_bpe
from npllm.tokenizers.bpe_training import merge_pair
from npllm.tokenizers.printable_bytes import to_printable
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


def hugging_face(text, vocab_size, **options):
    """Hugging Face's trainer: its tokenizer, with no more normalising than npllm's."""
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False, **options
    )
    theirs.train_from_iterator([text], trainer)
    return theirs


class TestTies:
    @given(few_letters | st.text("abcd ", max_size=120), st.integers(0, 60))
    def test_by_id_the_vocabulary_is_hugging_faces(self, text, merges):
        theirs = hugging_face(text, 256 + merges).get_vocab()
        ours = train_bpe(text, 256 + merges, tie="id")
        assert {to_printable(token): rank for token, rank in ours.ranks.items()} == theirs

    def test_by_id_on_the_story(self, story):
        theirs = hugging_face(story, 3000)
        ours = train_bpe(story, 3000, tie="id")
        assert {to_printable(token): rank for token, rank in ours.ranks.items()} == theirs.get_vocab()
        assert ours.encode(story) == theirs.encode(story).ids

    @given(st.lists(few_letters, max_size=8), st.integers(0, 40))
    def test_both_take_a_pair_of_the_highest_count(self, parts, num_merges):
        pieces = [part.encode() for part in parts]
        counts = [merge.count for merge in learn_merges(pieces, num_merges, tie="id")]
        assert counts[:1] == [merge.count for merge in learn_merges(pieces, num_merges)][:1]
        assert counts == sorted(counts, reverse=True)

    def test_another_is_refused(self):
        with pytest.raises(ValueError, match="tie is 'last'; it must be 'first' or 'id'"):
            learn_merges([b"ab"], 1, tie="last")


def test_counts_of_any_size():
    counts = {b"ab": 2**40, b"cd": 2**70, b"abab": 3}
    merges = learn_merges(counts, 3)
    assert merges == [Merge(b"c", b"d", 2**70), Merge(b"a", b"b", 2**40 + 6), Merge(b"ab", b"ab", 3)]
