"""Causal attention: a position must not see what comes after it, for that is what it has to predict.

    x → q, k, v → [scores/√D → mask → weights → dropout → context]

Over `self_attention`, a mask and dropout on the weights. Three ways to mask, all with the same result, lead from
the obvious to the one in use; the layer follows.

Raschka, section 3.5.
"""

import numpy as np

from npllm.attention.base import Attention
from npllm.attention.masks import causal_mask
from npllm.attention.scaled_dot_product import (
    scaled_dot_product_attention_backward,
    scaled_dot_product_attention_forward,
)
from npllm.core.cache import Cache
from npllm.core.checks import as_floats, as_sequence, check_context_length, check_positive
from npllm.core.module import as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear
from npllm.layers.softmax import normalize_by_sum, softmax


def causal_weights_by_renormalizing(scores):
    """A = softmax(scores), zero above the diagonal, each row divided by its sum      (..., T, T) → (..., T, T)

    The obvious way. It computes weights of the future only to throw them away, and where the future had nearly
    all of the weight, little precision is left for the past; where it had all, ValueError is raised.
    """
    scores = as_floats(scores=scores)
    seen = causal_mask(*scores.shape[-2:])
    return normalize_by_sum(softmax(scores) * seen)


def causal_weights_by_prefix(scores):
    """A_t = softmax(scores_t0 … scores_tt), then zeros      (..., T, T) → (..., T, T)

    The honest way, row by row: the future is never touched. What a mask has to reproduce.
    """
    scores = as_floats(scores=scores)
    weights = np.zeros_like(scores)
    for t in range(scores.shape[-2]):
        weights[..., t, : t + 1] = softmax(scores[..., t, : t + 1])
    return weights


def causal_weights_by_infinity(scores):
    """A = softmax(scores, −∞ above the diagonal)      (..., T, T) → (..., T, T)

    The way in use: exp(−∞) = 0, so the future gets weight 0 within one softmax of the whole table.
    """
    scores = as_floats(scores=scores)
    seen = causal_mask(*scores.shape[-2:])
    return softmax(np.where(seen, scores, -np.inf))


class CausalAttention(Attention):
    """y = dropout(softmax(causal(q kᵀ / √D))) v  with q, k, v = Linear(x)      (..., T, I) → (..., T, O)

    Takes up to `context_length` positions. `forward` with a generator drops weights with probability `dropout`.
    """

    def __init__(self, d_in, d_out, context_length, dropout, qkv_bias=False, *, rng=None, dtype="float32"):
        check_positive(context_length=context_length)
        rng = as_generator(rng)
        self.context_length = context_length
        self.W_query = Linear(d_in, d_out, bias=qkv_bias, rng=rng, dtype=dtype)
        self.W_key = Linear(d_in, d_out, bias=qkv_bias, rng=rng, dtype=dtype)
        self.W_value = Linear(d_in, d_out, bias=qkv_bias, rng=rng, dtype=dtype)
        self.dropout = Dropout(dropout)

    def forward(self, x, rng=None):
        """The value, and the caches of the projections, of the core and of the dropout."""
        check_context_length(as_sequence(x).shape[-2], self.context_length)
        q, W_query = self.W_query.forward(x)
        k, W_key = self.W_key.forward(x)
        v, W_value = self.W_value.forward(x)
        scores_shape = (*q.shape[:-1], k.shape[-2])
        mask = self.dropout.draw_dropout_mask(scores_shape, rng, q.dtype)
        y, attention = scaled_dot_product_attention_forward(q, k, v, is_causal=True, dropout_mask=mask)
        return y, Cache(
            W_query=W_query, W_key=W_key, W_value=W_value, dropout=Cache(dropout_mask=mask), attention=attention
        )

    def backward(self, dy, cache):
        """The forward, read from its last line to its first; the three paths to x add up."""
        dq, dk, dv = scaled_dot_product_attention_backward(dy, cache.attention)
        dx = self.W_value.backward(dv, cache.W_value)
        dx = dx + self.W_key.backward(dk, cache.W_key)
        return dx + self.W_query.backward(dq, cache.W_query)
