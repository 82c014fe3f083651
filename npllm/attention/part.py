"""A part: something that can be added to attention without touching its core.

    x → q, k, v → [turn] → scores [+ bias] [limits] [mask] → softmax → context → [gate] → projection

Most of today's forms of attention are the plain one with one thing more at one of these places. Each is a small module
that overrides the methods of its place and leaves the others, which do nothing. `GroupedQueryAttention` takes any
number of them by name, in the order in which they act.
"""

from dataclasses import dataclass

from npllm.layers.module import Module


@dataclass(frozen=True)
class Widths:
    """The sizes of the attention layer that a part belongs to."""

    d_model: int
    num_heads: int
    num_key_heads: int
    head_width: int
    context_length: int


class Part(Module):
    """The places at which a part may act; a part is constructed from the layer's Widths and its own options."""

    def turn_forward(self, q, k, places):
        """Queries (..., H, T, D) and keys (..., K, T, D) as they shall meet; and a cache."""
        return q, k, None

    def turn_backward(self, dq, dk, cache):
        """The gradients of queries and keys as they were."""
        return dq, dk

    def bias_forward(self, places, key_places, dtype):
        """What is added to the scores, broadcastable to (..., H, T, S), or None; and a cache."""
        return None, None

    def bias_backward(self, dbias, cache):
        """Add to the gradients of what the bias was made from; `dbias` is (..., H, T, S)."""

    def limits(self):
        """Options for the core: window, sinks, softcap."""
        return {}

    def mask(self, places, key_places):
        """Who may look where, besides causality: boolean, broadcastable to (..., H, T, S), or None."""
        return

    def gate_forward(self, context, x):
        """The joined context (..., T, H·D) as it shall be projected, given the layer's input x; and a cache."""
        return context, None

    def gate_backward(self, dcontext, cache):
        """The gradients of the context as it was, and of x (None if it was not used)."""
        return dcontext, None
