"""SentencePiece's normalizer and the trie of its rules, against sentencepiece's own normalizer."""

import unicodedata
from functools import lru_cache

import pytest
import sentencepiece
from hypothesis import given

from npllm.tokenizers.character_bpe.charsmap import SentencePieceNormalizer, read_charsmap
from npllm.tokenizers.character_bpe.normalization import aligned
from npllm.tokenizers.formats.sentence_piece_model import read_fields, read_sentence_piece_model
from tests.tokenizers.character_vocabularies import texts, trained_model


@lru_cache
def model(name):
    return trained_model(normalization_rule_name=name)


@lru_cache
def libraries(name):
    """(our normalizer, sentencepiece's) with the rules of a name."""
    (ours,) = read_sentence_piece_model(model(name), "test.model").normalizer
    return ours, sentencepiece.SentencePieceNormalizer(model_proto=model(name))


@pytest.mark.parametrize("name", ["nmt_nfkc", "nfkc", "nfkc_cf"])
@given(texts)
def test_the_normalized_text_is_that_of_sentencepiece(name, text):
    ours, theirs = libraries(name)
    assert ours.apply(text, True) == theirs.normalize(text)


def test_the_rules_of_nfkc_agree_with_unicodedata_on_letters():
    rules = libraries("nfkc")[0].rules
    single = {old: new for old, new in rules.items() if len(old) == 1}
    assert len(single) > 4000
    for character in "ﬁ①ｱ㎏ﷺÅ½ªⅧ":
        assert single.get(character, character) == unicodedata.normalize("NFKC", character)
    assert rules["e\u0301"] == "é"


@given(texts)
def test_positions_follow_the_text(text):
    for name in ("nmt_nfkc", "identity"):
        ours = libraries(name)[0]
        normalized = ours.apply_aligned(aligned(text, 5), True)
        assert normalized.text == ours.apply(text, True)
        assert len(normalized.starts) == len(normalized.ends) == len(normalized.text)
        assert normalized.starts == sorted(normalized.starts)
        assert all(5 <= first <= end <= 5 + len(text) for first, end in zip(normalized.starts, normalized.ends))


def test_spaces():
    text = "  a   b "
    assert SentencePieceNormalizer().apply(text, True) == "▁a▁b"
    assert SentencePieceNormalizer(add_dummy_prefix=False).apply(text, True) == "a▁b"
    assert SentencePieceNormalizer(remove_extra_whitespaces=False).apply(text, True) == "▁▁▁a▁▁▁b▁"
    assert SentencePieceNormalizer(escape_whitespaces=False).apply(text, True) == " a b"
    assert SentencePieceNormalizer().apply("   ", True) == ""


def test_protected_symbols_keep_their_text():
    normalizer = SentencePieceNormalizer({"ﬁ": "fi", "e\u0301": "é"}, protected=("ﬁ", "e"))
    assert normalizer.apply("ﬁ e\u0301", True) == "▁ﬁ▁e\u0301"


def test_the_longest_rule_is_applied():
    normalizer = SentencePieceNormalizer({"a": "1", "ab": "2", "abcd": "3"}, add_dummy_prefix=False)
    assert normalizer.apply("aababcabcdc", True) == "122c3c"


def test_a_damaged_charsmap_raises_valueerror():
    (spec,) = [value for number, value in read_fields(model("nfkc")) if number == 3]
    data = dict(read_fields(spec))[2]
    for damaged in (data[:3], data[:100], b"\xff" * 8 + data[8:], data[:4] + bytes(len(data) - 4)[::-1]):
        try:
            rules = read_charsmap(damaged)
        except ValueError as error:
            assert "precompiled_charsmap" in str(error)
        else:
            assert rules == {}
    with pytest.raises(ValueError, match="precompiled_charsmap"):
        read_charsmap(b"\x05\x00\x00\x00abcde")
    assert read_charsmap(b"") == {}
