"""Luong's three scores: a product of query and key, a product through a matrix, and a small network.

    dot       qᵀ k                      the two must live in one space
    general   qᵀ W k                    W leads the keys into the space of the queries
    concat    vᵀ tanh(W [q; k])         additive attention, its two matrices side by side in one

Over `additive`: a product of two matrices scores all pairs at once, with nothing between that would have to be kept.
This is the score that stayed: the transformer's is `dot`, divided by √D, between queries and keys that are both
learned.

Luong, Pham, Manning 2015, Effective Approaches to Attention-based Neural Machine Translation, section 3.1.
"""

import math

import numpy as np

from npllm.before_transformers.additive import additive_scores_backward, additive_scores_forward
from npllm.before_transformers.alignment import AlignmentAttention
from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_positive, check_size
from npllm.core.module import Module, Parameter, as_generator
from npllm.layers.linear import Linear, linear_backward, linear_forward


class LuongAttention(AlignmentAttention):
    """y = softmax(score(q, k)) v      (..., T, Q), (..., S, K), (..., S, E) → (..., T, E)

    `kind` is "dot", "general" or "concat". `hidden_size`, the width of the network in concat, is that of the queries
    unless given. Raises ValueError for dot with two widths, which have no product.
    """

    def __init__(self, query_size, key_size, kind="general", hidden_size=None, *, rng=None, dtype="float32"):
        check_positive(query_size=query_size, key_size=key_size)
        if kind not in SCORES:
            raise ValueError(f"kind is {kind!r}; it must be one of {', '.join(SCORES)}")
        hidden_size = query_size if hidden_size is None else hidden_size
        self.score = SCORES[kind](query_size, key_size, hidden_size, as_generator(rng), dtype)

    def prepare_forward(self, k):
        """What the score does to the keys alone."""
        return self.score.prepare_forward(k)

    def prepare_backward(self, dkeys, cache):
        """dk."""
        return self.score.prepare_backward(dkeys, cache)

    def score_forward(self, q, keys):
        """The scores, (..., T, S)."""
        return self.score.forward(q, keys)

    def score_backward(self, dscores, cache):
        """dq and dkeys."""
        return self.score.backward(dscores, cache)


class DotScore(Module):
    """scores = q kᵀ      (..., T, D), (..., S, D) → (..., T, S)"""

    def __init__(self, query_size, key_size, hidden_size, rng, dtype):
        check_size("the query_size, for a product of the two", query_size, key_size=key_size)

    def prepare_forward(self, k):
        """Keys as they are."""
        return k, Cache()

    def prepare_backward(self, dkeys, cache):
        """As it is."""
        return dkeys

    def forward(self, q, keys):
        """The products of all pairs, and in the cache both factors."""
        q, keys = as_floats(q=q, k=keys)
        if q.shape[:-2] != keys.shape[:-2] or q.shape[-1] != keys.shape[-1]:
            raise ValueError(
                f"q {q.shape}, k {keys.shape}: they must be (..., T, D) and (..., S, D), alike but for T, S"
            )
        return q @ keys.mT, Cache(q=q, keys=keys)

    def backward(self, dscores, cache):
        """dq = dscores k,  dk = dscoresᵀ q: each gets the other, as in any product."""
        return dscores @ cache.keys, dscores.mT @ cache.q


class GeneralScore(DotScore):
    """scores = q (k Wᵀ)ᵀ      (..., T, Q), (..., S, K) → (..., T, S)"""

    def __init__(self, query_size, key_size, hidden_size, rng, dtype):
        self.W = Linear(key_size, query_size, bias=False, rng=rng, dtype=dtype)

    def prepare_forward(self, k):
        """W k lives in the space of the queries."""
        return self.W.forward(k)

    def prepare_backward(self, dkeys, cache):
        """dk = Wᵀ dkeys."""
        return self.W.backward(dkeys, cache)


class ConcatScore(Module):
    """scores = vᵀ tanh(W [q; k])      (..., T, Q), (..., S, K) → (..., T, S)

    W [q; k] = W_left q + W_right k: nothing need be put side by side for every pair.
    """

    def __init__(self, query_size, key_size, hidden_size, rng, dtype):
        check_positive(hidden_size=hidden_size)
        bound = 1.0 / math.sqrt(hidden_size)
        self.query_size = query_size
        self.W = Linear(query_size + key_size, hidden_size, bias=False, rng=rng, dtype=dtype)
        self.v = Parameter(rng.uniform(-bound, bound, hidden_size).astype(dtype))

    def prepare_forward(self, k):
        """W_right k does not depend on the query."""
        return linear_forward(k, self.W.weight.data[:, self.query_size :])

    def prepare_backward(self, dkeys, cache):
        """dk = W_rightᵀ dkeys; dW_right goes to the right columns of dW."""
        dk, dright = linear_backward(dkeys, cache)
        left = np.zeros((len(dright), self.query_size), dright.dtype)
        self.W.weight.add_grad(np.concatenate([left, dright], axis=1))
        return dk

    def forward(self, q, keys):
        """The scores, and the caches of the map and of the network."""
        projected, left = linear_forward(q, self.W.weight.data[:, : self.query_size])
        scores, network = additive_scores_forward(projected, keys, self.v.data)
        return scores, Cache(left=left, network=network)

    def backward(self, dscores, cache):
        """dq and dkeys; dv goes to v, dW_left to the left columns of dW."""
        dprojected, dkeys, dv = additive_scores_backward(dscores, cache.network)
        dq, dleft = linear_backward(dprojected, cache.left)
        right = np.zeros((len(dleft), self.W.weight.shape[1] - self.query_size), dleft.dtype)
        self.v.add_grad(dv)
        self.W.weight.add_grad(np.concatenate([dleft, right], axis=1))
        return dq, dkeys


SCORES = {"dot": DotScore, "general": GeneralScore, "concat": ConcatScore}
