from functools import lru_cache

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tiktoken._educational import bpe_train

from npllm.tokenizers import Merge, learn_merges, learn_merges_naive, pretokenize, train_bpe
from npllm.tokenizers.byte_pair.bytes_to_unicode import token_to_unicode
from npllm.tokenizers.vectorized import incremental_training
from tests.strategies import few_letters, texts
from tests.tokenizers.peers import TIKTOKEN_GPT2_PATTERN


@pytest.fixture(params=[1, 4, 10**9], ids=["arrays", "both", "loops"], autouse=True)
def min_vectorized(request, monkeypatch):
    """Array operations, loops, or both merge the positions of a pair: the merges must be the same."""
    monkeypatch.setattr(incremental_training, "MIN_VECTORIZED", request.param)


def pretokens_of(text):
    return [pretoken.encode("utf-8", "replace") for pretoken in pretokenize(text)]


@lru_cache
def naive_merges(text, num_merges):
    return learn_merges_naive(pretokens_of(text), num_merges)


class TestMergesEqualTheNaiveTrainers:
    @given(st.lists(few_letters, max_size=8), st.integers(0, 40))
    def test_on_pretokens_with_many_ties(self, parts, num_merges):
        pretokens = [part.encode() for part in parts]
        assert learn_merges(pretokens, num_merges) == learn_merges_naive(pretokens, num_merges)

    @given(st.text("ab", max_size=80), st.integers(0, 30))
    def test_on_one_long_pretoken(self, text, num_merges):
        assert learn_merges([text.encode()], num_merges) == learn_merges_naive([text.encode()], num_merges)

    @given(st.lists(st.binary(max_size=20), max_size=8), st.integers(0, 30))
    def test_on_any_bytes(self, pretokens, num_merges):
        assert learn_merges(pretokens, num_merges) == learn_merges_naive(pretokens, num_merges)

    @given(texts, st.integers(0, 40))
    def test_on_any_text(self, text, num_merges):
        assert learn_merges(pretokens_of(text), num_merges) == learn_merges_naive(pretokens_of(text), num_merges)

    def test_on_the_shipped_text(self, story):
        assert learn_merges(pretokens_of(story[:10_000]), 60) == naive_merges(story[:10_000], 60)

    def test_on_repetitions_of_one_letter(self):
        for length in range(12):
            pretokens = [b"a" * length, b"b" * 3 + b"a" * length, b"aab" * length]
            assert learn_merges(pretokens, 20) == learn_merges_naive(pretokens, 20)


def test_of_equally_frequent_pairs_the_first_in_the_text_is_merged():
    assert learn_merges([b"zy", b"ab"], 1) == [Merge(b"z", b"y", 1)]
    assert learn_merges([b"ab", b"zy"], 1) == [Merge(b"a", b"b", 1)]
    assert learn_merges([b"xab", b"ab", b"x", b"xa"], 1) == [Merge(b"x", b"a", 2)]


def test_training_ends_when_no_pair_is_left():
    assert len(learn_merges([b"abc", b"abc"], 1000)) == 2
    assert learn_merges([], 10) == learn_merges([b"", b"x"], 10) == learn_merges([b""], 10) == []


def test_on_merge_is_called_after_every_merge():
    called = []
    assert learn_merges([b"banana band"], 5, on_merge=called.append) == called != []


def test_merges_equal_those_of_tiktokens_educational_trainer(story):
    text = story[:4000]
    theirs = bpe_train(text, 256 + 40, TIKTOKEN_GPT2_PATTERN, visualise=None)
    assert list(train_bpe(text, 256 + 40).ranks) == list(theirs)


def hugging_face(text, vocab_size):
    """The tokenizer of Hugging Face's trainer, without normalization of the text."""
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, initial_alphabet=alphabet, show_progress=False)
    theirs.train_from_iterator([text], trainer)
    return theirs


class TestTieBreak:
    @given(few_letters | st.text("abcd ", max_size=120), st.integers(0, 60))
    def test_tie_break_id_gives_the_vocabulary_of_hugging_face(self, text, merges):
        theirs = hugging_face(text, 256 + merges).get_vocab()
        ours = train_bpe(text, 256 + merges, tie_break="id")
        assert {token_to_unicode(token): rank for token, rank in ours.ranks.items()} == theirs

    def test_tie_break_id_on_the_shipped_text(self, story):
        theirs = hugging_face(story, 3000)
        ours = train_bpe(story, 3000, tie_break="id")
        assert {token_to_unicode(token): rank for token, rank in ours.ranks.items()} == theirs.get_vocab()
        assert ours.encode(story) == theirs.encode(story).ids

    @given(st.lists(few_letters, max_size=8), st.integers(0, 40))
    def test_counts_do_not_increase_with_either_rule(self, parts, num_merges):
        pretokens = [part.encode() for part in parts]
        counts = [merge.count for merge in learn_merges(pretokens, num_merges, tie_break="id")]
        assert counts[:1] == [merge.count for merge in learn_merges(pretokens, num_merges)][:1]
        assert counts == sorted(counts, reverse=True)

    def test_other_rules_are_refused(self):
        with pytest.raises(ValueError, match="tie_break is 'last'; it must be 'first' or 'id'"):
            learn_merges([b"ab"], 1, tie_break="last")


def test_a_huge_number_of_merges_does_not_overflow():
    assert len(learn_merges([b"low lower"], 2**63)) == 6
    assert train_bpe("low lower", 2**62).ranks == train_bpe("low lower", 400).ranks


@pytest.mark.parametrize("learn", [learn_merges, learn_merges_naive])
def test_a_negative_number_of_merges_is_refused(learn):
    with pytest.raises(ValueError, match="num_merges is -1; it must be at least 0"):
        learn([b"ab"], -1)


class TestCounts:
    def test_counts_of_64_bits(self):
        counts = {b"ab": 2**40, b"cd": 2**60 + 1, b"abab": 3}
        merges = learn_merges(counts, 3)
        assert merges == [Merge(b"c", b"d", 2**60 + 1), Merge(b"a", b"b", 2**40 + 6), Merge(b"ab", b"ab", 3)]

    def test_larger_counts_are_refused(self):
        with pytest.raises(ValueError, match=r"2\*\*63"):
            learn_merges({b"ab": 2**62}, 1)

    @given(st.dictionaries(st.binary(max_size=6), st.integers(1, 50), max_size=6), st.integers(0, 20))
    def test_a_count_equals_repetition(self, counts, num_merges):
        pretokens = [pretoken for pretoken, count in counts.items() for _ in range(count)]
        assert learn_merges(counts, num_merges) == learn_merges(pretokens, num_merges)
