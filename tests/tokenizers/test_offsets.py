"""The offsets of tokens, compared with those of Hugging Face and tiktoken."""

import numpy as np
import tokenizers
from hypothesis import assume, given

from npllm.tokenizers import BPETokenizer
from npllm.tokenizers.byte_pair.bytes_to_unicode import token_to_unicode
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from tests.strategies import texts
from tests.tokenizers.peers import gpt2, gpt2_tiktoken

EVERY = {"disallowed_special": ()}


@given(texts)
def test_offsets_equal_those_of_hugging_face(text):
    text = replace_surrogates(text)
    assume("\ufffd" not in text)
    vocabulary = {token_to_unicode(token): rank for token, rank in gpt2().ranks.items()}
    theirs = _hugging_face(vocabulary)
    ids, offsets = gpt2().encode_with_offsets(text, **EVERY)
    expected = theirs.encode(text)
    if expected.ids == ids.tolist():  # its version of Unicode differs from tiktoken's
        assert offsets.tolist() == [list(pair) for pair in expected.offsets]


@given(texts)
def test_the_characters_contain_the_token(text):
    ids, offsets = gpt2().encode_with_offsets(text, **EVERY)
    assert offsets.shape == (len(ids), 2)
    for token_id, (low, high) in zip(ids.tolist(), offsets.tolist()):
        assert gpt2().decode_bytes([token_id]) in replace_surrogates(text[low:high]).encode()
    if len(ids):
        assert offsets[0, 0] == 0
        assert offsets[-1, 1] == len(text)
        assert (np.diff(offsets[:, 0]) >= 0).all()


@given(texts)
def test_first_characters_equal_those_of_tiktoken(text):
    ids, offsets = gpt2().encode_with_offsets(replace_surrogates(text), **EVERY)
    _, starts = gpt2_tiktoken().decode_with_offsets(ids.tolist())
    assert offsets[:, 0].tolist() == starts


def test_surrogates():
    ids, offsets = gpt2().encode_with_offsets("a\ud83d\ude00b\ud800c")
    assert offsets[0].tolist() == [0, 1]
    assert offsets[-1].tolist() == [5, 6]
    assert {tuple(pair) for pair in offsets.tolist()} == {(0, 1), (1, 3), (3, 4), (4, 5), (5, 6)}


def test_offsets_of_special_tokens():
    _, offsets = gpt2().encode_with_offsets("é<|endoftext|>é", allowed_special="all")
    assert offsets.tolist() == [[0, 1], [1, 14], [14, 15]]


def test_a_pattern_that_leaves_text_out():
    tokenizer = BPETokenizer(gpt2().ranks, r"\p{L}+")
    ids, offsets = tokenizer.encode_with_offsets("a, bé")
    assert ids.tolist() == tokenizer.encode("a, bé") == [*gpt2().encode("a"), *gpt2().encode("bé")]
    assert offsets.tolist() == [[0, 1], [3, 4], [4, 5]]


def _hugging_face(vocabulary):
    if not hasattr(_hugging_face, "made"):
        merges = [(token_to_unicode(left), token_to_unicode(right)) for left, right in gpt2()._merges]
        _hugging_face.made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges))
        _hugging_face.made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
            add_prefix_space=False, trim_offsets=False
        )
    return _hugging_face.made


def test_the_offsets_of_an_empty_text():
    ids, offsets = gpt2().encode_with_offsets("")
    assert (ids.shape, offsets.shape, offsets.dtype) == ((0,), (0, 2), np.int64)


def test_a_pattern_that_leaves_out_everything():
    ids, offsets = BPETokenizer(gpt2().ranks, r"\p{L}+").encode_with_offsets("12")
    assert (ids.shape, offsets.shape) == ((0,), (0, 2))


def test_offsets_after_several_surrogates():
    text = "\ud83d\ude00\ud83d\ude00\ud800\ud83d\ude00x"
    _, offsets = gpt2().encode_with_offsets(text)
    assert offsets[-1].tolist() == [7, 8]
    assert sorted({tuple(pair) for pair in offsets.tolist()}) == [(0, 2), (2, 4), (4, 5), (5, 7), (7, 8)]
