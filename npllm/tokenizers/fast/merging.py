"""Byte pair encoding of a million pieces at once: which merges must happen, whatever else does?

    text → pieces → bytes → [merges] → ids

The rule merges the pair of lowest rank first, one pair at a time. But most merges have nothing to do with each other,
and a pair may be merged early as soon as it is certain that it will be. Let a, b stand side by side with rank r:

    … w  n [a  b] m …          nothing of a rank above r happens here before a b is merged

Only two things can prevent that merge: a is taken first by something that ends in its left neighbour n, or b by
something that begins with m. What takes a from the left is a merge (X, a) of a rank below r, where X has grown out of n
and more on its left: n lies on the *right spine* of X, the path from X to the right part of what it was made of, and on
to the right part of that. So for every (n, a) the lowest rank of such a merge is known beforehand:

    threat(n, a) = min { rank(X a) : n on the right spine of X, X ≠ n }         and the mirror image for (b, m)

If threat(n, a) > r, nobody takes a. If not, X would first have to form, so n itself would have to be taken from the
left with a rank below r: by the pair (w, n), or by the threat on n, and so on, a chain that soon ends. If it ends
without a pair below r, a is *safe*. A pair that is lower than both its neighbours, and safe on both sides, is merged
now, all such pairs of all pieces at once. One round, with the ranks written between the tokens:

    h 258 e 291 l 297 l 360 o         he is lowest and safe; ll is lower than its neighbours no more than el is
    he    l 297 l 360 o               … 297 is the lowest now, nothing threatens it

Equal ranks in a row are the same token again and again (a a a a a): the rule takes them from the left, so every second
of these pairs is merged. Each round settles at least the lowest pair of every piece, as nothing can threaten that one.

It takes two things that training gives: every token is the result of one merge (l, r), and that merge comes later than
those that made l and r. `merge_tree` finds both out for any table of ranks. The rest of the proof is in safe_left.
"""

import numpy as np

from npllm.tokenizers.fast.table import Table

NEVER = np.int32((1 << 31) - 1)  # the rank of a pair that no merge joins
SHIFT = np.uint64(32)
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
        first, second = np.divmod(np.arange(1 << 16), 256)
        self.byte_ranks = self.ranks.get(pair_keys(self.id_of_byte[first], self.id_of_byte[second]), NEVER)
        part = np.full(int(ids.max(initial=255)) + 1, -1)
        left_part, right_part = part.copy(), part.copy()
        left_part[ids], right_part[ids] = left, right
        self.threats_from_left = _threats(left, right, ids, right_part)
        self.threats_from_right = _threats(right, left, ids, left_part)

    def merge(self, data, ends):
        """Merge all that the rule merges: bytes (n,) uint8 → tokens (m,) int32, m ≤ n.

        `ends` (n,) is true at the last byte of each piece. Returns the tokens, and `ends` (m,) for them.
        """
        tokens, ends = self.id_of_byte.take(data), ends.copy()
        ranks = np.full(len(data), NEVER)
        ranks[:-1] = self.byte_ranks.take(data[:-1] * np.int32(256) + data[1:])
        ranks[ends] = NEVER
        patience = PATIENCE
        while True:
            first, last = _lowest_runs(ranks)
            if not len(first):
                return tokens, ends
            safe = self._safe_left(tokens, ends, ranks, first, patience)
            safe[safe] = self._safe_right(tokens, ends, ranks, last[safe], patience)
            if not safe.any():
                patience *= 8  # a chain longer than expected: nothing is wrong, it only takes a longer look
                continue
            merged = _every_second(first[safe], last[safe])
            tokens[merged] = ranks[merged]
            ends[merged] = ends[merged + 1]
            keep = np.ones(len(tokens), bool)
            keep[merged + 1] = False
            tokens, ends, ranks = tokens[keep], ends[keep], ranks[keep]
            merged -= np.arange(len(merged))  # each has moved by as many places as tokens before it have gone
            changed = np.zeros(len(tokens), bool)
            changed[merged] = changed[merged - 1] = True  # place −1 is the last one, the end of a piece
            changed = np.flatnonzero(changed)
            ranks[changed] = self._ranks(tokens, ends, changed)

    def _ranks(self, tokens, ends, places):
        """The rank of the pair that begins at each place, NEVER where a piece ends or no merge joins it."""
        ranks = np.full(len(places), NEVER)
        inside = ~ends[places]
        at = places[inside]
        ranks[inside] = self.ranks.get(pair_keys(tokens[at], tokens[at + 1]), NEVER)
        return ranks

    def _safe_left(self, tokens, ends, ranks, places, patience):
        """Is the left token of the pair at each place safe from merges with what stands to its left? (n,) → (n,) bool.

        While the pair of rank r stands, the rule does nothing above r; a tie on the left goes first. Merging early
        changes nothing for the others: a merge (ab, c) that it makes possible has a rank above r, so whatever the
        rule would do to c before a b is merged has a rank below that of (ab, c), and is seen as a neighbour or threat.
        """
        safe, asked, limit = np.ones(len(places), bool), np.arange(len(places)), ranks[places]
        for _ in range(patience):
            inside = places > 0
            inside[inside] = ~ends[places[inside] - 1]
            asked, places, limit = asked[inside], places[inside], limit[inside]
            threat = self.threats_from_left.get(pair_keys(tokens[places - 1], tokens[places]), NEVER)
            asked, places, limit = asked[threat <= limit], places[threat <= limit] - 1, limit[threat <= limit]
            if not len(asked):
                return safe
            taken = ranks[places - 1] <= limit  # place −1 is the last one, the end of a piece: NEVER
            safe[asked[taken]] = False
            asked, places, limit = asked[~taken], places[~taken], limit[~taken]
        safe[asked] = False
        return safe

    def _safe_right(self, tokens, ends, ranks, places, patience):
        """The mirror image: is the right token of the pair at each place safe? Here a tie goes to the pair itself."""
        safe, asked, limit = np.ones(len(places), bool), np.arange(len(places)), ranks[places]
        places = places + 1
        for _ in range(patience):
            inside = ~ends[places]
            asked, places, limit = asked[inside], places[inside], limit[inside]
            threat = self.threats_from_right.get(pair_keys(tokens[places + 1], tokens[places]), NEVER)
            asked, places, limit = asked[threat < limit], places[threat < limit] + 1, limit[threat < limit]
            if not len(asked):
                return safe
            taken = ranks[places] < limit
            safe[asked[taken]] = False
            asked, places, limit = asked[~taken], places[~taken], limit[~taken]
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
    """Where equal ranks stand in a row between higher ones: the first and the last place of each such run."""
    changes = np.flatnonzero(ranks[1:] != ranks[:-1]) + 1
    first = np.concatenate([[0], changes])
    last = np.concatenate([changes - 1, [len(ranks) - 1]])
    rank = ranks[first]
    lowest = rank < NEVER
    lowest[1:] &= rank[1:] < rank[:-1]
    lowest[:-1] &= rank[:-1] < rank[1:]
    return first[lowest], last[lowest]


def _every_second(first, last):
    """first, first + 2, … up to last, for each run; in order."""
    number = (last - first) // 2 + 1
    offset = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    return np.repeat(first, number) + 2 * offset
