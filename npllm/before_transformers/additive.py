"""Additive attention, with which attention began: where in the source does the next word come from?

    state of the decoder (query) ──┐
    states of the encoder (keys) ──┴→ [score] → weights → average → context

Until then a sentence had to fit into the last state of its encoder. Here the decoder keeps all of its states and, for
every word that it writes, asks each of them how much it matters now.

Bahdanau, Cho, Bengio 2015, Neural Machine Translation by Jointly Learning to Align and Translate, sections 3.1 and
A.1.2.
"""

import math

import numpy as np

from npllm.before_transformers.alignment import AlignmentAttention
from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_gradient, check_positive, check_size
from npllm.core.module import Parameter, as_generator
from npllm.layers.linear import Linear


def additive_scores(q, k, v):
    """scores_ts = vᵀ tanh(q_t + k_s)      (..., T, A), (..., S, A), (A) → (..., T, S)

    q and k are already mapped to the A hidden numbers of the network, v reads its answer. All pairs are held at once,
    T · S · A numbers; a product of q and k would need none of them.
    """
    return additive_scores_forward(q, k, v)[0]


def additive_scores_forward(q, k, v):
    """The value, and in the cache v and the hidden layer of all pairs, (..., T, S, A)."""
    q, k, v = as_floats(q=q, k=k, v=v)
    if min(q.ndim, k.ndim) < 2 or v.ndim != 1 or q.shape[:-2] != k.shape[:-2]:
        raise ValueError(
            f"q {q.shape}, k {k.shape}, v {v.shape}: they must be (..., T, A), (..., S, A) and (A), "
            "with the same leading dimensions"
        )
    check_size("the width of v", len(v), **{"the width of q": q.shape[-1], "the width of k": k.shape[-1]})
    hidden = np.tanh(q[..., :, None, :] + k[..., None, :, :])
    return hidden @ v, Cache(hidden=hidden, v=v)


def additive_scores_backward(dscores, cache):
    """dq_t = Σ_s dp_ts,  dk_s = Σ_t dp_ts,  dv = Σ dscores tanh      (..., T, S) → (..., T, A), (..., S, A), (A)

    score = vᵀ h with h = tanh(p), so dv gets dscore h, and dp = dscore v (1 − h²). p_ts = q_t + k_s, so a query
    sums over all keys that it was compared with, and a key over all queries.
    """
    hidden, v = cache.hidden, cache.v
    dscores = check_gradient(dscores, hidden.shape[:-1], hidden.dtype)
    dv = dscores.reshape(-1) @ hidden.reshape(-1, len(v))
    dsum = dscores[..., None] * v * (1.0 - hidden * hidden)
    return dsum.sum(axis=-2), dsum.sum(axis=-3), dv


class AdditiveAttention(AlignmentAttention):
    """y = softmax(vᵀ tanh(W_q q + W_k k)) · values      (..., T, Q), (..., S, K), (..., S, E) → (..., T, E)

    `W_query` and `W_key` lead queries and keys, which may differ in width, to `hidden_size` numbers; `v` (A) reads the
    score from them. In a translation keys and values are the same: the states of the encoder.
    """

    def __init__(self, query_size, key_size, hidden_size, *, rng=None, dtype="float32"):
        check_positive(query_size=query_size, key_size=key_size, hidden_size=hidden_size)
        rng, bound = as_generator(rng), 1.0 / math.sqrt(hidden_size)
        self.W_query = Linear(query_size, hidden_size, bias=False, rng=rng, dtype=dtype)
        self.W_key = Linear(key_size, hidden_size, bias=False, rng=rng, dtype=dtype)
        self.v = Parameter(rng.uniform(-bound, bound, hidden_size).astype(dtype))

    def prepare_forward(self, k):
        """W_k k does not depend on the query."""
        return self.W_key.forward(k)

    def prepare_backward(self, dkeys, cache):
        """dk = W_kᵀ dkeys."""
        return self.W_key.backward(dkeys, cache)

    def score_forward(self, q, keys):
        """vᵀ tanh(W_q q + keys), and the caches of the map and of the score."""
        projected, W_query = self.W_query.forward(q)
        scores, score = additive_scores_forward(projected, keys, self.v.data)
        return scores, Cache(W_query=W_query, score=score)

    def score_backward(self, dscores, cache):
        """dq and dkeys; dv and dW_q go to the parameters."""
        dprojected, dkeys, dv = additive_scores_backward(dscores, cache.score)
        self.v.add_grad(dv)
        return self.W_query.backward(dprojected, cache.W_query), dkeys
