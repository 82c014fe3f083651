"""The class of every character of a text: letter, number, whitespace, line break or other.

    [text → code points → character classes] → pre-tokens → keys → ids

The patterns that divide a text into pre-tokens distinguish few classes of characters. A table with one entry for each
Unicode code point maps all characters of a text to their classes in one indexing operation. The patterns then become
comparisons between the classes of neighbouring characters.

Unicode Standard Annex 44, section 5.7.1, defines the general categories (Lu, Ll, …).
"""

from functools import lru_cache

import numpy as np

from npllm.tokenizers.byte_pair.pretokenize import code_points

NUM_CLASSES = 10
OTHER, UPPERCASE, LOWERCASE, UNCASED, COMBINING, NUMBER, WHITESPACE, SPACE, NEWLINE, SEPARATOR = range(NUM_CLASSES)
# WHITESPACE is whitespace other than SPACE (U+0020) and NEWLINE (\r and \n). No character has the class SEPARATOR: it
# marks the positions between two texts that are processed as one array.

LETTER_CLASSES = (UPPERCASE, LOWERCASE, UNCASED)
WHITESPACE_CLASSES = (WHITESPACE, SPACE, NEWLINE)

CLASS_OF_CATEGORY = {
    r"\p{Lu}": UPPERCASE,
    r"\p{Lt}": UPPERCASE,
    r"\p{Ll}": LOWERCASE,
    r"\p{Lm}": UNCASED,
    r"\p{Lo}": UNCASED,
    r"\p{M}": COMBINING,
    r"\p{N}": NUMBER,
    r"\s": WHITESPACE,
}


@lru_cache
def char_class_table() -> np.ndarray:
    """The class of every code point: (1,114,112,) uint8, read-only."""
    table = np.full(0x110000, OTHER, np.uint8)
    for category, char_class in CLASS_OF_CATEGORY.items():
        for first, last in code_points(category):
            table[first : last + 1] = char_class
    table[ord(" ")] = SPACE
    table[[ord("\r"), ord("\n")]] = NEWLINE
    table.setflags(write=False)
    return table


def text_to_arrays(text: str) -> tuple[bytes, np.ndarray, np.ndarray | None]:
    """A text of n characters as UTF-8 bytes, code points (n,), and the byte offset of each character (n + 1,) int64.

    The last offset is the number of bytes. The offsets are None for an ASCII text, where they are 0 … n.
    """
    data = text.encode()
    if len(data) == len(text):
        return data, np.frombuffer(data, np.uint8), None
    codes = np.frombuffer(text.encode("utf-32-le"), "<u4")
    offsets = np.zeros(len(codes) + 1, np.int64)
    np.cumsum(utf8_lengths(codes), out=offsets[1:])
    return data, codes, offsets


def utf8_lengths(codes: np.ndarray) -> np.ndarray:
    """The number of bytes of each code point in UTF-8, 1 to 4: (n,) → (n,).

    UTF-8 takes one byte up to U+007F, two up to U+07FF, three up to U+FFFF and four above (RFC 3629, section 3).
    """
    return 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)
