"""An attention mask as a rule on positions: it can say which tiles of the scores are visible without making the mask.

    kinds[i, j] = 0 if no pair of query block i and key block j is visible, 2 if all are, else 1

A mask of T × S booleans is as large as the scores. Attention in tiles needs only the masks of the tiles of kind 1, such
as those on the diagonal of a causal mask, one at a time; tiles of kind 0 are skipped. The kinds follow from the lowest
and highest position in each block. They may be cautious: 1 where 0 or 2 would be true.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from npllm.attention.base import attention_mask
from npllm.attention.masks import check_window, document_starts, position_mask

SKIP, PART, ALL = 0, 1, 2


class Pattern(Protocol):
    """A mask that depends on two positions, such as StridedMask and BlockSparseMask."""

    def mask(self, query_positions: np.ndarray, key_positions: np.ndarray) -> np.ndarray:
        """True where a query may attend      (..., T), (..., S) → (..., T, S)"""

    def visible(self, queries: "Range", keys: "Range") -> tuple[np.ndarray, np.ndarray]:
        """For blocks of positions: where at least one pair is visible, and where every pair is."""

    def parts(self) -> "tuple[tuple[Distances, int], ...]":
        """The pattern as parts that share no pair: distances, and what they are a multiple of. () if it has none."""


class Range(NamedTuple):
    """The lowest and the highest number of each block; broadcastable arrays."""

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of_blocks(cls, numbers: np.ndarray, block: int) -> "Range":
        """The ranges of consecutive blocks of a sequence      (T) → (T / block), (T / block)"""
        starts = np.arange(0, len(numbers), block)
        return cls(np.minimum.reduceat(numbers, starts), np.maximum.reduceat(numbers, starts))

    def as_rows(self) -> "Range":
        """The same with an axis for the columns."""
        return Range(self.low[:, None], self.high[:, None])


@dataclass(frozen=True, eq=False)
class MaskRule:
    """mask[t, s] = (0 ≤ s ≤ t), in the window, in one document, and in the pattern      positions (..., T), (..., S)

    window, sinks   see position_mask
    document_ids    (..., T): a query attends to keys of its document only, see document_mask
    pattern         StridedMask, BlockSparseMask, or another Pattern
    """

    query_positions: np.ndarray
    key_positions: np.ndarray
    window: int | None = None
    sinks: int = 0
    document_ids: np.ndarray | None = None
    pattern: Pattern | None = None

    def __post_init__(self) -> None:
        check_window(self.window, self.sinks)

    @property
    def leading(self) -> tuple[int, ...]:
        """The leading axes of the mask."""
        documents = () if self.document_ids is None else self.document_ids.shape[:-1]
        return np.broadcast_shapes(self.query_positions.shape[:-1], self.key_positions.shape[:-1], documents)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError unless the mask broadcasts to the shape of the scores, (..., T, S)."""
        own = (*self.leading, self.query_positions.shape[-1], self.key_positions.shape[-1])
        if own[-2:] != shape[-2:] or np.broadcast_shapes(own, shape) != shape:
            raise ValueError(f"the mask rule has shape {own}; it must broadcast to the scores' {shape}")

    def array(self) -> np.ndarray | None:
        """The mask (..., T, S) as an array; None if every query attends to every key."""
        queries, keys = self.query_positions, self.key_positions
        mask = attention_mask(queries, keys, self.document_ids, self.window, self.sinks)
        if self.pattern is None:
            return mask
        pattern = self.pattern.mask(queries, keys)
        return pattern if mask is None else mask & pattern

    def element(self, index: tuple[int, ...]) -> "MaskElement":
        """The rule at one index of the leading axes."""
        queries, keys = (
            np.broadcast_to(positions, (*self.leading, positions.shape[-1]))[index]
            for positions in (self.query_positions, self.key_positions)
        )
        groups: tuple[tuple[np.ndarray, np.ndarray], ...] = ()
        if self.document_ids is not None:
            numbers = np.cumsum(document_starts(self.document_ids), axis=-1)
            documents = np.broadcast_to(numbers, (*self.leading, numbers.shape[-1]))[index]
            groups = ((documents, documents),)
        return MaskElement(queries, keys, self.window, self.sinks, groups, self.pattern)


@dataclass(frozen=True)
class Distances:
    """A pattern by itself: low ≤ t − s < high."""

    low: int
    high: int | None = None

    def mask(self, query_positions: np.ndarray, key_positions: np.ndarray) -> np.ndarray:
        """True where a query may attend      (..., T), (..., S) → (..., T, S)"""
        distance = query_positions[..., :, None] - key_positions[..., None, :]
        mask = distance >= self.low
        return mask if self.high is None else mask & (distance < self.high)

    def visible(self, queries: Range, keys: Range) -> tuple[np.ndarray, np.ndarray]:
        """For blocks of positions: where at least one pair may be visible, and where every pair is."""
        low, high = queries.low - keys.high, queries.high - keys.low  # of the distances
        some, every = high >= self.low, low >= self.low
        return (some, every) if self.high is None else (some & (low < self.high), every & (high < self.high))

    def parts(self) -> "tuple[tuple[Distances, int], ...]":
        """It has none."""
        return ()


