"""Bytes to tokens: merge by rank, first as the rule says it, then with a heap for long pieces.

    text → pieces → bytes → [merges by rank] → ids

A vocabulary is a table from byte strings to ranks: 0 … 255 single bytes, then every merge's result in the order of
training. The rank is also the id. To encode a piece, merge the neighbours whose union has the lowest rank, until no
union is a token: the same merges in the same order as in training. Going from left to right, or taking the longest
token first, gives other ids.

The union counts, not how it came about. For a vocabulary that training made it is the same: were the bytes of a token
ever to stand there as two other neighbours, they would have been so in training, and the token a different merge.

Sennrich, Haddow, Birch 2016, Neural Machine Translation of Rare Words with Subword Units, section 3.2.
"""

import heapq
import math
from itertools import pairwise

PLACE_BITS = 40  # of a number that has a rank and, below it, a place


def merge_by_rank(piece, ranks):
    """Merge the bytes of a piece by rank and return the tokens (byte strings).

    As long as the union of two neighbours is a token: merge the pair with the lowest rank, the leftmost of equals.
    Looks at all pairs for every merge: quadratic, and the quickest way for a word.
    """
    tokens = [piece[i : i + 1] for i in range(len(piece))]
    while len(tokens) > 1:
        found = [ranks.get(left + right, math.inf) for left, right in pairwise(tokens)]
        lowest = min(found)
        if lowest == math.inf:
            break
        i = found.index(lowest)
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
    return tokens


def merge_by_rank_heap(piece, ranks):
    """The tokens of merge_by_rank for a piece of any length, in n log n steps.

    All pairs wait in a heap, ordered by rank and place, each as one number. A merge takes the first and puts in the two
    new pairs beside it. A pair that a merge has broken is no longer the one noted at its place, and is thrown away
    when it comes up.
    """
    end = list(range(1, len(piece) + 1))  # of the token that starts here
    previous = list(range(-1, len(piece)))  # where the token before the one that starts here starts
    noted = [ranks.get(piece[start : start + 2]) for start in range(len(piece))]  # rank of the pair that starts here
    noted[-1:] = [None]
    heap = [rank << PLACE_BITS | start for start, rank in enumerate(noted) if rank is not None]
    heapq.heapify(heap)
    while heap:
        rank, start = divmod(heapq.heappop(heap), 1 << PLACE_BITS)
        if noted[start] != rank:
            continue
        middle = end[start]
        end[start] = stop = end[middle]
        previous[stop], noted[middle] = start, None
        for first in (start, previous[start]):
            if first >= 0 and end[first] < len(piece):
                noted[first] = rank = ranks.get(piece[first : end[end[first]]])
                if rank is not None:
                    heapq.heappush(heap, rank << PLACE_BITS | first)
            elif first >= 0:
                noted[first] = None
    tokens, start = [], 0
    while start < len(piece):
        tokens.append(piece[start : end[start]])
        start = end[start]
    return tokens


def recover_merges(ranks):
    """The merge of each token that is no byte: a list of (left, right) in the order of the ranks.

    A token was made of those two into which the lower ranks alone divide it. Raises ValueError for a token that no
    merge of two others can make.
    """
    found = []
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) == 1:
            continue
        parts = merge_by_rank(token, _LowerRanks(ranks, rank))
        if len(parts) != 2:
            raise ValueError(f"token {token!r} (id {rank}) is not the union of two tokens of lower rank")
        found.append(tuple(parts))
    return found


class _LowerRanks:
    """A view of a table of ranks without those from `below` on."""

    def __init__(self, ranks, below):
        self.ranks, self.below = ranks, below

    def get(self, token, default):
        """The rank of a token, or the default."""
        rank = self.ranks.get(token, default)
        return rank if rank < self.below else default
