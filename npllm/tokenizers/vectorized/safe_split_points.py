"""Where does a piece begin for certain, whatever comes before and whatever follows? There a text may be cut.

    text      d o n ' t   s t o p !   I t ' s   1 0
    certain             |           |         |       a blank behind what is no blank
                                  |                   a mark behind a letter

Two rules, true of all three patterns:

    Behind letters, or behind numbers, something else begins a piece, but for an apostrophe (which may begin a
    contraction, and in GPT-4o's pattern goes with the word) and a combining mark (there, a letter): each piece that has
    a letter or number ends with them, contractions apart.

    A blank that is no line break, behind what is no blank, begins a piece: no pattern has such a blank further back in
    a piece than at its beginning, except in a run of blanks.
"""

import numpy as np

from npllm.tokenizers.vectorized.char_classes import BLANK, COMBINING, KINDS, LETTER_KINDS, NEWLINE, NUMBER, SPACE
from npllm.tokenizers.vectorized.pretokenize_gpt2 import APOSTROPHE

LETTERS, NUMBERS, BLANKS = 1, 2, 3  # blanks that are no line breaks; 0 is all else
GROUPS = np.zeros(KINDS, np.uint8)
GROUPS[list(LETTER_KINDS)], GROUPS[NUMBER], GROUPS[[BLANK, SPACE]] = LETTERS, NUMBERS, BLANKS


def sure_starts(codes, kinds):
    """Is each place one where a piece begins for certain? Code points (n,) and their kinds (n,) → (n,) bool."""
    before, here = GROUPS.take(kinds[:-1]), GROUPS.take(kinds[1:])
    sure = np.zeros(len(kinds), bool)
    sure[1:] = ((before == LETTERS) | (before == NUMBERS)) & (here != before) & (kinds[1:] != COMBINING)
    sure[1:] |= (here == BLANKS) & (before != BLANKS) & (kinds[:-1] != NEWLINE)
    return sure & (codes != APOSTROPHE)
