"""Counting, truncating, streaming and offsets."""

import numpy as np
import pytest
import tokenizers
from hypothesis import assume, given
from hypothesis import strategies as st

from npllm.tokenizers import BPETokenizer, StreamDecoder
from npllm.tokenizers.byte_pair.bytes_to_unicode import token_to_unicode
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from npllm.tokenizers.vectorized import blocks
from npllm.tokenizers.vectorized import encode as encoder
from tests.strategies import texts
from tests.tokenizers.peers import gpt2, gpt2_tiktoken

EVERY = {"disallowed_special": ()}
ids_of_any_kind = st.lists(st.integers(0, 50256) | st.sampled_from([*range(188, 256), 40, 220]), max_size=30)


class TestStreamDecoder:
    @given(ids_of_any_kind, st.data())
    def test_all_pieces_make_up_the_text(self, ids, data):
        decoder, parts, place = StreamDecoder(gpt2()), [], 0
        while place < len(ids):
            number = data.draw(st.integers(1, 3))
            parts.append(decoder.push(ids[place] if number == 1 else ids[place : place + number]))
            place += number
        assert "".join([*parts, decoder.finish()]) == gpt2().decode(ids)

    @given(texts)
    def test_never_half_a_character(self, text):
        decoder, text = StreamDecoder(gpt2()), replace_surrogates(text)
        parts = [decoder.push(token_id) for token_id in gpt2().encode(text, **EVERY)]
        assert "".join(parts) == text
        assert decoder.finish() == ""

    def test_after_finish_it_begins_anew(self):
        decoder, half = StreamDecoder(gpt2()), gpt2().encode_bytes("é".encode()[:1])
        assert (decoder.push(half), decoder.finish(), decoder.finish()) == ("", "\ufffd", "")
        assert decoder.push(gpt2().encode("é")) == "é"


class TestCounting:
    @given(texts)
    def test_it_counts_what_encode_gives(self, text):
        assert gpt2().count(text, **EVERY) == len(gpt2_tiktoken().encode(replace_surrogates(text), **EVERY))
        assert gpt2().count(text, allowed_special="all") == len(gpt2().encode(text, allowed_special="all"))

    def test_special_tokens_are_refused_as_in_encode(self):
        for call in (gpt2().count, lambda text: gpt2().truncate(text, 3), gpt2().encode_with_offsets):
            with pytest.raises(ValueError, match="the text contains the special token"):
                call("a <|endoftext|>")

    @given(texts, st.integers(0, 12))
    def test_a_truncated_text_fits(self, text, most):
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

    def test_a_prefix_may_have_more_tokens_than_it_had_in_the_text(self):
        ranks = {bytes([byte]): byte for byte in range(256)} | {b"bc": 256, b"ab": 257, b"abcd": 258}
        ranks |= {b"cd": 255 + 4, b"bcd": 260}
        tokenizer = BPETokenizer(ranks)
        for text in ("abcd abcd", "xabcd  x", "   x"):
            for most in range(8):
                assert tokenizer.count(tokenizer.truncate(text, most)) <= most

    def test_no_more_is_encoded_than_is_needed(self, monkeypatch):
        seen = []
        monkeypatch.setattr(blocks, "BLOCK_SIZE", 5000)
        original = encoder.Encoder._encode

        def encode(self, data, starts, lengths):
            seen.append(lengths.sum())
            return original(self, data, starts, lengths)

        monkeypatch.setattr(encoder.Encoder, "_encode", encode)
        assert gpt2().truncate("some words " * 1_000_000, 4) == "some words some words"
        assert 4980 < sum(seen) <= 5000

    def test_a_negative_number_is_refused(self):
        with pytest.raises(ValueError, match="max_tokens is -1; it must be at least 0"):
            gpt2().truncate("a", -1)


class TestOffsets:
    @given(texts)
    def test_they_are_hugging_faces(self, text):
        text = replace_surrogates(text)
        assume("\ufffd" not in text)
        vocabulary = {token_to_unicode(token): rank for token, rank in gpt2().ranks.items()}
        theirs = _hugging_face(vocabulary)
        ids, offsets = gpt2().encode_with_offsets(text, **EVERY)
        expected = theirs.encode(text)
        if expected.ids == ids.tolist():  # its Unicode is not tiktoken's for every letter
            assert offsets.tolist() == [list(pair) for pair in expected.offsets]

    @given(texts)
    def test_each_token_lies_within_its_characters(self, text):
        ids, offsets = gpt2().encode_with_offsets(text, **EVERY)
        assert offsets.shape == (len(ids), 2)
        for token_id, (low, high) in zip(ids.tolist(), offsets.tolist()):
            assert gpt2().decode_bytes([token_id]) in replace_surrogates(text[low:high]).encode()
        if len(ids):
            assert offsets[0, 0] == 0
            assert offsets[-1, 1] == len(text)
            assert (np.diff(offsets[:, 0]) >= 0).all()

    @given(texts)
    def test_they_begin_where_tiktoken_says(self, text):
        ids, offsets = gpt2().encode_with_offsets(replace_surrogates(text), **EVERY)
        _, starts = gpt2_tiktoken().decode_with_offsets(ids.tolist())
        assert offsets[:, 0].tolist() == starts

    def test_surrogates(self):
        ids, offsets = gpt2().encode_with_offsets("a\ud83d\ude00b\ud800c")
        assert offsets[0].tolist() == [0, 1]
        assert offsets[-1].tolist() == [5, 6]
        assert {tuple(pair) for pair in offsets.tolist()} == {(0, 1), (1, 3), (3, 4), (4, 5), (5, 6)}

    def test_special_tokens_have_places_too(self):
        _, offsets = gpt2().encode_with_offsets("é<|endoftext|>é", allowed_special="all")
        assert offsets.tolist() == [[0, 1], [1, 14], [14, 15]]

    def test_a_pattern_that_leaves_text_out(self):
        tokenizer = BPETokenizer(gpt2().ranks, r"\p{L}+")
        with pytest.raises(ValueError, match="the pattern leaves out part of the text"):
            tokenizer.encode_with_offsets("a b")


def _hugging_face(vocabulary):
    if not hasattr(_hugging_face, "made"):
        merges = [(token_to_unicode(left), token_to_unicode(right)) for left, right in gpt2()._merges]
        _hugging_face.made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges))
        _hugging_face.made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
            add_prefix_space=False, trim_offsets=False
        )
    return _hugging_face.made
