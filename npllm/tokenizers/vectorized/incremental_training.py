"""The merges of `bpe_training`, one by one the same, with work only where something changes.

    text → pieces → [distinct pieces → merges]

Counting all pairs again for every merge is what takes the time. Four savings:

    1  Equal pieces are kept once, with their count: a megabyte of text has some 15,000 distinct ones.
    2  A merge changes counts only beside the places where it happens, so only those places are visited.
    3  The most frequent pair waits on top of a heap that is corrected only when it is asked (see `most_frequent`).
    4  Where a pair has many places, NumPy visits all of them at once; where it has few, and that is soon the rule, a
       plain loop is quicker.

All places of a pair come into being in one step, the one that makes its newer member, and from then on they only
vanish. So counts only fall, and first places only move back. And all places ever visited are no more than the bytes
of the distinct pieces: each merge makes one token of two.
"""

import heapq
from array import array
from collections import defaultdict

import numpy as np

from npllm.tokenizers.byte_pair.bytes_to_unicode import BYTE_ORDER
from npllm.tokenizers.byte_pair.train import Merge
from npllm.tokenizers.vectorized.pretoken_counts import DistinctPieces, distinct_pieces

MANY = 64  # places; from here on NumPy is quicker than a loop
NONE = -1  # no neighbour, no token
ID_OF_BYTE = np.argsort(BYTE_ORDER)  # its place in BYTE_ORDER


def learn_merges(pieces, num_merges, on_merge=None, tie_break="first"):
    """The merges of learn_merges_naive, one by one the same, in a fraction of the time.

    `pieces` are byte strings, or a dict from them to counts, or DistinctPieces. `on_merge(merge)` is called after every
    step. Among pairs of equal count, tie_break="first" takes the first in the text, and tie_break="id" the one of the
    lowest ids, the left one first; the ids of bytes are their indices in BYTE_ORDER. Raises ValueError for another
    tie_break and for a negative num_merges.
    """
    check_tie_break(tie_break)
    if num_merges < 0:
        raise ValueError(f"num_merges is {num_merges}; it must be at least 0")
    if not isinstance(pieces, DistinctPieces):
        pieces = distinct_pieces(pieces)
    num_merges = min(num_merges, len(pieces.data))  # each makes one token of two
    text = _Text(pieces, 256 + num_merges, tie_break)
    merges = []
    while len(merges) < num_merges and (found := text.most_frequent()) is not None:
        left, right, count = found
        merges.append(Merge(text.tokens[left], text.tokens[right], count))
        text.merge(left, right)
        if on_merge is not None:
            on_merge(merges[-1])
    return merges


def check_tie_break(tie_break):
    """Raise ValueError for what is none of the two rules for pairs of equal count."""
    if tie_break not in ("first", "id"):
        raise ValueError(f"tie_break is {tie_break!r}; it must be 'first' or 'id'")


