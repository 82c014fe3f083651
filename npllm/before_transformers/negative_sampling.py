"""Negative sampling: a loss over a few words instead of a softmax over the whole vocabulary.

    x → [dot products with the target's vector and with those of K random words] → logistic losses → loss

Softmax over a vocabulary of V words costs V dot products for every prediction. Negative sampling replaces the choice
among V words by K + 1 yes-or-no decisions: is this the target, or one of K words drawn at random (negative samples)?
It costs K + 1 dot products, and the word vectors are as good.

Mikolov, Sutskever, Chen, Corrado, Dean 2013, Distributed Representations of Words and Phrases, section 2.2.
"""

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, as_indices, check_given, check_gradient, check_shape
from npllm.layers.activations import sigmoid


def negative_sampling(x: np.ndarray, weight: np.ndarray, targets: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """loss = mean of −ln σ(w_t · x) − Σₖ ln σ(−wₖ · x)      (..., C), (V, C), (...), (..., K) → ()

    x is the model's hidden layer; `weight` has a vector for every word; `targets` are the ids of the correct words,
    `negatives` those of K random words for each. Raises IndexError for an id outside [0, V), and ValueError for shapes
    that do not fit or an empty batch.
    """
    return negative_sampling_forward(x, weight, targets, negatives)[0]


def negative_sampling_forward(
    x: np.ndarray, weight: np.ndarray, targets: np.ndarray, negatives: np.ndarray
) -> tuple[np.ndarray, Cache]:
    """The loss; the cache holds x, the ids (..., 1 + K), target first, their vectors, and the scores w · x."""
    check_given(x=x, weight=weight)
    x, weight = as_floats(x=x, weight=weight)
    targets, negatives = _check(x, weight, targets, negatives)
    ids = np.concatenate([targets[..., None], negatives], axis=-1)
    vectors = weight[ids]
    scores = (vectors @ x[..., None])[..., 0]
    signs = np.full(ids.shape[-1], -1.0, x.dtype)
    signs[0] = 1.0  # the target
    losses = np.logaddexp(np.zeros((), x.dtype), -signs * scores)  # −ln σ(s) = ln(1 + exp(−s)), without overflow
    loss = losses.sum() / targets.size
    return loss, Cache(x=x, ids=ids, vectors=vectors, scores=scores, signs=signs, vocab_size=len(weight))


def negative_sampling_backward(dloss: np.ndarray | float, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """dx = Σ_w ds_w w,  dw = ds_w x      () → (..., C), (V, C)

    −ln σ(s) has the derivative σ(s) − 1, and −ln σ(−s) has σ(s): the predicted probability minus the label, 1 for the
    target and 0 for a negative sample. With s = w · x:  dx = Σ ds w, and dw = ds x. A word that occurs several times,
    drawn twice or equal to the target, gets the sum.
    """
    x, ids = cache.x, cache.ids
    dloss = check_gradient(dloss, (), x.dtype)
    dscores = (sigmoid(cache.scores) - (cache.signs > 0)) * (dloss / (ids.size // ids.shape[-1]))
    dscores = dscores.astype(x.dtype, copy=False)
    dx = (dscores[..., None, :] @ cache.vectors)[..., 0, :]
    dvectors = dscores[..., None] * x[..., None, :]
    dweight = np.zeros((cache.vocab_size, x.shape[-1]), x.dtype)
    np.add.at(dweight, ids.reshape(-1), dvectors.reshape(-1, x.shape[-1]))
    return dx, dweight


def _check(
    x: np.ndarray, weight: np.ndarray, targets: np.ndarray, negatives: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return targets and negatives as arrays; raise unless all shapes fit and all ids are words."""
    sizes = check_shape("weight", weight, "(V, C)")
    check_shape("x", x, "(..., C)", C=sizes["C"])
    targets = as_indices("targets", targets, 0, len(weight))
    negatives = as_indices("negatives", negatives, 0, len(weight))
    if targets.shape != x.shape[:-1]:
        raise ValueError(f"targets has shape {targets.shape}; it must be {x.shape[:-1]}, one id for each vector of x")
    if negatives.shape[:-1] != targets.shape or negatives.ndim == 0:
        raise ValueError(f"negatives has shape {negatives.shape}; it must be (..., K), K ids for each target")
    if targets.size == 0:
        raise ValueError("targets is empty; the mean of nothing is undefined")
    return targets, negatives
