import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.fast.blocks import STARTS
from npllm.tokenizers.fast.character_kinds import kind_table, read_characters
from npllm.tokenizers.fast.modern_boundaries import sure_starts
from npllm.tokenizers.split import GPT2_PATTERN, PATTERNS, split_pieces
from tests.strategies import texts

# what the patterns distinguish, in short supply, so that rare neighbours meet
awkward = st.lists(
    st.sampled_from(
        ["a", "b", "s", "l", "L", "S", "\u017f", "A", "\u00e9", "\u4e2d", "\u01c5", "\u02b0", "\u0301", "\u093e"]
        + ["1", "22", "\u0663", " ", "  ", "\n", "\r", "\t", "\u3000", "\x1c", "'", "'s", "'ll", "'RE", "!", "/", "\n/"]
        + ["\u2764", "\ufe0f", "\U0001f600", "camelCase", "HTTPServer", "'s's", "<|endoftext|>"]
    ),
    min_size=1,
    max_size=14,
).map("".join)
patterns = st.sampled_from(list(PATTERNS.values()))


def cut(text, pattern, breaks=()):
    _, codes, offsets = read_characters(text)
    starts = STARTS[pattern](codes, np.array(breaks, np.int64)).tolist()
    return [text[low:high] for low, high in zip(starts, [*starts[1:], len(text)])]


@given(awkward, patterns)
def test_the_pieces_are_those_of_the_regular_expression(text, pattern):
    assert cut(text, pattern) == split_pieces(text, pattern)


@given(texts.filter(lambda text: text.isprintable() and text), patterns)
def test_any_text(text, pattern):
    assert cut(text, pattern) == split_pieces(text, pattern)


@given(st.lists(awkward | st.just(""), min_size=1, max_size=5), patterns)
def test_at_a_break_one_text_ends_and_another_begins(parts, pattern):
    breaks = np.cumsum([len(part) + 1 for part in parts]) - 1
    expected = [piece for part in parts for piece in [*split_pieces(part, pattern), "\n"]]
    assert cut("\n".join([*parts, ""]), pattern, breaks) == expected


@given(awkward, patterns)
def test_what_is_sure_is_so_whatever_stands_around_it(text, pattern):
    _, codes, _ = read_characters(text)
    sure = np.flatnonzero(sure_starts(kind_table().take(codes)) & (codes != ord("'")))
    for place in sure.tolist():
        assert split_pieces(text[:place], pattern) + split_pieces(text[place:], pattern) == split_pieces(text, pattern)


def test_the_docstrings_example():
    assert cut("don't  be late", GPT2_PATTERN) == ["don", "'t", " ", " be", " late"]


def test_bytes_codes_and_offsets():
    data, codes, offsets = read_characters("ab")
    assert (data, codes.tolist(), offsets) == (b"ab", [97, 98], None)
    everything = "".join(map(chr, [*range(0, 0xD800, 97), *range(0xE000, sys.maxunicode, 9973)]))
    data, codes, offsets = read_characters(everything)
    assert [data[low:high].decode() for low, high in zip(offsets, offsets[1:])] == list(everything)
    assert codes.tolist() == list(map(ord, everything))


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)
def test_a_long_run_of_anything(pattern):
    for character in " \n\t!a1\u4e2d\u0301'/":
        text = character * 10_001
        assert cut("x" + text, pattern) == split_pieces("x" + text, pattern)
        assert cut(text + "x", pattern) == split_pieces(text + "x", pattern)
