"""Sparse attention: a pattern, fixed beforehand, of who may look at whom.

    strided   the last `stride` positions, and before them every stride-th
    blocks    whole blocks of positions, by a small table

Over a window: far positions stay reachable, in one step or two, while each position looks at a few alone. Here the
pattern is a mask on the full table of scores; what it saves in cost only a kernel that skips blocks can show.

Child et al. 2019, Generating Long Sequences with Sparse Transformers, section 4.3; Zaheer et al. 2020, Big Bird,
section 2.
"""

import numpy as np

from npllm.attention.part import Part
from npllm.functional.checks import at_least_one
from npllm.functional.masks import block_mask, strided_mask


class Strided(Part):
    """S_ts ← −∞ unless t − s < stride or (t − s) mod stride = 0      (T, S) → (T, S)"""

    def __init__(self, widths, stride):
        at_least_one(stride=stride)
        self.stride = stride

    def mask(self, places, key_places):
        """The rule on distances."""
        return strided_mask(places, key_places, self.stride)


class Blocks(Part):
    """S_ts ← −∞ unless layout[t // size, s // size]      (T, S) → (T, S)

    `layout` is a boolean table, or nested lists, with a row for every block of queries that fits into the context. Its
    diagonal must be true, or a position could not even see itself.
    """

    def __init__(self, widths, size, layout):
        at_least_one(size=size)
        self.size, self.layout = size, np.asarray(layout, bool)
        rows, columns = self.layout.shape if self.layout.ndim == 2 else (0, 0)
        if rows == 0 or rows != columns or not self.layout.diagonal().all():
            raise ValueError(f"layout has shape {self.layout.shape}; it must be a square with a true diagonal")
        needed = -(-widths.context_length // size)
        if rows < needed:
            raise ValueError(
                f"layout has {rows} rows; for a context_length of {widths.context_length} in blocks of {size} it must "
                f"have at least {needed}"
            )

    def mask(self, places, key_places):
        """The table's entry for each pair."""
        return block_mask(places, key_places, self.size, self.layout)
