"""The past, remembered: keys and values of the tokens already seen, so that a new token costs one query.

    step t without:  T queries × T keys in every layer, all but one row thrown away
    step t with:     1 query × T keys

Causality makes it possible: what comes later does not change the keys and values of what came before. Room for all
positions is taken once, at the start; to fill it by chunks (a long prompt) or by single tokens is the same.

Pope et al. 2022, Efficiently Scaling Transformer Inference, section 3.3.
"""

import numpy as np


class KeyValueCache:
    """The past of a GPT for a batch of B sequences.

    `padding` (B) says how many columns at the start of each sequence are filling, when prompts of different lengths
    are put flush right: nobody looks at them, and positions are counted from behind them.
    """

    def __init__(self, model, batch_size=1, padding=None):
        config, dtype = model.config, model.wte.weight.data.dtype
        self.capacity, self.length = config.context_length, 0
        shape = (config.num_layers, batch_size, config.num_heads, self.capacity, config.d_model // config.num_heads)
        self.keys, self.values = np.empty(shape, dtype), np.empty(shape, dtype)
        self.padding = None if padding is None or not np.any(padding) else np.asarray(padding)

    @property
    def nbytes(self):
        """Bytes of memory: 2 · layers · B · C · capacity numbers."""
        return self.keys.nbytes + self.values.nbytes

    def positions(self, num_new):
        """The positions of the next columns, (T), or (B, T) where there is filling; filling has position 0.

        Raises ValueError if there is no room for so many.
        """
        end = self.length + num_new
        if end > self.capacity:
            raise ValueError(f"{num_new} tokens after {self.length} make {end}; the context_length is {self.capacity}")
        columns = np.arange(self.length, end)
        return columns if self.padding is None else np.maximum(columns - self.padding[:, None], 0)

    def layer(self, index):
        """What the attention of this layer adds to and looks at."""
        return LayerPast(self, index)

    def advance(self, num_new):
        """Count the columns that all layers have added."""
        self.length += num_new


def start_past(model, batch_size=1, padding=None):
    """An empty past for a model: a GPT's is a KeyValueCache, a Decoder knows what each of its layers needs."""
    if hasattr(model, "start_past"):
        return model.start_past(batch_size, padding)
    return KeyValueCache(model, batch_size, padding)


class LayerPast:
    """One layer's keys and values."""

    def __init__(self, cache, index):
        self.cache, self.index = cache, index

    def extend(self, k, v):
        """Add the new keys and values (B, H, T, D); return all of them (B, H, S, D), and who may look where.

        The last is None (everywhere), or a boolean (T, S) or (B, 1, T, S): new token t sees all columns up to its own,
        but no filling.
        """
        cache, num_new = self.cache, k.shape[-2]
        start, end = cache.length, cache.length + num_new
        cache.keys[self.index, ..., start:end, :] = k
        cache.values[self.index, ..., start:end, :] = v
        seen = None if num_new == 1 else np.tri(num_new, end, k=start, dtype=bool)
        if cache.padding is not None:
            no_filling = np.arange(end) >= cache.padding[:, None]
            seen = no_filling[:, None, None, :] if seen is None else seen & no_filling[:, None, None, :]
        return cache.keys[self.index, ..., :end, :], cache.values[self.index, ..., :end, :], seen
