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

from npllm.functional.cache import Cache
from npllm.functional.checks import floats, output_gradient, same_size
from npllm.functional.softmax import softmax_backward, softmax_forward


def additive_scores(q, k, v):
    """scores_ts = vᵀ tanh(q_t + k_s)      (..., T, A), (..., S, A), (A) → (..., T, S)

    q and k are already mapped to the A hidden numbers of the network, v reads its answer. All pairs are held at once,
    T · S · A numbers; a product of q and k would need none of them.
    """
    return additive_scores_forward(q, k, v)[0]


def additive_scores_forward(q, k, v):
    """The value, and in the cache v and the hidden layer of all pairs, (..., T, S, A)."""
    q, k, v = floats(q=q, k=k, v=v)
    if min(q.ndim, k.ndim) < 2 or v.ndim != 1 or q.shape[:-2] != k.shape[:-2]:
        raise ValueError(
            f"q {q.shape}, k {k.shape}, v {v.shape}: they must be (..., T, A), (..., S, A) and (A), "
            "with the same leading dimensions"
        )
    same_size("the width of v", len(v), **{"the width of q": q.shape[-1], "the width of k": k.shape[-1]})
    hidden = np.tanh(q[..., :, None, :] + k[..., None, :, :])
    return hidden @ v, Cache(hidden=hidden, v=v)


def additive_scores_backward(dscores, cache):
    """dq_t = Σ_s dp_ts,  dk_s = Σ_t dp_ts,  dv = Σ dscores tanh      (..., T, S) → (..., T, A), (..., S, A), (A)

    score = vᵀ h with h = tanh(p), so dv gets dscore h, and dp = dscore v (1 − h²). p_ts = q_t + k_s, so a query
    sums over all keys that it was compared with, and a key over all queries.
    """
    hidden, v = cache.hidden, cache.v
    dscores = output_gradient(dscores, hidden.shape[:-1], hidden.dtype)
    dv = dscores.reshape(-1) @ hidden.reshape(-1, len(v))
    dsum = dscores[..., None] * v * (1.0 - hidden * hidden)
    return dsum.sum(axis=-2), dsum.sum(axis=-3), dv


def weighted_average(scores, v, mask=None):
    """y = softmax(scores) v      (..., T, S), (..., S, E) → (..., T, E)

    `mask` (..., S) is False for keys that nobody may look at, because they are filling; their weight is 0. A query
    that may look at nothing gets zeros.
    """
    return weighted_average_forward(scores, v, mask)[0]


def weighted_average_forward(scores, v, mask=None):
    """The value, and in the cache the values and the `weights` (..., T, S)."""
    scores, v = floats(scores=scores, v=v)
    if min(scores.ndim, v.ndim) < 2 or scores.shape[:-2] != v.shape[:-2] or scores.shape[-1] != v.shape[-2]:
        raise ValueError(
            f"scores {scores.shape}, v {v.shape}: they must be (..., T, S) and (..., S, E), with the same leading "
            "dimensions"
        )
    if mask is not None:
        mask = np.asarray(mask)
        if mask.dtype != bool:
            raise TypeError(f"mask has dtype {mask.dtype}; it must be boolean, True where a query may look")
        same_size("that of v without its channels", v.shape[:-1], **{"the shape of mask": mask.shape})
        scores = np.where(mask[..., None, :], scores, -np.inf)
    weights, softmax = softmax_forward(scores)
    return weights @ v, Cache(weights=weights, softmax=softmax, v=v)


def weighted_average_backward(dy, cache):
    """dscores = softmax′(dy vᵀ),  dv = Aᵀ dy      (..., T, E) → (..., T, S), (..., S, E)

    y = A v, so dA = dy vᵀ and dv = Aᵀ dy; from dA on see softmax_backward. A masked key has the weight 0, and with
    it the gradient 0, in its score and in its value.
    """
    weights, v = cache.weights, cache.v
    dy = output_gradient(dy, (*weights.shape[:-1], v.shape[-1]), v.dtype)
    return softmax_backward(dy @ v.mT, cache.softmax), weights.mT @ dy
