r"""Where do the pieces begin for GPT-4's and GPT-4o's patterns (cl100k, o200k)?

    characters → kinds → [pieces] → keys → ids

As in `boundaries`, from the kinds of neighbours; there are more rules, and what differs between the two patterns is
data, in `Rules`. A run is a row of characters of one group: letters, numbers, marks, blanks.

    numbers   in threes
    marks     with one space before them, and with the line breaks behind them
    blanks    up to the last line break of the run; then the rest but for the last blank
    letters   with one character before them that is no letter, number or line break: the last blank, or a mark that
              stands alone (of several marks, or of one with a space before it, all go together)

o200k cuts within words as well, where small letters end and capitals begin ("camelCase" is camel, Case), and keeps
contractions with their word. There are three rare things about it that neighbours do not tell, because it matters where
the piece began: a combining mark behind marks ("!!" and an accent), a slash behind a line break behind a mark, and a
contraction behind a contraction. Where one of them stands, the regular expression decides, between the next two places
on the left and on the right where a piece ends for certain.

tiktoken's openai_public.py has the patterns.
"""

from typing import NamedTuple

import numpy as np

from npllm.tokenizers.byte_pair.pretokenize import CL100K_PATTERN, O200K_PATTERN, compile_pattern
from npllm.tokenizers.vectorized.char_classes import (
    BLANK,
    BREAK,
    COMBINING,
    KINDS,
    LETTER_KINDS,
    LOWER,
    NEWLINE,
    NUMBER,
    SPACE,
    UPPER,
    kind_table,
)
from npllm.tokenizers.vectorized.pretokenize_gpt2 import (
    ANY_CASE,
    APOSTROPHE,
    NO_BREAKS,
    contraction_lengths,
    set_inside,
)
from npllm.tokenizers.vectorized.safe_split_points import sure_starts

MARKS, LETTERS, NUMBERS, BLANKS, NO_TEXT = range(5)  # groups of kinds


class Rules(NamedTuple):
    """What differs between the patterns."""

    pattern: str
    marks_are_letters: bool  # are marks that combine with a letter part of words?
    words_have_case: bool  # does a word begin anew where capitals follow small letters?
    contractions_join: bool  # is a contraction part of the word before it, or a piece of its own?
    last_blanks_whole: bool  # are the blanks at the end of a text one piece, line breaks and all?


CL100K = Rules(CL100K_PATTERN, False, False, False, True)
O200K = Rules(O200K_PATTERN, True, True, True, False)


def modern_starts(codes, rules, breaks=NO_BREAKS):
    """The places where the pattern begins a piece: code points (n,) → places; for `breaks` see gpt2_starts."""
    kinds = kind_table().take(codes)
    kinds[breaks] = BREAK
    groups = _groups(rules).take(kinds)
    start = np.ones(len(codes), bool)
    np.not_equal(groups[1:], groups[:-1], out=start[1:])
    start[breaks] = True
    _numbers(start, groups)
    _marks_and_blanks(start, kinds, groups, rules)
    taken = _line_breaks_behind_marks(start, kinds, groups)
    _letters(start, kinds, groups)
    contractions, length = _contractions(start, codes, groups, rules)
    if rules.words_have_case:
        _cases(start, kinds, groups, contractions + length)
    if rules.contractions_join:
        start[contractions] = False
    start[contractions + 1] = start[contractions + length - 1] = False
    set_inside(start, contractions + length)
    unsure = _unsure(start, codes, kinds, groups, contractions + length, taken) if rules.contractions_join else ()
    if len(unsure):
        _ask_the_pattern(start, codes, kinds, unsure, rules.pattern)
    return np.flatnonzero(start)


def _groups(rules):
    groups = np.full(KINDS, MARKS, np.uint8)
    groups[list(LETTER_KINDS)] = LETTERS
    groups[COMBINING] = LETTERS if rules.marks_are_letters else MARKS
    groups[[BLANK, SPACE, NEWLINE]], groups[NUMBER], groups[BREAK] = BLANKS, NUMBERS, NO_TEXT
    return groups


def _numbers(start, groups):
    """Every third number of a run begins a piece."""
    at = np.flatnonzero(groups == NUMBERS)
    first = np.maximum.accumulate(np.where(start[at], at, 0))
    start[at] = (at - first) % 3 == 0


def _marks_and_blanks(start, kinds, groups, rules):
    """Marks take a space before them; the last blank of a run, if text follows, begins a piece."""
    newline = kinds == NEWLINE
    plain = (groups == BLANKS) & ~newline
    start[1:] &= ~((groups[1:] == MARKS) & (kinds[:-1] == SPACE))
    start[:-1] |= plain[:-1] & (groups[1:] < BLANKS)
    _last_line_breaks(start, newline, plain, groups, rules)


