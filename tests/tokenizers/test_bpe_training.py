"""train_bpe: the vocabulary, its ids compared with tiktoken's, and the checks of the arguments."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import pretokenize, train_bpe
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN
from npllm.tokenizers.byte_pair.train import merge_pair
from npllm.tokenizers.vectorized.incremental_training import learn_merges
from tests.strategies import few_letters, texts
from tests.tokenizers.peers import tiktoken_encoding


@given(st.lists(few_letters, max_size=6), st.integers(0, 30))
def test_encoding_the_training_text_gives_the_tokens_after_training(parts, num_merges):
    text = "".join(parts)
    tokenizer = train_bpe(text, 256 + num_merges)
    words = [[bytes([byte]) for byte in pretoken.encode()] for pretoken in pretokenize(text)]
    for merge in learn_merges([pretoken.encode() for pretoken in pretokenize(text)], num_merges):
        words = [merge_pair(word, (merge.left, merge.right)) for word in words]
    assert tokenizer.encode(text) == [tokenizer.ranks[token] for word in words for token in word]


@given(texts, texts, st.integers(0, 40))
def test_ids_of_a_trained_vocabulary_equal_those_of_tiktoken(training_text, text, num_merges):
    tokenizer = train_bpe(training_text, 257 + num_merges, special_tokens=["<|endoftext|>"])
    reference = tiktoken_encoding(tokenizer)
    for one in (training_text, text):
        assert tokenizer.encode_ordinary(one) == reference.encode_ordinary(one)
        assert tokenizer.encode(one, allowed_special="all") == reference.encode(one, allowed_special="all")


def test_special_tokens_are_not_merged_and_have_the_highest_ids():
    tokenizer = train_bpe("<|x|>abab<|x|>abab", 258, special_tokens=["<|x|>"])
    assert tokenizer.special_tokens == {"<|x|>": 257}
    assert max(tokenizer.ranks, key=tokenizer.ranks.get) == b"ab"
    assert tokenizer.vocab_size == 258


def test_no_merge_crosses_two_texts_of_an_iterable():
    parts = ["low lower", "newest", "lowest newest"]
    assert train_bpe(iter(parts), 270).ranks == train_bpe(parts, 270).ranks
    assert train_bpe(parts, 270).ranks != train_bpe("".join(parts), 270).ranks


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tie_break": "last"}, "tie_break is 'last'; it must be 'first' or 'id'"),
        ({"pattern": "("}, "pattern is '\\('; it must be a regular expression"),
        ({"special_tokens": [""]}, "special_tokens contains the empty text"),
        ({"vocab_size": 200}, "vocab_size is 200; it must be at least 256"),
    ],
)
def test_arguments_are_checked_before_the_text_is_read(options, message):
    def texts():
        raise AssertionError("read before it was checked")
        yield

    with pytest.raises(ValueError, match=message):
        train_bpe(texts(), **{"vocab_size": 300, **options})


def test_a_text_without_pairs_gives_the_bytes():
    assert train_bpe("", 1000).vocab_size == 256


def test_vocab_size_must_hold_bytes_and_special_tokens():
    with pytest.raises(ValueError, match="vocab_size is 256; it must be at least 257"):
        train_bpe("text", 256, special_tokens=["<|x|>"])


def test_defaults():
    text = "zy ab zy ab don't <|endoftext|>"
    expected = train_bpe(text, 262, pattern=GPT2_PATTERN, special_tokens=(), on_merge=None, tie_break="first")
    tokenizer = train_bpe(text, 262)
    assert tokenizer.ranks == expected.ranks
    assert (tokenizer.pattern, tokenizer.special_tokens) == (GPT2_PATTERN, {})
    assert tokenizer.merges()[0] == (b"z", b"y"), "of equal counts, the first in the text"
    assert train_bpe(text, 262, tie_break="id").merges()[0] != (b"z", b"y")


def test_the_smallest_vocabulary_is_the_bytes():
    tokenizer = train_bpe("aaa", 256)
    assert tokenizer.ranks == {bytes([byte]): byte for byte in range(256)}
    assert train_bpe("aaa", 257, special_tokens=["<|x|>"]).special_tokens == {"<|x|>": 256}
