"""Counting tokens, and truncating a text to a token budget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import BPETokenizer
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.vectorized import blocks
from npllm.tokenizers.vectorized import encode as encoder
from tests.strategies import texts
from tests.tokenizers.peers import gpt2, gpt2_tiktoken

EVERY = {"disallowed_special": ()}


@given(texts)
def test_count_is_the_number_of_ids(text):
    assert gpt2().count(text, **EVERY) == len(gpt2_tiktoken().encode(replace_surrogates(text), **EVERY))
    assert gpt2().count(text, allowed_special="all") == len(gpt2().encode(text, allowed_special="all"))


@given(texts, st.integers(0, 12))
def test_truncate_gives_the_longest_beginning_that_fits(text, max_tokens):
    shorter = gpt2().truncate(text, max_tokens, **EVERY)
    assert replace_surrogates(text).startswith(replace_surrogates(shorter))
    assert gpt2().count(shorter, **EVERY) <= max_tokens
    ids = gpt2().encode(text, **EVERY)
    if len(ids) <= max_tokens:
        assert shorter == text
    else:
        beginnings = {gpt2().decode(ids[:number], errors="ignore") for number in range(max_tokens + 1)}
        assert shorter in beginnings
        assert not [
            beginning
            for beginning in beginnings
            if len(beginning) > len(shorter) and gpt2().count(beginning, **EVERY) <= max_tokens
        ]


def test_a_prefix_may_have_more_tokens_than_it_had_in_the_text():
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"bc": 256, b"ab": 257, b"abcd": 258}
    ranks |= {b"cd": 255 + 4, b"bcd": 260}
    tokenizer = BPETokenizer(ranks)
    for text in ("abcd abcd", "xabcd  x", "   x"):
        for max_tokens in range(8):
            assert tokenizer.count(tokenizer.truncate(text, max_tokens)) <= max_tokens


def test_truncate_encodes_no_more_than_it_needs(monkeypatch):
    lengths_encoded = []
    monkeypatch.setattr(blocks, "BLOCK_SIZE", 5000)
    original = encoder.Encoder._encode

    def encode(self, data, starts, lengths):
        lengths_encoded.append(lengths.sum())
        return original(self, data, starts, lengths)

    monkeypatch.setattr(encoder.Encoder, "_encode", encode)
    assert gpt2().truncate("some words " * 1_000_000, 4) == "some words some words"
    assert 4980 < sum(lengths_encoded) <= 5000


def test_a_negative_max_tokens_is_refused():
    with pytest.raises(ValueError, match="max_tokens is -1; it must be at least 0"):
        gpt2().truncate("a", -1)


def test_truncate_keeps_a_text_that_fits():
    assert gpt2().truncate("one two", 2) == "one two"
    assert gpt2().truncate("one two", 1) == "one"
    assert gpt2().truncate("one two", 0) == gpt2().truncate("", 0) == ""
    assert gpt2().truncate("\ud800", 9) == "\ud800"


def test_truncate_treats_special_tokens_as_encode():
    text = "one<|endoftext|>two"
    assert gpt2().truncate(text, 2, allowed_special="all") == "one<|endoftext|>"
    assert gpt2().truncate(text, 2, **EVERY) == "one<"


def test_a_pattern_that_leaves_text_out():
    tokenizer = BPETokenizer(gpt2().ranks, r"\p{L}+")
    assert tokenizer.truncate("a b", 2) == "a b"
    assert tokenizer.truncate("a b c", 2) == "a b "
    assert tokenizer.truncate("1 2 a b", 0) == "1 2 "


def test_the_beginning_of_a_text_that_is_normalized_is_one_of_the_text_as_it_is_given():
    tokenizer = BPETokenizer(gpt2().ranks, normalizer="NFC")
    for text in ("e\u0301x", "e\u0301\u0301x", "\u1100\u1161\u11a8 x", "a\u0301\u0323b"):
        num_tokens = tokenizer.count(text)
        assert tokenizer.truncate(text, num_tokens) == text
        assert tokenizer.truncate(text, num_tokens - 1) == text[: len(text) - (2 if " " in text else 1)]


def test_invalid_types():
    with pytest.raises(TypeError, match="text is bytes; it must be a str"):
        gpt2().truncate(b"a", 1)
    with pytest.raises(TypeError):
        gpt2().truncate("a", 1.5)
