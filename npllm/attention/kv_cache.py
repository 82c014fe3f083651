"""The key-value cache: what attention keeps of a sequence that is processed in chunks, such as token by token.

    y = layer(x)                                         the whole sequence at once
    kv_cache = layer.new_kv_cache()
    layer(x[:, :5], kv_cache=kv_cache)                   the same values: five positions …
    layer(x[:, 5:], kv_cache=kv_cache)                   … and then the rest

In causal attention a later token does not change the keys and values of earlier ones. With a cache, step t computes
one query against t keys; without one it computes t queries and uses one row of the result.

Plain attention keeps every key and value. A sliding window drops the keys that no later query can attend to. Linear
attention keeps a recurrent state of fixed size.

`left_padding` (B) is the number of padding columns at the start of each sequence, where prompts of different lengths
are aligned on the right. Positions are counted from the end of the padding, so padding has negative positions, and
`position_mask` hides it.

Pope et al. 2022, Efficiently Scaling Transformer Inference, section 3.3.
"""

from collections.abc import Sequence

import numpy as np

from npllm.attention.masks import check_counts, check_window, position_mask
from npllm.core.checks import MAX_SIZE, as_indices, check_instance, check_integer, check_positive, check_shape


class SequenceState:
    """What all caches of a layer share: the number of columns processed, and how many of them are padding."""

    def __init__(self, batch_size: int = 1, left_padding: np.ndarray | None = None) -> None:
        check_positive(batch_size=batch_size)
        self.batch_size, self.length = batch_size, 0
        self.left_padding = None
        if left_padding is not None:
            left_padding = as_indices("left_padding", left_padding, 0, MAX_SIZE).astype(np.int64)
            check_shape("left_padding", left_padding, "(B)", B=batch_size)
            self.left_padding = left_padding if left_padding.any() else None

    def positions(self, num_new: int) -> np.ndarray:
        """The positions of the next columns: (T), or (B, 1, T) where there is padding."""
        check_counts(num_new=num_new)
        return self._positions_of(np.arange(self.length, self.length + num_new))

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use."""
        raise NotImplementedError(f"{type(self).__name__} must define nbytes")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch_size={self.batch_size}, length={self.length}, {self.nbytes:,} bytes)"

    def _positions_of(self, columns: np.ndarray) -> np.ndarray:
        return columns if self.left_padding is None else columns - self.left_padding[:, None, None]

    def _check_batch(self, new: Sequence[np.ndarray], kept: Sequence[np.ndarray] = ()) -> None:
        """Raise unless the arrays have this batch size, and the dtype and the other axes of those that are kept."""
        for x in new:
            if x.ndim < 3 or len(x) != self.batch_size:
                raise ValueError(
                    f"the kv_cache has batch_size {self.batch_size} but the input has shape {x.shape}; its first axis "
                    "must be the batch"
                )
        if kept and len(kept) != len(new):
            raise ValueError(f"the kv_cache holds {len(kept)} arrays and gets {len(new)}; it is that of another layer")
        for x, old in zip(new, kept):
            if x.dtype != old.dtype:
                raise TypeError(f"the kv_cache holds {old.dtype} but the input is {x.dtype}; they must have one dtype")
            if x.shape[:-2] != old.shape[:-2] or x.shape[-1] != old.shape[-1]:
                raise ValueError(
                    f"the kv_cache holds arrays {old.shape} and gets {x.shape}; they may differ in axis -2 only"
                )


class KVCache(SequenceState):
    """Arrays with an entry for every column, such as keys and values. The capacity doubles when it is used up."""

    def __init__(self, batch_size: int = 1, left_padding: np.ndarray | None = None) -> None:
        super().__init__(batch_size, left_padding)
        self._arrays: list[np.ndarray] = []

    def append(self, *new: np.ndarray) -> tuple[np.ndarray, ...]:
        """Append arrays (B, ..., T, D); return all columns so far of each, and the positions of these columns.

        The arrays must come in the same order and, except for T, in the same shapes in every call.
        """
        self._check_batch(new, self._arrays)
        end = self.length + new[0].shape[-2]
        self._arrays = _with_room(self._arrays, new, self.length, end)
        for array, x in zip(self._arrays, new):
            array[..., self.length : end, :] = x
        self.length = end
        return (*(array[..., :end, :] for array in self._arrays), self._positions_of(np.arange(end)))

    def append_one(self, *new: np.ndarray) -> tuple[np.ndarray, ...]:
        """Append one column, arrays (B, ..., D); return all columns so far of each, (B, ..., S, D).

        The same as `append`, with fewer checks: generation calls it in every layer for every token.
        """
        start = self.length
        if not _fits_in(self._arrays, new, start):
            return self.append(*(x[..., None, :] for x in new))[:-1]
        for array, x in zip(self._arrays, new):
            array[..., start, :] = x
        self.length = start + 1
        return tuple(array[..., : start + 1, :] for array in self._arrays)

    extend = append

    def truncate(self, length: int) -> None:
        """Drop all columns from `length` on."""
        check_counts(length=length)
        self.length = min(length, self.length)

    @property
    def nbytes(self) -> int:
        """Bytes of the columns in use."""
        return sum(array[..., : self.length, :].nbytes for array in self._arrays)


class SlidingWindowKVCache(SequenceState):
    """The keys and values to which a later query may still attend: the last `window`, and the first `sinks`."""

    def __init__(
        self, window: int, sinks: int = 0, batch_size: int = 1, left_padding: np.ndarray | None = None
    ) -> None:
        check_positive(window=window)
        check_window(window, sinks)
        super().__init__(batch_size, left_padding)
        self.window, self.sinks = window, sinks
        self._arrays: list[np.ndarray] = []
        self._columns = np.arange(0)  # which column of the sequence each of the first `_num_kept` ones is
        self._num_kept = 0

    def append(self, *new: np.ndarray) -> tuple[np.ndarray, ...]:
        """Append arrays (B, ..., T, D); return the columns that these T queries need, and their positions.

        A chunk of T columns still attends to the window before it. Afterwards the columns that no later query needs
        are dropped. A single column takes the memory of the one that has just left the window, so the columns are in
        no order but that of their positions.
        """
        self._check_batch(new, self._arrays)
        num_new = new[0].shape[-2]
        if num_new == 1 and self._arrays:
            self._put(tuple(x[..., 0, :] for x in new))
            return (*self._used(), self._positions_of(self._columns[: self._num_kept].copy()))
        arrays = [np.concatenate(pair, axis=-2) for pair in zip(self._used(), new)] if self._arrays else list(new)
        columns = np.concatenate([self._columns[: self._num_kept], np.arange(self.length, self.length + num_new)])
        self.length += num_new
        positions = self._positions_of(columns)
        needed = position_mask(self.positions(1), positions, self.window, self.sinks)  # by the next query
        needed = needed.any(axis=tuple(range(needed.ndim - 1)))  # in any sequence
        self._arrays = [x[..., needed, :] for x in arrays]
        self._columns, self._num_kept = columns[needed], int(needed.sum())
        return (*arrays, positions)

    def append_one(self, *new: np.ndarray) -> tuple[np.ndarray, ...]:
        """Append one column, arrays (B, ..., D); return the columns that its query needs, (B, ..., S, D)."""
        if not _fits_in(self._arrays, new, -1):
            return self.append(*(x[..., None, :] for x in new))[:-1]
        self._put(new)
        return self._used()

    extend = append

    def _put(self, new: tuple[np.ndarray, ...]) -> None:
        """Write one column, over the one that leaves the window unless that is a sink."""
        slot = self._leaving()
        if slot is None:
            slot = self._num_kept
            self._arrays = _with_room(self._arrays, new, slot, slot + 1)
            if slot == len(self._columns):
                self._columns = np.resize(self._columns, self._arrays[0].shape[-2])
            self._num_kept += 1
        for array, x in zip(self._arrays, new):
            array[..., slot, :] = x
        self._columns[slot] = self.length
        self.length += 1

    def _leaving(self) -> int | None:
        """Where the column is that the next query, the first of all, does not need; None if there is none."""
        column = self.length - self.window
        padding = 0 if self.left_padding is None else self.left_padding
        if column < 0 or np.any((column >= padding) & (column - padding < self.sinks)):
            return None
        found = np.flatnonzero(self._columns[: self._num_kept] == column)
        return int(found[0]) if len(found) else None

    def _used(self) -> tuple[np.ndarray, ...]:
        return tuple(array[..., : self._num_kept, :] for array in self._arrays)

    @property
    def nbytes(self) -> int:
        """Bytes of the columns that a later query needs."""
        num_needed = self._num_kept - (self._leaving() is not None)
        return sum(array[..., :num_needed, :].nbytes for array in self._arrays)


class RecurrentState(SequenceState):
    """A state of fixed size that summarizes all columns: what a recurrent layer keeps."""

    def __init__(self, batch_size: int = 1, left_padding: np.ndarray | None = None) -> None:
        super().__init__(batch_size, left_padding)
        self.state: np.ndarray | None = None

    def advance(self, num_new: int, state: np.ndarray) -> None:
        """Set the state after the next `num_new` columns."""
        self.length, self.state = self.length + num_new, state

    def zero_padding(self, keys: np.ndarray) -> np.ndarray:
        """The next columns' keys (B, ..., T, D), with zeros for padding: a key of zeros adds nothing to the state."""
        self._check_batch((keys,))
        return keys if self.left_padding is None else keys * (self.positions(keys.shape[-2]) >= 0)[..., None]

    without_filling = zero_padding

    @property
    def nbytes(self) -> int:
        """Bytes of the state; 0 at the start."""
        return 0 if self.state is None else self.state.nbytes


