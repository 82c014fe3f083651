"""Attention in two halves, as it began: score every key for a query by any means, then average the values.

    states of the decoder → [scores] → [weights] → context → next word
    states of the encoder ──────↑──────────↑

Each word that a translation writes is aligned with the words that it comes from. A score says how well a query and a
key go together; `additive_scores` asks a small network with one hidden layer. What follows is the same for every kind
of score: softmax, and the average. With products for scores, both halves together are scaled dot-product attention
without the scale.

Bahdanau, Cho, Bengio 2015, Neural Machine Translation by Jointly Learning to Align and Translate, section 3.1.
"""

import numpy as np

from npllm.attention.base import Attention
from npllm.core.cache import Cache
from npllm.core.checks import as_floats, as_sequence, check_gradient, check_size
from npllm.layers.softmax import softmax_backward, softmax_forward


def weighted_average(scores, v, mask=None):
    """y = softmax(scores) v      (..., T, S), (..., S, E) → (..., T, E)

    `mask` (..., S) is False for keys that nobody may look at, because they are filling; their weight is 0. A query
    that may look at nothing gets zeros.
    """
    return weighted_average_forward(scores, v, mask)[0]


def weighted_average_forward(scores, v, mask=None):
    """The value, and in the cache the values and the `weights` (..., T, S)."""
    scores, v = as_floats(scores=scores, v=v)
    if min(scores.ndim, v.ndim) < 2 or scores.shape[:-2] != v.shape[:-2] or scores.shape[-1] != v.shape[-2]:
        raise ValueError(
            f"scores {scores.shape}, v {v.shape}: they must be (..., T, S) and (..., S, E), with the same leading "
            "dimensions"
        )
    if mask is not None:
        mask = np.asarray(mask)
        if mask.dtype != bool:
            raise TypeError(f"mask has dtype {mask.dtype}; it must be boolean, True where a query may look")
        check_size("that of v without its channels", v.shape[:-1], **{"the shape of mask": mask.shape})
        scores = np.where(mask[..., None, :], scores, -np.inf)
    weights, softmax = softmax_forward(scores)
    return weights @ v, Cache(weights=weights, softmax=softmax, v=v)


def weighted_average_backward(dy, cache):
    """dscores = softmax′(dy vᵀ),  dv = Aᵀ dy      (..., T, E) → (..., T, S), (..., S, E)

    y = A v, so dA = dy vᵀ and dv = Aᵀ dy; from dA on see softmax_backward. A masked key has the weight 0, and with
    it the gradient 0, in its score and in its value.
    """
    weights, v = cache.weights, cache.v
    dy = check_gradient(dy, (*weights.shape[:-1], v.shape[-1]), v.dtype)
    return softmax_backward(dy @ v.mT, cache.softmax), weights.mT @ dy


class AlignmentAttention(Attention):
    """Attention of one sequence to another; the kinds differ in how they score a query and a key.

    Each kind says what becomes of the keys alone (`prepare`) and how a query is compared with them (`score`). A decoder
    that asks again at every step prepares the keys once, and then only looks.
    """

    def __call__(self, q, k, v, mask=None):
        """The value alone."""
        return self.forward(q, k, v, mask)[0]

    def attention_weights(self, q, k, v, mask=None):
        """The weights A behind the value, (..., T, S): what query t takes from each position s."""
        return self.forward(q, k, v, mask)[1].attention.weights

    def forward(self, q, k, v, mask=None):
        """The value, and the caches of preparing, scoring and averaging. `mask` (..., S) is False for filling."""
        keys, prepare = self.prepare_forward(as_sequence(k))
        y, look = self.look_forward(q, keys, v, mask)
        return y, Cache(prepare=prepare, score=look.score, attention=look.attention)

    def backward(self, dy, cache):
        """dq, dk, dv."""
        dq, dkeys, dv = self.look_backward(dy, cache)
        return dq, self.prepare_backward(dkeys, cache.prepare), dv

    def look_forward(self, q, keys, v, mask=None):
        """The value for prepared keys, and the caches of scoring and averaging."""
        scores, score = self.score_forward(as_sequence(q), keys)
        y, attention = weighted_average_forward(scores, v, mask)
        return y, Cache(score=score, attention=attention)

    def look_backward(self, dy, cache):
        """dq, the gradient of the prepared keys, dv."""
        dscores, dv = weighted_average_backward(dy, cache.attention)
        return *self.score_backward(dscores, cache.score), dv
