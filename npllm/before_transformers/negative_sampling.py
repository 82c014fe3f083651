"""Negative sampling: instead of "which of all V words came next?" ask "did this one, rather than those few?"

    vector of the centre word → [dot products with one true word and K drawn ones] → loss

Softmax over a vocabulary costs a product with every word's vector for each prediction. Telling the word that came
from K words drawn at random costs K + 1 products, and learns vectors as good.

Mikolov, Sutskever, Chen, Corrado, Dean 2013, Distributed Representations of Words and Phrases, section 2.2.
"""

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, as_indices, check_gradient, check_size
from npllm.layers.activations import sigmoid


def negative_sampling(x, weight, targets, negatives):
    """loss = mean of −ln σ(w_t · x) − Σₖ ln σ(−wₖ · x)      (..., C), (V, C), (...), (..., K) → ()

    x is what the model makes of the words it was given, `weight` holds an output vector for every word, `targets` are
    the ids of the words that came, `negatives` those of K drawn ones for each. Raises IndexError for an id outside
    [0, V), ValueError where the shapes do not meet or there is nothing to average.
    """
    return negative_sampling_forward(x, weight, targets, negatives)[0]


def negative_sampling_forward(x, weight, targets, negatives):
    """The value, and in the cache x, the words' ids (..., 1 + K), their vectors, and the scores w · x."""
    x, weight = as_floats(x=x, weight=weight)
    if weight.ndim != 2 or x.ndim == 0:
        raise ValueError(f"x has shape {x.shape} and weight {weight.shape}; they must be (..., C) and (V, C)")
    check_size("the number of channels of x", x.shape[-1], **{"the width of weight (V, C)": weight.shape[1]})
    targets = as_indices("targets", targets, 0, len(weight))
    negatives = as_indices("negatives", negatives, 0, len(weight))
    check_size("one target for each x", x.shape[:-1], **{"the shape of targets": targets.shape})
    check_size(
        "the leading dimensions of x", x.shape[:-1], **{"the shape of negatives but for K": negatives.shape[:-1]}
    )
    if targets.size == 0:
        raise ValueError("targets is empty; the mean over nothing is undefined")
    ids = np.concatenate([targets[..., None], negatives], axis=-1)
    vectors = weight[ids]
    scores = (vectors @ x[..., None])[..., 0]
    signs = np.full(ids.shape[-1], -1.0, x.dtype)  # the drawn words should score low …
    signs[0] = 1.0  # … and the true one high
    losses = np.logaddexp(np.zeros((), x.dtype), -signs * scores)  # −ln σ(s) = ln(1 + exp(−s)), without overflow
    loss = losses.sum() / targets.size
    return loss, Cache(x=x, ids=ids, vectors=vectors, scores=scores, signs=signs, num_words=len(weight))


def negative_sampling_backward(dy, cache):
    """dx = Σ_w ds_w w,  dw = ds_w x      () → (..., C), (V, C)

    −ln σ(s) has the derivative σ(s) − 1, and −ln σ(−s) has σ(s): what was believed minus what is true, 1 for the
    word that came and 0 for the drawn ones. s = w · x, so dx sums ds w over the words and each word gets ds x; a word
    met at several places, drawn twice or drawn though it was the true one, gets the sum.
    """
    x, ids = cache.x, cache.ids
    dy = check_gradient(dy, (), x.dtype)
    dscores = (sigmoid(cache.scores) - (cache.signs > 0)) * (dy / (ids.size // ids.shape[-1]))
    dscores = dscores.astype(x.dtype, copy=False)
    dx = (dscores[..., None, :] @ cache.vectors)[..., 0, :]
    dvectors = dscores[..., None] * x[..., None, :]
    dweight = np.zeros((cache.num_words, x.shape[-1]), x.dtype)
    np.add.at(dweight, ids.reshape(-1), dvectors.reshape(-1, x.shape[-1]))
    return dx, dweight
