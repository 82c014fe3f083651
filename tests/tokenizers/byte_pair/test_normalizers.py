"""Unicode's normalization forms in the version 9.0, compared with Hugging Face's tokenizers."""

import sys
import unicodedata

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, models, pre_tokenizers

from npllm.tokenizers.byte_pair.normalization_table import NEWER
from npllm.tokenizers.byte_pair.normalizers import (
    FORMS,
    Prepend,
    Replace,
    UnicodeForm,
    as_normalizers,
    is_unchanged,
    normalize,
    normalize_aligned,
)
from tests.tokenizers.mixed_texts import mixed_texts

EVERYTHING = [chr(point) for point in range(sys.maxunicode + 1) if not 0xD800 <= point <= 0xDFFF]
MARKS = [character for character in EVERYTHING if unicodedata.combining(character)]
DECOMPOSED = [character for character in EVERYTHING if unicodedata.decomposition(character)]
NEW = [
    chr(point)
    for ends in (entry.split("-") for entry in NEWER.split())
    for point in range(int(ends[0], 16), int(ends[-1], 16) + 1)
]
JAMO = [chr(point) for point in (*range(0x1100, 0x1113), *range(0x1161, 0x1176), *range(0x11A8, 0x11C3))]
characters = st.one_of(
    [st.sampled_from(pool) for pool in (MARKS, DECOMPOSED, NEW, JAMO, "aeo e\uac00", EVERYTHING[:0x3100])]
)
difficult = mixed_texts | st.lists(characters, max_size=12).map("".join)


def their_positions(form, text):
    """The positions of the characters of the normalized text, from the offsets of tokens of one character."""
    theirs = tokenizers.Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    theirs.normalizer = getattr(tokenizers.normalizers, form)()
    theirs.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return theirs.encode(text).offsets


@pytest.mark.parametrize("form", FORMS)
@given(difficult)
def test_texts_and_positions(form, text):
    ours, expected = UnicodeForm(form), getattr(tokenizers.normalizers, form)().normalize_str(text)
    assert ours.normalize(text) == expected
    normalized, positions = ours.normalize_aligned(text, range(len(text)))
    assert normalized == expected
    assert [(position, position + 1) for position in positions] == their_positions(form, text)


@pytest.mark.parametrize("form", FORMS)
def test_every_code_point(form):
    theirs = getattr(tokenizers.normalizers, form)()
    for text in ("a".join(EVERYTHING), "\u0301".join(EVERYTHING[::7])):
        assert UnicodeForm(form).normalize(text) == theirs.normalize_str(text)


@given(difficult)
def test_several_steps(text):
    steps = (Prepend("__"), Replace(r"\s+", "<>"), UnicodeForm("NFKD"), Replace("a", ""))
    theirs = tokenizers.normalizers.Sequence(
        [
            tokenizers.normalizers.Prepend("__"),
            tokenizers.normalizers.Replace(Regex(r"\s+"), "<>"),
            tokenizers.normalizers.NFKD(),
            tokenizers.normalizers.Replace("a", ""),
        ]
    )
    assert normalize(text, steps) == theirs.normalize_str(text) == normalize_aligned(text, steps)[0]


@given(st.lists(characters, max_size=6).map("".join), st.lists(characters, max_size=6).map("".join))
def test_a_text_may_be_split_between_characters_that_are_unchanged(before, after):
    for form in FORMS:
        step = UnicodeForm(form)
        if before and after and is_unchanged(before[-1:] + after[:1], [step]):
            assert step.normalize(before) + step.normalize(after) == step.normalize(before + after)


def test_is_unchanged():
    nfc, nfkc = UnicodeForm("NFC"), UnicodeForm("NFKC")
    assert is_unchanged("a ", [nfc, nfkc])
    assert is_unchanged("\u4e2d\uff0c", [nfc])
    assert not is_unchanged("\u4e2d\uff0c", [nfkc])
    assert not is_unchanged("a\u0301", [nfc])
    assert not is_unchanged("\u1100\u1161", [nfc])
    assert not is_unchanged("ab", [Replace("a", "b")])
    assert is_unchanged("a\u0301", [])


def test_what_a_normalizer_may_be():
    assert as_normalizers(None) == ()
    assert as_normalizers("NFC") == as_normalizers(UnicodeForm("NFC")) == as_normalizers([UnicodeForm("NFC")])
    with pytest.raises(ValueError, match="normalizer is 'NFX'; it must be one of NFC, NFD, NFKC, NFKD"):
        as_normalizers("NFX")
    with pytest.raises(TypeError, match="normalizer is 3; it must be NFC, NFD, NFKC, NFKD, or UnicodeForm"):
        as_normalizers([3])
    with pytest.raises(ValueError, match="must not match the empty text"):
        Replace("a*", "b")
