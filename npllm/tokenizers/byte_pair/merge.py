"""Merge the bytes of a pre-token by rank: as a plain loop, and with a heap for long pre-tokens.

    text → pre-tokens → bytes → [merges by rank] → ids

A vocabulary is a table from byte strings to ranks: 0 … 255 for single bytes, then the result of each merge in the order
of training. The rank is also the id. To encode a pre-token, the pair of adjacent tokens whose union has the lowest rank
is merged, until no union is a token. These are the merges of training, in the same order. Scanning from left to right,
or taking the longest token first, gives other ids.

Only the union of a pair matters, not the pair itself. For a trained vocabulary there is no difference: if the bytes of
a token could occur as two other adjacent tokens, they would have done so in training, and the merge would have been a
different one.

Sennrich, Haddow, Birch 2016, Neural Machine Translation of Rare Words with Subword Units, section 3.2.
"""

import heapq
import math
from itertools import pairwise

POSITION_BITS = 40  # a heap entry is rank << POSITION_BITS | position


def merge_by_rank(pretoken: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """Merge the bytes of a pre-token by rank and return the tokens (byte strings).

    While the union of some pair of adjacent tokens is a token: merge the pair of lowest rank, the leftmost of equals.
    Every merge examines all pairs: O(n²) for n bytes, and the fastest way for a word.
    """
    tokens = [pretoken[i : i + 1] for i in range(len(pretoken))]
    while len(tokens) > 1:
        found = [ranks.get(left + right, math.inf) for left, right in pairwise(tokens)]
        lowest = min(found)
        if lowest == math.inf:
            break
        i = found.index(lowest)
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
    return tokens


def merge_by_rank_heap(pretoken: bytes, ranks: dict[bytes, int]) -> list[bytes]:
    """The tokens of merge_by_rank for a pre-token of any length, in O(n log n) steps.

    A heap holds all pairs, ordered by rank and position. A merge pops the first one and pushes the two pairs that it
    creates. A pair that a merge has destroyed stays in the heap; it is skipped when it is popped, because
    `pair_rank` at its position has changed.
    """
    end = list(range(1, len(pretoken) + 1))  # end[i]: where the token that starts at i ends
    previous = list(range(-1, len(pretoken)))  # previous[i]: where the token before the one at i starts
    pair_rank = [ranks.get(pretoken[i : i + 2]) for i in range(len(pretoken))]  # of the pair that starts at i
    pair_rank[-1:] = [None]
    heap = [rank << POSITION_BITS | i for i, rank in enumerate(pair_rank) if rank is not None]
    heapq.heapify(heap)
    while heap:
        rank, start = divmod(heapq.heappop(heap), 1 << POSITION_BITS)
        if pair_rank[start] != rank:
            continue
        middle = end[start]
        end[start] = stop = end[middle]
        previous[stop], pair_rank[middle] = start, None
        for first in (start, previous[start]):
            if first >= 0 and end[first] < len(pretoken):
                pair_rank[first] = rank = ranks.get(pretoken[first : end[end[first]]])
                if rank is not None:
                    heapq.heappush(heap, rank << POSITION_BITS | first)
            elif first >= 0:
                pair_rank[first] = None
    tokens, start = [], 0
    while start < len(pretoken):
        tokens.append(pretoken[start : end[start]])
        start = end[start]
    return tokens


def recover_merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The merge behind each token of more than one byte: a list of (left, right) in the order of the ranks.

    The tokens of lower rank alone encode a token as two tokens; these are the pair that was merged. Raises ValueError
    for a token that is not the union of two tokens of lower rank.
    """
    merges, lower = [], {}
    for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
        if len(token) > 1:
            pair = merge_by_rank(token, lower)
            if len(pair) != 2:
                raise ValueError(f"token {token!r} (id {rank}) is not the union of two tokens of lower rank")
            merges.append((pair[0], pair[1]))
        lower[token] = rank
    return merges
