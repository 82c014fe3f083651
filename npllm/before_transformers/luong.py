"""Luong's three scores: a dot product, a dot product through a matrix, and a small neural network.

    dot       qᵀ k                      query and key have one size
    general   qᵀ W k                    W projects the keys to the size of the queries
    concat    vᵀ tanh(W [q; k])         additive attention with its two matrices side by side

Unlike additive attention, `dot` and `general` score all pairs with one matrix product and keep no hidden layers. The
transformer's score is `dot`, divided by √D, of queries and keys that are both projections.

Luong, Pham, Manning 2015, Effective Approaches to Attention-based Neural Machine Translation, section 3.1.
"""

import math
from typing import Any

import numpy as np

from npllm.attention.scaled_dot_product import scores_backward, scores_forward
from npllm.before_transformers.additive import additive_scores_backward, additive_scores_forward
from npllm.before_transformers.alignment import AlignmentAttention
from npllm.core.cache import Cache
from npllm.core.checks import check_positive
from npllm.core.module import Parameter, as_generator
from npllm.layers.linear import Linear, linear_backward, linear_forward


class DotAttention(AlignmentAttention):
    """y = softmax(q kᵀ) v      (..., T, D), (..., S, D), (..., S, E) → (..., T, E)

    It has no parameters.
    """

    def project_keys_forward(self, k: np.ndarray) -> tuple[np.ndarray, Cache]:
        """The keys themselves."""
        return k, Cache()

    def project_keys_backward(self, dkeys: np.ndarray, cache: Cache) -> np.ndarray:
        """dk = dkeys."""
        return dkeys

    def score_forward(self, q: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, Cache]:
        """q kᵀ: the score of scaled dot-product attention with a scale of 1."""
        return scores_forward(q, keys, scale=1.0)

    def score_backward(self, dscores: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
        """dq and dkeys."""
        return scores_backward(dscores, cache)


class GeneralAttention(DotAttention):
    """y = softmax(q (k Wᵀ)ᵀ) v      (..., T, Q), (..., S, K), (..., S, E) → (..., T, E)

    `W` (Q, K) projects the keys to the size of the queries; it is initialized as in Linear.
    """

    def __init__(
        self,
        query_size: int,
        key_size: int,
        *,
        rng: np.random.Generator | None = None,
        dtype: Any = "float32",
        init: bool = True,
    ) -> None:
        check_positive(query_size=query_size, key_size=key_size)
        self.W = Linear(key_size, query_size, bias=False, dtype=dtype, init=False)
        if init:
            self.init_weights(as_generator(rng))

    def project_keys_forward(self, k: np.ndarray) -> tuple[np.ndarray, Cache]:
        """W k."""
        return self.W.forward(k)

    def project_keys_backward(self, dkeys: np.ndarray, cache: Cache) -> np.ndarray:
        """dk = Wᵀ dkeys."""
        return self.W.backward(dkeys, cache)


class ConcatAttention(AlignmentAttention):
    """y = softmax(vᵀ tanh(W [q; k])) · values      (..., T, Q), (..., S, K), (..., S, E) → (..., T, E)

    `W` (A, Q + K) is two matrices side by side, W = [W_q | W_k], so W [q; k] = W_q q + W_k k: no pair is concatenated.
    `hidden_size` = A is that of the queries unless given. W and `v` (A) are initialized as in AdditiveAttention.
    """

    def __init__(
        self,
        query_size: int,
        key_size: int,
        hidden_size: int | None = None,
        *,
        rng: np.random.Generator | None = None,
        dtype: Any = "float32",
        init: bool = True,
    ) -> None:
        hidden_size = query_size if hidden_size is None else hidden_size
        check_positive(query_size=query_size, key_size=key_size, hidden_size=hidden_size)
        self.query_size, self.key_size = query_size, key_size
        self.W = Linear(query_size + key_size, hidden_size, bias=False, dtype=dtype, init=False)
        self.v = Parameter(np.zeros(hidden_size, dtype))
        if init:
            self.init_weights(as_generator(rng))

    def init_weights(self, rng: np.random.Generator) -> None:
        """Draw W as in Linear, uniformly in ±1/√(Q + K), and v uniformly in ±1/√A."""
        super().init_weights(rng)
        bound = 1.0 / math.sqrt(self.v.size)
        self.v.data[...] = rng.uniform(-bound, bound, self.v.shape)

    def project_keys_forward(self, k: np.ndarray) -> tuple[np.ndarray, Cache]:
        """W_k k."""
        return linear_forward(k, self.W.weight.data[:, self.query_size :])

    def project_keys_backward(self, dkeys: np.ndarray, cache: Cache) -> np.ndarray:
        """dk = W_kᵀ dkeys; dW_k is added to the right columns of dW."""
        dk, dW_k = linear_backward(dkeys, cache)
        self.W.add_grads(weight=np.pad(dW_k, ((0, 0), (self.query_size, 0))))
        return dk

    def score_forward(self, q: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, Cache]:
        """vᵀ tanh(W_q q + keys); the cache holds those of the projection and of the scores."""
        projected, W_q = linear_forward(q, self.W.weight.data[:, : self.query_size])
        scores, additive = additive_scores_forward(projected, keys, self.v.data)
        return scores, Cache(W_q=W_q, scores=additive)

    def score_backward(self, dscores: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
        """dq and dkeys; dW_q is added to the left columns of dW."""
        dprojected, dkeys, dv = additive_scores_backward(dscores, cache.scores)
        dq, dW_q = linear_backward(dprojected, cache.W_q)
        self.W.add_grads(weight=np.pad(dW_q, ((0, 0), (0, self.key_size))))
        self.add_grads(v=dv)
        return dq, dkeys
