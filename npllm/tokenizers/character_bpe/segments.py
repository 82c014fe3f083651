"""Divide a text where no merge can cross, so that each segment can be merged, and cached, by itself.

    text → [segments] → tokens of each → ids

Character-level BPE has no pre-tokenizer: the whole text is one sequence, in which any two adjacent tokens could be
merged. But a merge of (left, right) joins the last character of `left` and the first one of `right`. So if no merge of
the vocabulary joins the characters a and b, then no token extends across a position between a and b, whatever
surrounds it. Merges on one side of such a position do not change the pairs on the other side, and among the pairs of
one side the order of the merges is the same with and without the other side. Therefore

    tokens(text) = tokens(segment 1) + tokens(segment 2) + …

In Llama 2's vocabulary no token has ▁, the symbol for a space, behind another character; so the segments are words, or
parts of them. In Gemma's, ">▁</" is a token, so a segment may go on behind ">"; everywhere else a word begins one, too.

For long texts all positions are tested at once. The pairs of characters are stored in a table without their names, at
the index given by a hash function. If two pairs have the same index, a position may not be recognized as safe. This
makes a segment longer and changes no token.
"""

from collections.abc import Container, Iterable
from typing import Any

import numpy as np

MIN_CHARS = 400  # characters of a text from which the array operations are faster
MULTIPLIER = 0x9E3779B1  # of the hash function: 2**32 divided by the golden ratio
SLOTS_PER_PAIR = 16  # so that an absent pair meets an occupied slot in at most one of 16 cases


class Segmenter:
    """Divides texts into segments.

    merges      pairs of tokens (left, right)
    known       the characters that are tokens
    joins_unknown  True if characters that are not tokens must stay together, because a run of them is one token
    """

    def __init__(self, merges: Iterable[tuple[str, str]], known: Container[str], joins_unknown: bool):
        self.joined = {left[-1] + right[0] for left, right in merges}  # pairs of characters that a merge can join
        self.known, self.joins_unknown = known, joins_unknown
        self._table: Any = None  # (2**k,) bool, True at the indices of the pairs
        self._is_unknown: Any = None  # (0x110000,) bool by code point

    def split(self, text: str) -> list[str]:
        """The segments of a text, in order."""
        return self._split_plain(text) if len(text) < MIN_CHARS else self.split_texts([text])[0]

    def split_texts(self, texts: list[str]) -> tuple[list[str], list[int]]:
        """The segments of several texts, none of which is empty, and the index of the first segment of each.

        All are divided at once with array operations. Segments may be longer than those of `split`, see above.
        """
        if self._table is None:
            self._build()
        text, text_ends = "".join(texts), np.cumsum([len(text) for text in texts])
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
        can_join = self._table[self._slots(codes[:-1], codes[1:])]
        if self.joins_unknown:
            unknown = self._is_unknown[codes]
            can_join |= unknown[:-1] & unknown[1:]
        can_join[text_ends[:-1] - 1] = False
        ends = np.flatnonzero(~can_join) + 1
        firsts = [0, *(np.searchsorted(ends, text_ends[:-1]) + 1).tolist()]
        ends = ends.tolist()
        return [text[first:end] for first, end in zip([0, *ends], [*ends, len(text)])], firsts

    def _split_plain(self, text):
        segments, first, joined, known = [], 0, self.joined, self.known
        for i in range(1, len(text)):
            if text[i - 1 : i + 1] not in joined:
                if self.joins_unknown and text[i - 1] not in known and text[i] not in known:
                    continue
                segments.append(text[first:i])
                first = i
        if text:
            segments.append(text[first:])
        return segments

    def _build(self):
        size = 1 << max(10, (SLOTS_PER_PAIR * len(self.joined)).bit_length())
        self._table = np.zeros(size, bool)
        codes = np.frombuffer("".join(self.joined).encode("utf-32-le", "surrogatepass"), np.uint32)
        self._table[self._slots(codes[::2], codes[1::2])] = True
        if self.joins_unknown:
            self._is_unknown = np.array([chr(code) not in self.known for code in range(0x110000)])

    def _slots(self, first, second):
        """The index in the table of pairs of code points, (n,) and (n,) uint32 → (n,) uint32."""
        hashed = (first * np.uint32(MULTIPLIER) ^ second) * np.uint32(MULTIPLIER)
        return hashed >> np.uint32(33 - len(self._table).bit_length())
