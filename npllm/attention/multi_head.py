"""Multi-head attention: several heads look at the same positions, each for something of its own.

    x → q, k, v → split into heads → [attention in each] → join the heads → output projection

Over `causal`, first several such layers side by side (the wrapper), then the same in one: one wide matrix each for
queries, keys and values, whose channels are dealt out to the heads, and a projection that mixes what they found.

Raschka, section 3.6; Vaswani et al. 2017, section 3.2.2.
"""

import numpy as np

from npllm.attention.base import Attention
from npllm.attention.causal import CausalAttention
from npllm.attention.scaled_dot_product import (
    scaled_dot_product_attention_backward,
    scaled_dot_product_attention_forward,
)
from npllm.core.cache import Cache
from npllm.core.checks import as_sequence, check_context_length, check_heads, check_positive
from npllm.core.module import as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear


class MultiHeadAttentionWrapper(Attention):
    """y = [head₀(x) | head₁(x) | …], each a CausalAttention      (..., T, I) → (..., T, H·O)

    `d_out` is the width of one head.
    """

    def __init__(self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False, *, rng=None, dtype="float32"):
        check_positive(num_heads=num_heads)
        rng = as_generator(rng)
        self.heads = [
            CausalAttention(d_in, d_out, context_length, dropout, qkv_bias, rng=rng, dtype=dtype)
            for _ in range(num_heads)
        ]

    def attention_weights(self, x):
        """The weights of all heads, (..., H, T, T)."""
        return np.stack([head.attention_weights(x) for head in self.heads], axis=-3)

    def forward(self, x, rng=None):
        """The value, and the heads' caches in order."""
        values, caches = zip(*[head.forward(x, rng) for head in self.heads])
        return np.concatenate(values, axis=-1), Cache(heads=list(caches))

    def backward(self, dy, cache):
        """Each head gets its slice of dy; all of them read the same x, so their gradients add up."""
        slices = np.split(dy, len(self.heads), axis=-1)
        return sum(head.backward(d, c) for head, d, c in zip(self.heads, slices, cache.heads))


class MultiHeadAttention(Attention):
    """y = join(softmax(causal(q kᵀ / √D)) v) W_outᵀ + b_out      (..., T, I) → (..., T, O)

    D = d_out / num_heads is the width of a head; head h owns the channels h·D … (h + 1)·D − 1 of q, k and v.
    Raises ValueError if num_heads does not divide d_out.
    """

    def __init__(self, d_in, d_out, context_length, dropout, num_heads, qkv_bias=False, *, rng=None, dtype="float32"):
        check_heads(num_heads, d_out=d_out)
        check_positive(context_length=context_length)
        rng = as_generator(rng)
        self.context_length, self.num_heads = context_length, num_heads
        self.W_query = Linear(d_in, d_out, bias=qkv_bias, rng=rng, dtype=dtype)
        self.W_key = Linear(d_in, d_out, bias=qkv_bias, rng=rng, dtype=dtype)
        self.W_value = Linear(d_in, d_out, bias=qkv_bias, rng=rng, dtype=dtype)
        self.out_proj = Linear(d_out, d_out, rng=rng, dtype=dtype)
        self.dropout = Dropout(dropout)

    def forward(self, x, rng=None):
        """The value, and the caches of the projections, of the core and of the dropout."""
        check_context_length(as_sequence(x).shape[-2], self.context_length)
        q, W_query = self.W_query.forward(x)
        k, W_key = self.W_key.forward(x)
        v, W_value = self.W_value.forward(x)
        q, k, v = (split_heads(projected, self.num_heads) for projected in (q, k, v))
        mask = self.dropout.draw_dropout_mask((*q.shape[:-1], k.shape[-2]), rng, q.dtype)
        context, attention = scaled_dot_product_attention_forward(q, k, v, is_causal=True, dropout_mask=mask)
        y, out_proj = self.out_proj.forward(join_heads(context))
        return y, Cache(
            W_query=W_query,
            W_key=W_key,
            W_value=W_value,
            dropout=Cache(dropout_mask=mask),
            attention=attention,
            out_proj=out_proj,
        )

    def backward(self, dy, cache):
        """The forward, read from its last line to its first; join and split undo each other."""
        dcontext = split_heads(self.out_proj.backward(dy, cache.out_proj), self.num_heads)
        dqkv = scaled_dot_product_attention_backward(dcontext, cache.attention)
        dq, dk, dv = (join_heads(gradient) for gradient in dqkv)
        dx = self.W_value.backward(dv, cache.W_value)
        dx = dx + self.W_key.backward(dk, cache.W_key)
        return dx + self.W_query.backward(dq, cache.W_query)


def split_heads(x, num_heads):
    """Deal the channels out to the heads: (..., T, H·D) → (..., H, T, D).

    First the channels are cut, then the axes swapped. Reshaping straight to (..., H, T, D) would have the right
    shape and mix positions into heads.
    """
    *batch, length, channels = x.shape
    return x.reshape(*batch, length, num_heads, channels // num_heads).swapaxes(-3, -2)


def join_heads(x):
    """Undo split_heads: (..., H, T, D) → (..., T, H·D)."""
    *batch, num_heads, length, width = x.shape
    return x.swapaxes(-3, -2).reshape(*batch, length, num_heads * width)
