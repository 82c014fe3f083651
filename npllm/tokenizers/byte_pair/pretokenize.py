r"""Before byte pairs are merged, a regular expression cuts the text into pieces, and no merge crosses a cut.

    [text → pieces] → bytes → merges → ids

GPT-2's pattern speaks of letters (\p{L}), numbers (\p{N}) and blanks (\s) in the sense of Unicode. Python's `re`
does not know the first two and counts U+001C to U+001F among the third; so the classes are written out, from a table
that is the same on every Python.

Radford et al. 2019 (GPT-2), section 2.2.
"""

import re
from functools import lru_cache

from npllm.core.checks import check_text
from npllm.tokenizers.byte_pair import unicode_tables as classes

# Contractions; letters, numbers or other marks, each with one space before it; blanks. A run of blanks leaves its
# last one to what follows: "a  b" is "a", " ", " b".
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""

# GPT-4's. Contractions in capitals, too; any one mark or blank before a word; numbers in threes; line breaks stay with
# the marks before them, and end a run of blanks.
CL100K_PATTERN = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"""
    r"""|\s+$|\s*[\r\n]|\s+(?!\S)|\s"""
)

# GPT-4o's. A word begins anew where capitals follow small letters; marks that combine with letters belong to words;
# contractions stay with the word before them.
O200K_PATTERN = (
    r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
    r"""|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"""
    r"""|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
)

PATTERNS = {"gpt2": GPT2_PATTERN, "cl100k": CL100K_PATTERN, "o200k": O200K_PATTERN}

CLASSES = {
    r"\p{L}": " ".join(
        (classes.UPPERCASE, classes.LOWERCASE, classes.TITLECASE, classes.MODIFIERS, classes.OTHER_LETTERS)
    ),
    r"\p{Lu}": classes.UPPERCASE,
    r"\p{Ll}": classes.LOWERCASE,
    r"\p{Lt}": classes.TITLECASE,
    r"\p{Lm}": classes.MODIFIERS,
    r"\p{Lo}": classes.OTHER_LETTERS,
    r"\p{M}": classes.COMBINING,
    r"\p{N}": classes.NUMBERS,
    r"\s": classes.BLANKS,
}


def pretokenize(text, pattern=GPT2_PATTERN):
    """The pieces of a text in order; what the pattern does not match is left out, as tiktoken does."""
    check_text("text", text)
    compiled = compile_pattern(pattern, _highest(text))
    if compiled.groups:
        return [match.group() for match in compiled.finditer(text)]
    return compiled.findall(text)


@lru_cache
def compile_pattern(pattern, highest=0x10FFFF):
    r"""Compile a pattern in which the CLASSES and \S are Unicode's, in brackets or outside, and $ is the text's end.

    The classes are written out up to `highest`, for texts that have no character above it: of the ranges above U+FFFF
    `re` asks one after the other, so fewer of them are faster.
    Raises ValueError for another class and for what is no regular expression.
    """
    translated, inside = [], False
    for token in re.findall(r"\\[pP]\{\w+\}|\\.|.", pattern, re.DOTALL):
        if token in CLASSES or token == r"\S":
            token = _ranges(token, highest) if inside else f"[{_ranges(token, highest)}]"
        elif token.startswith((r"\p", r"\P")):
            raise ValueError(f"pattern has {token}; it may have {', '.join(CLASSES)} and \\S")
        elif token == "$" and not inside:
            token = r"\Z"
        elif token in "[]":
            inside = token == "["
        translated.append(token)
    try:
        return re.compile("".join(translated))
    except re.error as error:
        raise ValueError(f"pattern is {pattern!r:.80}; it must be a regular expression ({error})") from None


@lru_cache
def code_points(name):
    r"""The code points of a class, \p{L} for instance, as pairs of the first and the last one of each range."""
    if name == r"\S":
        blanks = code_points(r"\s")
        behind, before = [0, *(high + 1 for _, high in blanks)], [*(low - 1 for low, _ in blanks), 0x10FFFF]
        return [(low, high) for low, high in zip(behind, before) if low <= high]
    ends = (entry.split("-") for entry in CLASSES[name].split())
    ranges = []
    for low, high in sorted((int(pair[0], 16), int(pair[-1], 16)) for pair in ends):
        if ranges and low == ranges[-1][1] + 1:
            low = ranges.pop()[0]  # letters of one kind next to letters of another
        ranges.append((low, high))
    return ranges


def _ranges(name, highest):
    """A class as the inside of a character class; one that is empty has the character above the highest."""
    ranges = [(low, min(high, highest)) for low, high in code_points(name) if low <= highest] or [(highest + 1,) * 2]
    return "".join(f"{re.escape(chr(low))}-{re.escape(chr(high))}" for low, high in ranges)


def _highest(text):
    """The end of ASCII, of the 16-bit characters or of all, whichever the text stays below."""
    if text.isascii():
        return 0x7F
    return 0xFFFF if max(text) <= "\uffff" else 0x10FFFF
