"""Everything that converts between characters and UTF-8 bytes, on the characters where the number of bytes changes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import StreamDecoder, text_blocks
from npllm.tokenizers.byte_pair.pretokenize import PATTERNS, pretokenize
from tests.strategies import UTF8_LIMITS, utf8_limits
from tests.tokenizers.peers import encode_vectorized, gpt2, gpt2_tiktoken, trained
from tests.tokenizers.tiktoken_patterns import TIKTOKEN_PATTERNS, tiktoken_encoding

limit_texts = st.text(utf8_limits | st.sampled_from(" a1!'\n"), max_size=20)
names = st.sampled_from(list(PATTERNS))


def test_the_characters_are_on_both_sides_of_each_limit():
    lengths = [len(character.encode()) for character in UTF8_LIMITS]
    assert lengths == [1, 2, 2, 3, 3, 3, 3, 4, 4]


@given(limit_texts, names)
def test_ids_equal_those_of_tiktoken(text, name):
    expected = tiktoken_encoding(trained(name), TIKTOKEN_PATTERNS[name]).encode_ordinary(text)
    assert encode_vectorized(trained(name), text) == trained(name).encode_ordinary(text) == expected


@given(limit_texts, names)
def test_pretokens_cover_the_text(text, name):
    assert "".join(pretokenize(text, PATTERNS[name])) == text


@given(limit_texts)
def test_offsets_delimit_the_characters_of_each_token(text):
    ids, offsets = gpt2().encode_with_offsets(text)
    position = 0  # in bytes
    for token_id, (first, end) in zip(ids.tolist(), offsets.tolist()):
        token = gpt2().decode_bytes([token_id])
        before = len(text[:first].encode())
        assert before <= position < before + len(text[first].encode())
        assert text[first:end].encode()[position - before :].startswith(token)
        position += len(token)
        assert len(text[: end - 1].encode()) < position <= len(text[:end].encode())
    assert position == len(text.encode())


@given(limit_texts)
def test_a_stream_gives_the_text(text):
    stream = StreamDecoder(gpt2())
    parts = [stream.push([token_id]) for token_id in gpt2_tiktoken().encode_ordinary(text)]
    assert "".join([*parts, stream.finish()]) == text


@given(limit_texts, st.integers(0, 12))
def test_truncation_keeps_whole_characters(text, max_tokens):
    shorter = gpt2().truncate(text, max_tokens)
    assert text.startswith(shorter)
    assert len(gpt2().encode(shorter)) <= max_tokens


@given(limit_texts.filter(lambda text: text and not text.startswith("\ufeff")), st.integers(1, 9))
def test_blocks_of_a_file_make_up_the_text(tmp_path_factory, text, size):
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_blocks, "BLOCK", size)
        parts = list(text_blocks.read_text_blocks(path))
    assert "".join(part.text for part in parts) == text
    assert b"".join(part.data for part in parts) == text.encode()


@pytest.mark.parametrize("character", UTF8_LIMITS, ids=[f"U+{ord(character):04X}" for character in UTF8_LIMITS])
def test_a_long_text_of_one_character(character):
    text = f"{character}a" * 5000
    ids = gpt2_tiktoken().encode_ordinary(text)
    assert encode_vectorized(gpt2(), text) == ids
    assert gpt2().decode(np.array(ids)) == text
