"""Causal attention: a position does not attend to later positions, which it is trained to predict.

    x → q, k, v → [scores/√D → mask → weights → dropout → context]

This adds to self_attention.py a mask and dropout of the attention weights. Three ways to mask with equal results come
first, from the most direct one to the one that the layer uses; then the layer.

Raschka, section 3.5.
"""

import numpy as np

from npllm.attention.base import Attention, project_backward, project_forward
from npllm.attention.mask_rule import MaskRule
from npllm.attention.masks import causal_mask
from npllm.attention.paths import masked_attention_backward, masked_attention_forward
from npllm.core.cache import Cache
from npllm.core.checks import as_floats, as_sequence, check_context_length, check_positive, check_probability
from npllm.core.module import as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear
from npllm.layers.softmax import normalize_by_sum, softmax


def causal_weights_by_renormalizing(scores: np.ndarray) -> np.ndarray:
    """A = softmax(scores), zero above the diagonal, each row divided by its sum      (..., T, T) → (..., T, T)

    The most direct way: weights of later positions are computed and discarded. If these have nearly all of the weight,
    the remaining weights lose precision; if they have all of it, ValueError is raised.
    """
    scores = as_sequence(as_floats(scores=scores), "scores")
    mask = causal_mask(*scores.shape[-2:])
    return normalize_by_sum(softmax(scores) * mask)


def causal_weights_by_prefix(scores: np.ndarray) -> np.ndarray:
    """A_t = softmax(scores_t0 … scores_tt), then zeros      (..., T, T) → (..., T, T)

    The definition, row by row: later scores are not used. Every other way must give the same result.
    """
    scores = as_sequence(as_floats(scores=scores), "scores")
    weights = np.zeros_like(scores)
    for t in range(scores.shape[-2]):
        weights[..., t, : t + 1] = softmax(scores[..., t, : t + 1])
    return weights


def causal_weights_by_infinity(scores: np.ndarray) -> np.ndarray:
    """A = softmax(scores, −∞ above the diagonal)      (..., T, T) → (..., T, T)

    The way that the layers use: exp(−∞) = 0, so later positions get the weight 0 in one softmax of the whole matrix.
    """
    scores = as_sequence(as_floats(scores=scores), "scores")
    mask = causal_mask(*scores.shape[-2:])
    return softmax(np.where(mask, scores, -np.inf))


class CausalAttention(Attention):
    """y = dropout(softmax(causal(q kᵀ / √D))) v  with q, k, v = Linear(x)      (..., T, I) → (..., T, O)

    For up to `context_length` positions. `forward` with a generator drops weights with probability `dropout`.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        qkv_bias: bool = False,
        *,
        rng: np.random.Generator | None = None,
        dtype: str = "float32",
        init: bool = True,
    ) -> None:
        check_positive(d_in=d_in, d_out=d_out, context_length=context_length)
        self.context_length = context_length
        self.W_query = Linear(d_in, d_out, bias=qkv_bias, dtype=dtype, init=False)
        self.W_key = Linear(d_in, d_out, bias=qkv_bias, dtype=dtype, init=False)
        self.W_value = Linear(d_in, d_out, bias=qkv_bias, dtype=dtype, init=False)
        self.dropout = Dropout(check_probability("dropout", dropout))
        if init:
            self.init_weights(as_generator(rng))

    def forward(self, x: np.ndarray, *, rng: np.random.Generator | None = None) -> tuple[np.ndarray, Cache]:
        """y, and the caches of the projections, of the dropout and of the core."""
        length = as_sequence(x).shape[-2]
        check_context_length(length, self.context_length)
        (q, k, v), projections = project_forward(x, (self.W_query, self.W_key, self.W_value))
        dropout_mask = self.dropout.draw_dropout_mask((*q.shape[:-1], length), rng, q.dtype)
        causal = MaskRule(np.arange(length), np.arange(length))
        y, attention = masked_attention_forward(q, k, v, causal, dropout_mask=dropout_mask)
        return y, Cache(projections=projections, dropout=Cache(dropout_mask=dropout_mask), attention=attention)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """The gradient of x."""
        dqkv = masked_attention_backward(dy, cache.attention)
        return project_backward(dqkv, cache.projections, (self.W_query, self.W_key, self.W_value))
