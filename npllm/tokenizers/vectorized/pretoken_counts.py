"""How often does each piece occur in a text, or in many? All that training needs to know of them.

    text → blocks → pieces → [distinct pieces and their counts] → merges

`piece_memory` gives every piece that it has not met a number, in place of ids; then counting pieces is counting
numbers. What is kept grows with the distinct pieces alone: the texts may be larger than memory.
"""

import math
from collections import Counter
from typing import NamedTuple

import numpy as np

from npllm.tokenizers.byte_pair.pretokenize import pretokenize
from npllm.tokenizers.vectorized.blocks import STARTS, blocks_of, bundles, joined_block
from npllm.tokenizers.vectorized.pretoken_cache import LONGEST, PieceMemory
from npllm.tokenizers.vectorized.ragged import stretches


class DistinctPieces(NamedTuple):
    """Each piece once, in the order in which they first occur.

    data     (n,) uint8, the bytes of all pieces, one piece behind the other
    lengths  (pieces,) int64
    counts   (pieces,) int64, how often each occurs
    """

    data: np.ndarray
    lengths: np.ndarray
    counts: np.ndarray


def distinct_pieces(pieces):
    """DistinctPieces of an iterable of byte strings, or of a dict from byte strings to counts.

    Raises ValueError for counts that 64 bits cannot add up.
    """
    counts = {piece: count for piece, count in Counter(pieces).items() if piece}
    if sum(len(piece) * count for piece, count in counts.items()) >= 1 << 63:
        raise ValueError("the pieces have 2**63 bytes or more, which is more than can be counted")
    lengths = np.array([len(piece) for piece in counts], np.int64)
    return DistinctPieces(np.frombuffer(b"".join(counts), np.uint8), lengths, np.array([*counts.values()], np.int64))


def count_pieces(texts, pattern):
    """The DistinctPieces of texts without surrogates, an iterable that is read once."""
    if pattern not in STARTS:
        counts = Counter()
        for text in texts:
            counts.update(pretokenize(text, pattern))
        return distinct_pieces({piece.encode(): count for piece, count in counts.items()})
    counter = _Counter()
    for bundle in bundles(texts):
        if len(bundle) == 1:
            for block in blocks_of(bundle[0], STARTS[pattern]):
                counter.add(*block)
        else:
            (data, starts, lengths), breaks = joined_block(bundle, STARTS[pattern])
            counter.add(data, np.delete(starts, breaks), np.delete(lengths, breaks))
    return counter.result()


class _Counter:
    """Numbers for distinct pieces, and how often each number came."""

    def __init__(self):
        self.memory, self.long = PieceMemory(most=math.inf), {}
        self.known, self.counts = 0, np.zeros(1 << 10, np.int64)
        self.parts, self.lengths = [], []  # the bytes and the lengths of pieces, in the order of their numbers
        self.order = []  # the numbers in the order in which they first came

    def add(self, data, starts, lengths):
        """Count the pieces of a block."""
        known = self.known
        begins, counts = self.memory.look_up(data, starts, lengths, self._number)
        long = np.flatnonzero(lengths > LONGEST)
        if len(long):
            numbers = [self._number_of_long(data[starts[i] : starts[i] + lengths[i]]) for i in long.tolist()]
            begins[long], counts[long] = self.memory.lend(numbers) + np.arange(len(long)), 1
        numbers = self.memory.ids(begins, counts)
        if self.known > len(self.counts):
            self.counts = np.concatenate([self.counts, np.zeros(self.known, np.int64)])
        np.add.at(self.counts, numbers, 1)
        new = np.flatnonzero(numbers >= known)
        first = np.full(self.known - known, len(numbers))
        np.minimum.at(first, numbers[new] - known, new)
        self.order.append(known + np.argsort(first))

    def result(self):
        """The DistinctPieces so far."""
        empty = np.zeros(0, np.int64)
        order, lengths = np.concatenate([empty, *self.order]), np.concatenate([empty, *self.lengths])
        data = np.concatenate([np.zeros(0, np.uint8), *self.parts])
        starts = np.cumsum(lengths) - lengths
        return DistinctPieces(data.take(stretches(starts[order], lengths[order])), lengths[order], self.counts[order])

    def _number(self, data, starts, lengths):
        """Numbers for pieces that are new, as PieceMemory asks for ids: one each."""
        self.parts.append(data.take(stretches(starts, lengths)))
        self.lengths.append(lengths)
        self.known += len(starts)
        return np.arange(self.known - len(starts), self.known, dtype=np.int32), np.ones(len(starts), np.int64)

    def _number_of_long(self, piece):
        """The number of a piece that PieceMemory does not remember."""
        number = self.long.setdefault(piece.tobytes(), self.known)
        if number == self.known:
            self._number(piece, np.zeros(1, np.int64), np.array([len(piece)]))
        return number
