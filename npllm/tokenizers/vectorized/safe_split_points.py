"""Positions where a text can be split without changing its pre-tokens, whatever the rest of the text is.

A position is a safe split point if every pattern (GPT-2's, cl100k's and o200k's) begins a pre-token there for any text
before and any text after the two characters around it. Blocks of a text end at safe split points.

    text      d o n ' t   s t o p !   I t ' s   1 0
    safe                |           |         |       whitespace after a character that is not whitespace
                                  |                   punctuation after a letter

The two rules:

    1  A character after a letter and of another class begins a pre-token; likewise after a number. Exceptions are an
       apostrophe, which may begin a contraction that o200k joins to the word, and a combining mark, which o200k counts
       as a letter. Reason: a pre-token that contains letters or numbers ends with them, apart from contractions.
    2  Whitespace other than a line break, after a character that is not whitespace, begins a pre-token. Reason: in
       every pattern, such whitespace is either the first character of a pre-token or follows other whitespace.
"""

import numpy as np

from npllm.tokenizers.vectorized.char_classes import (
    COMBINING,
    LETTER_CLASSES,
    NEWLINE,
    NUM_CLASSES,
    NUMBER,
    SPACE,
    WHITESPACE,
    char_class_table,
)
from npllm.tokenizers.vectorized.pretokenize_gpt2 import APOSTROPHE

OTHERS, LETTERS, NUMBERS, INLINE_WHITESPACE = range(4)  # line breaks are in OTHERS
GROUP_OF_CLASS = np.full(NUM_CLASSES, OTHERS, np.uint8)
GROUP_OF_CLASS[list(LETTER_CLASSES)], GROUP_OF_CLASS[NUMBER] = LETTERS, NUMBERS
GROUP_OF_CLASS[[WHITESPACE, SPACE]] = INLINE_WHITESPACE

SHORT_TAIL = 1 << 8  # characters; nearly every text of this length has a safe split point


def safe_split_points(codes: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Whether each position is a safe split point: code points (n,) and character classes (n,) → (n,) bool."""
    before, here = GROUP_OF_CLASS.take(classes[:-1]), GROUP_OF_CLASS.take(classes[1:])
    safe = np.zeros(len(classes), bool)
    safe[1:] = ((before == LETTERS) | (before == NUMBERS)) & (here != before) & (classes[1:] != COMBINING)  # rule 1
    safe[1:] |= (here == INLINE_WHITESPACE) & (before != INLINE_WHITESPACE) & (classes[:-1] != NEWLINE)  # rule 2
    return safe & (codes != APOSTROPHE)


def last_safe_split_point(codes: np.ndarray) -> int:
    """The last safe split point of a text given as code points, 0 if there is none."""
    for length in (SHORT_TAIL, len(codes)):
        tail = codes[-length:]
        found = np.flatnonzero(safe_split_points(tail, char_class_table().take(tail)))
        if len(found):
            return len(codes) - len(tail) + int(found[-1])
    return 0
