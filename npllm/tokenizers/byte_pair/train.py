"""Byte pair encoding learns its tokens: again and again it merges the pair of neighbours that occurs most often.

    text → pieces → bytes → [merges] → ids

`learn_merges_naive` is the idea and nothing else: count all pairs, merge the most frequent, repeat. It counts the whole
text again for every merge. `learn_merges` in `fast.training` finds the same merges, one by one the same, with work only
where something changed.

Ties: among pairs of equal count the one that comes first in the text wins, as with Karpathy's minbpe; `learn_merges`
can also take the one of the lowest ids, as Hugging Face's tokenizers do.

Sennrich, Haddow, Birch 2016, Neural Machine Translation of Rare Words with Subword Units, section 3.2 and
algorithm 1; on bytes: Radford et al. 2019 (GPT-2), section 2.2; Raschka, section 2.5.
"""

from collections import Counter
from itertools import pairwise
from typing import NamedTuple


class Merge(NamedTuple):
    """One line of the trace: these two tokens stood side by side `count` times and became one."""

    left: bytes
    right: bytes
    count: int

    @property
    def token(self):
        """The new token."""
        return self.left + self.right


def learn_merges_naive(pieces, num_merges):
    """Merge the most frequent pair of neighbours, `num_merges` times or until no pair is left.

    `pieces` are byte strings that no merge may cross. Returns the list of Merges in order. Time: text × merges. Raises
    ValueError for a negative num_merges.
    """
    if num_merges < 0:
        raise ValueError(f"num_merges is {num_merges}; it must be at least 0")
    words = [[bytes([byte]) for byte in piece] for piece in pieces]
    merges = []
    for _ in range(num_merges):
        counts = Counter(pair for word in words for pair in pairwise(word))
        if not counts:
            break
        best = max(counts, key=counts.get)  # among equals, the first that was counted
        merges.append(Merge(*best, counts[best]))
        words = [merge_pair(word, best) for word in words]
    return merges


def merge_pair(word, pair):
    """Replace the pair wherever it stands, from the left: a a a with (a, a) becomes aa a."""
    merged, i = [], 0
    while i < len(word):
        if tuple(word[i : i + 2]) == pair:
            merged.append(word[i] + word[i + 1])
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return merged
