"""What every attention layer shares: the check of its input, and the weights on request."""

import numpy as np

from npllm.layers.module import Module


class Attention(Module):
    """An attention layer; its cache holds the core's under the name `attention`."""

    def attention_weights(self, x):
        """The weights A behind `self(x)`: row t says how much position t takes from each position s."""
        return self.forward(x)[1].attention.weights


def sequence(x):
    """Return x as an array; raise ValueError unless it is a sequence (T, C) or a batch of them (..., T, C)."""
    x = np.asarray(x)
    if x.ndim < 2:
        raise ValueError(
            f"x has shape {x.shape}; it must be a sequence of vectors (T, C), or a batch of them (B, T, C)"
        )
    return x
