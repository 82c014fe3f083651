import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.vectorized import char_classes as cc
from npllm.tokenizers.vectorized.char_classes import char_class_table, text_to_arrays, utf8_lengths
from tests.strategies import utf8_limits


@given(st.text(utf8_limits) | st.text())
def test_arrays_of_a_text(text):
    data, codes, offsets = text_to_arrays(text)
    offsets = np.arange(len(data) + 1) if offsets is None else offsets
    assert data == text.encode()
    assert codes.tolist() == list(map(ord, text))
    assert [data[low:high].decode() for low, high in zip(offsets, offsets[1:])] == list(text)


def test_an_ascii_text_has_no_offsets():
    assert text_to_arrays("a\x7f")[2] is None
    assert text_to_arrays("a\x80")[2].tolist() == [0, 1, 3]


def test_the_length_of_every_code_point_in_utf8():
    codes = np.array([*range(0xD800), *range(0xE000, sys.maxunicode + 1)])
    encoded = np.frombuffer("".join(map(chr, codes)).encode(), np.uint8)
    starts = np.flatnonzero(encoded & 0xC0 != 0x80)  # the bytes that are not continuation bytes
    assert utf8_lengths(codes).tolist() == np.diff(np.append(starts, len(encoded))).tolist()


@pytest.mark.parametrize(
    "characters, char_class",
    [
        ("AÉЖ\u01c5", cc.UPPERCASE),
        ("aéж", cc.LOWERCASE),
        ("中あ\u02b0", cc.UNCASED),
        ("\u0301\u093e", cc.COMBINING),
        ("7\u0663²Ⅷ", cc.NUMBER),
        ("\t\xa0\u3000", cc.WHITESPACE),
        (" ", cc.SPACE),
        ("\r\n", cc.NEWLINE),
        ("!_\x00\x1c\U0001f600", cc.OTHER),
    ],
)
def test_classes_of_some_characters(characters, char_class):
    assert {char_class_table()[ord(character)] for character in characters} == {char_class}


def test_no_character_has_the_class_of_separators():
    assert set(np.unique(char_class_table())) == set(range(cc.NUM_CLASSES)) - {cc.SEPARATOR}