class ModelKVCache:
    """The caches of all `layers` of a model that takes at most `context_length` positions."""

    def __init__(self, context_length: int, layers: Sequence[SequenceState]) -> None:
        check_positive(context_length=context_length)
        check_instance("layers", layers, list, tuple)
        for index, layer in enumerate(layers):
            check_instance(f"layers[{index}]", layer, SequenceState)
        if not layers:
            raise ValueError("layers is empty; it must have a cache for each layer of the model")
        self.capacity, self.layers = context_length, layers

    @property
    def length(self) -> int:
        """The number of columns processed."""
        return self.layers[0].length

    @property
    def nbytes(self) -> int:
        """Bytes of all layers together."""
        return sum(layer.nbytes for layer in self.layers)

    def truncate(self, length: int) -> bool:
        """Drop all columns from `length` on, and return True; return False where a layer does not keep every column."""
        check_counts(length=length)
        layers = [layer for layer in self.layers if isinstance(layer, KVCache)]
        if length > self.length or len(layers) < len(self.layers):
            return False
        for layer in layers:
            layer.truncate(length)
        return True

    def positions(self, num_new: int) -> np.ndarray:
        """The positions of the next columns: (T), or (B, T) where there is padding, whose position counts as 0.

        Raises ValueError where the context_length is exceeded.
        """
        end = self.length + check_integer("num_new", num_new, 0)
        if end > self.capacity:
            raise ValueError(
                f"num_new is {num_new}: with {self.length} before they are {end}; the context_length is {self.capacity}"
            )
        positions = self.layers[0].positions(num_new)
        return positions if positions.ndim == 1 else np.maximum(positions[:, 0], 0)

    def __repr__(self) -> str:
        return f"ModelKVCache(length={self.length} of {self.capacity}, {len(self.layers)} × {self.layers[0]!r})"


