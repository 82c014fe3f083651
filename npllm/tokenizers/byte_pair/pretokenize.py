r"""Split a text into pre-tokens with a regular expression. No merge crosses from one pre-token into the next.

    [text → pre-tokens] → bytes → merges → ids

GPT-2's pattern uses Unicode's letters (\p{L}), numbers (\p{N}) and whitespace (\s). Python's `re` does not have the
first two, and its \s also matches U+001C to U+001F. So the classes are written out, from a table that is the same for
every version of Python.

Further classes are punctuation (\p{P}), symbols (\p{S}), decimal digits (\d) and the characters of words (\w). \p{P8}
is what Hugging Face's Punctuation splits at: punctuation of Unicode 8.0, and ASCII's symbols.

Radford et al. 2019 (GPT-2), section 2.2.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from npllm.core.checks import check_text
from npllm.tokenizers.byte_pair import unicode_tables as tables
from npllm.tokenizers.byte_pair.published_patterns import PUBLISHED_PATTERNS

if TYPE_CHECKING:
    from npllm.tokenizers.byte_pair.pre_tokenizers import Step

# Contractions; letters, numbers or punctuation, each with an optional space before it; whitespace. The last character
# of a run of whitespace belongs to what follows: "a  b" → "a", " ", " b".
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

# GPT-4's. Contractions also in upper case; one punctuation or whitespace character before a word; up to three digits;
# line breaks belong to the punctuation before them, and end a run of whitespace.
CL100K_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    r"""|\s+$|\s*[\r\n]|\s+(?!\S)|\s"""
)

# GPT-4o's. A new word begins where upper case follows lower case; combining marks belong to words; contractions belong
# to the word before them.
O200K_PATTERN = (
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
    r"""|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
    r"""|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)

PATTERNS = {"gpt2": GPT2_PATTERN, "cl100k": CL100K_PATTERN, "o200k": O200K_PATTERN, **PUBLISHED_PATTERNS}

CLASSES = {  # of code points, as hexadecimal ranges
    r"\p{L}": " ".join((tables.UPPERCASE, tables.LOWERCASE, tables.TITLECASE, tables.MODIFIERS, tables.OTHER_LETTERS)),
    r"\p{Lu}": tables.UPPERCASE,
    r"\p{Ll}": tables.LOWERCASE,
    r"\p{Lt}": tables.TITLECASE,
    r"\p{Lm}": tables.MODIFIERS,
    r"\p{Lo}": tables.OTHER_LETTERS,
    r"\p{M}": tables.COMBINING_MARKS,
    r"\p{N}": tables.NUMBERS,
    r"\p{P}": tables.PUNCTUATION,
    r"\p{P8}": tables.PUNCTUATION_OF_UNICODE_8,
    r"\p{S}": tables.SYMBOLS,
    r"\d": tables.DIGITS,
    r"\w": tables.WORD_CHARACTERS,
    r"\s": tables.WHITESPACE,
}
COMPLEMENTS = {r"\S": r"\s", r"\W": r"\w", r"\D": r"\d"}


def pretokenize(text: str, pattern: str | tuple[Step, ...] = GPT2_PATTERN) -> list[str]:
    """The pre-tokens of a text, in order.

    `pattern` is a regular expression, and text that it does not match is left out, as in tiktoken; or it is a tuple of
    the steps of `pre_tokenizers`.
    """
    check_text("text", text)
    highest = range_end(text)
    if not isinstance(pattern, str):
        pretokens = [text] if text else []
        for step in pattern:
            pretokens = [part for pretoken in pretokens for part in step.split(pretoken, highest)]
            highest = max(highest, step.highest)
        return pretokens
    compiled = compile_pattern(pattern, highest)
    if compiled.groups:
        return [match.group() for match in compiled.finditer(text)]
    return compiled.findall(text)


@lru_cache
def compile_pattern(pattern: str, highest: int = 0x10FFFF) -> re.Pattern:
    r"""Compile a pattern: CLASSES and COMPLEMENTS have Unicode's meaning, $ matches only at the end of the text.

    Classes are written out up to the code point `highest`, for texts without characters above it: `re` tests the ranges
    above U+FFFF one after another, so fewer ranges are faster. Raises ValueError for any other class and for an invalid
    regular expression.
    """
    try:
        return re.compile(translate_pattern(pattern, highest))
    except re.error as error:
        raise ValueError(f"pattern is {pattern!r:.80}; it must be a regular expression ({error})") from None


def translate_pattern(pattern: str, highest: int) -> str:
    """The pattern in Python's syntax, with classes written out up to `highest`; see `compile_pattern`."""
    translated, in_brackets = [], False
    for token in re.findall(r"\\[pP]\{\w+\}|\\.|.", pattern, re.DOTALL):
        if token in CLASSES or token in COMPLEMENTS:
            token = _ranges(token, highest) if in_brackets else f"[{_ranges(token, highest)}]"
        elif token.startswith((r"\p", r"\P")):
            raise ValueError(f"pattern has {token}; it may have {', '.join(CLASSES | COMPLEMENTS)}")
        elif token == "$" and not in_brackets:
            token = r"\Z"
        elif token in "[]":
            in_brackets = token == "["
        translated.append(token)
    return "".join(translated)


@lru_cache
def code_points(name: str) -> list[tuple[int, int]]:
    r"""The code points of a class, such as \p{L}, as ranges (first, last), both included, in ascending order."""
    if name in COMPLEMENTS:
        others = code_points(COMPLEMENTS[name])
        firsts, lasts = [0, *(high + 1 for _, high in others)], [*(low - 1 for low, _ in others), 0x10FFFF]
        return [(low, high) for low, high in zip(firsts, lasts) if low <= high]
    ends = (entry.split("-") for entry in CLASSES[name].split())
    ranges = []
    for low, high in sorted((int(pair[0], 16), int(pair[-1], 16)) for pair in ends):
        if ranges and low == ranges[-1][1] + 1:
            low = ranges.pop()[0]  # adjacent ranges, such as upper and lower case, become one
        ranges.append((low, high))
    return ranges


def _ranges(name, highest):
    """A class up to `highest`, written for use inside brackets; an empty one matches only `highest` + 1."""
    ranges = [(low, min(high, highest)) for low, high in code_points(name) if low <= highest] or [(highest + 1,) * 2]
    return "".join(f"{re.escape(chr(low))}-{re.escape(chr(high))}" for low, high in ranges)


def range_end(text: str) -> int:
    """The end of the smallest range that contains the text's characters: ASCII, 16 bits, or all code points."""
    if text.isascii():
        return 0x7F
    return 0xFFFF if max(text) <= "\uffff" else 0x10FFFF