class MaskElement(NamedTuple):
    """A MaskRule without leading axes. `groups` are numbers of the queries and of the keys that must be equal."""

    query_positions: np.ndarray
    key_positions: np.ndarray
    window: int | None
    sinks: int
    groups: tuple[tuple[np.ndarray, np.ndarray], ...]
    pattern: Pattern | None

    def kinds(self, block: int) -> np.ndarray:
        """SKIP, PART or ALL for each tile      () → (T / block, S / block)"""
        queries = Range.of_blocks(self.query_positions, block).as_rows()
        keys = Range.of_blocks(self.key_positions, block)
        some = (keys.high >= 0) & (keys.low <= queries.high)
        every = (keys.low >= 0) & (keys.high <= queries.low)
        for some_too, every_too in self._further(queries, keys, block):
            some, every = some & some_too, every & every_too
        return np.where(some, np.where(every, ALL, PART), SKIP)

    def tile(self, rows: slice, columns: slice) -> np.ndarray:
        """The mask of some queries and keys      () → (T, S)"""
        return self.pairs(rows, columns)

    def pairs(self, rows: slice | np.ndarray, columns: slice | np.ndarray) -> np.ndarray:
        """The mask of some queries and keys, by their indices      (..., T), (..., S) → (..., T, S)"""
        queries, keys = self.query_positions[rows], self.key_positions[columns]
        mask = position_mask(queries, keys, self.window, self.sinks)
        for of_queries, of_keys in self.groups:
            mask &= of_queries[rows][..., :, None] == of_keys[columns][..., None, :]
        if self.pattern is not None:
            mask &= self.pattern.mask(queries, keys)
        return mask

    @property
    def is_narrow(self) -> bool:
        """True if it may hide more than the later keys."""
        return self.window is not None or bool(self.groups) or self.pattern is not None

    def parts(self) -> list["Part"]:
        """Masks that share no pair, and together are this one."""
        whole = Part(self, np.arange(len(self.query_positions)), np.arange(len(self.key_positions)))
        parts = () if self.pattern is None else self.pattern.parts()
        return [whole.with_pattern(distances, divisor) for distances, divisor in parts] or [whole]

    def _further(self, queries: Range, keys: Range, block: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Where the window, the groups and the pattern leave some pair, and where every pair, visible."""
        if self.window is not None:
            near = (queries.low - keys.high < self.window) | (keys.low < self.sinks)
            yield near, (queries.high - keys.low < self.window) | (keys.high < self.sinks)
        for of_queries, of_keys in self.groups:
            rows, columns = Range.of_blocks(of_queries, block).as_rows(), Range.of_blocks(of_keys, block)
            overlap = (rows.low <= columns.high) & (columns.low <= rows.high)
            yield overlap, (rows.low == columns.high) & (columns.low == rows.high)
        if self.pattern is not None:
            yield self.pattern.visible(queries, keys)


class ArrayElement:
    """A mask (T, S) that is an array, with the methods of MaskElement."""

    def __init__(self, mask: np.ndarray) -> None:
        self.mask = mask

    def kinds(self, block: int) -> np.ndarray:
        """SKIP, PART or ALL for each tile      () → (T / block, S / block)"""
        starts = [np.arange(0, length, block) for length in self.mask.shape]
        some = np.logical_or.reduceat(np.logical_or.reduceat(self.mask, starts[0]), starts[1], axis=1)
        every = np.logical_and.reduceat(np.logical_and.reduceat(self.mask, starts[0]), starts[1], axis=1)
        return np.where(some, np.where(every, ALL, PART), SKIP)

    def tile(self, rows: slice, columns: slice) -> np.ndarray:
        """The mask of some queries and keys."""
        return self.mask[rows, columns]

    def pairs(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The mask of some queries and keys, by their indices      (..., T), (..., S) → (..., T, S)"""
        return self.mask[rows[..., :, None], columns[..., None, :]]

    @property
    def is_narrow(self) -> bool:
        """True if it hides more than a causal mask."""
        return 5 * int(np.count_nonzero(self.mask)) < 2 * self.mask.size

    def parts(self) -> list["Part"]:
        """The mask itself: it is not split."""
        return [Part(self, np.arange(self.mask.shape[0]), np.arange(self.mask.shape[1]))]


class Part(NamedTuple):
    """A part of a mask, with queries and keys in another order: their indices (T) and (S)."""

    mask: MaskElement | ArrayElement
    queries: np.ndarray
    keys: np.ndarray

    def with_pattern(self, pattern: Pattern, divisor: int) -> "Part":
        """The same with another pattern, and t = s modulo the divisor; sorted by this remainder."""
        mask, queries, keys = self
        assert isinstance(mask, MaskElement)
        if divisor == 1:
            return Part(mask._replace(pattern=pattern), queries, keys)
        remainders = mask.query_positions % divisor, mask.key_positions % divisor
        queries, keys = (np.argsort(remainder, kind="stable") for remainder in remainders)
        groups = tuple((a[queries], b[keys]) for a, b in (*mask.groups, remainders))
        positions = mask.query_positions[queries], mask.key_positions[keys]
        return Part(MaskElement(*positions, mask.window, mask.sinks, groups, pattern), queries, keys)
