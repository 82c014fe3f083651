"""Byte pair encoding of many pre-tokens at once: every merge that is certain to happen is applied immediately.

    text → pre-tokens → bytes → [merges] → ids

BPE merges the adjacent pair of lowest rank, the leftmost of equals, and repeats this until no pair has a rank. Most
merges do not depend on the others. So each round here applies many of them, in all pre-tokens, and the result is that
of BPE.

Definitions. Let (a, b) be a pair of adjacent tokens of rank r. n is the token left of a, and w the one left of n.

    … w  n [a  b] m …

    X ends in n           if X = n, or if the right part of X ends in n. After merges of n with tokens to its left, the
                          token left of a ends in n.
    left_conflict(n, a)   = min { rank(X, a) : X ends in n, X ≠ n }, ∞ if there is no such X: the lowest rank of a merge
                          that consumes a after n has become the end of a larger token.
    a is safe at rank r   if no token is left of a; or if left_conflict(n, a) > r; or if rank(w, n) > r and n is safe
                          at rank r.

b is safe by the mirror image of these definitions, except that ranks are compared with ≥ in place of >: of equal ranks,
the left one comes first. There are two assumptions, and training satisfies both: every token is produced by only one
pair, and the rank of that pair is higher than those of the pairs that produce its two parts. `merge_tree` finds these
pairs for any table of ranks.

Claim. If rank(n, a) > r and rank(b, m) > r, and a and b are safe at rank r, then BPE merges this pair, and merging it
immediately does not change the result.

Proof. As long as BPE has not merged (a, b), all its merges have ranks below r, or rank r and a position further left.
Suppose that one of them consumes a. It is (X, a) with an X that ends in n, and X ≠ n because rank(n, a) > r. So
left_conflict(n, a) ≤ r, and an earlier one of these merges has consumed n. That one is either (w, n), and then
rank(w, n) ≤ r; or it is (Y, n) with a larger Y that ends in w, and the same argument applies to w and n in place of n
and a. In either case a is not safe, which is a contradiction. The mirror image holds for b. So BPE merges (a, b), and
no merge before it involves a or b. It can be moved in front of these, which stay the same: a merge that consumes ab
has a rank above r, by the second assumption, and does not come before them. Several pairs are moved one by one. ∎

A word in four rounds, with GPT-2's ranks between the tokens (_ is a space):

    _ 256 t 400 h 258 e 263 r 260 e 891 f 6513 o 273 r 260 e
    _t 262 he 1456 re 5420 f 6513 o 382 re
    _the 612 re 5420 f 754 ore
    _there 4361 fore
    _therefore

BPE makes the same nine merges in the order of their ranks: _t, he, re, re, _the, ore, _there, fore, _therefore.

Adjacent pairs of equal rank are repetitions of one token (a a a a a). BPE merges them from the left, so every second
pair of such a run is merged, if the run is lower than the pairs on both sides and its first and last tokens are safe.

The lowest pair of a pre-token is always safe, so each round merges at least one pair in every pre-token that has any.
If the ranks decrease along a long pre-token, it may be only one. Therefore the work is limited (MAX_VISITS), and the
caller encodes the rest with a heap.
"""

import numpy as np

from npllm.tokenizers.vectorized.hash_table import HashTable, Keys

NO_RANK = (1 << 31) - 2  # the rank of a pair that is not a merge
END = (1 << 31) - 1  # in place of a rank, at the last token of a pre-token
MAX_ID = NO_RANK - 1
ID_BITS = np.uint64(32)
MAX_VISITS = 64  # tokens visited for each byte, in all rounds together; most texts need fewer than ten
MAX_CHAIN = 32  # tokens examined to find out if one token is safe; beyond that it counts as not safe in this round


def pair_keys(left: np.ndarray, right: np.ndarray) -> Keys:
    """Pairs of ids as keys of a HashTable: (n,), (n,) → a list of one array of uint64."""
    return [(left.astype(np.uint64) << ID_BITS) | right.astype(np.uint64)]


