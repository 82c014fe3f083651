"""Which two tokens was each token made of? Asked of the ranks alone, for all tokens at once.

    [ranks → the merge behind every token] → merging

A file of ranks says which byte strings are tokens, not how they came about; and "abc" may be a union of "ab" and "c" as
well as of "a" and "bc". But only one of these ever happens. As long as no merge crosses the ends of a token's bytes,
what goes on inside does not depend on what stands outside; so whenever the token comes about, it does so by the steps
by which its bytes, standing alone, are encoded, and the last of these steps is its merge. A token to whose bytes that
never happens comes about nowhere, and has no merge.

So each token is encoded by the plain rule, one merge a round, all tokens in step: a row for each token, and in every
row the leftmost pair of lowest rank.
"""

import numpy as np

from npllm.tokenizers.vectorized.hash_table import Table
from npllm.tokenizers.vectorized.parallel_merge import NEVER, pair_keys
from npllm.tokenizers.vectorized.pretoken_cache import LONGEST, PADDING, PieceMemory


def find_merges(ranks, memory=None):
    """The merge behind each token that has one: left, right, ids, three arrays (M,) in the order of their ranks.

    `ranks` is a dict from byte strings to ids, in which every single byte has one; `memory` a PieceMemory of them,
    where there is one already. Returns None if a token comes before one of its parts, in which case the order of merges
    is not the order in which they become possible.
    """
    if memory is None:
        memory = PieceMemory(list(ranks), list(ranks.values()))
    left, right, ids = _merges(ranks, memory)
    single_byte = np.zeros(max(ranks.values()) + 1, bool)
    single_byte[[ranks[bytes([byte])] for byte in range(256)]] = True
    if _early(left, right, ids, single_byte).any():
        return None
    return left, right, ids


def merges_that_happen(ranks):
    """The merge of each token that comes about at all, pairs of byte strings in the order of the tokens' ranks.

    Any table will do, one in which a token comes before its parts, too: what is said above does not ask for the order.
    Every other pair whose union is a token never stands side by side.
    """
    tokens = sorted(ranks, key=ranks.get)
    places = {token: place for place, token in enumerate(tokens)}  # as good as the ranks, and without gaps
    left, right, _ = _merges(places, PieceMemory(tokens, range(len(tokens))))
    return [(tokens[one], tokens[other]) for one, other in zip(left.tolist(), right.tolist())]


def _merges(ranks, memory):
    """Left, right, ids (M,) of all merges that happen, in the order of the ids."""
    left, right, ids = _splits(ranks, memory)
    pairs = Table.of(pair_keys(left, right), ids)
    found = _last_merges([token for token in ranks if len(token) > 1], ranks, pairs)
    return found[np.argsort(found[:, 2])].T


def _early(left, right, ids, single_byte):
    """Which tokens come before one of their parts; the single bytes are there from the beginning."""
    return ((left > ids) & ~single_byte[left]) | ((right > ids) & ~single_byte[right])


def _splits(ranks, memory):
    """All ways to write a token as the union of two tokens: left, right, ids, three arrays."""
    tokens = [token for token in ranks if 1 < len(token) <= LONGEST and b"\xff" not in token]
    lengths = np.array([len(token) for token in tokens], np.int64)
    text = np.frombuffer(b"".join(tokens) + PADDING, np.uint8)
    # every place within a token, but for its beginning
    ends = np.cumsum(lengths)
    of = np.repeat(np.arange(len(tokens)), lengths - 1)
    starts = (ends - lengths)[of]
    middles = np.arange(len(of)) + of + 1
    left = memory.find(text, starts, middles - starts)
    right = np.full(len(left), -1)
    right[left >= 0] = memory.find(text, middles[left >= 0], (ends[of] - middles)[left >= 0])
    both = right >= 0
    ids = np.array([ranks[token] for token in tokens], np.int64)[of]
    others = [
        (ranks[token[:middle]], ranks[token[middle:]], rank)
        for token, rank in ranks.items()
        if len(token) > LONGEST or b"\xff" in token
        for middle in range(1, len(token))
        if token[:middle] in ranks and token[middle:] in ranks
    ]
    short = np.stack([left[both], right[both], ids[both]])
    return np.concatenate([short, np.array(others, np.int64).reshape(-1, 3).T], axis=1)


def _last_merges(tokens, ranks, pairs):
    """Encode tokens by the plain rule, in step, and note the last merge of each that ends as one: (n, 3)."""
    if not tokens:
        return np.empty((0, 3), np.int64)
    of_byte = np.array([ranks[bytes([byte])] for byte in range(256)])
    row_ids = of_byte[np.frombuffer(b"".join(tokens), np.uint8)]
    lengths = np.array([len(token) for token in tokens])
    wanted = np.array([ranks[token] for token in tokens])
    found = []
    while len(wanted):
        starts = np.cumsum(lengths) - lengths
        found_ranks = np.full(len(row_ids), NEVER)
        found_ranks[:-1] = pairs.get(pair_keys(row_ids[:-1], row_ids[1:]), NEVER)
        found_ranks[starts + lengths - 1] = NEVER
        lowest = np.minimum.reduceat(found_ranks, starts)
        at = np.flatnonzero(found_ranks == np.repeat(lowest, lengths))
        row = np.searchsorted(starts, at, side="right") - 1
        first = np.ones(len(at), bool)
        first[1:] = row[1:] != row[:-1]
        at, row = at[first], row[first]
        going = lowest[row] < NEVER  # every row is in `row` once
        done = going & (lengths == 2)
        whole = done & (lowest == wanted)
        found.append(np.stack([row_ids[at[whole]], row_ids[at[whole] + 1], wanted[whole]], axis=1))
        going &= ~done
        merged = at[going]
        row_ids[merged] = lowest[going]
        keep = np.repeat(going, lengths)
        keep[merged + 1] = False
        row_ids = row_ids[keep]
        lengths, wanted = lengths[going] - 1, wanted[going]
    return np.concatenate(found)
