"""The plain encoder: its cache, and the choice between the loop and the heap."""

import random

import pytest

from npllm.tokenizers import GPT2Tokenizer
from npllm.tokenizers.byte_pair import encode
from npllm.tokenizers.byte_pair.encode import HEAP_MIN_BYTES, PlainEncoder
from npllm.tokenizers.byte_pair.merge import merge_by_rank
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, PATTERNS, pretokenize
from tests.tokenizers.peers import gpt2, gpt2_tiktoken

BYTES = {bytes([byte]): byte for byte in range(256)}


@pytest.mark.parametrize("length", [HEAP_MIN_BYTES - 1, HEAP_MIN_BYTES, HEAP_MIN_BYTES + 1])
def test_the_length_of_a_pretoken_does_not_change_its_tokens(length):
    pretoken = "".join(random.Random(length).choices("etaoin", k=length)).encode()
    expected = [gpt2().ranks[token] for token in merge_by_rank(pretoken, gpt2().ranks)]
    assert PlainEncoder(gpt2().ranks).encode_pretoken(pretoken) == expected


def test_a_pretoken_in_the_vocabulary_is_one_token_even_if_no_merges_produce_it():
    encoder = PlainEncoder(BYTES | {b"abc": 300})
    assert encoder.encode("abc abcd") == [300, *b" abcd"]


def test_the_default_pattern_is_that_of_gpt2():
    assert PlainEncoder(BYTES).pattern == GPT2_PATTERN
    assert PlainEncoder(gpt2().ranks).encode("don't  stop") == gpt2_tiktoken().encode("don't  stop")


def test_blocks_and_batches_have_the_ids_of_encode():
    encoder = PlainEncoder(gpt2().ranks, PATTERNS["cl100k"])
    assert list(encoder.encode_blocks("one two")) == [encoder.encode("one two")]
    assert list(encoder.encode_batch(["one two", "", "three"])) == [
        encoder.encode("one two"),
        [],
        encoder.encode("three"),
    ]


def test_the_cache_holds_short_pretokens_and_is_bounded(monkeypatch):
    monkeypatch.setattr(encode, "MAX_CACHED", 10)
    encoder = PlainEncoder(BYTES)
    text = " ".join(map(str, range(100)))
    for _ in range(2):
        assert encoder.encode(text) == list(text.encode())
        assert 0 < len(encoder._cache) <= 10
    encoder.clear_cache()
    assert len(encoder._cache) == 0
    encoder.encode("x" * HEAP_MIN_BYTES)
    assert len(encoder._cache) == 0
    encoder.encode("x" * (HEAP_MIN_BYTES - 1))
    assert len(encoder._cache) == 1


def test_the_cache_changes_no_ids(story):
    encoder, loaded = PlainEncoder(gpt2().ranks), GPT2Tokenizer.load()
    cold = encoder.encode(story)
    assert encoder.encode(story) == cold == loaded.encode_ordinary(story)
    assert set(encoder._cache) == set(pretokenize(story))