class _Text:
    """The distinct pieces in a row, as a linked list of tokens, with the counts and the places of all pairs.

    A place is the index of a token's first byte. `following` and `preceding` link it to its neighbours within the
    piece (NONE where the piece ends); `weight` says how often its piece occurs. A pair (a, b) is the number
    a · base + b. The arrays are seen twice, by NumPy and by plain loops, which read an `array` faster. The ids of
    bytes are their places in BYTE_ORDER.
    """

    def __init__(self, pieces, base, tie_break):
        self.base, self.tie_break = base, tie_break
        self.tokens = [bytes([byte]) for byte in BYTE_ORDER]
        ends = np.cumsum(pieces.lengths)
        places = np.arange(len(pieces.data))
        following, preceding = places + 1, places - 1
        following[ends - 1] = preceding[ends - pieces.lengths] = NONE
        self.arrays = [
            array("q", row.astype(np.int64).tobytes())
            for row in (ID_OF_BYTE[pieces.data], following, preceding, np.repeat(pieces.counts, pieces.lengths))
        ]
        self.views = [np.frombuffer(row, np.int64) for row in self.arrays]
        self.counts, self.places = {}, {}
        ids, left = self.views[0], np.flatnonzero(following != NONE)
        self._add(left, ids[left] * base + ids[left + 1])
        self.heap = [self._entry(pair) for pair in self.counts]
        heapq.heapify(self.heap)

    def most_frequent(self):
        """The pair of highest count, ties by `tie_break`: (left, right, count), or None at the end.

        The heap's entries may be out of date. As counts only fall and first places only move back, an entry can
        only be too good: take the top; if it is no longer true, put it back as it is now and look again.
        """
        while self.heap:
            entry = heapq.heappop(self.heap)
            pair = entry[-1]
            if self.counts[pair] == 0:
                continue
            now = self._entry(pair)
            if now == entry:
                return *divmod(pair, self.base), self.counts[pair]
            heapq.heappush(self.heap, now)
        return None

    def merge(self, left, right):
        """Make one token of the pair wherever it stands, from the left, and correct the counts beside it."""
        new = len(self.tokens)
        self.tokens.append(self.tokens[left] + self.tokens[right])
        pair = left * self.base + right
        places = self.places.pop(pair)
        touched = (self._merge_many if len(places) >= MANY else self._merge_few)(places, left, right, new)
        del self.counts[pair]
        for pair in touched:
            if self.counts[pair] > 0:
                heapq.heappush(self.heap, self._entry(pair))

    def _merge_few(self, places, left, right, new):
        """Place by place: take away the pairs on both sides, merge, add the new ones. Returns the pairs added."""
        ids, following, preceding, weight = self.arrays
        counts, base, added = self.counts, self.base, defaultdict(list)
        for place in places:
            second = following[place]
            if ids[place] != left or second == NONE or ids[second] != right:
                continue
            before, after, times = preceding[place], following[second], weight[place]
            if before != NONE:
                pair = ids[before] * base
                counts[pair + left] -= times
                added[pair + new].append(before)
                counts[pair + new] = counts.get(pair + new, 0) + times
            if after != NONE:
                counts[right * base + ids[after]] -= times
                pair = new * base + ids[after]
                added[pair].append(place)
                counts[pair] = counts.get(pair, 0) + times
                preceding[after] = place
            ids[place], ids[second], following[place] = new, NONE, after
        self.places.update(added)
        return added

    def _merge_many(self, places, left, right, new):
        """The same, all places at once."""
        ids, following, preceding, weight = self.views
        places = np.array(places)
        places = places[(ids[places] == left) & (following[places] != NONE)]
        places = places[ids[following[places]] == right]
        if left == right:
            places = _not_overlapping(places, following[places])
        second = following[places]
        before, after, times = preceding[places], following[second], weight[places]
        # Two merges side by side have one pair between them, which counts once: with the second of the two.
        joined = np.zeros(len(places), bool)
        joined[1:] = before[1:] == second[:-1]
        has_before, has_after = before != NONE, after != NONE
        has_after[:-1] &= ~joined[1:]
        old = np.concatenate([ids[before[has_before]] * self.base + left, right * self.base + ids[after[has_after]]])
        self._remove(old, np.concatenate([times[has_before], times[has_after]]))
        ids[places], ids[second], following[places] = new, NONE, after
        preceding[after[after != NONE]] = places[after != NONE]
        at = np.concatenate([preceding[places[has_before]], places[has_after]])
        return self._add(at, ids[at] * self.base + ids[following[at]])

    def _add(self, places, pairs):
        """Note the pairs at these places, which are new, and return them: the places of each pair must be in order."""
        order, first, added = _groups(pairs)
        self.counts.update(zip(added, _sums(self.views[-1][places[order]], first)))
        rows = places[order].tolist()
        self.places.update((pair, rows[begin:end]) for pair, begin, end in zip(added, first, [*first[1:], len(rows)]))
        return added

    def _remove(self, pairs, times):
        """Take away from the counts of pairs, each of which may come several times."""
        order, first, found = _groups(pairs)
        for pair, number in zip(found, _sums(times[order], first)):
            self.counts[pair] -= number

    def _entry(self, pair):
        """A pair as it stands in the heap: the lowest is the one to be merged."""
        if self.tie_break == "id":
            return -self.counts[pair], pair  # pairs are in the order of their ids
        return -self.counts[pair], self._first_place(pair), pair

    def _first_place(self, pair):
        """The first place where the pair still stands; places before it are forgotten, for they never come back."""
        ids, following, places = self.arrays[0], self.arrays[1], self.places[pair]
        left, right = divmod(pair, self.base)
        gone = 0
        while ids[place := places[gone]] != left or (second := following[place]) == NONE or ids[second] != right:
            gone += 1
        del places[:gone]
        return place


def _groups(pairs):
    """An order in which equal pairs stand together, where each of these groups begins in it, and their pairs."""
    order = np.argsort(pairs, kind="stable")
    pairs = pairs[order]
    first = np.flatnonzero(np.diff(pairs, prepend=-1))
    return order, first.tolist(), pairs[first].tolist()


def _sums(numbers, first):
    """The sum of each group."""
    return np.add.reduceat(numbers, first).tolist() if first else []


def _not_overlapping(places, following):
    """Of places that overlap in a row (a a a a), the first, the third, …: merging goes from the left."""
    begins = np.ones(len(places), bool)
    begins[1:] = places[1:] != following[:-1]
    number = np.arange(len(places))
    return places[(number - np.maximum.accumulate(np.where(begins, number, 0))) % 2 == 0]
