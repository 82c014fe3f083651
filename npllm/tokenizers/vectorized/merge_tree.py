"""The two tokens that were merged into each token, recovered from the ranks for all tokens at once.

    [ranks → the merge of every token] → parallel_merge

A table of ranks lists the tokens, not the merges that produced them, and "abc" may be the concatenation of "ab" and "c"
as well as of "a" and "bc". But only one of these merges ever happens. As long as no merge crosses the ends of a token's
bytes, merges within them do not depend on the bytes outside. So whenever the token is produced, the steps are those of
encoding its bytes alone, and the last of these steps is its merge. If encoding its bytes alone does not produce the
token, it is never produced, and has no merge.

So each token is encoded by the plain algorithm, one merge in a round, all tokens in parallel: each token's bytes are a
segment of one array, and each round merges the leftmost pair of lowest rank in every segment.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from npllm.tokenizers.vectorized.hash_table import HashTable
from npllm.tokenizers.vectorized.parallel_merge import NO_RANK, pair_keys
from npllm.tokenizers.vectorized.pretoken_cache import PretokenCache
from npllm.tokenizers.vectorized.pretoken_table import MAX_BYTES, PADDING


def find_merges(ranks: dict[bytes, int], cache: PretokenCache | None = None) -> np.ndarray:
    """The merge of each token that has one: left, right and id, an array (3, M), in the order of the ids.

    `ranks` maps byte strings to ids, single bytes among them; `cache` is a PretokenCache of them, if there is one
    already.
    """
    if cache is None:
        cache = PretokenCache(list(ranks), list(ranks.values()))
    return np.stack(_merges(ranks, cache))


def find_irregular(left: np.ndarray, right: np.ndarray, ids: np.ndarray, ranks: dict[bytes, int]) -> dict[bytes, int]:
    """The tokens that come before one of their parts, with their ids; `left`, `right`, `ids` as of `find_merges`.

    Such a token is merged as soon as that part is produced, although its rank is lower. `parallel_merge` does not apply
    to it.
    """
    single_byte = np.zeros(max(ranks.values()) + 1, bool)
    single_byte[[rank for token, rank in ranks.items() if len(token) == 1]] = True
    before_a_part = ((left > ids) & ~single_byte[left]) | ((right > ids) & ~single_byte[right])
    irregular = set(ids[before_a_part].tolist())
    return {token: rank for token, rank in ranks.items() if rank in irregular} if irregular else {}


def ids_of_bytes(ranks: dict[bytes, int], unused: int | None = None) -> np.ndarray:
    """The id of each single byte, (256,) int64. A byte without a token has `unused`, an id of no token.

    No pair with `unused` is a merge. By default it is the highest id plus one.
    """
    unused = max(ranks.values()) + 1 if unused is None else unused
    return np.array([ranks.get(bytes([byte]), unused) for byte in range(256)], np.int64)


def reachable_merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The merge of each token that is ever produced: (left, right), in the order of the tokens' ranks.

    A token may come before its parts. No other pair of tokens is ever merged, even if its concatenation is a token.
    """
    tokens = sorted(ranks, key=ranks.__getitem__)
    indices = {token: index for index, token in enumerate(tokens)}  # in the same order as the ranks, without gaps
    left, right, _ = _merges(indices, PretokenCache(tokens, range(len(tokens))))
    return [(tokens[a], tokens[b]) for a, b in zip(left.tolist(), right.tolist())]


def unreachable_tokens(ranks: Iterable[bytes], merges: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """The tokens of more than one byte that none of the merges produces."""
    produced = {left + right for left, right in merges}
    return [token for token in ranks if len(token) > 1 and token not in produced]


def _merges(ranks, cache):
    """Left, right, ids (M,) of all merges that happen, in the order of the ids."""
    left, right, ids = (np.concatenate(rows) for rows in zip(_short_splits(ranks, cache), _other_splits(ranks)))
    pair_ranks = HashTable.from_arrays(pair_keys(left, right), ids)
    found = _last_merges([token for token in ranks if len(token) > 1], ranks, pair_ranks)
    return found[np.argsort(found[:, 2])].T


def _short_splits(ranks, cache):
    """All ways to write a token that can be in the cache as the concatenation of two tokens: left, right, ids."""
    tokens = [token for token in ranks if 1 < len(token) <= MAX_BYTES and b"\xff" not in token]
    lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
    data = np.frombuffer(b"".join(tokens) + PADDING, np.uint8)
    ends = np.cumsum(lengths)
    token_index = np.repeat(np.arange(len(tokens)), lengths - 1)  # a token of n bytes can be split at n − 1 positions
    starts = (ends - lengths)[token_index]
    middles = np.arange(len(token_index)) + token_index + 1
    left = cache.token_ids(data, starts, middles - starts)
    right = np.full(len(left), -1)
    right[left >= 0] = cache.token_ids(data, middles[left >= 0], (ends[token_index] - middles)[left >= 0])
    ids = np.fromiter(map(ranks.__getitem__, tokens), np.int64, len(tokens))[token_index]
    return left[right >= 0], right[right >= 0], ids[right >= 0]


def _other_splits(ranks):
    """The same for the other tokens, which are few: left, right, ids."""
    splits = [
        (ranks[token[:middle]], ranks[token[middle:]], rank)
        for token, rank in ranks.items()
        if len(token) > MAX_BYTES or b"\xff" in token
        for middle in range(1, len(token))
        if token[:middle] in ranks and token[middle:] in ranks
    ]
    return np.array(splits, np.int64).reshape(-1, 3).T


def _last_merges(tokens, ranks, pair_ranks):
    """Encode tokens in parallel; the last merge of each that is encoded as itself: (M, 3) left, right, id."""
    if not tokens:
        return np.empty((0, 3), np.int64)
    id_of_byte = ids_of_bytes(ranks)
    ids = id_of_byte[np.frombuffer(b"".join(tokens), np.uint8)]  # of all tokens' current parts, one token after another
    lengths = np.fromiter(map(len, tokens), np.int64, len(tokens))
    targets = np.fromiter(map(ranks.__getitem__, tokens), np.int64, len(tokens))
    found = []
    while len(targets):
        positions, lowest = _leftmost_lowest_pairs(ids, lengths, pair_ranks)
        finished = (lengths == 2) & (lowest == targets)
        last = positions[finished]
        found.append(np.stack([ids[last], ids[last + 1], targets[finished]], axis=1))
        unfinished = (lengths > 2) & (lowest < NO_RANK)
        merged = positions[unfinished]
        ids[merged] = lowest[unfinished]
        keep = np.repeat(unfinished, lengths)
        keep[merged + 1] = False
        ids, lengths, targets = ids[keep], lengths[unfinished] - 1, targets[unfinished]
    return np.concatenate(found)


def _leftmost_lowest_pairs(ids, lengths, pair_ranks):
    """The leftmost pair of lowest rank in each segment of `ids`, its position (S,) and its rank (S,) or NO_RANK."""
    starts = np.cumsum(lengths) - lengths
    found = np.full(len(ids), NO_RANK, np.int32)
    found[:-1] = pair_ranks.get(pair_keys(ids[:-1], ids[1:]), NO_RANK)
    found[starts + lengths - 1] = NO_RANK
    lowest = np.minimum.reduceat(found, starts)
    positions = np.flatnonzero(found == np.repeat(lowest, lengths))
    segments = np.searchsorted(starts, positions, side="right") - 1
    return positions[np.diff(segments, prepend=-1) > 0], lowest