class ParallelMerger:
    """The merges of one vocabulary, prepared for application to any number of pre-tokens.

    left, right, ids  (M,) integers: merge i joins left[i] and right[i] into the token ids[i], which is its rank, too
    id_of_byte        (256,) integers
    """

    def __init__(self, left: np.ndarray, right: np.ndarray, ids: np.ndarray, id_of_byte: np.ndarray):
        self.ranks, self.id_of_byte = _lowest_ranks(left, right, ids), np.asarray(id_of_byte, np.int32)
        # the first round needs the ranks of pairs of bytes: an array of all of them is faster than the hash table
        second, first = np.divmod(np.arange(1 << 16), 256)
        self.byte_pair_ranks = self.ranks.get(pair_keys(self.id_of_byte[first], self.id_of_byte[second]), NO_RANK)
        no_part = np.full(1 + max(int(ids.max(initial=0)), int(self.id_of_byte.max())), -1)
        left_part, right_part = no_part.copy(), no_part.copy()
        left_part[ids], right_part[ids] = left, right
        self.left_conflicts = _conflicts(left, right, ids, right_part)
        self.right_conflicts = _conflicts(right, left, ids, left_part)

    def merge(self, data: np.ndarray, is_last: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Encode pre-tokens: bytes (n,) uint8, and whether each is the last of its pre-token, (n,) bool.

        Returns the ids (m,) int32 of all pre-tokens, one after another; whether each id is the last of its pre-token,
        (m,) bool; and whether each still has to be merged with the next one, (m,) bool, which happens only if
        MAX_VISITS is exceeded.
        """
        tokens, ranks = self._tokens_and_ranks(data, is_last)
        max_chain, visited = MAX_CHAIN, 0
        while True:
            first, last = _lowest_runs(ranks)
            visited += len(tokens)
            if not len(first) or visited > MAX_VISITS * len(data):
                return tokens[1:], ranks[1:] == END, ranks[1:] < NO_RANK
            rank = ranks[first]
            safe = np.flatnonzero(_is_safe(tokens, ranks, first, rank, self.left_conflicts, -1, max_chain))
            first, last, rank = first[safe], last[safe], rank[safe]
            safe = np.flatnonzero(_is_safe(tokens, ranks, last + 1, rank - 1, self.right_conflicts, 1, max_chain))
            if len(safe):
                tokens, ranks = self._apply(tokens, ranks, _every_second(first[safe], last[safe]))
            else:
                max_chain *= 8

    def _tokens_and_ranks(self, data, is_last):
        """The id of each byte, and the rank of each byte with the next one. Element 0 precedes the first byte.

        Its rank is END, as if another pre-token ended there. So every token has an element on its left.
        """
        tokens, ranks = np.zeros(len(data) + 1, np.int32), np.full(len(data) + 1, END, np.int32)
        self.id_of_byte.take(data, out=tokens[1:], mode="clip")  # "clip" writes into `out` without a buffer
        byte_pairs = np.ndarray((len(data) - 1,), "<u2", data, strides=(1,))  # bytes i and i + 1 as one number
        self.byte_pair_ranks.take(byte_pairs, out=ranks[1:-1], mode="clip")
        ranks[1:][is_last] = END
        return tokens, ranks

    def _apply(self, tokens, ranks, positions):
        """Merge the tokens at these positions with the next ones: the new tokens and ranks."""
        keep = np.ones(len(tokens), bool)
        keep[positions + 1] = False
        merged = np.flatnonzero(~keep) - 1
        tokens[merged] = ranks[merged]
        ranks[merged] = ranks[merged + 1]  # END, or a rank that is replaced below
        kept = np.flatnonzero(keep)
        tokens, ranks = tokens.take(kept), ranks.take(kept)
        merged -= np.arange(len(merged))  # each has moved to the left by the number of merges before it
        changed = np.zeros(len(tokens), bool)
        changed[merged] = changed[merged - 1] = True
        changed = np.flatnonzero(changed & (ranks != END))
        ranks[changed] = self.ranks.get(pair_keys(tokens[changed], tokens[changed + 1]), NO_RANK)
        return tokens, ranks


def _is_safe(tokens, ranks, positions, limit, conflicts, step, max_chain):
    """Whether the token at each position is safe from merges with tokens on one side: (n,), (n,) → (n,) bool.

    The side is the left one for step = −1, with ranks up to `limit` = r, and the right one for step = 1, with
    `limit` = r − 1. The rank of a pair is stored at the left one of its tokens: for a token at p and its neighbour at
    p + step, that is p + min(step, 0).
    """
    safe, unknown, to_pair = np.ones(len(positions), bool), np.arange(len(positions)), min(step, 0)
    for _ in range(max_chain):
        inside = np.flatnonzero(ranks[positions + to_pair] != END)
        unknown, positions, limit = unknown[inside], positions[inside], limit[inside]
        neighbours = positions + step
        conflict = conflicts.get(pair_keys(tokens[neighbours], tokens[positions]), NO_RANK) <= limit
        if not conflict.any():
            return safe
        unsafe = conflict & (ranks[neighbours + to_pair] <= limit)
        safe[unknown[unsafe]] = False
        further = np.flatnonzero(conflict & ~unsafe)
        unknown, positions, limit = unknown[further], neighbours[further], limit[further]
    safe[unknown] = False
    return safe


def _conflicts(grown, consumed, ids, end_part):
    """A table of the conflict of each (n, a), for one side.

    Merge i joins grown[i], which may end in a neighbour n of a, with a = consumed[i]; its rank is ids[i]. `end_part` is
    the part of a token in which it ends, −1 for tokens without parts: the right part for conflicts on the left.
    """
    neighbours, tokens, ranks = [], [], []
    ending = end_part[grown]
    while (ending >= 0).any():
        has_part = ending >= 0
        ending, consumed, ids = ending[has_part], consumed[has_part], ids[has_part]
        neighbours.append(ending)
        tokens.append(consumed)
        ranks.append(ids)
        ending = end_part[ending]
    if not ranks:
        return HashTable(dtype=np.int32)
    return _lowest_ranks(np.concatenate(neighbours), np.concatenate(tokens), np.concatenate(ranks))


def _lowest_ranks(left, right, ranks):
    """A table from pairs to ranks, with the lowest rank of each pair."""
    table = HashTable(capacity=len(ranks), dtype=np.int32)
    slots, _ = table.insert(pair_keys(left, right))
    table.values[slots] = NO_RANK
    np.minimum.at(table.values, slots, ranks)
    return table


def _lowest_runs(ranks):
    """The first and the last position of each run of equal ranks between higher ones; NO_RANK and END are not in runs.

    Runs of length one are found separately, and longer ones are appended to them.
    """
    lower = ranks[1:] < ranks[:-1]  # than the one before
    higher = ranks[1:] > ranks[:-1]
    alone = ranks < NO_RANK
    alone[1:] &= lower
    alone[:-1] &= higher
    alone = np.flatnonzero(alone)
    equal = np.flatnonzero(~(lower | higher) & (ranks[1:] < NO_RANK))
    if not len(equal):
        return alone, alone
    gaps = np.flatnonzero(np.diff(equal) > 1)
    first, last = equal[np.append(0, gaps + 1)], equal[np.append(gaps, -1)] + 1
    lowest = (ranks[first - 1] > ranks[first]) & (ranks[last + 1] > ranks[last])
    return np.append(alone, first[lowest]), np.append(alone, last[lowest])


def _every_second(first, last):
    """first, first + 2, … up to last, for each run."""
    number = (last - first) // 2 + 1
    offset = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
    return np.repeat(first, number) + 2 * offset
