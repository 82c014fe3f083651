"""The past of a model: what each of its layers remembers of a text that is read piece by piece.

    step t without:  T queries × T keys in every layer, all but one row thrown away
    step t with:     1 query × T keys

Causality makes it possible: what comes later does not change the keys and values of what came before. To read a text by
pieces (a long prompt) or by single tokens is the same. Each layer's attention knows what it needs to remember, see
attention/past.py; here they stand side by side, and have as much room as the model has positions.
"""

import numpy as np


class ModelPast:
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
        return sum(past.nbytes for past in self.layers)

    def places(self, num_new):
        """The places of the next columns, (T), or (B, T) where there is filling; filling has place 0, for want of any.

        Raises ValueError if there is no room for so many.
        """
        end = self.length + num_new
        if end > self.capacity:
            raise ValueError(f"{num_new} tokens after {self.length} make {end}; the context_length is {self.capacity}")
        places = self.layers[0].places(num_new)
        return places if places.ndim == 1 else np.maximum(places[:, 0], 0)
