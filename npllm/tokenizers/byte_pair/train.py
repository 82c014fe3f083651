"""Byte pair encoding learns its tokens: it merges the most frequent pair of adjacent tokens, again and again.

    text → pre-tokens → bytes → [merges] → ids

`learn_merges_naive` is the algorithm as published: count all pairs, merge the most frequent one, repeat. It counts the
whole text again for every merge. `vectorized.incremental_training.learn_merges` gives the same merges and updates only
the counts that a merge changes.

Ties: among pairs of equal count the one that occurs first in the text is merged, as in Karpathy's minbpe.
`learn_merges` can also take the pair with the lowest ids, as Hugging Face's tokenizers do.

Sennrich, Haddow, Birch 2016, Neural Machine Translation of Rare Words with Subword Units, section 3.2 and
algorithm 1; on bytes: Radford et al. 2019 (GPT-2), section 2.2; Raschka, section 2.5.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple


class Merge(NamedTuple):
    """One step of the training: the tokens `left` and `right` were adjacent `count` times and became one token."""

    left: bytes
    right: bytes
    count: int

    @property
    def token(self) -> bytes:
        """The new token."""
        return self.left + self.right


def learn_merges_naive(pretokens: Iterable[bytes], num_merges: int) -> list[Merge]:
    """Merge the most frequent pair of adjacent tokens, `num_merges` times or until no pair is left.

    Merges never cross from one pre-token into another. Time: O(text · merges). Raises ValueError for a negative
    num_merges.
    """
    if num_merges < 0:
        raise ValueError(f"num_merges is {num_merges}; it must be at least 0")
    words = [[bytes([byte]) for byte in pretoken] for pretoken in pretokens]
    merges = []
    for _ in range(num_merges):
        counts = Counter(pair for word in words for pair in pairwise(word))
        if not counts:
            break
        best = max(counts, key=counts.__getitem__)  # the first of equals: a Counter keeps the order of insertion
        merges.append(Merge(*best, counts[best]))
        words = [merge_pair(word, best) for word in words]
    return merges


def merge_pair(word: list[bytes], pair: tuple[bytes, bytes]) -> list[bytes]:
    """Replace every occurrence of the pair by its union, from left to right: [a, a, a] with (a, a) becomes [aa, a]."""
    merged, i = [], 0
    while i < len(word):
        if tuple(word[i : i + 2]) == pair:
            merged.append(word[i] + word[i + 1])
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return merged
