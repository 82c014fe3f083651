import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tiktoken._educational import bpe_train

from npllm.tokenizers import Merge, learn_merges, learn_merges_naive, pretokenize, train_bpe
from npllm.tokenizers.byte_pair.bytes_to_unicode import token_to_unicode
from npllm.tokenizers.vectorized import incremental_training as training
from tests.strategies import few_letters, texts
from tests.tokenizers.peers import TIKTOKEN_GPT2_PATTERN


@pytest.fixture(params=[1, 4, 10**9], ids=["NumPy alone", "both", "loops alone"], autouse=True)
def many(request, monkeypatch):
    """Whether NumPy or a loop visits the places of a pair: each way must find the same merges."""
    monkeypatch.setattr(training, "MANY", request.param)


def pieces_of(text):
    return [piece.encode("utf-8", "replace") for piece in pretokenize(text)]


class TestThePlainTrainersMerges:
    @given(st.lists(few_letters, max_size=8), st.integers(0, 40))
    def test_on_pieces_full_of_ties(self, parts, num_merges):
        pieces = [part.encode() for part in parts]
        assert learn_merges(pieces, num_merges) == learn_merges_naive(pieces, num_merges)

    @given(st.text("ab", max_size=80), st.integers(0, 30))
    def test_on_one_long_piece(self, text, num_merges):
        assert learn_merges([text.encode()], num_merges) == learn_merges_naive([text.encode()], num_merges)

    @given(st.lists(st.binary(max_size=20), max_size=8), st.integers(0, 30))
    def test_on_any_bytes(self, pieces, num_merges):
        assert learn_merges(pieces, num_merges) == learn_merges_naive(pieces, num_merges)

    @given(texts, st.integers(0, 40))
    def test_of_any_text(self, text, num_merges):
        pieces = pieces_of(text)
        assert learn_merges(pieces, num_merges) == learn_merges_naive(pieces, num_merges)

    def test_of_the_shipped_story(self, story):
        pieces = pieces_of(story)
        assert learn_merges(pieces, 100) == learn_merges_naive(pieces, 100)

    def test_runs_of_one_letter(self):
        for length in range(12):
            pieces = [b"a" * length, b"b" * 3 + b"a" * length, b"aab" * length]
            assert learn_merges(pieces, 20) == learn_merges_naive(pieces, 20)


def test_among_equals_the_first_in_the_text_wins():
    assert learn_merges([b"zy", b"ab"], 1) == [Merge(b"z", b"y", 1)]
    assert learn_merges([b"ab", b"zy"], 1) == [Merge(b"a", b"b", 1)]
    assert learn_merges([b"xab", b"ab", b"x", b"xa"], 1) == [Merge(b"x", b"a", 2)]


def test_it_ends_when_no_pair_is_left():
    assert len(learn_merges([b"abc", b"abc"], 1000)) == 2
    assert learn_merges([], 10) == learn_merges([b"", b"x"], 10) == learn_merges([b""], 10) == []


def test_progress_is_told_merge_by_merge():
    seen = []
    assert learn_merges([b"banana band"], 5, on_merge=seen.append) == seen != []


def test_tiktokens_trainer_for_teaching_on_the_story(story):
    text = story[:6000]
    theirs = bpe_train(text, 256 + 60, TIKTOKEN_GPT2_PATTERN, visualise=None)
    assert list(train_bpe(text, 256 + 60).ranks) == list(theirs)


def hugging_face(text, vocab_size):
    """Hugging Face's trainer: its tokenizer, with no more normalising than npllm's."""
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    theirs.train_from_iterator([text], trainer)
    return theirs


class TestTies:
    @given(few_letters | st.text("abcd ", max_size=120), st.integers(0, 60))
    def test_by_id_the_vocabulary_is_hugging_faces(self, text, merges):
        theirs = hugging_face(text, 256 + merges).get_vocab()
        ours = train_bpe(text, 256 + merges, tie_break="id")
        assert {token_to_unicode(token): rank for token, rank in ours.ranks.items()} == theirs

    def test_by_id_on_the_story(self, story):
        theirs = hugging_face(story, 3000)
        ours = train_bpe(story, 3000, tie_break="id")
        assert {token_to_unicode(token): rank for token, rank in ours.ranks.items()} == theirs.get_vocab()
        assert ours.encode(story) == theirs.encode(story).ids

    @given(st.lists(few_letters, max_size=8), st.integers(0, 40))
    def test_both_take_a_pair_of_the_highest_count(self, parts, num_merges):
        pieces = [part.encode() for part in parts]
        counts = [merge.count for merge in learn_merges(pieces, num_merges, tie_break="id")]
        assert counts[:1] == [merge.count for merge in learn_merges(pieces, num_merges)][:1]
        assert counts == sorted(counts, reverse=True)

    def test_another_is_refused(self):
        with pytest.raises(ValueError, match="tie_break is 'last'; it must be 'first' or 'id'"):
            learn_merges([b"ab"], 1, tie_break="last")


def test_no_limit(story):
    """A number of merges that no text has must not make pairs of ids that 64 bits cannot hold."""
    assert len(learn_merges([b"low lower"], 2**63)) == 6
    assert train_bpe("low lower", 2**62).ranks == train_bpe("low lower", 400).ranks


@pytest.mark.parametrize("learn", [learn_merges, learn_merges_naive])
def test_a_negative_number_is_refused(learn):
    with pytest.raises(ValueError, match="num_merges is -1; it must be at least 0"):
        learn([b"ab"], -1)


class TestCounts:
    def test_of_64_bits(self):
        counts = {b"ab": 2**40, b"cd": 2**60 + 1, b"abab": 3}
        merges = learn_merges(counts, 3)
        assert merges == [Merge(b"c", b"d", 2**60 + 1), Merge(b"a", b"b", 2**40 + 6), Merge(b"ab", b"ab", 3)]

    def test_of_more_are_refused(self):
        with pytest.raises(ValueError, match=r"2\*\*63"):
            learn_merges({b"ab": 2**62}, 1)

    @given(st.dictionaries(st.binary(max_size=6), st.integers(1, 50), max_size=6), st.integers(0, 20))
    def test_a_count_is_as_good_as_so_many_pieces(self, counts, num_merges):
        pieces = [piece for piece, count in counts.items() for _ in range(count)]
        assert learn_merges(counts, num_merges) == learn_merges(pieces, num_merges)
