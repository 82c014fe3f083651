"""Byte pair encoding learns its tokens: again and again it merges the pair of neighbours that occurs most often.

    text → pieces → bytes → [merges] → ids

First `learn_merges_plain`, which is the idea and nothing else: count all pairs, merge the most frequent, repeat. It
counts the whole text again for every merge. `learn_merges` finds the same merges, one by one the same, with work
only where something changed.

Ties: among pairs of equal count the one that comes first in the text wins, as with Karpathy's minbpe; or,
with tie="id", the one of the lowest ids, as with Hugging Face's tokenizers.

Sennrich, Haddow, Birch 2016, Neural Machine Translation of Rare Words with Subword Units, section 3.2 and
algorithm 1; on bytes: Radford et al. 2019 (GPT-2), section 2.2; Raschka, section 2.5.
"""

import heapq
from collections import Counter, defaultdict, deque
from itertools import pairwise
from typing import NamedTuple

# The bytes that can be seen as characters, and all bytes in GPT-2's order: those first, then the others.
PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
BYTE_ORDER = PRINTABLE + [byte for byte in range(256) if byte not in PRINTABLE]
PLACE = {byte: place for place, byte in enumerate(BYTE_ORDER)}


class Merge(NamedTuple):
    """One line of the trace: these two tokens stood side by side `count` times and became one."""

    left: bytes
    right: bytes
    count: int

    @property
    def token(self):
        """The new token."""
        return self.left + self.right


def learn_merges_plain(pieces, num_merges):
    """Merge the most frequent pair of neighbours, `num_merges` times or until no pair is left.

    `pieces` are byte strings that no merge may cross. Returns the list of Merges in order. Time: text × merges.
    """
    words = [[bytes([byte]) for byte in piece] for piece in pieces]
    merges = []
    for _ in range(num_merges):
        counts = Counter(pair for word in words for pair in pairwise(word))
        if not counts:
            break
        best = max(counts, key=counts.get)  # among equals, the first that was counted
        merges.append(Merge(*best, counts[best]))
        words = [merge_pair(word, best) for word in words]
    return merges


def merge_pair(word, pair):
    """Replace the pair wherever it stands, from the left: a a a with (a, a) becomes aa a."""
    merged, i = [], 0
    while i < len(word):
        if tuple(word[i : i + 2]) == pair:
            merged.append(word[i] + word[i + 1])
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return merged


def learn_merges(pieces, num_merges, on_merge=None, tie="first"):
    """The merges of learn_merges_plain, one by one the same, in a fraction of the time.

    Three savings. Equal pieces are kept once, with their count. A merge changes counts only beside the places where
    it happens, so only those are touched. And the most frequent pair waits on top of a heap that is corrected only
    when it is asked (see `_most_frequent`). All places of a pair come into being in one step, the one that makes
    its newer member, and from then on only vanish.

    `pieces` may also be a dict from pieces to counts of any size. `on_merge(merge)` is called after every step. Among
    pairs of equal count, tie="first" takes the first in the text, and tie="id" the one of the lowest ids, the left one
    first; the ids of bytes are their places in BYTE_ORDER. Raises ValueError for another tie.
    """
    if tie not in ("first", "id"):
        raise ValueError(f"tie is {tie!r}; it must be 'first' or 'id'")
    text = _Text(pieces, tie)
    merges = []
    while len(merges) < num_merges and (found := text.most_frequent()) is not None:
        pair, count = found
        merges.append(Merge(text.tokens[pair[0]], text.tokens[pair[1]], count))
        text.merge(pair)
        if on_merge is not None:
            on_merge(merges[-1])
    return merges


class _Text:
    """The distinct pieces in a row, as a linked list of tokens, with the counts and the places of all pairs.

    A place is the index of a token's first byte. `following` and `preceding` link it to its neighbours within the
    piece (−1 where the piece ends); `weight` says how often its piece occurs.
    """

    def __init__(self, pieces, tie):
        self.tie = tie
        self.tokens = [bytes([byte]) for byte in range(256)]
        self.ids, self.following, self.preceding, self.weight = [], [], [], []
        for piece, count in (pieces if isinstance(pieces, dict) else Counter(pieces)).items():
            start, end = len(self.ids), len(self.ids) + len(piece)
            self.ids.extend(piece)
            self.preceding.extend(range(start - 1, end - 1))
            self.following.extend(range(start + 1, end + 1))
            self.weight.extend([count] * len(piece))
            if piece:
                self.preceding[start] = self.following[end - 1] = -1
        self.counts, self.places = Counter(), defaultdict(deque)
        for place, right in enumerate(self.following):
            if right >= 0:
                self._add((self.ids[place], self.ids[right]), place)
        self.heap = [self._entry(pair) for pair in self.counts]
        heapq.heapify(self.heap)

    def most_frequent(self):
        """The pair of highest count, among equals the one that the tie asks for, and its count; None if none is left.

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
                return pair, self.counts[pair]
            heapq.heappush(self.heap, now)
        return None

    def merge(self, pair):
        """Make one token of the pair wherever it stands, from the left, and correct the counts beside it."""
        left_id, right_id = pair
        new_id = len(self.tokens)
        self.tokens.append(self.tokens[left_id] + self.tokens[right_id])
        ids, following, preceding = self.ids, self.following, self.preceding
        touched = set()
        for place in self.places.pop(pair):
            if not self._stands_at(pair, place):
                continue
            right = following[place]
            before, after = preceding[place], following[right]
            if before >= 0:
                self._remove((ids[before], left_id), before)
                self._add((ids[before], new_id), before)
                touched.add((ids[before], new_id))
            if after >= 0:
                self._remove((right_id, ids[after]), right)
                self._add((new_id, ids[after]), place)
                touched.add((new_id, ids[after]))
                preceding[after] = place
            ids[place], ids[right] = new_id, -1
            following[place] = after
        del self.counts[pair]
        for new_pair in touched:
            if self.counts[new_pair] > 0:
                heapq.heappush(self.heap, self._entry(new_pair))

    def _entry(self, pair):
        """A pair as it stands in the heap: the lowest is the one to be merged."""
        if self.tie == "first":
            return -self.counts[pair], self._first_place(pair), pair
        left, right = pair
        return -self.counts[pair], (PLACE.get(left, left), PLACE.get(right, right)), pair

    def _add(self, pair, place):
        self.counts[pair] += self.weight[place]
        self.places[pair].append(place)

    def _remove(self, pair, place):
        self.counts[pair] -= self.weight[place]

    def _stands_at(self, pair, place):
        right = self.following[place]
        return self.ids[place] == pair[0] and right >= 0 and self.ids[right] == pair[1]

    def _first_place(self, pair):
        """The first place where the pair still stands; places before it are forgotten, for they never come back."""
        places = self.places[pair]
        while not self._stands_at(pair, places[0]):
            places.popleft()
        return places[0]
