"""Pre-tokens, and the classes of code points, compared with tiktoken's."""

import re
import sys
import unicodedata

import pytest
from hypothesis import given

from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, compile_pattern, pretokenize
from tests.strategies import texts
from tests.tokenizers.byte_pair import generate_unicode_tables


def test_the_tables_are_those_of_the_installed_tiktoken():
    assert generate_unicode_tables.TARGET.read_text(encoding="utf-8") == generate_unicode_tables.module()


@pytest.mark.parametrize(("pattern", "count"), [(r"\p{L}", 141_028), (r"\p{N}", 1_911), (r"\s", 25), (r"\p{M}", 2_501)])
def test_the_number_of_code_points_in_each_class(pattern, count):
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    found = compile_pattern(pattern).findall(everything)
    assert len(found) == count
    assert set(compile_pattern(f"[{pattern}]").findall(everything)) == set(found)
    assert len(compile_pattern(f"[^{pattern}]").findall(everything)) == len(everything) - count


def test_classes_in_which_python_and_tiktoken_differ():
    assert re.match(r"\s", "\x1c")
    assert pretokenize("a\x1cb") == ["a", "\x1c", "b"]
    assert compile_pattern(r"\s").match("\x1c") is None
    assert compile_pattern(r"\S").match("\x1c")
    assert compile_pattern(r"[\S]").match("\x1c")
    assert compile_pattern(r"[^\S]").match("\x1c") is None
    assert unicodedata.category("٣") == "Nd"
    assert pretokenize("x٣²") == ["x", "٣²"]


@pytest.mark.parametrize(
    ("text", "pretokens"),
    [
        ("Hello, world!", ["Hello", ",", " world", "!"]),
        ("a  b", ["a", " ", " b"]),
        ("a   ", ["a", "   "]),
        ("a\n\nb", ["a", "\n", "\n", "b"]),
        ("a \nb", ["a", " ", "\n", "b"]),
        ("don't we'LL ''s", ["don", "'t", " we", "'", "LL", " ''", "s"]),
        ("abc123", ["abc", "123"]),
        (" \u00a0x", [" ", "\u00a0", "x"]),
        ("<|endoftext|>", ["<|", "endoftext", "|>"]),
    ],
)
def test_pretokens(text, pretokens):
    assert pretokenize(text) == pretokens


@given(texts)
def test_pretokens_make_up_the_text(text):
    assert "".join(pretokenize(text)) == text


def test_a_long_run_of_spaces():
    assert [len(pretoken) for pretoken in pretokenize(" " * 100_000 + "x")] == [99_999, 2]


@pytest.mark.parametrize("pattern", [r"\p{Sc}", r"\P{L}", r"[\p{Greek}]"])
def test_other_classes_are_refused(pattern):
    with pytest.raises(ValueError, match="pattern has"):
        compile_pattern(pattern)
    assert compile_pattern(GPT2_PATTERN) is compile_pattern(GPT2_PATTERN)


def test_defaults_and_groups():
    text = "don't  stop 2024"
    assert pretokenize(text) == pretokenize(text, GPT2_PATTERN)
    assert pretokenize(text, r"(\S)\S*|\s+") == pretokenize(text, r"\S+|\s+"), "the whole match, not the group"
    assert pretokenize(text, r"\p{N}") == list("2024"), "text that does not match is left out"
    assert compile_pattern(r"\p{L}").pattern == compile_pattern(r"\p{L}", 0x10FFFF).pattern


@pytest.mark.parametrize("highest", [0x7F, 0xFFFF, 0x10FFFF])
def test_patterns_for_texts_without_high_code_points_find_the_same(highest):
    text = "".join(chr(point) for point in range(highest + 1) if not 0xD800 <= point <= 0xDFFF)
    for pattern in (r"\p{L}+", r"[^\s\p{L}\p{N}]+", r"\p{N}+", r"\S+"):
        assert compile_pattern(pattern, highest).findall(text) == compile_pattern(pattern).findall(text)


def test_the_end_of_the_text():
    assert compile_pattern("a$").findall("a\na\n") == []
    assert compile_pattern("a$").findall("a\na") == ["a"]
    assert compile_pattern("[a$]").findall("a$") == ["a", "$"]
