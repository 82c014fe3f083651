"""Attention between two sequences: scores for all pairs, then a weighted average of the values.

    decoder states (queries) ──┐
    encoder states (keys) ─────┴→ [scores] → softmax → weights ─┐
    encoder states (values) ────────────────────────────────────┴→ [weighted average] → context

Attention was introduced for translation. The weights of a target word say which source words it was translated from;
such an assignment is called an alignment, and here it is learned. The kinds of attention in this folder differ in the
score of a query and a key only: `additive` has Bahdanau's, `luong` has three others. The rest, softmax and weighted
average, is shared with scaled dot-product attention, whose scores are q kᵀ/√D.

Bahdanau, Cho, Bengio 2015, Neural Machine Translation by Jointly Learning to Align and Translate, section 3.1.
"""

from typing import Any

import numpy as np

from npllm.attention.scaled_dot_product import attend_backward, attend_forward
from npllm.core.cache import Cache
from npllm.core.checks import as_array, as_floats, as_sequence, check_given
from npllm.core.module import Module


def weighted_average(scores: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """y = softmax(scores) v      (..., T, S), (..., S, E) → (..., T, E)

    `mask` (..., S), boolean, is False for keys that are padding; their weight is 0. A query without any key gets zeros.
    """
    return weighted_average_forward(scores, v, mask)[0]


def weighted_average_forward(
    scores: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None
) -> tuple[np.ndarray, Cache]:
    """The context y; the cache is that of `attend_forward` and holds the `weights` (..., T, S) and the values."""
    check_given(scores=scores, v=v)
    scores, v = as_floats(scores=scores, v=v)
    _check_shapes(scores, v)
    mask = None if mask is None else _check_mask(mask, v.shape[:-1])[..., None, :]  # the same keys for every query
    return attend_forward(scores, v, mask)


def weighted_average_backward(dy: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """dscores = softmax′(dy vᵀ),  dv = Aᵀ dy      (..., T, E) → (..., T, S), (..., S, E)

    y = A v, so dA = dy vᵀ and dv = Aᵀ dy; A = softmax(scores), so dscores is that of softmax. Where the mask made a
    weight 0, the gradients of the score and of the value are 0.
    """
    dscores, dv = attend_backward(dy, cache)
    return dscores, dv


class AlignmentAttention(Module):
    """context = softmax(score(q, k)) v: the base class; each kind of attention defines its score.

    A kind has two pairs of methods: `project_keys_forward/_backward`, what the score computes from the keys alone, and
    `score_forward/_backward`, the scores of queries and projected keys. A decoder that attends to the same keys at
    every step projects them once.
    """

    def project_keys_forward(self, k: np.ndarray) -> tuple[np.ndarray, Cache]:
        """The projected keys (..., S, A)."""
        raise NotImplementedError

    def project_keys_backward(self, dkeys: np.ndarray, cache: Cache) -> np.ndarray:
        """dk (..., S, K)."""
        raise NotImplementedError

    def score_forward(self, q: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, Cache]:
        """The scores (..., T, S) of queries (..., T, Q) and projected keys (..., S, A)."""
        raise NotImplementedError

    def score_backward(self, dscores: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
        """dq, and dkeys of the projected keys."""
        raise NotImplementedError

    def forward(
        self, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, Cache]:
        """The context; the cache holds those of projection, scores and average. `mask` (..., S) is False at padding."""
        keys, projection = self.project_keys_forward(as_sequence(k, "k"))
        context, cache = self.attend_forward(q, keys, v, mask=mask)
        cache.projection = projection
        return context, cache

    def backward(self, dcontext: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """dq, dk, dv."""
        dq, dkeys, dv = self.attend_backward(dcontext, cache)
        return dq, self.project_keys_backward(dkeys, cache.projection), dv

    def attend_forward(
        self, q: np.ndarray, keys: np.ndarray, v: np.ndarray, *, mask: np.ndarray | None = None
    ) -> tuple[np.ndarray, Cache]:
        """The context for projected keys; the cache holds those of scores and average."""
        scores, score = self.score_forward(as_sequence(q, "q"), keys)
        context, attention = weighted_average_forward(scores, v, mask)
        return context, Cache(score=score, attention=attention)

    def attend_backward(self, dcontext: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """dq, dkeys of the projected keys, dv."""
        dscores, dv = weighted_average_backward(dcontext, cache.attention)
        dq, dkeys = self.score_backward(dscores, cache.score)
        return dq, dkeys, dv

    def attention_weights(
        self, q: np.ndarray, k: np.ndarray, v: np.ndarray, *, mask: np.ndarray | None = None
    ) -> np.ndarray:
        """The weights (..., T, S): row t is how much of each value is in context t."""
        return self.forward(q, k, v, mask=mask)[1].attention.weights


def _check_shapes(scores: np.ndarray, v: np.ndarray) -> None:
    if min(scores.ndim, v.ndim) < 2 or scores.shape[:-2] != v.shape[:-2] or scores.shape[-1] != v.shape[-2]:
        raise ValueError(
            f"scores {scores.shape}, v {v.shape}: they must be (..., T, S) and (..., S, E), with equal leading "
            "dimensions"
        )


def _check_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    mask = as_array("mask", mask)
    if mask.dtype != bool:
        raise TypeError(f"mask has dtype {mask.dtype}; it must be boolean, False at padding")
    if mask.shape != shape:
        raise ValueError(f"mask has shape {mask.shape}; it must be {shape}, one entry for each key")
    return mask
