"""Additive attention, with which attention began: where in the source does the next word come from?

    state of the decoder (query) ──┐
    states of the encoder (keys) ──┴→ [score] → weights → average → context

Until then a sentence had to fit into the last state of its encoder. Here the decoder keeps all of its states and, for
every word that it writes, asks each of them how much it matters now.

Bahdanau, Cho, Bengio 2015, Neural Machine Translation by Jointly Learning to Align and Translate, sections 3.1 and
A.1.2.
"""

import math

from npllm import functional as F
from npllm.attention.base import AlignmentAttention
from npllm.functional.cache import Cache
from npllm.functional.checks import at_least_one
from npllm.layers.linear import Linear
from npllm.layers.module import Parameter, generator


class AdditiveAttention(AlignmentAttention):
    """y = softmax(vᵀ tanh(W_q q + W_k k)) · values      (..., T, Q), (..., S, K), (..., S, E) → (..., T, E)

    `W_query` and `W_key` lead queries and keys, which may differ in width, to `hidden_size` numbers; `v` (A) reads the
    score from them. In a translation keys and values are the same: the states of the encoder.
    """

    def __init__(self, query_size, key_size, hidden_size, *, rng=None, dtype="float32"):
        at_least_one(query_size=query_size, key_size=key_size, hidden_size=hidden_size)
        rng, bound = generator(rng), 1.0 / math.sqrt(hidden_size)
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
        scores, score = F.additive_scores_forward(projected, keys, self.v.data)
        return scores, Cache(W_query=W_query, score=score)

    def score_backward(self, dscores, cache):
        """dq and dkeys; dv and dW_q go to the parameters."""
        dprojected, dkeys, dv = F.additive_scores_backward(dscores, cache.score)
        self.v.add_grad(dv)
        return self.W_query.backward(dprojected, cache.W_query), dkeys
