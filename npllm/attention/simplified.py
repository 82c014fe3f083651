"""Simplified self-attention: no trainable weights; each input attends to all inputs by similarity.

    inputs → [scores → weights → context]

First every step as a function of its own, then all of them in one layer. The inputs are their own
queries, keys and values, so nothing can be learned: trainable weights come in self_attention.py.

Raschka, Build a Large Language Model (From Scratch), section 3.3.
"""

import numpy as np

from npllm.attention.base import Attention
from npllm.attention.scaled_dot_product import attention_backward, attention_forward
from npllm.core.cache import Cache
from npllm.core.checks import as_floats, as_sequence, check_given, check_shape


def attention_scores_of_query(query: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """scores_s = query · inputs_s      (C), (S, C) → (S)

    One query against every input; each score is a dot product, written as the sum over the channels.
    """
    check_given(query=query, inputs=inputs)
    query, inputs = as_floats(query=query, inputs=inputs)
    sizes = check_shape("inputs", inputs, "(S, C)")
    check_shape("query", query, "(C)", C=sizes["C"])
    scores = np.empty(len(inputs), inputs.dtype)
    for s, key in enumerate(inputs):
        scores[s] = sum(query[c] * key[c] for c in range(len(key)))
    return scores


def attention_scores_by_loops(inputs: np.ndarray) -> np.ndarray:
    """scores_ts = inputs_t · inputs_s      (T, C) → (T, T)

    Two nested loops, over the queries and over the keys.
    """
    inputs = as_floats(inputs=inputs)
    check_shape("inputs", inputs, "(T, C)")
    scores = np.empty((len(inputs), len(inputs)), inputs.dtype)
    for t, query in enumerate(inputs):
        for s, key in enumerate(inputs):
            scores[t, s] = query @ key
    return scores


def attention_scores(inputs: np.ndarray) -> np.ndarray:
    """scores = inputs inputsᵀ      (..., T, C) → (..., T, T)

    The same scores as one matrix product.
    """
    inputs = as_sequence(as_floats(inputs=inputs), "inputs")
    return inputs @ inputs.mT


def context_of_query(weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """context = Σ_s weights_s inputs_s      (S), (S, C) → (C)

    The weighted sum for one query, added up input by input.
    """
    check_given(weights=weights, inputs=inputs)
    weights, inputs = as_floats(weights=weights, inputs=inputs)
    sizes = check_shape("inputs", inputs, "(S, C)")
    check_shape("weights", weights, "(S)", S=sizes["S"])
    context = np.zeros(inputs.shape[-1], inputs.dtype)
    for weight, value in zip(weights, inputs, strict=True):
        context += weight * value
    return context


def context_vectors(weights: np.ndarray, inputs: np.ndarray) -> np.ndarray:
    """context = weights inputs      (..., T, S), (..., S, C) → (..., T, C)

    The weighted sums for all queries as one matrix product.
    """
    check_given(weights=weights, inputs=inputs)
    weights, inputs = as_floats(weights=weights, inputs=inputs)
    check_shape("inputs", inputs, "(..., S, C)")
    check_shape("weights", weights, "(..., T, S)", S=inputs.shape[-2])
    return weights @ inputs


class SimplifiedSelfAttention(Attention):
    """y = softmax(x xᵀ) x      (..., T, C) → (..., T, C)

    The steps above in one layer, without parameters and without the scale 1/√C.
    """

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """y, and the cache of the core as `attention`."""
        x = as_sequence(x)
        y, attention = attention_forward(x, x, x, scale=1.0)
        return y, Cache(attention=attention)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """dx = dq + dk + dv: x is the query, the key and the value."""
        dq, dk, dv = attention_backward(dy, cache.attention)
        return dq + dk + dv
