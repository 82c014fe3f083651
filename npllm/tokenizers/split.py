r"""Before byte pairs are merged, a regular expression cuts the text into pieces, and no merge crosses a cut.

    [text → pieces] → bytes → merges → ids

GPT-2's pattern speaks of letters (\p{L}), numbers (\p{N}) and blanks (\s) in the sense of Unicode. Python's `re`
does not know the first two and counts U+001C to U+001F among the third; so the classes are written out, from a table
that is the same on every Python.

Radford et al. 2019 (GPT-2), section 2.2.
"""

import re
from functools import lru_cache

from npllm.tokenizers.unicode_classes import BLANKS, LETTERS, NUMBERS

# Contractions; letters, numbers or other marks, each with one space before it; blanks. A run of blanks leaves its
# last one to what follows: "a  b" is "a", " ", " b".
GPT2_PATTERN = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""


def split_pieces(text, pattern=GPT2_PATTERN):
    """The pieces of a text in order; what the pattern does not match is left out, as tiktoken does."""
    return [match.group() for match in compile_pattern(pattern).finditer(text)]


@lru_cache
def compile_pattern(pattern):
    r"""Compile a pattern in which \p{L}, \p{N}, \s and \S mean Unicode's classes, inside brackets or outside."""
    ranges = {r"\p{L}": _ranges(LETTERS), r"\p{N}": _ranges(NUMBERS), r"\s": _ranges(BLANKS)}
    translated, inside = [], False
    for token in re.findall(r"\\[pP]\{\w+\}|\\.|.", pattern, re.DOTALL):
        if token in ranges:
            token = ranges[token] if inside else f"[{ranges[token]}]"
        elif token == r"\S" and not inside:
            token = f"[^{ranges[chr(92) + 's']}]"
        elif token.startswith((r"\p", r"\P")) or token == r"\S":
            raise ValueError(
                f"pattern has {token} {'in brackets' if inside else ''}; only \\p{{L}}, \\p{{N}}, \\s and \\S"
            )
        elif token in "[]":
            inside = token == "["
        translated.append(token)
    try:
        return re.compile("".join(translated))
    except re.error as error:
        raise ValueError(f"pattern is {pattern!r:.80}; it must be a regular expression ({error})") from None


def _ranges(table):
    """A table of code points, "41-5A AA …" in hexadecimal, as the inside of a character class."""
    ends = (entry.split("-") for entry in table.split())
    return "".join("-".join(re.escape(chr(int(end, 16))) for end in entry) for entry in ends)
