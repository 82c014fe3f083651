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

from npllm.attention.masks import position_mask
from npllm.core.checks import check_positive


class SequenceState:
    """What all caches of a layer share: the number of columns processed, and how many of them are padding."""

    def __init__(self, batch_size: int = 1, left_padding: np.ndarray | None = None) -> None:
        check_positive(batch_size=batch_size)
        self.batch_size, self.length = batch_size, 0
        self.left_padding = None if left_padding is None or not np.any(left_padding) else np.asarray(left_padding)
        if self.left_padding is not None and self.left_padding.shape != (batch_size,):
            raise ValueError(
                f"left_padding has shape {self.left_padding.shape}; it must be ({batch_size},), one for each sequence"
            )

    def positions(self, num_new: int) -> np.ndarray:
        """The positions of the next columns: (T), or (B, 1, T) where there is padding."""
        return self._positions_of(np.arange(self.length, self.length + num_new))

    @property
    def nbytes(self) -> int:
        """Bytes of memory in use."""
        raise NotImplementedError(f"{type(self).__name__} must define nbytes")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(batch_size={self.batch_size}, length={self.length}, {self.nbytes:,} bytes)"

    def _positions_of(self, columns: np.ndarray) -> np.ndarray:
        return columns if self.left_padding is None else columns - self.left_padding[:, None, None]

    def _check_batch(self, new: tuple[np.ndarray, ...]) -> None:
        for x in new:
            if x.ndim < 3 or len(x) != self.batch_size:
                raise ValueError(
                    f"the kv_cache has batch_size {self.batch_size} but the input has shape {x.shape}; its first axis "
                    "must be the batch"
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
        self._check_batch(new)
        end = self.length + new[0].shape[-2]
        if not self._arrays:
            self._arrays = [_with_capacity(x[..., :0, :], max(end, 16)) for x in new]
        if end > self._arrays[0].shape[-2]:
            capacity = max(end, 2 * self._arrays[0].shape[-2])
            self._arrays = [_with_capacity(array[..., : self.length, :], capacity) for array in self._arrays]
        for array, x in zip(self._arrays, new):
            array[..., self.length : end, :] = x
        self.length = end
        return (*(array[..., :end, :] for array in self._arrays), self._positions_of(np.arange(end)))

    extend = append

    def truncate(self, length: int) -> None:
        """Drop all columns from `length` on."""
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
        super().__init__(batch_size, left_padding)
        self.window, self.sinks = window, sinks
        self._kept: list[np.ndarray] = []
        self._columns = np.arange(0)

    def append(self, *new: np.ndarray) -> tuple[np.ndarray, ...]:
        """Append arrays (B, ..., T, D); return the columns that these T queries need, and their positions.

        Columns that no later query needs are dropped afterwards: a chunk of T columns still attends to the window
        before it.
        """
        self._check_batch(new)
        num_new = new[0].shape[-2]
        arrays = [np.concatenate(pair, axis=-2) for pair in zip(self._kept, new)] if self._kept else list(new)
        columns = np.concatenate([self._columns, np.arange(self.length, self.length + num_new)])
        self.length += num_new
        positions = self._positions_of(columns)
        needed = position_mask(self.positions(1), positions, self.window, self.sinks)  # by the next query
        needed = needed.any(axis=tuple(range(needed.ndim - 1)))  # in any sequence
        self._kept = [x[..., needed, :] for x in arrays]
        self._columns = columns[needed]
        return (*arrays, positions)

    extend = append

    @property
    def nbytes(self) -> int:
        """Bytes of the columns that are kept."""
        return sum(array.nbytes for array in self._kept)


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
        end = self.length + num_new
        if end > self.capacity:
            raise ValueError(f"{num_new} tokens after {self.length} make {end}; the context_length is {self.capacity}")
        positions = self.layers[0].positions(num_new)
        return positions if positions.ndim == 1 else np.maximum(positions[:, 0], 0)

    def __repr__(self) -> str:
        return f"ModelKVCache(length={self.length} of {self.capacity}, {len(self.layers)} × {self.layers[0]!r})"


def _with_capacity(array: np.ndarray, capacity: int) -> np.ndarray:
    """A copy enlarged to `capacity` columns (axis −2)."""
    larger = np.empty((*array.shape[:-2], capacity, array.shape[-1]), array.dtype)
    larger[..., : array.shape[-2], :] = array
    return larger