def _fits_in(arrays: list[np.ndarray], new: tuple[np.ndarray, ...], column: int) -> bool:
    """True if each new array (B, ..., D) can be written into this column of the array that is kept."""
    return len(arrays) == len(new) and all(
        x.dtype == array.dtype and x.shape == (*array.shape[:-2], array.shape[-1]) and column < array.shape[-2]
        for array, x in zip(arrays, new)
    )


def _with_room(arrays: list[np.ndarray], new: tuple[np.ndarray, ...], used: int, needed: int) -> list[np.ndarray]:
    """The arrays with room for `needed` columns, of which `used` have values: at least twice the columns if they grow.

    So a sequence of n tokens copies each column twice at most, on average.
    """
    if not arrays:
        return [_with_capacity(x[..., :0, :], max(needed, 16)) for x in new]
    if needed <= arrays[0].shape[-2]:
        return arrays
    capacity = max(needed, 2 * arrays[0].shape[-2])
    return [_with_capacity(array[..., :used, :], capacity) for array in arrays]


def _with_capacity(array: np.ndarray, capacity: int) -> np.ndarray:
    """A copy enlarged to `capacity` columns (axis −2)."""
    larger = np.empty((*array.shape[:-2], capacity, array.shape[-1]), array.dtype)
    larger[..., : array.shape[-2], :] = array
    return larger
