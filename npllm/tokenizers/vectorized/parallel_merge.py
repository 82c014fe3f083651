"""Byte pair encoding of a million pieces at once: which merges must happen, whatever else does?

    text → pieces → bytes → [merges] → ids

The rule merges the pair of lowest rank first, one pair at a time. But most merges have nothing to do with each other,
and a pair may be merged early as soon as it is certain that it will be. Let a, b stand side by side with rank r:

    … w  n [a  b] m …          nothing of a rank above r happens here before a b is merged

Only two things can prevent that merge: a is taken first by something that ends in its left neighbour n, or b by
something that begins with m. What takes a from the left is a merge (X, a) of a rank below r (or of r itself: of equals
the leftmost goes first), where X has grown out of n and more on its left: n lies on the *right spine* of X, the path
from X to the right part of what it was made of, and on to the right part of that. So for every (n, a) the lowest rank
of such a merge is known beforehand:

    threat(n, a) = min { rank(X a) : n on the right spine of X, X ≠ n }         and the mirror image for (b, m)

If threat(n, a) > r, nobody takes a. If not, X would first have to form, so n itself would have to be taken from the
left with a rank below r: by the pair (w, n), or by the threat on n, and so on, a chain that soon ends. If it ends
without a pair below r, a is *safe*. A pair that is lower than both its neighbours, and safe on both sides, is merged
now, all such pairs of all pieces at once. A word in four rounds, GPT-2's ranks between the tokens (_ is a space):

    _ 256 t 400 h 258 e 263 r 260 e 891 f 6513 o 273 r 260 e
    _t 262 he 1456 re 5420 f 6513 o 382 re
    _the 612 re 5420 f 754 ore
    _there 4361 fore
    _therefore

The rule, pair by pair, makes the same nine merges in the order of their ranks: _t, he, re, re, _the, ore, _there, fore,
_therefore.

Equal ranks in a row are the same token again and again (a a a a a): the rule takes them from the left, so every second
of these pairs is merged. Each round settles the lowest pair of every piece, as nothing lower is there to carry out a
threat (unless the chain that shows it is longer than PATIENCE, which then grows). Of ranks that fall along a whole text
each round would settle the last alone; so what is visited is counted, and what is left after very much of it goes
through a heap.

It takes two things that training gives: every token is the result of one merge (l, r), and that merge comes later than
those that made l and r. `merge_tree` finds both out for any table of ranks. The rest of the proof is in
`Merger._safe_left`.
"""

import numpy as np

from npllm.tokenizers.vectorized.hash_table import Table

NEVER = np.int32((1 << 31) - 2)  # the rank of a pair that no merge joins
END = np.int32((1 << 31) - 1)  # stands where a piece ends, and so no pair begins
SHIFT = np.uint64(32)
ENOUGH = 64  # visits to a token for each byte; more are not made. Most texts take less than ten
PATIENCE = 32  # links of a chain that are followed before a merge is put off to a later round


def pair_keys(left, right):
    """Two ids as one key: (n,), (n,) → a list of one array of uint64."""
    return [(left.astype(np.uint64) << SHIFT) | right.astype(np.uint64)]


