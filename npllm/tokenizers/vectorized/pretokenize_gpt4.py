r"""Pre-tokenization of GPT-4 (cl100k), GPT-4o (o200k), Llama 3, Qwen and tekken by array operations.

    code points → character classes → [pre-tokens] → keys → ids

As in `pretokenize_gpt2`, the start of a pre-token follows from the classes of neighbouring characters. There are more
rules, and each pattern is a list of steps: `cl100k_starts` and `o200k_starts`. A run is a maximal sequence of
characters of one group: letters, numbers, punctuation (everything else) or whitespace.

    numbers       in groups of at most three characters
    punctuation   with one space before it and with the line breaks after it
    whitespace    up to the last line break of the run; then the rest, apart from its last character
    letters       with the character before them, if that is whitespace other than a line break, or a pre-token of a
                  single punctuation character

o200k also splits within words, before an uppercase letter that follows a lowercase one ("camelCase" gives camel and
Case), joins contractions to the word before them, and counts combining marks as letters. In three rare cases its
pattern depends on where the current pre-token began, which the neighbours do not determine: a combining mark after
punctuation, a slash after punctuation and a line break, and a contraction after a contraction. Around these positions,
from the last safe split point before them to the next one after them, the regular expression is applied.

Llama 3's and Qwen's patterns are cl100k's, and tekken's is o200k's, with other options. tiktoken's openai_public.py
defines the patterns of GPT-4 and GPT-4o, `byte_pair.published_patterns` the others.
"""

from functools import partial

import numpy as np

from npllm.tokenizers.byte_pair.pretokenize import O200K_PATTERN, compile_pattern
from npllm.tokenizers.byte_pair.published_patterns import TEKKEN_PATTERN
from npllm.tokenizers.vectorized import char_classes as cc
from npllm.tokenizers.vectorized.pretokenize_gpt2 import (
    APOSTROPHE,
    LETTERS_ANY_CASE,
    NO_SEPARATORS,
    find_contractions,
    set_starts,
)
from npllm.tokenizers.vectorized.safe_split_points import safe_split_points

PUNCTUATION, LETTERS, NUMBERS, WHITESPACE, SEPARATOR = range(5)  # groups of character classes

CL100K_GROUPS = np.full(cc.NUM_CLASSES, PUNCTUATION, np.uint8)
CL100K_GROUPS[list(cc.LETTER_CLASSES)], CL100K_GROUPS[cc.NUMBER] = LETTERS, NUMBERS
CL100K_GROUPS[list(cc.WHITESPACE_CLASSES)], CL100K_GROUPS[cc.SEPARATOR] = WHITESPACE, SEPARATOR
O200K_GROUPS = CL100K_GROUPS.copy()
O200K_GROUPS[cc.COMBINING] = LETTERS


def cl100k_starts(
    codes: np.ndarray,
    separators: np.ndarray = NO_SEPARATORS,
    *,
    max_digits: int = 3,
    groups_of_classes: np.ndarray = CL100K_GROUPS,
    split_final_whitespace: bool = False,
) -> np.ndarray:
    """The positions where cl100k's pattern begins a pre-token: code points (n,) → (number of pre-tokens,) int64.

    For `separators` see gpt2_starts. The options are those in which the patterns of Llama 3 and Qwen differ:

    max_digits              a number is divided into groups of this many digits
    groups_of_classes       O200K_GROUPS counts combining marks as letters
    split_final_whitespace  at the end of a text, too, whitespace after a line break is a pre-token of its own
    """
    classes = _classes(codes, separators)
    groups = groups_of_classes.take(classes)
    start = _group_changes(groups, separators)
    _split_numbers(start, groups, max_digits)
    _join_space_to_punctuation(start, classes, groups)
    _split_last_whitespace(start, classes, groups)
    newlines, following = _last_newlines(classes, groups)
    if not split_final_whitespace:  # whitespace that ends a text is one pre-token
        newlines = newlines[following != SEPARATOR]
    set_starts(start, newlines + 1)
    _join_newlines_to_punctuation(start, classes, groups)
    _join_prefix_to_letters(start, classes, groups)
    apostrophes = np.flatnonzero(start & (codes == APOSTROPHE))
    apostrophes, lengths = find_contractions(codes, apostrophes, LETTERS_ANY_CASE)
    _set_contractions(start, apostrophes, lengths)
    return np.flatnonzero(start)


