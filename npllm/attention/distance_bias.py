"""A bias that depends on the distance of query and key only, as a table with a number for each head and distance.

    bias[h, t, s] = table[h, t − s]      for keys that are not later than the query

As an array the bias of all pairs would be as large as the scores of all heads. From the table attention in tiles makes
the bias of one tile at a time. Later keys must be masked; here they have the bias of distance 0.
"""

from dataclasses import dataclass

import numpy as np

from npllm.attention.masks import distances


@dataclass(frozen=True, eq=False)
class DistanceBias:
    """The table (H, N), for distances below N, and the positions (T), (S), or (B, 1, T), (B, 1, S)."""

    table: np.ndarray
    query_positions: np.ndarray
    key_positions: np.ndarray

    @property
    def distances(self) -> np.ndarray:
        """t − s, within the table      (T, S) or (B, T, S)"""
        queries, keys = (p if p.ndim == 1 else p[..., 0, :] for p in (self.query_positions, self.key_positions))
        return _within_table(distances(queries, keys), self.table)

    def array(self) -> np.ndarray:
        """The bias of all pairs, (H, T, S) or (B, H, T, S)."""
        return np.moveaxis(self.table.T[self.distances], -1, -3)

    def table_gradient(self, dbias: np.ndarray) -> np.ndarray:
        """dtable[h, d] = Σ dbias[h, t, s] over all pairs of distance d      (..., H, T, S) → (H, N)"""
        dtable = np.zeros(self.table.shape)
        found = np.broadcast_to(self.distances[..., None, :, :], dbias.shape)
        for head in range(len(dtable)):
            add_by_distance(dtable[head], found[..., head, :, :], dbias[..., head, :, :])
        return dtable.astype(self.table.dtype)

    def head(self, index: tuple[int, ...]) -> "HeadDistanceBias":
        """The bias of one head of one sequence, from the index (..., b, h)."""
        queries, keys = (p if p.ndim == 1 else p[index[-2], 0] for p in (self.query_positions, self.key_positions))
        return HeadDistanceBias(self.table[index[-1]], queries, keys)


@dataclass(frozen=True, eq=False)
class HeadDistanceBias:
    """The bias of one head: the table (N) and the positions (T), (S)."""

    table: np.ndarray
    query_positions: np.ndarray
    key_positions: np.ndarray

    def __getitem__(self, pairs: tuple[slice, slice] | tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """The bias of a tile, bias[rows, columns], or of pairs whose indices are arrays that broadcast."""
        return self.table[self.distances(*pairs)]

    def distances(self, rows: slice | np.ndarray, columns: slice | np.ndarray) -> np.ndarray:
        """t − s, within the table, for some queries and keys."""
        queries = self.query_positions[rows, None] if isinstance(rows, slice) else self.query_positions[rows]
        found = queries - self.key_positions[columns]
        return _within_table(found, self.table)


def add_by_distance(dtable: np.ndarray, found: np.ndarray, dbias: np.ndarray) -> None:
    """dtable[d] += Σ dbias over all pairs of distance d, in place."""
    dtable += np.bincount(found.ravel(), dbias.ravel(), minlength=len(dtable))


def _within_table(found: np.ndarray, table: np.ndarray) -> np.ndarray:
    return np.clip(found, 0, table.shape[-1] - 1)
