"""Texts and helpers for the tests of the vectorized pre-tokenizers."""

import re

import numpy as np
from hypothesis import strategies as st

from npllm.tokenizers.vectorized.char_classes import text_to_arrays

# the characters that the patterns distinguish, so few that rare neighbours occur often
awkward = st.lists(
    st.sampled_from(
        ["a", "b", "s", "l", "L", "S", "\u017f", "A", "\u00e9", "\u4e2d", "\u01c5", "\u02b0", "\u0301", "\u093e"]
        + ["1", "22", "\u0663", " ", "  ", "\n", "\r", "\t", "\u3000", "\x1c", "'", "'s", "'ll", "'RE", "!", "/", "\n/"]
        + ["\u2764", "\ufe0f", "\U0001f600", "camelCase", "HTTPServer", "'s's", "<|endoftext|>"]
    ),
    min_size=1,
    max_size=14,
).map("".join)


def split(pretokenizer, text, separators=()):
    """The pre-tokens of a text by a vectorized pre-tokenizer."""
    _, codes, _ = text_to_arrays(text)
    starts = pretokenizer(codes, np.array(separators, np.int64)).tolist()
    return [text[low:high] for low, high in zip(starts, [*starts[1:], len(text)])]


def picture(module):
    """The text of the picture in a docstring, and for each row below it the positions of its signs, by sign."""
    lines = re.findall(r"^    (?:text|safe|[1-4]|  ) {6,10}.*$", module.__doc__, re.MULTILINE)
    rows = [line[14:].split('"', 1)[0] for line in lines]
    return rows[0][::2], [{sign: {i // 2 for i, c in enumerate(row) if c == sign} for sign in "|×"} for row in rows[1:]]
