"""A part: something that can be added to attention without touching its core.

    x → q, k, v → [turn] → scores [+ bias] [limits] [mask] → softmax → context → [gate] → projection

Most of today's forms of attention are the plain one with one thing more at one of these places. Each is a small module
that overrides the methods of its place and leaves the others, which do nothing. `GroupedQueryAttention` takes any
number of them by name, in the order in which they act.

Gated output: what attention found passes a gate that each position sets for itself.

    context → [· sigmoid(x W_gateᵀ)] → projection

Over plain attention: softmax weights add up to 1, so a head must bring something even when there is nothing to find.
The gate can close. It also puts a bend between the value projection and the output projection, which were one linear
map in two steps.

Qiu et al. 2025, Gated Attention for Large Language Models, section 2.2, elementwise after the core.

Query/key normalisation: every query and every key is brought to one length before they meet.

    x → q, k → [norm over each head] → scores → softmax → …

Over plain attention: a score is the length of the query times that of the key times the cosine of their angle. When
lengths grow in training, softmax saturates and learning stops; with a norm only the angle and a learned scale remain.

Henry et al. 2020, Query-Key Normalization for Transformers; as here, RMS norm over each head: Qwen3 2025, section 2.

Soft-capped logits: no score can leave ±cap, and none is cut off.

    scores → [cap · tanh(scores / cap)] → mask → softmax → …

Over plain attention: near 0 the cap does nothing; far out tanh bends the score to ±cap, smoothly, so that a gradient
remains. Few very large scores can no longer hold all the weight.

Bello et al. 2016, Neural Combinatorial Optimization, appendix A.1; Gemma Team 2024, Gemma 2, section 2.

Sparse attention: a pattern, fixed beforehand, of who may look at whom.

    strided   the last `stride` positions, and before them every stride-th
    blocks    whole blocks of positions, by a small table

Over a window: far positions stay reachable, in one step or two, while each position looks at a few alone. Here the
pattern is a mask on the full table of scores; what it saves in cost only a kernel that skips blocks can show.

Child et al. 2019, Generating Long Sequences with Sparse Transformers, section 4.3; Zaheer et al. 2020, Big Bird,
section 2.

A sliding window: each position sees the last few alone, and perhaps the very first.

    t sees  0 … sinks − 1   and   t − window + 1 … t

Over plain attention: cost and memory grow with the window, not with the text. A layer sees a window back, the next one
a window further. Softmax must spend its weight somewhere, and models learn to spend what they do not need on the first
tokens; where these slide out of the window the text breaks down. As sinks they stay.

Beltagy et al. 2020, Longformer, section 3.1; Jiang et al. 2023, Mistral 7B, section 2; Xiao et al. 2023, Efficient
Streaming Language Models with Attention Sinks, section 3.2.
"""

import math
from dataclasses import dataclass

import numpy as np

from npllm.attention.masks import block_mask, position_mask, strided_mask
from npllm.core.cache import Cache
from npllm.core.checks import check_positive
from npllm.core.module import Module
from npllm.layers.activations import sigmoid_backward, sigmoid_forward
from npllm.layers.linear import Linear
from npllm.layers.normalization import RMSNorm


@dataclass(frozen=True)
class AttentionDims:
    """The sizes of the attention layer that a part belongs to."""

    d_model: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    context_length: int


class AttentionHook(Module):
    """The places at which a part may act; a part is constructed from the layer's Widths and its own options."""

    def turn_forward(self, q, k, positions):
        """Queries (..., H, T, D) and keys (..., K, T, D) as they shall meet; and a cache."""
        return q, k, None

    def turn_backward(self, dq, dk, cache):
        """The gradients of queries and keys as they were."""
        return dq, dk

    def bias_forward(self, positions, key_positions, dtype):
        """What is added to the scores, broadcastable to (..., H, T, S), or None; and a cache."""
        return None, None

    def bias_backward(self, dbias, cache):
        """Add to the gradients of what the bias was made from; `dbias` is (..., H, T, S)."""

    def limits(self):
        """Options for the core: window, sinks, softcap."""
        return {}

    def mask(self, positions, key_positions):
        """Who may look where, besides causality: boolean, broadcastable to (..., H, T, S), or None."""
        return

    def gate_forward(self, context, x):
        """The joined context (..., T, H·D) as it shall be projected, given the layer's input x; and a cache."""
        return context, None

    def gate_backward(self, dcontext, cache):
        """The gradients of the context as it was, and of x (None if it was not used)."""
        return dcontext, None


