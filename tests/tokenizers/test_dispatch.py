"""Which implementation encodes or decodes; the results are the same."""

import pickle

import numpy as np
import pytest

from npllm.tokenizers import BPETokenizer, GPT2Tokenizer, dispatch
from npllm.tokenizers.byte_pair.encode import PlainEncoder
from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN
from npllm.tokenizers.dispatch import AdaptiveDecoder, AdaptiveEncoder
from npllm.tokenizers.vectorized.encode import Encoder
from tests.tokenizers.peers import gpt2

BYTES = {bytes([byte]): byte for byte in range(256)}


@pytest.fixture
def encoder():
    return AdaptiveEncoder(PlainEncoder(BYTES, GPT2_PATTERN))


def test_short_texts_are_encoded_by_the_plain_encoder(encoder):
    assert encoder.vectorized is not None
    assert encoder.select(dispatch.MIN_CHARS - 1) is encoder.plain
    assert encoder.select(dispatch.MIN_CHARS) is encoder.vectorized
    assert encoder.select(dispatch.MIN_CHARS_NON_ASCII - 1, is_ascii=False) is encoder.plain
    assert encoder.select(dispatch.MIN_CHARS_NON_ASCII, is_ascii=False) is encoder.vectorized
    assert isinstance(encoder.plain, PlainEncoder) and isinstance(encoder.vectorized, Encoder)


def test_the_vectorized_encoder_is_built_after_enough_long_texts(encoder):
    half = dispatch.MIN_CHARS_TO_BUILD // 2
    assert encoder.select(half) is encoder.plain
    assert encoder.select(dispatch.MIN_CHARS - 1) is encoder.plain, "short texts do not count"
    assert encoder.select(half - 1) is encoder.plain
    assert encoder.select(dispatch.MIN_CHARS) is encoder.vectorized


def test_one_text_that_is_long_enough_is_encoded_by_the_vectorized_encoder(encoder):
    assert isinstance(encoder.select(dispatch.MIN_CHARS_TO_BUILD), Encoder)


def test_a_pattern_without_a_vectorized_encoder():
    encoder = AdaptiveEncoder(PlainEncoder(BYTES, r"\S+|\s+"))
    assert encoder.vectorized is None
    assert encoder.select(1 << 30) is encoder.plain
    assert list(encoder.encode_blocks("a b" * 10_000)) == [list(b"a b" * 10_000)]
    encoder.clear_cache()


def test_both_encoders_give_the_same_ids(story):
    tokenizer = GPT2Tokenizer.load()
    plain = tokenizer.encode(story)
    assert tokenizer._encoder.vectorized is not None
    assert tokenizer.encode(story) == plain


def test_few_ids_are_looked_up_and_many_are_decoded_vectorized(monkeypatch):
    decoder = AdaptiveDecoder({byte: bytes([byte]) for byte in range(256)})
    assert decoder.decode([97] * (dispatch.MIN_IDS - 1)) == b"a" * (dispatch.MIN_IDS - 1)
    assert decoder._vectorized is None
    assert decoder.decode([97] * dispatch.MIN_IDS) == b"a" * dispatch.MIN_IDS
    assert decoder._vectorized is not None
    monkeypatch.setattr(dispatch, "MIN_IDS", 1)
    assert decoder.decode([]) == decoder.decode(iter([])) == b""
    assert decoder.decode(np.array([98, 99], np.uint8)) == decoder.decode(b"bc") == decoder.decode((98, 99)) == b"bc"


@pytest.mark.parametrize("is_built", [False, True])
def test_a_pickled_tokenizer_gives_the_same_ids(is_built, story):
    tokenizer = BPETokenizer(gpt2().ranks, special_tokens={"<|x|>": 60_000})
    if is_built:
        assert tokenizer._encoder.vectorized is not None
        tokenizer.decode([0] * dispatch.MIN_IDS)
    copy = pickle.loads(pickle.dumps(tokenizer))
    assert copy._encoder.select(dispatch.MIN_CHARS) is copy._encoder.plain, "the vectorized encoder is built again"
    assert copy._encoder.vectorized is not None
    ids = copy.encode(f"{story}<|x|>", allowed_special="all")
    assert ids == tokenizer.encode(f"{story}<|x|>", allowed_special="all")
    assert copy.decode(ids) == f"{story}<|x|>"
