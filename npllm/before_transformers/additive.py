"""Additive attention: the score of a query and a key is a small neural network with one hidden layer.

    q → W_query q ─┐
    k → W_key k ───┴→ + → tanh → vᵀ → score

This is the first attention. Before it, the decoder of a translation model received the encoder's last state only, a
vector of fixed size for a sentence of any length. With attention, the decoder receives a weighted average of all
encoder states, with new weights at every step.

Bahdanau, Cho, Bengio 2015, Neural Machine Translation by Jointly Learning to Align and Translate, sections 3.1 and
A.1.2.
"""

import math
from typing import Any

import numpy as np

from npllm.before_transformers.alignment import AlignmentAttention
from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_given, check_gradient, check_positive, check_shape
from npllm.core.module import Parameter, as_generator
from npllm.layers.linear import Linear


def additive_scores(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """scores_ts = vᵀ tanh(q_t + k_s)      (..., T, A), (..., S, A), (A) → (..., T, S)

    q and k are projected already: both have the size A of the hidden layer. The hidden layers of all pairs are in
    memory together, T · S · A numbers; dot products of q and k need only T · S.
    """
    return additive_scores_forward(q, k, v)[0]


def additive_scores_forward(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, Cache]:
    """The scores; the cache holds v and `hidden` (..., T, S, A), the hidden layers of all pairs."""
    check_given(q=q, k=k, v=v)
    q, k, v = as_floats(q=q, k=k, v=v)
    size = check_shape("v", v, "(A)")["A"]
    check_shape("q", q, "(..., T, A)", A=size)
    check_shape("k", k, "(..., S, A)", A=size)
    if q.shape[:-2] != k.shape[:-2]:
        raise ValueError(f"q has shape {q.shape} and k {k.shape}; their leading dimensions must be equal")
    hidden = np.tanh(q[..., :, None, :] + k[..., None, :, :])
    return hidden @ v, Cache(hidden=hidden, v=v)


def additive_scores_backward(dscores: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dq_t = Σ_s dp_ts,  dk_s = Σ_t dp_ts,  dv = Σ dscores tanh(p)      (..., T, S) → (..., T, A), (..., S, A), (A)

    With p_ts = q_t + k_s and h = tanh(p):  score = vᵀ h, so dv = Σ dscore h and dh = dscore v;  dp = dh (1 − h²).
    q_t is in the sums p_ts of all keys s, and k_s in those of all queries t.
    """
    hidden, v = cache.hidden, cache.v
    dscores = check_gradient(dscores, hidden.shape[:-1], hidden.dtype)
    dv = dscores.reshape(-1) @ hidden.reshape(-1, len(v))
    dp = dscores[..., None] * v * (1.0 - hidden * hidden)
    return dp.sum(axis=-2), dp.sum(axis=-3), dv


class AdditiveAttention(AlignmentAttention):
    """y = softmax(vᵀ tanh(W_q q + W_k k)) · values      (..., T, Q), (..., S, K), (..., S, E) → (..., T, E)

    `W_query` (A, Q) and `W_key` (A, K) project queries and keys to `hidden_size` = A numbers; `v` (A) maps the hidden
    layer to the score. All are initialized uniformly, W_query in ±1/√Q, W_key in ±1/√K, v in ±1/√A. In a translation
    model the keys and the values are the same: the encoder's states.
    """

    def __init__(
        self,
        query_size: int,
        key_size: int,
        hidden_size: int,
        *,
        rng: np.random.Generator | None = None,
        dtype: Any = "float32",
        init: bool = True,
    ) -> None:
        check_positive(query_size=query_size, key_size=key_size, hidden_size=hidden_size)
        self.W_query = Linear(query_size, hidden_size, bias=False, dtype=dtype, init=False)
        self.W_key = Linear(key_size, hidden_size, bias=False, dtype=dtype, init=False)
        self.v = Parameter(np.zeros(hidden_size, dtype))
        if init:
            self.init_weights(as_generator(rng))

    def init_weights(self, rng: np.random.Generator) -> None:
        """Draw W_query and W_key as in Linear, and v uniformly in ±1/√A."""
        super().init_weights(rng)
        bound = 1.0 / math.sqrt(self.v.size)
        self.v.data[...] = rng.uniform(-bound, bound, self.v.shape)

    def project_keys_forward(self, k: np.ndarray) -> tuple[np.ndarray, Cache]:
        """W_key k."""
        return self.W_key.forward(k)

    def project_keys_backward(self, dkeys: np.ndarray, cache: Cache) -> np.ndarray:
        """dk = W_keyᵀ dkeys."""
        return self.W_key.backward(dkeys, cache)

    def score_forward(self, q: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, Cache]:
        """vᵀ tanh(W_query q + keys); the cache holds those of the projection and of the scores."""
        projected, W_query = self.W_query.forward(q)
        scores, additive = additive_scores_forward(projected, keys, self.v.data)
        return scores, Cache(W_query=W_query, scores=additive)

    def score_backward(self, dscores: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
        """dq and dkeys."""
        dprojected, dkeys, dv = additive_scores_backward(dscores, cache.scores)
        self.add_grads(v=dv)
        return self.W_query.backward(dprojected, cache.W_query), dkeys