def _last_line_breaks(start, newline, plain, groups, rules):
    """Behind the last line break of a run of blanks a piece begins."""
    others = np.flatnonzero(~plain)
    last = newline[others]
    last[:-1] &= ~newline[others[1:]]
    if rules.last_blanks_whole:
        ended = np.ones(len(others), bool)
        ended[:-1] = groups[others[1:]] == NO_TEXT
        last &= ~ended
    set_inside(start, others[last] + 1)


def _line_breaks_behind_marks(start, kinds, groups):
    """Marks take the line breaks right behind them; returns the places behind these."""
    newline = kinds == NEWLINE
    first = np.flatnonzero(newline[1:] & (groups[:-1] == MARKS)) + 1
    if not len(first):
        return first
    start[first] = False
    not_newline = np.append(np.flatnonzero(~newline), len(start))
    behind = not_newline[np.searchsorted(not_newline, first)]
    set_inside(start, behind)
    return behind


def _letters(start, kinds, groups):
    """A word takes the blank before it, or a mark that stands alone."""
    first = np.flatnonzero(start[1:] & (groups[1:] == LETTERS)) + 1
    before = groups[first - 1]
    takes = (before == BLANKS) & (kinds[first - 1] != NEWLINE) | (before == MARKS) & start[first - 1]
    start[first[takes]] = False


def _contractions(start, codes, groups, rules):
    """The apostrophes of contractions, and how long each is: behind a word, or at the beginning of a piece."""
    apostrophe = codes == APOSTROPHE
    if rules.contractions_join:
        apostrophe[1:] &= groups[:-1] == LETTERS
        apostrophe[0] = False
    else:
        apostrophe &= start
    at = np.flatnonzero(apostrophe)
    length = contraction_lengths(codes, at, ANY_CASE)
    return at[length > 0], length[length > 0]


def _cases(start, kinds, groups, ends):
    """Cut words where a capital follows small letters, and before capitals at the end that follow letters without case.

    The pattern takes capitals, then small letters; letters without case pass as both. So behind a small letter a
    capital begins anew, however many letters without case stand between. And where no small letter follows, the part
    for small letters still needs one letter: the last without case; the capitals behind it are left over.

        camelCase → camel | Case        HTTPServer → HTTPServer        日AB → 日 | AB
    """
    letter = groups == LETTERS
    begins = letter.copy()
    begins[1:] &= ~letter[:-1]
    set_inside(begins, ends)
    begins &= letter
    word = np.cumsum(begins)
    cased = np.flatnonzero((kinds == UPPER) | (kinds == LOWER))
    one, next_one = cased[:-1], cased[1:]
    anew = (kinds[one] == LOWER) & (kinds[next_one] == UPPER) & (word[one] == word[next_one])
    start[next_one[anew]] = True
    upper = kinds == UPPER
    first = upper & begins
    first[1:] |= upper[1:] & ~upper[:-1]
    last = upper.copy()
    last[:-1] &= ~upper[1:] | begins[1:]
    ends_word = np.ones(len(kinds), bool)
    ends_word[:-1] = ~letter[1:] | begins[1:]
    first, last = np.flatnonzero(first), np.flatnonzero(last)
    start[first[ends_word[last] & ~begins[first]]] = True


def _unsure(start, codes, kinds, groups, ends, taken):
    """The places of the three things that neighbours do not tell; see above."""
    combining = np.flatnonzero((kinds[1:] == COMBINING) & (groups[:-1] == MARKS) & start[1:]) + 1
    slashes = taken[taken < len(codes)]
    slashes = slashes[codes[slashes] == ord("/")]
    chained = ends[ends < len(codes)]
    chained = chained[codes[chained] == APOSTROPHE]
    return np.sort(np.concatenate([combining, slashes, chained]))


def _ask_the_pattern(start, codes, kinds, unsure, pattern):
    """Where something is unsure, let the regular expression cut, from one sure place to the next."""
    sure = sure_starts(codes, kinds)
    sure |= kinds == BREAK
    sure[1:] |= kinds[:-1] == BREAK
    sure[0] = True
    sure = np.append(np.flatnonzero(sure), len(codes))
    stretches = np.unique(np.searchsorted(sure, unsure, side="right"))
    find = compile_pattern(pattern).finditer
    for low, high in zip(sure[stretches - 1].tolist(), sure[stretches].tolist()):
        text = codes[low:high].astype("<u4").tobytes().decode("utf-32-le")
        start[low:high] = False
        start[[low + found.start() for found in find(text)]] = True
