r"""The last pattern of DeepSeek V3 and R1 by array operations.

    code points → character classes → [pre-tokens] → keys → ids

The pattern is applied to the text between numbers and runs of Chinese or Japanese characters (`pretokenize_steps`). It
resembles cl100k's (`pretokenize_gpt4`), with three differences:

    letters       with combining marks
    punctuation   \p{P} and \p{S} alone; other characters, such as control characters, form runs of their own, whose
                  last character belongs to the letters that follow
    .NET          ASCII punctuation that begins a pre-token takes the ASCII letters after it, and only these

The tokenizer.json of DeepSeek-V3.
"""

from functools import lru_cache

import numpy as np

from npllm.tokenizers.byte_pair.pretokenize import code_points
from npllm.tokenizers.vectorized import char_classes as cc
from npllm.tokenizers.vectorized import pretokenize_gpt4 as gpt4
from npllm.tokenizers.vectorized.pretokenize_gpt2 import NO_SEPARATORS, set_starts
from npllm.tokenizers.vectorized.pretokenize_gpt4 import LETTERS, PUNCTUATION, SEPARATOR, WHITESPACE

REST = gpt4.NUMBERS  # the group of all other characters; numbers come here only as parts of their own


@lru_cache
def group_table() -> np.ndarray:
    """The group of every code point: (1,114,112,) uint8."""
    table = np.full(0x110000, REST, np.uint8)
    groups = ((PUNCTUATION, (r"\p{P}", r"\p{S}")), (LETTERS, (r"\p{L}", r"\p{M}")), (WHITESPACE, (r"\s",)))
    for group, categories in groups:
        for category in categories:
            for first, last in code_points(category):
                table[first : last + 1] = group
    table.setflags(write=False)
    return table


@lru_cache
def _ascii_kinds():
    """1 for ASCII letters, 2 for ASCII punctuation, 0 for others: (129,) uint8, the last entry for all code points."""
    kinds = np.zeros(129, np.uint8)
    kinds[[code for code in range(128) if chr(code).isalpha()]] = 1
    kinds[[code for code in range(33, 127) if not chr(code).isalnum()]] = 2
    return kinds


def deepseek_v3_starts(codes: np.ndarray, separators: np.ndarray = NO_SEPARATORS) -> np.ndarray:
    """The positions where the pattern, or text that it does not match, begins: (n,) → (number of pre-tokens,) int64.

    For `separators` see gpt2_starts.
    """
    classes, groups = gpt4._classes(codes, separators), group_table().take(codes)
    groups[separators] = SEPARATOR
    start = gpt4._group_changes(groups, separators)
    gpt4._join_space_to_punctuation(start, classes, groups)
    gpt4._split_last_whitespace(start, classes, groups)
    newlines, _ = gpt4._last_newlines(classes, groups)
    set_starts(start, newlines + 1)
    gpt4._join_newlines_to_punctuation(start, classes, groups)
    _join_prefix_to_letters(start, classes, groups)
    _join_ascii_letters_to_punctuation(start, codes, groups, separators)
    return np.flatnonzero(start)


def _join_prefix_to_letters(start, classes, groups):
    """A word begins with the whitespace, or the character that is neither whitespace nor punctuation, before it."""
    first = np.flatnonzero(start[1:] & (groups[1:] == LETTERS)) + 1
    before = groups[first - 1]
    inline_whitespace = (before == WHITESPACE) & (classes[first - 1] != cc.NEWLINE)
    rest = before == REST
    start[first[inline_whitespace | rest]] = False
    start[first[rest] - 1] = True


def _join_ascii_letters_to_punctuation(start, codes, groups, separators):
    """ASCII letters after ASCII punctuation that begins a pre-token belong to it; the rest of the word does not."""
    kinds = _ascii_kinds().take(codes, mode="clip")
    kinds[separators] = 0
    marks = np.flatnonzero(start[:-1] & (kinds[:-1] == 2) & (kinds[1:] == 1))
    if not len(marks):
        return
    start[marks + 1] = False
    others = np.append(np.flatnonzero(kinds != 1), len(codes))
    ends = others[np.searchsorted(others, marks + 1)]
    ends = ends[ends < len(codes)]
    start[ends[groups[ends] == LETTERS]] = True