def o200k_starts(
    codes: np.ndarray,
    separators: np.ndarray = NO_SEPARATORS,
    *,
    max_digits: int = 3,
    with_contractions: bool = True,
    pattern: str = O200K_PATTERN,
) -> np.ndarray:
    """The positions where o200k's pattern begins a pre-token: code points (n,) → (number of pre-tokens,) int64.

    For `separators` see gpt2_starts. Mistral's tekken has single digits and no contractions; `pattern` is the regular
    expression that is applied in the rare cases.
    """
    classes = _classes(codes, separators)
    groups = O200K_GROUPS.take(classes)
    start = _group_changes(groups, separators)
    _split_numbers(start, groups, max_digits)
    _join_space_to_punctuation(start, classes, groups)
    _split_last_whitespace(start, classes, groups)
    newlines, _ = _last_newlines(classes, groups)
    set_starts(start, newlines + 1)
    ends_of_newlines = _join_newlines_to_punctuation(start, classes, groups)
    _join_prefix_to_letters(start, classes, groups)
    apostrophes = NO_SEPARATORS
    if with_contractions:
        apostrophes = 1 + np.flatnonzero((codes[1:] == APOSTROPHE) & (groups[:-1] == LETTERS))
    apostrophes, lengths = find_contractions(codes, apostrophes, LETTERS_ANY_CASE)
    _split_at_case_changes(start, classes, groups, apostrophes + lengths)
    start[apostrophes] = False  # a contraction belongs to the word before it
    _set_contractions(start, apostrophes, lengths)
    ambiguous = _ambiguous_positions(start, codes, classes, groups, apostrophes + lengths, ends_of_newlines)
    if len(ambiguous):
        _apply_regex(start, codes, classes, ambiguous, pattern)
    return np.flatnonzero(start)


# Llama 3 and GLM; Qwen 1 to 3; Qwen 3.5; Mistral's tekken
llama3_starts = partial(cl100k_starts, split_final_whitespace=True)
qwen2_starts = partial(cl100k_starts, max_digits=1, split_final_whitespace=True)
qwen35_starts = partial(cl100k_starts, max_digits=1, groups_of_classes=O200K_GROUPS, split_final_whitespace=True)
tekken_starts = partial(o200k_starts, max_digits=1, with_contractions=False, pattern=TEKKEN_PATTERN)


def _classes(codes, separators):
    classes = cc.char_class_table().take(codes)
    classes[separators] = cc.SEPARATOR
    return classes


def _group_changes(groups, separators):
    """Where the group changes, and at each separator: (n,) bool."""
    start = np.ones(len(groups), bool)
    np.not_equal(groups[1:], groups[:-1], out=start[1:])
    start[separators] = True
    return start


def _split_numbers(start, groups, max_digits):
    """Every `max_digits`-th number character of a run begins a pre-token."""
    positions = np.flatnonzero(groups == NUMBERS)
    if max_digits == 1:
        start[positions] = True
        return
    first_of_run = np.maximum.accumulate(np.where(start[positions], positions, 0))
    start[positions] = (positions - first_of_run) % max_digits == 0


def _join_space_to_punctuation(start, classes, groups):
    """Punctuation does not begin a pre-token after a space: the space does."""
    start[1:] &= ~((groups[1:] == PUNCTUATION) & (classes[:-1] == cc.SPACE))


def _split_last_whitespace(start, classes, groups):
    """The last character of a run of whitespace begins a pre-token if it is no line break and other text follows."""
    inline = (groups == WHITESPACE) & (classes != cc.NEWLINE)
    start[:-1] |= inline[:-1] & (groups[1:] < WHITESPACE)


def _last_newlines(classes, groups):
    """The position of the last line break in each run of whitespace, and the group of the character after that run.

    At the end of the text, the group is SEPARATOR.
    """
    newline = classes == cc.NEWLINE
    candidates = np.flatnonzero(newline | (groups != WHITESPACE))  # all but inline whitespace
    following = np.append(groups[candidates[1:]], np.uint8(SEPARATOR))  # WHITESPACE: another line break of this run
    last = newline[candidates] & (following != WHITESPACE)
    return candidates[last], following[last]


