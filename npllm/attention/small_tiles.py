"""Masks that leave few pairs, in small tiles: narrow windows, short documents, blocks, and strided patterns.

    tile = b queries × b keys;    batch = g blocks of queries, each with the m blocks of keys that it sees:
    scores (g, b, m·b) = q (g, b, D) · k (g, m·b, D)ᵀ

The tiles of tile_plan.py are 128 × 128. A window of 32 keys leaves an eighth of such a tile visible, and a strided
pattern leaves a few pairs in each, so that all are visited. Small tiles fit such masks closely, and a batch of them is
one call of each function of NumPy. The blocks of keys of a batch are gathered, so they need not be neighbours.

A strided pattern is split into parts that share no pair: the last keys, and the keys at a multiple of the stride. For
the second part, queries and keys are sorted by their position modulo the stride. Then the visible pairs lie in tiles
near the diagonal. Attention over several parts is joined through their log-sum-exp, see small_tile_head.py.

`plan_of_mask` counts the pairs of each plan and takes the one with the least work. At 4096 positions the pairs that are
computed, divided by those that are visible:

    window of 32, 64, 128       7.9, 4.0, 2.0 in large tiles      2.0, 1.5, 1.5 in small ones
    stride of 16, 64, 256       14.7, 22.2, 4.7                   1.3, 1.5, 1.3
    documents of 50, 128        14.4, 2.0                         2.7, 1.5

Child et al. 2019, Sparse Transformers, section 4.3; blocks of keys that are gathered: Zaheer et al. 2020, Big Bird,
appendix D.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from npllm.attention.mask_rule import ALL, SKIP, ArrayElement, MaskElement, Part
from npllm.attention.tile_plan import BLOCK, TilePlan

COSTS = {64: 1.15, 32: 1.45, 16: 2.1}  # the time for a pair in tiles of this size, as a multiple of that in large tiles
BATCH = 1 << 17  # scores of a batch: they stay in the L2 cache
KEPT = 1 << 24  # pairs whose mask is kept for the next head


class Batch(NamedTuple):
    """Blocks of queries (g), and for each the blocks of keys that it sees (g, m), in order.

    is_partial   False if the mask hides no pair
    places       for each of the m places the g blocks of keys, as a slice or an array; None if one occurs twice
    """

    rows: np.ndarray
    columns: np.ndarray
    is_partial: bool
    places: list[slice | np.ndarray | None]


class SmallTiles:
    """The batches of a part of a mask. `queries` and `keys` are the indices in the order of the tiles, (T) and (S)."""

    def __init__(self, part: Part, block: int) -> None:
        self.mask, self.queries, self.keys, self.block = part.mask, part.queries, part.keys, block
        kinds = part.mask.kinds(block)
        self.num_pairs = int((kinds != SKIP).sum()) * block * block
        self.batches = list(_batches(kinds, block, (len(self.queries), len(self.keys))))
        self._hidden: dict[int, np.ndarray] = {}

    def query_blocks(self, x: np.ndarray) -> np.ndarray:
        """The rows of the queries in blocks, with zeros after the last one      (T, C) → (T / b, b, C)"""
        return _in_blocks(x, self.queries, self.block)

    def key_blocks(self, x: np.ndarray) -> np.ndarray:
        """The rows of the keys in blocks, with zeros after the last one      (S, C) → (S / b, b, C)"""
        return _in_blocks(x, self.keys, self.block)

    def pairs(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """The indices of the queries (g, b, 1) and of the keys (g, 1, m·b); those after the last are the last one."""
        rows, columns = self._ordered(batch)
        rows, columns = np.minimum(rows, len(self.queries) - 1), np.minimum(columns, len(self.keys) - 1)
        return self.queries[rows][:, :, None], self.keys[columns][:, None, :]

    def hidden(self, number: int) -> np.ndarray | None:
        """True where the mask of a batch hides a pair, (g, b, m·b); None if it hides none."""
        batch = self.batches[number]
        if not batch.is_partial:
            return None
        hidden = self._hidden.get(number)
        if hidden is None:
            rows, columns = self._ordered(batch)
            T, S = len(self.queries), len(self.keys)
            visible = self.mask.pairs(np.minimum(rows, T - 1), np.minimum(columns, S - 1))
            hidden = ~(visible & (rows < T)[:, :, None] & (columns < S)[:, None, :])
            if self.num_pairs <= KEPT:
                self._hidden[number] = hidden
        return hidden

    def _ordered(self, batch: Batch) -> tuple[np.ndarray, np.ndarray]:
        """The places of the queries (g, b) and keys (g, m·b) in the order of the tiles."""
        within = np.arange(self.block)
        rows, columns = (blocks[..., None] * self.block + within for blocks in (batch.rows, batch.columns))
        return rows, columns.reshape(len(rows), -1)


def plan_of_mask(
    mask: MaskElement | ArrayElement | None, num_queries: int, num_keys: int
) -> TilePlan | list[SmallTiles]:
    """The tiles to visit: large ones, or small ones for each part of the mask, whichever takes less work."""
    plan = TilePlan(mask, num_queries, num_keys)
    if mask is None or min(num_queries, num_keys) <= 2 * BLOCK or not mask.is_narrow:
        return plan
    parts = [_best_tiles(part) for part in mask.parts()]
    return parts if sum(map(_work, parts)) < plan.num_pairs else plan


def _best_tiles(part: Part) -> SmallTiles:
    """Tiles of the size with the least work: smaller ones are tried as long as they save some."""
    best, *smaller = COSTS
    tiles = SmallTiles(part, best)
    for block in smaller:
        before, tiles = tiles, SmallTiles(part, block)
        if _work(tiles) >= _work(before):
            return before
    return tiles


def _work(tiles: SmallTiles) -> float:
    return tiles.num_pairs * COSTS[tiles.block]


def _batches(kinds: np.ndarray, block: int, shape: tuple[int, int]) -> Iterator[Batch]:
    """Blocks of queries that see the same number of blocks of keys, in batches of at most BATCH scores."""
    visited = kinds != SKIP
    counts = visited.sum(axis=1)
    partial = visited & (kinds != ALL)
    partial[-1] |= shape[0] % block != 0
    partial[:, -1] |= shape[1] % block != 0
    partial = (visited & partial).any(axis=1)
    for count in np.unique(counts[counts > 0]).tolist():
        rows = np.flatnonzero(counts == count)
        most = max(BATCH // (count * block * block), 1)
        for start in range(0, len(rows), most):
            some = rows[start : start + most]
            columns = np.nonzero(visited[some])[1].reshape(-1, count)
            yield Batch(some, columns, bool(partial[some].any()), [_index(blocks) for blocks in columns.T])


def _index(blocks: np.ndarray) -> slice | np.ndarray | None:
    """An index of blocks to which can be added: a slice if they are consecutive; None if one occurs twice."""
    steps = np.diff(blocks)
    if (steps == 1).all():
        return slice(int(blocks[0]), int(blocks[-1]) + 1)
    return blocks if (steps > 0).all() or len(np.unique(blocks)) == len(blocks) else None


def _in_blocks(x: np.ndarray, order: np.ndarray, block: int) -> np.ndarray:
    blocks = np.zeros((-(-len(order) // block) * block, x.shape[-1]), x.dtype)
    blocks[: len(order)] = x[order]
    return blocks.reshape(-1, block, x.shape[-1])
