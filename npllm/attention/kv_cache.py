"""The past of one attention layer: what it needs to remember of a text that is read piece by piece.

    layer(x)              the whole text at once
    past = layer.new_kv_cache()
    layer(x[:, :5], past), layer(x[:, 5:], past)      the same values, five positions and then the rest

Plain attention remembers every key and value. A window forgets what no query will see again. Others keep something
smaller than keys and values, or a state of fixed size; each attention file that does has its own past.

`padding` (B) says how many columns at the start of each sequence are filling, where prompts of different lengths are
put flush right. Places are counted from behind it, so filling has negative places, and `visible` hides it.

Pope et al. 2022, Efficiently Scaling Transformer Inference, section 3.3.

The past of a model: what each of its layers remembers of a text that is read piece by piece.

    step t without:  T queries × T keys in every layer, all but one row thrown away
    step t with:     1 query × T keys

Causality makes it possible: what comes later does not change the keys and values of what came before. To read a text by
pieces (a long prompt) or by single tokens is the same. Each layer's attention knows what it needs to remember, see
attention/past.py; here they stand side by side, and have as much room as the model has positions.
"""

import numpy as np

from npllm.attention.masks import position_mask
from npllm.core.checks import check_positive


class SequenceState:
    """What every past has: a number of columns that have been read, and how many of them are filling."""

    def __init__(self, batch_size=1, left_padding=None):
        check_positive(batch_size=batch_size)
        self.batch_size, self.length = batch_size, 0
        self.left_padding = None if left_padding is None or not np.any(left_padding) else np.asarray(left_padding)
        if self.left_padding is not None and self.left_padding.shape != (batch_size,):
            raise ValueError(
                f"padding has shape {self.left_padding.shape}; it must be ({batch_size},), one for a sequence"
            )

    def positions(self, num_new):
        """The places of the next columns, (T), or (B, 1, T) where there is filling."""
        return self._places_of(np.arange(self.length, self.length + num_new))

    def _check_batch(self, new):
        for x in new:
            if x.ndim < 3 or len(x) != self.batch_size:
                raise ValueError(
                    f"the past is of a batch of {self.batch_size} and is given {x.shape}; the first axis must be it"
                )

    def _places_of(self, columns):
        return columns if self.left_padding is None else columns - self.left_padding[:, None, None]

    @property
    def nbytes(self):
        """Bytes of the memory that is in use."""
        raise NotImplementedError(f"{type(self).__name__} must define nbytes")


class KVCache(SequenceState):
    """Arrays with an entry for every column, such as keys and values; room for more is made by doubling."""

    def __init__(self, batch_size=1, left_padding=None):
        super().__init__(batch_size, left_padding)
        self._room = None

    def extend(self, *new):
        """Add arrays (B, ..., T, width); return all that was added so far, and the places of all columns.

        Arrays of a past always come in the same order and shapes, but for T.
        """
        self._check_batch(new)
        num_new = new[0].shape[-2]
        end = self.length + num_new
        if self._room is None:
            self._room = [np.empty((*x.shape[:-2], max(end, 16), x.shape[-1]), x.dtype) for x in new]
        if end > self._room[0].shape[-2]:
            self._room = [_widen(array, self.length, max(end, 2 * array.shape[-2])) for array in self._room]
        for array, x in zip(self._room, new):
            array[..., self.length : end, :] = x
        self.length = end
        return (*(array[..., :end, :] for array in self._room), self._places_of(np.arange(end)))

    @property
    def nbytes(self):
        """Bytes of the columns in use."""
        return sum(array[..., : self.length, :].nbytes for array in self._room or [])


class SlidingWindowKVCache(SequenceState):
    """Keys and values that a query to come may still see: the last `window`, and the first `sinks`."""

    def __init__(self, window, sinks=0, batch_size=1, left_padding=None):
        super().__init__(batch_size, left_padding)
        self.window, self.sinks = window, sinks
        self._kept, self._columns = None, np.arange(0)

    def extend(self, *new):
        """Add arrays (B, ..., T, width); return what their queries may see, and the places of these columns.

        What no later query can see is forgotten afterwards: a piece of T columns still sees the window before it.
        """
        self._check_batch(new)
        num_new = new[0].shape[-2]
        arrays = new if self._kept is None else [np.concatenate(pair, axis=-2) for pair in zip(self._kept, new)]
        columns = np.concatenate([self._columns, np.arange(self.length, self.length + num_new)])
        self.length += num_new
        positions = self._places_of(columns)
        useful = position_mask(
            self.positions(1), positions, self.window, self.sinks
        )  # to the next query, in any sequence
        useful = useful.any(axis=tuple(range(useful.ndim - 1)))
        self._kept = [x[..., useful, :] for x in arrays]
        self._columns = columns[useful]
        return (*arrays, positions)

    @property
    def nbytes(self):
        """Bytes of what is kept."""
        return sum(array.nbytes for array in self._kept or [])


class RecurrentState(SequenceState):
    """A state of fixed size, into which all that was read has gone: what a recurrent layer remembers."""

    def __init__(self, batch_size=1, left_padding=None):
        super().__init__(batch_size, left_padding)
        self.state = None

    def advance(self, num_new, state):
        """The next columns have been read, and this is the state behind them."""
        self.length, self.state = self.length + num_new, state

    def without_filling(self, keys):
        """The next columns' keys (B, ..., T, D), with zeros for filling: what a key of zeros brings adds nothing."""
        return keys if self.left_padding is None else keys * (self.positions(keys.shape[-2]) >= 0)[..., None]

    @property
    def nbytes(self):
        """Bytes of the state; nothing before anything was read."""
        return 0 if self.state is None else self.state.nbytes


def _widen(array, used, length):
    wider = np.empty((*array.shape[:-2], length, array.shape[-1]), array.dtype)
    wider[..., :used, :] = array[..., :used, :]
    return wider


class ModelKVCache:
    """Empty pasts of all layers, `layers`, of a model that takes `context_length` positions."""

    def __init__(self, context_length, layers):
        self.capacity, self.layers = context_length, layers

    @property
    def length(self):
        """How many columns have been read."""
        return self.layers[0].length

    @property
    def nbytes(self):
        """Bytes that all layers together remember."""
        return sum(kv_cache.nbytes for kv_cache in self.layers)

    def positions(self, num_new):
        """The places of the next columns, (T), or (B, T) where there is filling; filling has place 0, for want of any.

        Raises ValueError if there is no room for so many.
        """
        end = self.length + num_new
        if end > self.capacity:
            raise ValueError(f"{num_new} tokens after {self.length} make {end}; the context_length is {self.capacity}")
        positions = self.layers[0].positions(num_new)
        return positions if positions.ndim == 1 else np.maximum(positions[:, 0], 0)
