"""What kind of character stands at each place of a text? A table knows, with an entry for every code point.

    [characters → kinds] → pieces → keys → ids

The patterns that cut a text ask of a character only whether it is a letter (and of which case), a number, a blank, a
line break, or something else. So a text is turned into its kinds first, by one look into a table for all characters
together, and the patterns become questions about neighbouring kinds.
"""

from functools import lru_cache

import numpy as np

from npllm.tokenizers.byte_pair.pretokenize import code_points

KINDS = 10
OTHER, UPPER, LOWER, CASELESS, COMBINING, NUMBER, BLANK, SPACE, NEWLINE, BREAK = range(KINDS)
# BREAK is the kind of no character: it is put where one text ends and the next begins.

LETTER_KINDS = (UPPER, LOWER, CASELESS)
BLANK_KINDS = (BLANK, SPACE, NEWLINE)

KIND_OF_CLASS = {
    r"\p{Lu}": UPPER,
    r"\p{Lt}": UPPER,
    r"\p{Ll}": LOWER,
    r"\p{Lm}": CASELESS,
    r"\p{Lo}": CASELESS,
    r"\p{M}": COMBINING,
    r"\p{N}": NUMBER,
    r"\s": BLANK,
}


@lru_cache
def kind_table():
    """The kind of every code point: (1,114,112,) uint8."""
    table = np.full(0x110000, OTHER, np.uint8)
    for name, kind in KIND_OF_CLASS.items():
        for low, high in code_points(name):
            table[low : high + 1] = kind
    table[ord(" ")] = SPACE
    table[[ord("\r"), ord("\n")]] = NEWLINE
    table.setflags(write=False)
    return table


def read_characters(text):
    """A text as numbers: its bytes in UTF-8, its code points, and where the bytes of each character begin.

    Returns (bytes, (n,) integers, (n + 1,) integers or None). None stands for 0 … n: every character is one byte.
    """
    data = text.encode()
    if len(data) == len(text):
        return data, np.frombuffer(data, np.uint8), None
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
    offsets = np.zeros(len(codes) + 1, np.int64)
    np.cumsum(1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000), out=offsets[1:])
    return data, codes, offsets
