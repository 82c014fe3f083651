"""Attention without weights: every position looks at all, by likeness alone.

    inputs → [scores → weights → context]

First the steps one at a time, as one would with pencil and paper; then all of them as a layer. The vectors are
their own queries, keys and values, so nothing can be learned yet: that is what `self_attention` adds.

Raschka, section 3.3.
"""

import numpy as np

from npllm.attention.base import Attention
from npllm.attention.scaled_dot_product import (
    scaled_dot_product_attention_backward,
    scaled_dot_product_attention_forward,
)
from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_size


def attention_scores_of_query(query, inputs):
    """scores_s = query · inputs_s      (C), (S, C) → (S)

    One query against every input, each score a dot product spelled out: the sum of products of their channels.
    """
    query, inputs = as_floats(query=query, inputs=inputs)
    check_size("one for each channel of inputs", inputs.shape[1:], **{"the shape of query": query.shape})
    scores = np.empty(len(inputs), inputs.dtype)
    for s, key in enumerate(inputs):
        scores[s] = sum(query[c] * key[c] for c in range(len(key)))
    return scores


def attention_scores_by_loops(inputs):
    """scores_ts = inputs_t · inputs_s      (T, C) → (T, T)

    Two nested loops: every position asks, every position answers.
    """
    inputs = as_floats(inputs=inputs)
    scores = np.empty((len(inputs), len(inputs)), inputs.dtype)
    for t, query in enumerate(inputs):
        for s, key in enumerate(inputs):
            scores[t, s] = query @ key
    return scores


def attention_scores(inputs):
    """scores = inputs inputsᵀ      (..., T, C) → (..., T, T)

    The same table as one matrix product.
    """
    inputs = as_floats(inputs=inputs)
    return inputs @ inputs.mT


def context_of_query(weights, inputs):
    """context = Σ_s weights_s inputs_s      (S), (S, C) → (C)

    The weighted sum for one query, added up input by input.
    """
    weights, inputs = as_floats(weights=weights, inputs=inputs)
    check_size("one for each of inputs", inputs.shape[:1], **{"the shape of weights": weights.shape})
    context = np.zeros(inputs.shape[-1], inputs.dtype)
    for weight, value in zip(weights, inputs, strict=True):
        context += weight * value
    return context


def context_vectors(weights, inputs):
    """context = weights inputs      (..., T, S), (..., S, C) → (..., T, C)

    The weighted sums for all queries as one matrix product.
    """
    weights, inputs = as_floats(weights=weights, inputs=inputs)
    return weights @ inputs


class SimplifiedSelfAttention(Attention):
    """y = softmax(x xᵀ) x      (..., T, C) → (..., T, C)

    The steps above in one layer, without parameters and without the scale 1/√C.
    """

    def forward(self, x):
        """The value, and the core's cache as `attention`."""
        y, attention = scaled_dot_product_attention_forward(x, x, x, scale=1.0)
        return y, Cache(attention=attention)

    def backward(self, dy, cache):
        """dx = dq + dk + dv: the same x came in as query, as key and as value."""
        dq, dk, dv = scaled_dot_product_attention_backward(dy, cache.attention)
        return dq + dk + dv
