"""Count the distinct pre-tokens of one or more texts: the input of the training.

    text → blocks → pre-tokens → [distinct pre-tokens and their counts] → merges

Distinct pre-tokens are numbered 0, 1, 2, … as they are found; a `PretokenTable` holds the number of each. Counting
pre-tokens is then counting numbers. Memory grows with the number of distinct pre-tokens only, so the texts may be
larger than memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from npllm.tokenizers.byte_pair.pretokenize import pretokenize
from npllm.tokenizers.vectorized.blocks import group_texts, join_into_block, split_into_blocks
from npllm.tokenizers.vectorized.pretoken_table import MAX_BYTES, PretokenTable
from npllm.tokenizers.vectorized.pretokenizers import find_pretokenizer
from npllm.tokenizers.vectorized.ragged import gather_segments


class PretokenCounts(NamedTuple):
    """Distinct pre-tokens in the order of their first occurrence.

    data     (n,) uint8, the bytes of all pre-tokens, one after another
    lengths  (P,) int64
    counts   (P,) int64, how often each occurs
    """

    data: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray

    @classmethod
    def from_bytes(cls, pretokens: Iterable[bytes] | Mapping[bytes, int]) -> PretokenCounts:
        """Counts of an iterable of byte strings, or of a dict from byte strings to counts. Empty ones are left out.

        Raises ValueError if the byte strings, each taken as often as it occurs, have 2⁶³ bytes or more.
        """
        counts = {pretoken: count for pretoken, count in Counter(pretokens).items() if pretoken}
        if sum(len(pretoken) * count for pretoken, count in counts.items()) >= 1 << 63:
            raise ValueError("pretokens has 2**63 bytes or more in total; it must have fewer, to be counted in 64 bits")
        lengths = np.array([len(pretoken) for pretoken in counts], np.int64)
        return cls(np.frombuffer(b"".join(counts), np.uint8), lengths, np.array([*counts.values()], np.int64))


def count_pretokens(texts: Iterable[str], pattern: str) -> PretokenCounts:
    """The PretokenCounts of texts without surrogates; the iterable is consumed once."""
    pretokenizer = find_pretokenizer(pattern)
    if pretokenizer is None:
        counts = Counter()
        for text in texts:
            counts.update(pretokenize(text, pattern))
        return PretokenCounts.from_bytes({pretoken.encode(): count for pretoken, count in counts.items()})
    counter = _Counter()
    for group in group_texts(texts):
        if len(group) == 1:
            for block in split_into_blocks(group[0], pretokenizer):
                counter.add(*block)
        else:
            (data, starts, lengths), separators = join_into_block(group, pretokenizer)
            counter.add(data, np.delete(starts, separators), np.delete(lengths, separators))
    return counter.result()


class _Counter:
    """Numbers of distinct pre-tokens, and the count of each number."""

    def __init__(self):
        self.table = PretokenTable()  # the numbers of pre-tokens of up to MAX_BYTES bytes
        self.long = {}  # the numbers of longer ones
        self.num_distinct, self.counts = 0, np.zeros(1 << 10, np.int64)
        self.data, self.lengths = [], []  # arrays: bytes and lengths of the pre-tokens, in the order of their numbers
        self.order = []  # arrays: the numbers in the order of their first occurrence

    def add(self, data, starts, lengths):
        """Count the pre-tokens of a block."""
        num_before = self.num_distinct
        numbers = self.table.get_or_insert(
            data, starts, lengths, lambda new: self._assign_numbers(data, starts[new], lengths[new])
        )
        for index in np.flatnonzero(lengths > MAX_BYTES).tolist():
            numbers[index] = self._number_of_long(data[starts[index] : starts[index] + lengths[index]])
        if self.num_distinct > len(self.counts):
            self.counts = np.concatenate([self.counts, np.zeros(self.num_distinct, np.int64)])
        np.add.at(self.counts, numbers, 1)
        new = np.flatnonzero(numbers >= num_before)
        first = np.full(self.num_distinct - num_before, len(numbers))  # the first occurrence of each new number
        np.minimum.at(first, numbers[new] - num_before, new)
        self.order.append(num_before + np.argsort(first))

    def result(self):
        """The PretokenCounts so far."""
        empty = np.zeros(0, np.int64)
        order, lengths = np.concatenate([empty, *self.order]), np.concatenate([empty, *self.lengths])
        data = np.concatenate([np.zeros(0, np.uint8), *self.data])
        starts = np.cumsum(lengths) - lengths
        return PretokenCounts(gather_segments(data, starts[order], lengths[order]), lengths[order], self.counts[order])

    def _assign_numbers(self, data, starts, lengths):
        """Give the next numbers to pre-tokens that have none: (n,) int64."""
        self.data.append(gather_segments(data, starts, lengths))
        self.lengths.append(lengths)
        self.num_distinct += len(starts)
        return np.arange(self.num_distinct - len(starts), self.num_distinct)

    def _number_of_long(self, pretoken):
        """The number of a pre-token of more than MAX_BYTES bytes, a uint8 array."""
        number = self.long.setdefault(pretoken.tobytes(), self.num_distinct)
        if number == self.num_distinct:
            self._assign_numbers(pretoken, np.zeros(1, np.int64), np.array([len(pretoken)]))
        return number
