"""GPT-2's alphabet for bytes, compared with the one in transformers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.convert_slow_tokenizer import bytes_to_unicode

from npllm.tokenizers.byte_pair.bytes_to_unicode import (
    BYTE_ORDER,
    BYTE_TO_UNICODE,
    token_to_unicode,
    unicode_to_token,
    unicode_to_tokens,
)


@given(st.binary())
def test_round_trip(data):
    assert unicode_to_token(token_to_unicode(data)) == data
    assert all(character.isprintable() and character != " " for character in token_to_unicode(data))


def test_the_alphabet_and_its_order_equal_those_of_gpt2():
    assert bytes_to_unicode() == BYTE_TO_UNICODE
    assert list(bytes_to_unicode()) == BYTE_ORDER
    assert token_to_unicode(b" the\n") == "ĠtheĊ"


def test_a_character_outside_of_the_alphabet_is_refused():
    with pytest.raises(ValueError, match="' ' in 'a b' represents no byte in GPT-2's alphabet"):
        unicode_to_token("a b")


@given(st.lists(st.binary(max_size=8)))
def test_many_tokens_at_once(tokens):
    assert unicode_to_tokens([token_to_unicode(token) for token in tokens]) == tokens


@pytest.mark.parametrize("text", ["a b", "\u2192", "\U0001f600", "\ud800", "\xad", "\x00"])
def test_a_character_outside_of_the_alphabet_is_refused_among_many(text):
    with pytest.raises(ValueError, match="represents no byte"):
        unicode_to_tokens(["ab", text, "c"])
