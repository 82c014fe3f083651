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

from npllm.tokenizers.fast.merging import NEVER, pair_keys
from npllm.tokenizers.fast.table import Table


def find_merges(ranks):
    """The merge behind each token that has one: left, right, ids, three arrays (M,) in the order of their ranks.

    `ranks` is a dict from byte strings to ids, in which every single byte has one. Returns None if a token comes before
    one of its parts, in which case the order of merges is not the order in which they become possible.
    """
    splits = np.array(list(_splits(ranks)), np.int64).reshape(-1, 3)
    left, right, ids = splits.T
    several = np.zeros(max(ranks.values()) + 1, np.int64)
    np.add.at(several, ids, 1)
    single_byte = np.zeros(len(several), bool)
    single_byte[[ranks[bytes([byte])] for byte in range(256)]] = True
    early = ((left > ids) & ~single_byte[left]) | ((right > ids) & ~single_byte[right])
    several[ids[early]] += 1  # to be looked at, even if there is no second way
    unclear = several[ids] > 1
    pairs = Table(room=len(ids))
    pairs.values[pairs.add(pair_keys(left, right))] = ids
    tokens = [token for token, rank in ranks.items() if several[rank] > 1]
    found = _last_merges(tokens, ranks, pairs)
    left = np.concatenate([left[~unclear], found[:, 0]])
    right = np.concatenate([right[~unclear], found[:, 1]])
    ids = np.concatenate([ids[~unclear], found[:, 2]])
    if (((left > ids) & ~single_byte[left]) | ((right > ids) & ~single_byte[right])).any():
        return None
    order = np.argsort(ids)
    return left[order], right[order], ids[order]


def _splits(ranks):
    """All ways to write a token as the union of two tokens: (left id, right id, id)."""
    find = ranks.get
    for token, rank in ranks.items():
        for middle in range(1, len(token)):
            left = find(token[:middle])
            if left is not None:
                right = find(token[middle:])
                if right is not None:
                    yield left, right, rank


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
