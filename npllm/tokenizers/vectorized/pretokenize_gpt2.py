r"""Where do the pieces of a text begin? GPT-2's pattern without a regular expression.

    characters → kinds → [pieces] → keys → ids

A regular expression goes from character to character. But what GPT-2's pattern says about a place depends on its
neighbours alone, so all places can be asked at once:

    1  a piece begins where the kind changes: letters, numbers, blanks, other marks
    2  … but not behind a space, which goes with what follows                        ` ?\p{L}+` and its like
    3  the last blank of a run begins a piece, if something follows                  `\s+(?!\S)`
    4  an apostrophe that begins a piece and is followed by s, d, m, t, ll, ve or re
       ends it there: what follows is a new piece                                    `'(?:[sdmt]|ll|ve|re)`

    text      d o n ' t     b e   l a t e
    1         |     | | |   |   | |               "don" "'" "t" "  " "be" " " "late"
    2                       ×     ×               "don" "'" "t" "  be" " late"
    3                     |                       "don" "'" "t" " " " be" " late"
    4                 ×                           "don" "'t" " " " be" " late"

Radford et al. 2019 (GPT-2), section 2.2, and OpenAI's encoder.py.
"""

import numpy as np

from npllm.tokenizers.vectorized.char_classes import BLANK_KINDS, BREAK, KINDS, LETTER_KINDS, NUMBER, kind_table

MARKS, LETTERS, NUMBERS, BLANKS = 0, 1, 2, 3  # GPT-2's coarser view of the kinds; BREAK is above them
APOSTROPHE, SPACE = ord("'"), ord(" ")
NO_BREAKS = np.empty(0, np.int64)
CONTRACTIONS = ("s", "d", "m", "t", "ll", "ve", "re")


def _coarse_table():
    coarse = np.zeros(KINDS, np.uint8)
    coarse[list(LETTER_KINDS)], coarse[NUMBER], coarse[list(BLANK_KINDS)] = LETTERS, NUMBERS, BLANKS
    return coarse[kind_table()]


def _letters_of_contractions(any_case):
    """The letter (1 … 8) of each code point below U+0181, 0 for all that is in no contraction."""
    table = np.zeros(0x181, np.uint8)
    for number, letter in enumerate("sdmtlver", start=1):
        table[ord(letter)] = number
        if any_case:
            table[ord(letter.upper())] = number
    table[0x17F] = table[ord("S")]  # the long s is an s to a pattern that ignores case
    return table


def _contraction_table():
    """The length of the contraction that begins with two letters: (9, 9)."""
    table = np.zeros((9, 9), np.int64)
    for letters in CONTRACTIONS:
        numbers = [int(ANY_CASE[ord(letter)]) for letter in letters]
        table[numbers[0], numbers[1] if len(numbers) == 2 else slice(None)] = 1 + len(letters)
    return table


COARSE = _coarse_table()
GPT2_LETTERS, ANY_CASE = _letters_of_contractions(any_case=False), _letters_of_contractions(any_case=True)
PAIRS = _contraction_table()


def gpt2_starts(codes, breaks=NO_BREAKS):
    """The places where GPT-2's pattern begins a piece: code points (n,) → places, in order.

    At `breaks` stand line breaks that belong to no text: one text ends before and another begins behind them. Each is
    a piece of its own.
    """
    kinds = COARSE.take(codes)
    space = codes == SPACE
    kinds[breaks] = BREAK
    start = np.empty(len(codes), bool)
    start[0] = True
    np.not_equal(kinds[1:], kinds[:-1], out=start[1:])  # rule 1
    start[1:] &= ~space[:-1]  # rule 2
    start[:-1] |= (kinds[:-1] == BLANKS) & (kinds[1:] < BLANKS)  # rule 3; at the text's end a run stays whole
    start[breaks] = True
    apostrophes = np.flatnonzero(start & (codes == APOSTROPHE))  # rule 4
    length = contraction_lengths(codes, apostrophes, GPT2_LETTERS)
    apostrophes, length = apostrophes[length > 0], length[length > 0]
    start[apostrophes + 1] = False
    set_inside(start, apostrophes + length)
    return np.flatnonzero(start)


def contraction_lengths(codes, apostrophes, letters):
    """How many characters the contraction at each apostrophe has: 2 ('s), 3 ('ll), or 0 if it is none.

    `letters` is GPT2_LETTERS or ANY_CASE.
    """
    last = len(codes) - 1
    first = letters.take(codes[np.minimum(apostrophes + 1, last)], mode="clip")
    second = letters.take(codes[np.minimum(apostrophes + 2, last)], mode="clip")
    lengths = PAIRS[first, second]
    lengths[apostrophes + lengths > last + 1] = 0
    return lengths


def set_inside(start, places):
    """Begin a piece at each place that is not behind the end of the text."""
    start[places[places < len(start)]] = True