class OutputGate(AttentionHook):
    """c ← c · σ(x W_gateᵀ)      (..., T, H·D) → (..., T, H·D)

    `gate_proj.weight` is (H·D, C).
    """

    def __init__(self, widths, *, rng=None, dtype="float32"):
        self.gate_proj = Linear(widths.d_model, widths.num_heads * widths.head_dim, bias=False, rng=rng, dtype=dtype)

    def gate_forward(self, context, x):
        """The gated context; and the caches of the projection and of the sigmoid, and both factors."""
        logits, gate_proj = self.gate_proj.forward(x)
        gate, sigmoid = sigmoid_forward(logits)
        return context * gate, Cache(gate_proj=gate_proj, sigmoid=sigmoid, context=context, gate=gate)

    def gate_backward(self, dcontext, cache):
        """Product rule."""
        dlogits = sigmoid_backward(dcontext * cache.context, cache.sigmoid)
        return dcontext * cache.gate, self.gate_proj.backward(dlogits, cache.gate_proj)


class QKNorm(AttentionHook):
    """q ← q / rms(q) · w_q,  k ← k / rms(k) · w_k      (..., T, D) → (..., T, D)

    `q_norm.weight` and `k_norm.weight` (D) are shared by all heads, as in Qwen3.
    """

    def __init__(self, widths, eps=1e-6, *, dtype="float32"):
        self.q_norm = RMSNorm(widths.head_dim, eps, dtype=dtype)
        self.k_norm = RMSNorm(widths.head_dim, eps, dtype=dtype)

    def turn_forward(self, q, k, positions):
        """Both normalised, and both caches."""
        q, q_norm = self.q_norm.forward(q)
        k, k_norm = self.k_norm.forward(k)
        return q, k, Cache(q_norm=q_norm, k_norm=k_norm)

    def turn_backward(self, dq, dk, cache):
        """Back through both norms."""
        return self.q_norm.backward(dq, cache.q_norm), self.k_norm.backward(dk, cache.k_norm)


class Softcap(AttentionHook):
    """S_ts ← cap · tanh(S_ts / cap)      (T, S) → (T, S)

    The core does it, and has its derivative, 1 − tanh².
    """

    def __init__(self, widths, cap):
        if not 0 < cap < math.inf:
            raise ValueError(f"cap is {cap}; it must be greater than 0 and finite")
        self.cap = cap

    def limits(self):
        """For the core."""
        return {"softcap": self.cap}


class StridedMask(AttentionHook):
    """S_ts ← −∞ unless t − s < stride or (t − s) mod stride = 0      (T, S) → (T, S)"""

    def __init__(self, widths, stride):
        check_positive(stride=stride)
        self.stride = stride

    def mask(self, positions, key_positions):
        """The rule on distances."""
        return strided_mask(positions, key_positions, self.stride)


class BlockSparseMask(AttentionHook):
    """S_ts ← −∞ unless layout[t // size, s // size]      (T, S) → (T, S)

    `layout` is a boolean table, or nested lists, with a row for every block of queries that fits into the context. Its
    diagonal must be true, or a position could not even see itself.
    """

    def __init__(self, widths, size, layout):
        check_positive(size=size)
        self.size, self.layout = size, np.asarray(layout, bool)
        rows, columns = self.layout.shape if self.layout.ndim == 2 else (0, 0)
        if rows == 0 or rows != columns or not self.layout.diagonal().all():
            raise ValueError(f"layout has shape {self.layout.shape}; it must be a square with a true diagonal")
        needed = -(-widths.context_length // size)
        if rows < needed:
            raise ValueError(
                f"layout has {rows} rows; for a context_length of {widths.context_length} in blocks of {size} it must "
                f"have at least {needed}"
            )

    def mask(self, positions, key_positions):
        """The table's entry for each pair."""
        return block_mask(positions, key_positions, self.size, self.layout)


class SlidingWindow(AttentionHook):
    """S_ts ← −∞ unless t − s < size or s < sinks      (T, S) → (T, S)

    A window at least as long as the text is plain causal attention.
    """

    def __init__(self, widths, size, sinks=0):
        position_mask([0], [0], size, sinks)  # raises where these make no sense
        self.size, self.sinks = size, sinks

    def limits(self):
        """For the core."""
        return {"window": self.size, "sinks": self.sinks}