class Merger:
    """The merges of one vocabulary, ready to be applied to any number of pieces.

    left, right, ids  (M,) integers: the merge of left and right gives the token of that id, which is its rank, too
    id_of_byte        (256,) integers
    """

    def __init__(self, left, right, ids, id_of_byte):
        self.ranks, self.id_of_byte = _lowest(left, right, ids), np.asarray(id_of_byte, np.int32)
        # the first round asks for every pair of bytes: a table of all of them is quicker than a search
        second, first = np.divmod(np.arange(1 << 16), 256)
        self.byte_ranks = self.ranks.get(pair_keys(self.id_of_byte[first], self.id_of_byte[second]), NEVER)
        part = np.full(1 + max(int(ids.max(initial=0)), int(self.id_of_byte.max())), -1)
        left_part, right_part = part.copy(), part.copy()
        left_part[ids], right_part[ids] = left, right
        self.threats_from_left = _threats(left, right, ids, right_part)
        self.threats_from_right = _threats(right, left, ids, left_part)

    def merge(self, data, ends):
        """Merge all that the rule merges: bytes (n,) uint8 → tokens (m,) int32, m ≤ n.

        `ends` (n,) is true at the last byte of each piece. Returns the tokens, `ends` (m,) for them, and where a pair
        is left to be merged, (m,): nowhere, unless the pieces were made to need a round for nearly every merge.
        """
        tokens, ranks = self.id_of_byte.take(data), np.full(len(data), END)
        pairs = np.ndarray((len(data) - 1,), "<u2", data, strides=(1,))  # every two bytes as a number
        ranks[:-1] = self.byte_ranks.take(pairs)
        ranks[ends] = END
        patience, visited = PATIENCE, 0
        while True:
            first, last = _lowest_runs(ranks)
            visited += len(tokens)
            if not len(first) or visited > ENOUGH * len(data):
                return tokens, ranks == END, ranks < NEVER
            safe = np.flatnonzero(self._safe_left(tokens, ranks, first, patience))
            safe = safe[self._safe_right(tokens, ranks, last[safe], patience)]
            if not len(safe):
                patience *= 8  # a chain longer than expected: nothing is wrong, it only takes a longer look
                continue
            keep = np.ones(len(tokens), bool)
            keep[_every_second(first[safe], last[safe]) + 1] = False
            merged = np.flatnonzero(~keep) - 1
            tokens[merged] = ranks[merged]
            ranks[merged] = ranks[merged + 1]  # the pair that begins here now; its rank is asked below, if it is one
            kept = np.flatnonzero(keep)
            tokens, ranks = tokens.take(kept), ranks.take(kept)
            merged -= np.arange(len(merged))  # each has moved by as many places as tokens before it have gone
            changed = np.zeros(len(tokens), bool)
            changed[merged] = changed[merged - 1] = True  # place −1 is the last one, the end of a piece
            changed = np.flatnonzero(changed & (ranks != END))
            ranks[changed] = self.ranks.get(pair_keys(tokens[changed], tokens[changed + 1]), NEVER)

    def _safe_left(self, tokens, ranks, places, patience):
        """Is the left token of the pair at each place safe from merges with what stands to its left? (n,) → (n,) bool.

        While the pair of rank r stands, the rule does nothing above r; a tie on the left goes first. Merging early
        changes nothing for the others: a merge (ab, c) that it makes possible has a rank above r, so whatever the
        rule would do to c before a b is merged has a rank below that of (ab, c), and is seen as a neighbour or threat.
        """
        safe, asked, limit = np.ones(len(places), bool), np.arange(len(places)), ranks[places]
        for _ in range(patience):
            inside = np.flatnonzero(ranks[places - 1] != END)  # place −1 is the last one, the end of a piece
            asked, places, limit = asked[inside], places[inside], limit[inside]
            threat = self.threats_from_left.get(pair_keys(tokens[places - 1], tokens[places]), NEVER)
            threatened = threat <= limit
            if not threatened.any():
                return safe
            taken = threatened & (ranks[places - 2] <= limit)
            safe[asked[taken]] = False
            further = np.flatnonzero(threatened & ~taken)
            asked, places, limit = asked[further], places[further] - 1, limit[further]
        safe[asked] = False
        return safe

    def _safe_right(self, tokens, ranks, places, patience):
        """The mirror image: is the right token of the pair at each place safe? Here a tie goes to the pair itself."""
        safe, asked, limit = np.ones(len(places), bool), np.arange(len(places)), ranks[places]
        places = places + 1
        for _ in range(patience):
            inside = np.flatnonzero(ranks[places] != END)
            asked, places, limit = asked[inside], places[inside], limit[inside]
            threat = self.threats_from_right.get(pair_keys(tokens[places + 1], tokens[places]), NEVER)
            threatened = threat < limit
            if not threatened.any():
                return safe
            taken = threatened & (ranks[places + 1] < limit)
            safe[asked[taken]] = False
            further = np.flatnonzero(threatened & ~taken)
            asked, places, limit = asked[further], places[further] + 1, limit[further]
        safe[asked] = False
        return safe


def _threats(inner, outer, ids, spine):
    """For each (neighbour, token) the lowest rank at which something grown out of the neighbour takes the token.

    `spine` maps a token to the part of it that a neighbour could be: down from X it gives X's spine.
    """
    neighbours, tokens, ranks = [], [], []
    grown = spine[inner]
    while (grown >= 0).any():
        more = grown >= 0
        grown, outer, ids = grown[more], outer[more], ids[more]
        neighbours.append(grown)
        tokens.append(outer)
        ranks.append(ids)
        grown = spine[grown]
    if not ranks:
        return Table()
    return _lowest(np.concatenate(neighbours), np.concatenate(tokens), np.concatenate(ranks))


def _lowest(left, right, ranks):
    """A table of pairs with their ranks; of several for one pair the lowest."""
    table = Table(room=len(ranks))
    places = table.add(pair_keys(left, right))
    table.values[places] = NEVER
    np.minimum.at(table.values, places, ranks)
    return table


def _lowest_runs(ranks):
    """Where equal ranks stand in a row between higher ones: the first and the last place of each such run.

    Mostly such a run is one place, and those are found by themselves; runs of several come behind them.
    """
    lower = ranks[1:] < ranks[:-1]  # than the one before
    higher = ranks[1:] > ranks[:-1]
    alone = ranks < NEVER
    alone[1:] &= lower
    alone[:-1] &= higher
    alone = np.flatnonzero(alone)
    equal = np.flatnonzero(~(lower | higher) & (ranks[1:] < NEVER))
    if not len(equal):
        return alone, alone
    gaps = np.flatnonzero(np.diff(equal) > 1)
    first, last = equal[np.append(0, gaps + 1)], equal[np.append(gaps, -1)] + 1
    lowest = (first == 0) | (ranks[first - 1] > ranks[first])
    lowest &= ranks[last + 1] > ranks[last]  # a run is never at the end, where END stands
    return np.append(alone, first[lowest]), np.append(alone, last[lowest])


def _every_second(first, last):
    """first, first + 2, … up to last, for each run."""
    number = (last - first) // 2 + 1
    offset = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    return np.repeat(first, number) + 2 * offset
