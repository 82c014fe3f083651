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
from npllm.functional.relative_positions import distances


class Strided(Part):
    """S_ts ← −∞ unless t − s < stride or (t − s) mod stride = 0      (T, S) → (T, S)"""

    def __init__(self, widths, stride):
        at_least_one(stride=stride)
        self.stride = stride

    def mask(self, places, key_places):
        """The rule on distances."""
        distance = distances(places, key_places)
        return (distance < self.stride) | (distance % self.stride == 0)


class Blocks(Part):
    """S_ts ← −∞ unless layout[t // size, s // size]      (T, S) → (T, S)

    `layout` is a boolean table, or nested lists, with a row for every block of queries. Its diagonal must be true, or a
    position could not even see itself.
    """

    def __init__(self, widths, size, layout):
        at_least_one(size=size)
        self.size, self.layout = size, np.asarray(layout, bool)
        rows, columns = self.layout.shape if self.layout.ndim == 2 else (0, 0)
        if rows == 0 or rows != columns or not self.layout.diagonal().all():
            raise ValueError(f"layout has shape {self.layout.shape}; it must be a square with a true diagonal")

    def mask(self, places, key_places):
        """The table's entry for each pair; filling, whose place is negative, counts as block 0 and is hidden later."""
        rows, columns = (np.maximum(p, 0) // self.size for p in (places, key_places))
        last = max(int(rows.max(initial=0)), int(columns.max(initial=0)))
        if last >= len(self.layout):
            raise ValueError(f"layout has {len(self.layout)} blocks of {self.size}; the sequence needs {last + 1}")
        return self.layout[rows[..., :, None], columns[..., None, :]]
