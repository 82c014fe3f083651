"""Train byte pair encoding with work only where something changes: the merges of `byte_pair.train`, many times faster.

    text → pre-tokens → [distinct pre-tokens → merges]

The plain algorithm counts all pairs again for every merge. Four changes make that unnecessary:

    1  Equal pre-tokens are stored once, with their count. A megabyte of text has some 15,000 distinct ones.
    2  A merge changes the counts of pairs only next to the positions where it happens, so only these are visited.
    3  A heap holds the pairs by count. Its entries are corrected only when they reach the top (see `most_frequent`).
    4  A pair with many positions is merged by array operations, one with few positions by a loop, which is then faster.

All positions of a pair are created in one step, the merge that creates the newer of its two tokens, and after that they
only disappear. So the count of a pair only falls, and its first position only moves to the right. In total, no more
positions are visited than the distinct pre-tokens have bytes, because each merge turns two tokens into one.
"""

from __future__ import annotations

import heapq
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import numpy as np

from npllm.tokenizers.byte_pair.bytes_to_unicode import BYTE_ORDER
from npllm.tokenizers.byte_pair.train import Merge
from npllm.tokenizers.vectorized.pretoken_counts import PretokenCounts

MIN_VECTORIZED = 64  # positions of a pair; from this number on, array operations are faster than a loop
NONE = -1  # in place of the position of a neighbour, at the ends of a pre-token, and of the id of a token that is gone
ID_OF_BYTE = np.argsort(BYTE_ORDER)  # the index of each byte in BYTE_ORDER


def learn_merges(
    pretokens: Iterable[bytes] | Mapping[bytes, int] | PretokenCounts,
    num_merges: int,
    on_merge: Callable[[Merge], object] | None = None,
    tie_break: Literal["first", "id"] = "first",
) -> list[Merge]:
    """The merges of learn_merges_naive, in the same order.

    `pretokens` are byte strings, a dict from byte strings to counts, or PretokenCounts. `on_merge(merge)` is called
    after every merge. Among pairs of equal count, tie_break="first" takes the one that occurs first in the text, and
    tie_break="id" the one with the lowest id of its left token, then of its right token; the ids of bytes are their
    indices in BYTE_ORDER. Raises ValueError for any other tie_break and for a negative num_merges.
    """
    check_tie_break(tie_break)
    if num_merges < 0:
        raise ValueError(f"num_merges is {num_merges}; it must be at least 0")
    if not isinstance(pretokens, PretokenCounts):
        pretokens = PretokenCounts.from_bytes(pretokens)
    num_merges = min(num_merges, len(pretokens.data))  # each merge turns two tokens into one
    pairs = _PairTable(pretokens, 256 + num_merges, tie_break)
    merges = []
    while len(merges) < num_merges and (found := pairs.most_frequent()) is not None:
        left, right, count = found
        merges.append(Merge(pairs.tokens[left], pairs.tokens[right], count))
        pairs.merge(left, right)
        if on_merge is not None:
            on_merge(merges[-1])
    return merges


def check_tie_break(tie_break: str) -> None:
    """Raise ValueError unless tie_break is one of the two rules for pairs of equal count."""
    if tie_break not in ("first", "id"):
        raise ValueError(f"tie_break is {tie_break!r}; it must be 'first' or 'id'")


