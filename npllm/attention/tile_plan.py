"""The tiles that attention visits, in the order of the forward and of the backward pass.

A tile is a block of queries times a block of keys. Neighbouring tiles are joined into spans, because one large matrix
product is faster than several small ones; a span is short enough for its scores to stay in the L2 cache.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from npllm.attention.mask_rule import ALL, PART, SKIP, ArrayElement, MaskElement

BLOCK = 128  # queries, or keys, of a tile
SPAN = 1024  # keys of a span in the forward pass, queries in the backward pass
MASKS_KEPT = 4  # masks of tiles that are kept for the next head, for each block of queries and of keys


class Span(NamedTuple):
    """Queries and keys of joined tiles, and those of its tiles that need a mask, as pairs of block numbers."""

    rows: slice
    columns: slice
    partial: list[tuple[int, int]]


class TilePlan:
    """The spans of a mask (T, S); without a mask, all."""

    def __init__(self, mask: MaskElement | ArrayElement | None, num_queries: int, num_keys: int) -> None:
        self.mask, self.block, self.shape = mask, BLOCK, (num_queries, num_keys)
        rows, columns = (-(-length // BLOCK) for length in self.shape)  # rounded up
        self.kinds = np.full((rows, columns), ALL) if mask is None else mask.kinds(BLOCK)
        self.num_pairs = int((self.kinds != SKIP).sum()) * BLOCK * BLOCK
        self._hidden: dict[tuple[int, int], np.ndarray] = {}
        self._most = MASKS_KEPT * (rows + columns)
        self.by_query = [list(self._spans_of_row(i)) for i in range(rows)]
        self.by_key = [list(self._spans_of_column(j)) for j in range(columns)]

    def rows(self, i: int) -> slice:
        """The queries of block i."""
        return slice(i * self.block, min((i + 1) * self.block, self.shape[0]))

    def columns(self, j: int) -> slice:
        """The keys of block j."""
        return slice(j * self.block, min((j + 1) * self.block, self.shape[1]))

    def hide(self, scores: np.ndarray, span: Span) -> None:
        """scores = −∞ where the mask of a span is False, in place."""
        for i, j in span.partial:
            rows, columns = self.rows(i), self.columns(j)
            tile = scores[
                ...,
                rows.start - span.rows.start : rows.stop - span.rows.start,
                columns.start - span.columns.start : columns.stop - span.columns.start,
            ]
            np.copyto(tile, -np.inf, where=self._hidden_pairs(i, j))

    def _hidden_pairs(self, i: int, j: int) -> np.ndarray:
        """True where tile (i, j) is masked. The first ones are kept, since all heads use them."""
        hidden = self._hidden.get((i, j))
        if hidden is None:
            assert self.mask is not None
            hidden = ~self.mask.tile(self.rows(i), self.columns(j))
            if len(self._hidden) < self._most:
                self._hidden[i, j] = hidden
        return hidden

    def _spans_of_row(self, i: int) -> Iterator[Span]:
        for start, stop in _runs(self.kinds[i] != SKIP, SPAN // self.block):
            columns = slice(start * self.block, min(stop * self.block, self.shape[1]))
            yield Span(self.rows(i), columns, [(i, j) for j in range(start, stop) if self.kinds[i, j] == PART])

    def _spans_of_column(self, j: int) -> Iterator[Span]:
        for start, stop in _runs(self.kinds[:, j] != SKIP, SPAN // self.block):
            rows = slice(start * self.block, min(stop * self.block, self.shape[0]))
            yield Span(rows, self.columns(j), [(i, j) for i in range(start, stop) if self.kinds[i, j] == PART])


def _runs(visited: np.ndarray, most: int) -> Iterator[tuple[int, int]]:
    """The runs (start, stop) of True, cut into parts of at most `most`."""
    edges = np.flatnonzero(np.diff(visited, prepend=False, append=False)).tolist()
    for start, stop in zip(edges[::2], edges[1::2]):
        for cut in range(start, stop, max(most, 1)):
            yield cut, min(cut + max(most, 1), stop)
