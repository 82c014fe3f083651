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
def test_it_counts_what_encode_gives(text):
    assert gpt2().count(text, **EVERY) == len(gpt2_tiktoken().encode(replace_surrogates(text), **EVERY))
    assert gpt2().count(text, allowed_special="all") == len(gpt2().encode(text, allowed_special="all"))


def test_special_tokens_are_refused_as_in_encode():
    for call in (gpt2().count, lambda text: gpt2().truncate(text, 3), gpt2().encode_with_offsets):
        with pytest.raises(ValueError, match="the text contains the special token"):
            call("a <|endoftext|>")


@given(texts, st.integers(0, 12))
def test_a_truncated_text_fits(text, most):
    shorter = gpt2().truncate(text, most, **EVERY)
    assert replace_surrogates(text).startswith(replace_surrogates(shorter))
    assert gpt2().count(shorter, **EVERY) <= most
    ids = gpt2().encode(text, **EVERY)
    if len(ids) <= most:
        assert shorter == text
    else:
        cuts = {gpt2().decode(ids[:number], errors="ignore") for number in range(most + 1)}
        assert shorter in cuts
        assert not [cut for cut in cuts if len(cut) > len(shorter) and gpt2().count(cut, **EVERY) <= most]


def test_a_prefix_may_have_more_tokens_than_it_had_in_the_text():
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"bc": 256, b"ab": 257, b"abcd": 258}
    ranks |= {b"cd": 255 + 4, b"bcd": 260}
    tokenizer = BPETokenizer(ranks)
    for text in ("abcd abcd", "xabcd  x", "   x"):
        for most in range(8):
            assert tokenizer.count(tokenizer.truncate(text, most)) <= most


def test_no_more_is_encoded_than_is_needed(monkeypatch):
    seen = []
    monkeypatch.setattr(blocks, "BLOCK_SIZE", 5000)
    original = encoder.Encoder._encode

    def encode(self, data, starts, lengths):
        seen.append(lengths.sum())
        return original(self, data, starts, lengths)

    monkeypatch.setattr(encoder.Encoder, "_encode", encode)
    assert gpt2().truncate("some words " * 1_000_000, 4) == "some words some words"
    assert 4980 < sum(seen) <= 5000


def test_a_negative_number_is_refused():
    with pytest.raises(ValueError, match="max_tokens is -1; it must be at least 0"):
        gpt2().truncate("a", -1)