class _PairTable:
    """The distinct pre-tokens as linked lists of tokens, with the count and the positions of every pair.

    The position of a token is the index of its first byte. Four arrays are indexed by position: `ids`; `following` and
    `preceding`, the positions of the neighbours within the pre-token, or NONE; and `weights`, the count of the
    pre-token. Each exists as an `array`, which a loop reads faster, and as a NumPy view of the same memory. A pair
    (a, b) is the number a · base + b.
    """

    def __init__(self, pretokens, base, tie_break):
        self.base, self.tie_break = base, tie_break
        self.tokens = [bytes([byte]) for byte in BYTE_ORDER]
        ends = np.cumsum(pretokens.lengths)
        positions = np.arange(len(pretokens.data))
        following, preceding = positions + 1, positions - 1
        following[ends - 1] = preceding[ends - pretokens.lengths] = NONE
        weights = np.repeat(pretokens.counts, pretokens.lengths)
        self.arrays = [
            array("q", row.astype(np.int64).tobytes())
            for row in (ID_OF_BYTE[pretokens.data], following, preceding, weights)
        ]
        self.views = [np.frombuffer(row, np.int64) for row in self.arrays]
        self.counts, self.positions = {}, {}
        ids, left = self.views[0], np.flatnonzero(following != NONE)
        self._add(left, ids[left] * base + ids[left + 1])
        self.heap = [self._entry(pair) for pair in self.counts]
        heapq.heapify(self.heap)

    def most_frequent(self):
        """The pair of highest count, ties by `tie_break`: (left, right, count), or None if there are no pairs.

        Entries of the heap may be out of date. Because counts only fall and first positions only move to the right, an
        entry that is out of date ranks too high, never too low. So the top entry is taken; if it is out of date, its
        current value is pushed and the next top entry is examined.
        """
        while self.heap:
            entry = heapq.heappop(self.heap)
            pair = entry[-1]
            if self.counts[pair] == 0:
                continue
            current = self._entry(pair)
            if current == entry:
                return *divmod(pair, self.base), self.counts[pair]
            heapq.heappush(self.heap, current)
        return None

    def merge(self, left, right):
        """Replace the pair by a new token at all its positions, from the left, and update the counts of other pairs."""
        new = len(self.tokens)
        self.tokens.append(self.tokens[left] + self.tokens[right])
        pair = left * self.base + right
        positions = self.positions.pop(pair)
        vectorized = len(positions) >= MIN_VECTORIZED
        added = (self._merge_vectorized if vectorized else self._merge_in_loop)(positions, left, right, new)
        del self.counts[pair]
        for pair in added:
            if self.counts[pair] > 0:
                heapq.heappush(self.heap, self._entry(pair))

    def _merge_in_loop(self, positions, left, right, new):
        """At each position, remove the pairs on both sides, merge, and add the new pairs. Returns the pairs added."""
        ids, following, preceding, weights = self.arrays
        counts, base, added = self.counts, self.base, defaultdict(list)
        for position in positions:
            second = following[position]
            if ids[position] != left or second == NONE or ids[second] != right:
                continue
            before, after, weight = preceding[position], following[second], weights[position]
            if before != NONE:
                pair = ids[before] * base
                counts[pair + left] -= weight
                added[pair + new].append(before)
                counts[pair + new] = counts.get(pair + new, 0) + weight
            if after != NONE:
                counts[right * base + ids[after]] -= weight
                pair = new * base + ids[after]
                added[pair].append(position)
                counts[pair] = counts.get(pair, 0) + weight
                preceding[after] = position
            ids[position], ids[second], following[position] = new, NONE, after
        self.positions.update(added)
        return added

    def _merge_vectorized(self, positions, left, right, new):
        """The same as _merge_in_loop, at all positions at once."""
        ids, following, preceding, weights = self.views
        positions = np.array(positions)
        positions = positions[(ids[positions] == left) & (following[positions] != NONE)]
        positions = positions[ids[following[positions]] == right]
        if left == right:
            positions = _without_overlaps(positions, following[positions])
        second = following[positions]
        before, after, weight = preceding[positions], following[second], weights[positions]
        # Between two adjacent merges there is one pair. It is removed and added once, as the pair before the second.
        adjacent = np.zeros(len(positions), bool)
        adjacent[1:] = before[1:] == second[:-1]
        has_before, has_after = before != NONE, after != NONE
        has_after[:-1] &= ~adjacent[1:]
        old = np.concatenate([ids[before[has_before]] * self.base + left, right * self.base + ids[after[has_after]]])
        self._subtract(old, np.concatenate([weight[has_before], weight[has_after]]))
        ids[positions], ids[second], following[positions] = new, NONE, after
        preceding[after[after != NONE]] = positions[after != NONE]
        at = np.concatenate([preceding[positions[has_before]], positions[has_after]])
        return self._add(at, ids[at] * self.base + ids[following[at]])

    def _add(self, positions, pairs):
        """Add new pairs at these positions, which are in order for each pair; returns the distinct pairs."""
        order, first, distinct = _group_equal(pairs)
        self.counts.update(zip(distinct, _sums(self.views[-1][positions[order]], first)))
        rows = positions[order].tolist()
        ends = [*first[1:], len(rows)]
        self.positions.update((pair, rows[begin:end]) for pair, begin, end in zip(distinct, first, ends))
        return distinct

    def _subtract(self, pairs, weights):
        """Subtract weights from the counts of pairs, which may repeat."""
        order, first, distinct = _group_equal(pairs)
        for pair, weight in zip(distinct, _sums(weights[order], first)):
            self.counts[pair] -= weight

    def _entry(self, pair):
        """The heap's entry of a pair; the lowest entry is merged next."""
        if self.tie_break == "id":
            return -self.counts[pair], pair  # pairs are ordered by the ids of their tokens
        return -self.counts[pair], self._first_position(pair), pair

    def _first_position(self, pair):
        """The first position where the pair still exists; earlier ones are deleted, because they do not come back."""
        ids, following, positions = self.arrays[0], self.arrays[1], self.positions[pair]
        left, right = divmod(pair, self.base)
        gone = 0
        while ids[at := positions[gone]] != left or (second := following[at]) == NONE or ids[second] != right:
            gone += 1
        del positions[:gone]
        return at


def _group_equal(pairs):
    """An order in which equal pairs are adjacent, the start of each such group in it, and the pair of each group."""
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    first = np.flatnonzero(np.diff(pairs, prepend=-1))
    return order, first.tolist(), pairs[first].tolist()


def _sums(numbers, first):
    """The sum of each group, given the starts of the groups."""
    return np.add.reduceat(numbers, first).tolist() if first else []


def _without_overlaps(positions, following):
    """Of overlapping positions (as in a a a a), the first, the third, and so on, because merges go from the left."""
    begins = np.ones(len(positions), bool)
    begins[1:] = positions[1:] != following[:-1]
    number = np.arange(len(positions))
    return positions[(number - np.maximum.accumulate(np.where(begins, number, 0))) % 2 == 0]