def _join_newlines_to_punctuation(start, classes, groups):
    """Line breaks right after punctuation belong to its pre-token. Returns the positions where such line breaks end."""
    newline = classes == cc.NEWLINE
    first = np.flatnonzero(newline[1:] & (groups[:-1] == PUNCTUATION)) + 1
    if not len(first):
        return first
    start[first] = False
    not_newline = np.append(np.flatnonzero(~newline), len(start))
    ends = not_newline[np.searchsorted(not_newline, first)]
    set_starts(start, ends)
    return ends


def _join_prefix_to_letters(start, classes, groups):
    """A word begins with the whitespace before it, or with a pre-token of a single punctuation character before it."""
    first = np.flatnonzero(start[1:] & (groups[1:] == LETTERS)) + 1
    before = groups[first - 1]
    inline_whitespace = (before == WHITESPACE) & (classes[first - 1] != cc.NEWLINE)
    single_punctuation = (before == PUNCTUATION) & start[first - 1]
    start[first[inline_whitespace | single_punctuation]] = False


def _set_contractions(start, apostrophes, lengths):
    """No pre-token begins within a contraction, and one begins after it."""
    start[apostrophes + 1] = start[apostrophes + lengths - 1] = False
    set_starts(start, apostrophes + lengths)


def _split_at_case_changes(start, classes, groups, contraction_ends):
    """Split words before uppercase letters, in the two situations where o200k's pattern does.

    The pattern matches uppercase letters, then lowercase ones; letters without case match as both. So (1) an uppercase
    letter begins a pre-token if the last cased letter before it in the word is lowercase. And (2) uppercase letters at
    the end of a word, after a letter without case, begin a pre-token: at least one letter must match as lowercase, and
    the last one that can is the letter without case.

        camelCase → camel | Case        HTTPServer → HTTPServer        日AB → 日 | AB
    """
    letter, upper = groups == LETTERS, classes == cc.UPPERCASE
    word_start = letter.copy()
    word_start[1:] &= ~letter[:-1]
    set_starts(word_start, contraction_ends)
    word_start &= letter
    word = np.cumsum(word_start)
    cased = np.flatnonzero(upper | (classes == cc.LOWERCASE))
    one, following = cased[:-1], cased[1:]
    lower_then_upper = (classes[one] == cc.LOWERCASE) & (classes[following] == cc.UPPERCASE)
    start[following[lower_then_upper & (word[one] == word[following])]] = True  # (1)
    _split_final_uppercase(start, letter, upper, word_start)  # (2)


def _split_final_uppercase(start, letter, upper, word_start):
    """Situation (2) of _split_at_case_changes: a run of uppercase letters that ends a word but does not begin it."""
    first = upper & word_start
    first[1:] |= upper[1:] & ~upper[:-1]
    last = upper.copy()
    last[:-1] &= ~upper[1:] | word_start[1:]
    ends_word = np.ones(len(letter), bool)
    ends_word[:-1] = ~letter[1:] | word_start[1:]
    first, last = np.flatnonzero(first), np.flatnonzero(last)
    start[first[ends_word[last] & ~word_start[first]]] = True


def _ambiguous_positions(start, codes, classes, groups, contraction_ends, ends_of_newlines):
    """The positions of the three cases that the neighbours do not determine (see the top of this file), in order."""
    combining = 1 + np.flatnonzero((classes[1:] == cc.COMBINING) & (groups[:-1] == PUNCTUATION) & start[1:])
    slashes = ends_of_newlines[ends_of_newlines < len(codes)]
    slashes = slashes[codes[slashes] == ord("/")]
    contractions = contraction_ends[contraction_ends < len(codes)]
    contractions = contractions[codes[contractions] == APOSTROPHE]
    return np.sort(np.concatenate([combining, slashes, contractions]))


def _apply_regex(start, codes, classes, positions, pattern):
    """Replace the starts around each position, between two safe split points, by those of the regular expression."""
    safe = safe_split_points(codes, classes)
    safe |= classes == cc.SEPARATOR
    safe[1:] |= classes[:-1] == cc.SEPARATOR
    safe[0] = True
    bounds = np.append(np.flatnonzero(safe), len(codes))
    segments = np.unique(np.searchsorted(bounds, positions, side="right"))
    find = compile_pattern(pattern).finditer
    for low, high in zip(bounds[segments - 1].tolist(), bounds[segments].tolist()):
        text = codes[low:high].astype("<u4").tobytes().decode("utf-32-le")
        start[low:high] = False
        start[[low + match.start() for match in find(text)]] = True
