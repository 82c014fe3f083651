import re
import sys
import unicodedata

import pytest
from hypothesis import given

from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, compile_pattern, pretokenize
from tests.strategies import texts
from tests.tokenizers.byte_pair import generate_unicode_tables as generate_unicode_classes


def test_the_table_is_what_the_installed_tiktoken_says():
    assert generate_unicode_classes.TARGET.read_text(encoding="utf-8") == generate_unicode_classes.module()


@pytest.mark.parametrize(("pattern", "count"), [(r"\p{L}", 141_028), (r"\p{N}", 1_911), (r"\s", 25), (r"\p{M}", 2_501)])
def test_the_classes_by_code_point(pattern, count):
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    found = compile_pattern(pattern).findall(everything)
    assert len(found) == count
    assert set(compile_pattern(f"[{pattern}]").findall(everything)) == set(found)
    assert len(compile_pattern(f"[^{pattern}]").findall(everything)) == len(everything) - count


def test_where_python_and_tiktoken_differ():
    assert re.match(r"\s", "\x1c")
    assert pretokenize("a\x1cb") == ["a", "\x1c", "b"]
    assert compile_pattern(r"\s").match("\x1c") is None
    assert compile_pattern(r"\S").match("\x1c")
    assert compile_pattern(r"[\S]").match("\x1c")
    assert compile_pattern(r"[^\S]").match("\x1c") is None
    assert unicodedata.category("٣") == "Nd"
    assert pretokenize("x٣²") == ["x", "٣²"]


@pytest.mark.parametrize(
    ("text", "pieces"),
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
def test_pieces(text, pieces):
    assert pretokenize(text) == pieces


@given(texts)
def test_gpt2s_pieces_make_up_the_text(text):
    assert "".join(pretokenize(text)) == text


def test_a_long_run_of_blanks_is_no_trouble():
    assert [len(piece) for piece in pretokenize(" " * 100_000 + "x")] == [99_999, 2]


@pytest.mark.parametrize("pattern", [r"\p{Sc}", r"\P{L}", r"[\p{Greek}]"])
def test_classes_that_it_does_not_know_are_refused(pattern):
    with pytest.raises(ValueError, match="pattern has"):
        compile_pattern(pattern)
    assert compile_pattern(GPT2_PATTERN) is compile_pattern(GPT2_PATTERN)
