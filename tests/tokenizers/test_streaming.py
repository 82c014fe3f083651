"""StreamDecoder: the parts make up the text, and no part ends inside a character."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers import StreamDecoder
from npllm.tokenizers.byte_pair.surrogates import replace_surrogates
from tests.strategies import texts
from tests.tokenizers.peers import gpt2

EVERY = {"disallowed_special": ()}
any_ids = st.lists(st.integers(0, 50256) | st.sampled_from([*range(188, 256), 40, 220]), max_size=30)


@given(any_ids, st.data())
def test_the_parts_make_up_the_text(ids, data):
    decoder, parts, position = StreamDecoder(gpt2()), [], 0
    while position < len(ids):
        count = data.draw(st.integers(1, 3))
        parts.append(decoder.push(ids[position] if count == 1 else ids[position : position + count]))
        position += count
    assert "".join([*parts, decoder.finish()]) == gpt2().decode(ids)


@given(texts)
def test_no_incomplete_character_is_returned(text):
    decoder, text = StreamDecoder(gpt2()), replace_surrogates(text)
    parts = [decoder.push(token_id) for token_id in gpt2().encode(text, **EVERY)]
    assert "".join(parts) == text
    assert decoder.finish() == ""


def test_finish_resets_the_decoder():
    decoder, half = StreamDecoder(gpt2()), gpt2().encode_bytes("é".encode()[:1])
    assert (decoder.push(half), decoder.finish(), decoder.finish()) == ("", "\ufffd", "")
    assert decoder.push(gpt2().encode("é")) == "é"


def test_the_default_replaces_invalid_bytes_and_errors_can_be_strict():
    ids = gpt2().encode_bytes(b"a\xff")
    assert StreamDecoder(gpt2()).push(ids) == gpt2().decode(ids) == "a\ufffd"
    assert StreamDecoder(gpt2(), errors="ignore").push(ids) == "a"
    with pytest.raises(UnicodeDecodeError):
        StreamDecoder(gpt2(), errors="strict").push(ids)


def test_push_takes_an_id_an_array_and_an_iterator():
    decoder, ids = StreamDecoder(gpt2()), gpt2().encode("one two")
    assert decoder.push(ids[0]) + decoder.push(np.array(ids[1:])) == "one two"
    assert decoder.push(iter(ids)) + decoder.push(np.int64(ids[0])) + decoder.push([]) == "one twoone"


def test_an_unknown_id_is_an_error_and_changes_nothing():
    decoder = StreamDecoder(gpt2())
    first, *rest = gpt2().encode_bytes("é".encode()[:1]) + gpt2().encode_bytes("é".encode()[1:])
    assert decoder.push(first) == ""
    with pytest.raises(KeyError, match="id 50257 is not in the vocabulary"):
        decoder.push(50257)
    assert decoder.push(rest) == "é"
