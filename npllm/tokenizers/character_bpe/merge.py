"""Merge the characters of a text by the rank of the pair: as a plain loop, and with a heap for long texts.

    text → characters → [merges by rank of the pair] → tokens

Byte-level BPE (`byte_pair.merge`) starts from bytes, and a lower id merges first. Here the symbols are characters, and
a table from pairs of tokens to ranks decides. Two kinds of file define this table:

    tokenizer.json    the index in the list of merges
    SentencePiece     the score of the union: the pair whose union has the highest score is merged first

The second kind is turned into the first by `ranks_of_scores`.

Sennrich, Haddow, Birch 2016, section 3.2; Kudo, Richardson 2018 (SentencePiece), section 3.
"""

import heapq
import math
from collections.abc import Mapping
from itertools import pairwise

MergeRanks = dict[tuple[str, str], int]

HEAP_MIN_CHARS = 60  # characters from which the heap is faster
POSITION_BITS = 40  # a heap entry is rank << POSITION_BITS | position


def merge_characters(text: str, ranks: MergeRanks) -> list[str]:
    """The tokens of a text, each a character or the union of several."""
    return (merge_by_pair_rank if len(text) < HEAP_MIN_CHARS else merge_by_pair_rank_heap)(text, ranks)


def merge_by_pair_rank(text: str, ranks: MergeRanks) -> list[str]:
    """The tokens of a text: merge the adjacent pair of lowest rank, the leftmost of equals, until no pair has a rank.

    After a merge only the ranks of the two pairs beside it change. O(n²) for n characters, and the fastest way for a
    word.
    """
    tokens = list(text)
    found = [ranks.get(pair, math.inf) for pair in pairwise(tokens)]  # found[i]: of the pair that begins at i
    while found:
        lowest = min(found)
        if lowest == math.inf:
            break
        i = found.index(lowest)
        tokens[i : i + 2] = [tokens[i] + tokens[i + 1]]
        del found[i]
        if i > 0:
            found[i - 1] = ranks.get((tokens[i - 1], tokens[i]), math.inf)
        if i < len(found):
            found[i] = ranks.get((tokens[i], tokens[i + 1]), math.inf)
    return tokens


def merge_by_pair_rank_heap(text: str, ranks: MergeRanks) -> list[str]:
    """The tokens of merge_by_pair_rank for a text of any length, in O(n log n) steps.

    A heap holds the pairs, ordered by rank and position. A merge pops the first one and pushes the two pairs that it
    creates. A pair that a merge has destroyed stays in the heap; it is skipped when it is popped, because `pair_rank`
    at its position has changed.
    """
    n = len(text)
    end = list(range(1, n + 1))  # end[i]: where the token that starts at i ends
    previous = list(range(-1, n))  # previous[i]: where the token before the one at i starts
    pair_rank = [ranks.get(pair) for pair in pairwise(text)] + [None]  # of the pair that starts at i
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
            if first < 0:
                continue
            second = end[first]
            pair_rank[first] = rank = (
                ranks.get((text[first:second], text[second : end[second]])) if second < n else None
            )
            if rank is not None:
                heapq.heappush(heap, rank << POSITION_BITS | first)
    tokens, start = [], 0
    while start < n:
        tokens.append(text[start : end[start]])
        start = end[start]
    return tokens


def ranks_of_scores(scores: Mapping[str, float]) -> MergeRanks:
    """The ranks of all pairs whose union is a token, by the score of the union: the highest score has rank 0.

    A pair consists of two tokens, or of single characters. Pairs with equal scores have the same rank, so that the
    leftmost of them is merged first.
    """
    rank_of = {score: rank for rank, score in enumerate(sorted(set(scores.values()), reverse=True))}
    symbols = scores.keys() | set("".join(scores))
    return {
        (token[:i], token[i:]): rank_of[score]
        for token, score in scores.items()
        for i in range(1, len(token))
        if token[:i] in symbols and token[i:] in symbols
    }
