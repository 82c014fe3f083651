r"""GPT-2's pre-tokenization without a regular expression: the start of every pre-token, by array operations.

    code points → character classes → [pre-tokens] → keys → ids

A regular expression reads a text character by character. But whether GPT-2's pattern begins a pre-token at a position
depends only on a few neighbouring characters, so all positions can be tested at once:

    1  A pre-token begins where the class changes: letters, numbers, whitespace, punctuation.
    2  Exception: not after a space, which belongs to the pre-token that follows it.     ` ?\p{L}+` and similar
    3  The last whitespace character of a run begins a pre-token if other text follows.  `\s+(?!\S)`
    4  If an apostrophe begins a pre-token and s, d, m, t, ll, ve or re follows, the
       two are one pre-token (a contraction), and the next one begins after them.        `'(?:[sdmt]|ll|ve|re)`

    text      d o n ' t     b e   l a t e
    1         |     | | |   |   | |               "don" "'" "t" "  " "be" " " "late"
    2                       ×     ×               "don" "'" "t" "  be" " late"
    3                     |                       "don" "'" "t" " " " be" " late"
    4                 ×                           "don" "'t" " " " be" " late"

In the picture, | is a start that a rule adds and × one that it removes. "Punctuation" stands for all characters that
are neither letters nor numbers nor whitespace, symbols included.

Radford et al. 2019 (GPT-2), section 2.2, and OpenAI's encoder.py.
"""

from collections.abc import Callable

import numpy as np

from npllm.tokenizers.vectorized.char_classes import (
    LETTER_CLASSES,
    NUM_CLASSES,
    NUMBER,
    SEPARATOR,
    WHITESPACE_CLASSES,
    char_class_table,
)

Pretokenizer = Callable[[np.ndarray, np.ndarray], np.ndarray]  # code points and separators → starts of pre-tokens

PUNCTUATION, LETTERS, NUMBERS, WHITESPACE = range(4)  # SEPARATOR has a higher number
APOSTROPHE, SPACE = ord("'"), ord(" ")
NO_SEPARATORS = np.empty(0, np.int64)
CONTRACTIONS = ("s", "d", "m", "t", "ll", "ve", "re")
LONG_S = 0x17F  # ſ, equal to s where case is ignored


def _group_table():
    """The group of every code point: (1,114,112,) uint8."""
    group_of_class = np.full(NUM_CLASSES, PUNCTUATION, np.uint8)
    group_of_class[list(LETTER_CLASSES)], group_of_class[NUMBER] = LETTERS, NUMBERS
    group_of_class[list(WHITESPACE_CLASSES)] = WHITESPACE
    return group_of_class[char_class_table()]


def _contraction_letters(ignore_case):
    """The number (1 … 8) of each code point that occurs in contractions, 0 for others: (LONG_S + 2,) uint8.

    The last entry is 0 and stands for all code points above LONG_S.
    """
    table = np.zeros(LONG_S + 2, np.uint8)
    for number, letter in enumerate("sdmtlver", start=1):
        table[ord(letter)] = number
        if ignore_case:
            table[ord(letter.upper())] = number
    if ignore_case:
        table[LONG_S] = table[ord("s")]
    return table


def _contraction_length_table():
    """The length of a contraction, apostrophe included, by the numbers of the two letters after it: (9, 9) int64."""
    table = np.zeros((9, 9), np.int64)
    for letters in CONTRACTIONS:
        numbers = [int(LETTERS_EXACT_CASE[ord(letter)]) for letter in letters]
        table[numbers[0], numbers[1] if len(numbers) == 2 else slice(None)] = 1 + len(letters)
    return table


GROUPS = _group_table()
LETTERS_EXACT_CASE, LETTERS_ANY_CASE = _contraction_letters(ignore_case=False), _contraction_letters(ignore_case=True)
CONTRACTION_LENGTHS = _contraction_length_table()


def gpt2_starts(codes: np.ndarray, separators: np.ndarray = NO_SEPARATORS) -> np.ndarray:
    """The positions where GPT-2's pattern begins a pre-token: code points (n,) → (number of pre-tokens,) int64.

    `separators` are positions of line breaks that separate two independent texts. Each becomes a pre-token of its own;
    the text on one side of it has no effect on the other.
    """
    groups, is_space = GROUPS.take(codes), codes == SPACE
    groups[separators] = SEPARATOR
    start = np.empty(len(codes), bool)
    start[0] = True
    np.not_equal(groups[1:], groups[:-1], out=start[1:])  # rule 1
    start[1:] &= ~is_space[:-1]  # rule 2
    start[:-1] |= (groups[:-1] == WHITESPACE) & (groups[1:] < WHITESPACE)  # rule 3
    start[separators] = True
    apostrophes = np.flatnonzero(start & (codes == APOSTROPHE))  # rule 4
    apostrophes, lengths = find_contractions(codes, apostrophes, LETTERS_EXACT_CASE)
    start[apostrophes + 1] = False
    set_starts(start, apostrophes + lengths)
    return np.flatnonzero(start)


def find_contractions(codes: np.ndarray, apostrophes: np.ndarray, letters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Those of the apostrophes (positions) that begin a contraction, and its length: 2 as in 's, or 3 as in 'll.

    `letters` is LETTERS_EXACT_CASE or LETTERS_ANY_CASE.
    """
    last = len(codes) - 1
    first = letters.take(codes[np.minimum(apostrophes + 1, last)], mode="clip")
    second = letters.take(codes[np.minimum(apostrophes + 2, last)], mode="clip")
    lengths = CONTRACTION_LENGTHS[first, second]
    found = (lengths > 0) & (apostrophes + lengths <= len(codes))
    return apostrophes[found], lengths[found]


def set_starts(start: np.ndarray, positions: np.ndarray) -> None:
    """Set start[positions] to True; positions behind the end are ignored."""
    start[positions[positions < len(start)]] = True
