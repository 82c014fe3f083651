"""Dropout as a layer, so that a model's drawing of masks can be followed by name."""

from npllm import functional as F
from npllm.functional.checks import probability
from npllm.layers.module import Module


class Dropout(Module):
    """y = x · mask      (...) → (...)

    Active only in `forward` with a generator: `layer(x)` and `layer.forward(x)` leave x alone.
    """

    def __init__(self, p=0.5):
        self.p = probability("p", p)

    def draw_mask(self, shape, rng, dtype):
        """The factors by which to multiply an array of this shape; None where nothing is dropped."""
        return None if rng is None or self.p == 0.0 else F.draw_dropout_mask(shape, self.p, rng, dtype)

    def forward(self, x, rng=None):
        """The value, and in the cache the mask."""
        return F.dropout_forward(x, self.p, rng)

    def backward(self, dy, cache):
        """dx = dy · mask."""
        return F.dropout_backward(dy, cache)
