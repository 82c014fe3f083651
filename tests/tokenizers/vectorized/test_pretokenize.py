import re
import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npllm.tokenizers.byte_pair.pretokenize import GPT2_PATTERN, PATTERNS, pretokenize
from npllm.tokenizers.vectorized import pretokenize_gpt2 as boundaries
from npllm.tokenizers.vectorized import pretokenize_gpt4 as modern_boundaries
from npllm.tokenizers.vectorized import safe_split_points as sure
from npllm.tokenizers.vectorized.blocks import STARTS
from npllm.tokenizers.vectorized.char_classes import kind_table, read_characters
from npllm.tokenizers.vectorized.pretokenize_gpt2 import NO_BREAKS
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
    assert cut(text, pattern) == pretokenize(text, pattern)


@given(texts.filter(lambda text: text.isprintable() and text), patterns)
def test_any_text(text, pattern):
    assert cut(text, pattern) == pretokenize(text, pattern)


@given(st.lists(awkward | st.just(""), min_size=1, max_size=5), patterns)
def test_at_a_break_one_text_ends_and_another_begins(parts, pattern):
    breaks = np.cumsum([len(part) + 1 for part in parts]) - 1
    expected = [piece for part in parts for piece in [*pretokenize(part, pattern), "\n"]]
    assert cut("\n".join([*parts, ""]), pattern, breaks) == expected


@given(awkward, patterns)
def test_what_is_sure_is_so_whatever_stands_around_it(text, pattern):
    _, codes, _ = read_characters(text)
    for place in np.flatnonzero(sure.sure_starts(codes, kind_table().take(codes))).tolist():
        assert pretokenize(text[:place], pattern) + pretokenize(text[place:], pattern) == pretokenize(text, pattern)


def picture(module):
    """The text of a docstring's picture, and for each row below it where its signs stand, by sign."""
    lines = re.findall(r"^    (?:text|certain|[1-4]|  ) {6,10}.*$", module.__doc__, re.MULTILINE)
    rows = [line[14:].split('"', 1)[0] for line in lines]
    return rows[0][::2], [{sign: {i // 2 for i, c in enumerate(row) if c == sign} for sign in "|×"} for row in rows[1:]]


def test_the_picture_of_the_rules():
    text, rows = picture(boundaries)
    written = re.findall(r"^    [1-4] .*?(\".*)$", boundaries.__doc__, re.MULTILINE)
    starts = set()
    for row, pieces in zip(rows, written):
        starts = (starts | row["|"]) - row["×"]
        ends = [*sorted(starts), len(text)]
        assert [text[low:high] for low, high in pairwise(ends)] == re.findall(r'"(.*?)"', pieces)
    assert sorted(starts) == STARTS[GPT2_PATTERN](np.array(list(map(ord, text))), NO_BREAKS).tolist()
    assert len(rows) == len(written) == 4


def test_the_picture_of_what_is_certain():
    text, rows = picture(sure)
    codes = np.array(list(map(ord, text)))
    places = np.flatnonzero(sure.sure_starts(codes, kind_table().take(codes)))
    assert set(places.tolist()) == rows[0]["|"] | rows[1]["|"]
    assert len(places) == 4


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
        assert cut("x" + text, pattern) == pretokenize("x" + text, pattern)
        assert cut(text + "x", pattern) == pretokenize(text + "x", pattern)


def test_the_examples_of_cases():
    examples = re.findall(r"(\S+) → (\S+(?: \| \S+)?)", modern_boundaries._cases.__doc__)
    assert len(examples) == 3
    for text, pieces in examples:
        assert cut(text, PATTERNS["o200k"]) == pretokenize(text, PATTERNS["o200k"]) == pieces.split(" | ")
