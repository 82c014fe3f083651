"""Cross-entropy measures the surprise: minus the logarithm of the probability given to what came next.

    ids → embedding → attention → logits → [loss]

A model that knows nothing gives every token 1/V and loses ln V; a perfect one loses 0.

Shannon 1948, section 6; label smoothing: Szegedy et al. 2016, Rethinking the Inception Architecture, section 7.
"""

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, as_indices, check_gradient, check_size
from npllm.layers.softmax import log_softmax


def cross_entropy(logits, targets, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """lossᵢ = −weight[tᵢ] ln softmax(logitsᵢ)[tᵢ]      (..., V), (...) → () or (...)

    The classes are on the last axis. Options have PyTorch's meaning: positions whose target is `ignore_index`
    count for nothing; `weight` (V) weighs the classes; "mean" divides by the sum of the weights that counted,
    "sum" does not, "none" gives one loss for each position; label_smoothing ε takes (1 − ε) of the loss above
    and ε of the average of −weight[c] ln softmax(logitsᵢ)[c] over all classes c.

    Raises IndexError for a target that is neither a class nor ignore_index, ValueError for a mean over nothing.
    """
    return cross_entropy_forward(logits, targets, weight, ignore_index, reduction, label_smoothing)[0]


def cross_entropy_forward(logits, targets, weight=None, ignore_index=-100, reduction="mean", label_smoothing=0.0):
    """The value, and in the cache `log_probabilities`, the target `classes` and each position's weight `own`."""
    logits, weight = as_floats(logits=logits, weight=weight)
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction is {reduction!r}; it must be "mean", "sum" or "none"')
    if not 0.0 <= label_smoothing <= 1.0:
        raise ValueError(f"label_smoothing is {label_smoothing}; it must be at least 0 and at most 1")
    label_smoothing = float(label_smoothing)
    if logits.ndim == 0:
        raise ValueError("logits is a single number; its last axis must hold the V classes")
    num_classes = logits.shape[-1]
    weight = np.ones(num_classes, logits.dtype) if weight is None else weight
    check_size("one weight for each class", (num_classes,), **{"the shape of weight": weight.shape})
    counted, classes = _split_targets(targets, ignore_index, logits.shape)

    log_probabilities = log_softmax(logits)
    own = np.where(counted, weight[classes], 0)
    of_target = np.take_along_axis(log_probabilities, classes[..., None], axis=-1)[..., 0]
    losses = -own * np.where(counted, of_target, 0)
    if label_smoothing:
        of_all = (weight * log_probabilities).sum(axis=-1) / num_classes
        losses = (1.0 - label_smoothing) * losses + label_smoothing * np.where(counted, -of_all, 0)
    divisor = own.sum() if reduction == "mean" else 1.0
    if divisor == 0:
        raise ValueError("no target counts (all are ignore_index or of weight 0), so the mean is undefined")
    y = losses if reduction == "none" else losses.sum() / divisor
    cache = Cache(
        log_probabilities=log_probabilities,
        classes=classes,
        counted=counted,
        own=own,
        weight=weight,
        divisor=divisor,
        shape=y.shape,
        label_smoothing=label_smoothing,
    )
    return y, cache


def cross_entropy_backward(dy, cache):
    """dlogits = dy (p Σ_c q_c − q),  p = softmax(logits)      (...) → (..., V)

    One position's loss is −Σ_c q_c ln p_c with q = (1 − ε) weight[t] one_hot(t) + ε/V · weight. Each
    ∂(−ln p_c)/∂logits is p − one_hot(c), so dlogits = p Σ_c q_c − q. Without weights and smoothing q sums to 1,
    and this is p − one_hot(t): what the model believed minus what was true.
    """
    p = np.exp(cache.log_probabilities)
    dlosses = check_gradient(dy, cache.shape, p.dtype) / cache.divisor
    epsilon, num_classes = cache.label_smoothing, p.shape[-1]
    on_target = ((1.0 - epsilon) * cache.own * dlosses)[..., None]
    on_all = (epsilon / num_classes * cache.counted * dlosses)[..., None].astype(p.dtype)
    dlogits = p * (on_target + on_all * cache.weight.sum()) - on_all * cache.weight
    rows = dlogits.reshape(-1, num_classes)
    rows[np.arange(len(rows)), cache.classes.reshape(-1)] -= on_target.reshape(-1)
    return dlogits


def _split_targets(targets, ignore_index, logits_shape):
    """Which positions count, and every position's class, class 0 standing in where it does not count."""
    targets = np.asarray(targets)
    if not np.issubdtype(targets.dtype, np.integer):
        raise TypeError(f"targets has dtype {targets.dtype}; it must be an integer dtype")
    check_size("one target for each position", logits_shape[:-1], **{"the shape of targets": targets.shape})
    counted = targets != ignore_index
    return counted, as_indices("targets", np.where(counted, targets, 0), 0, logits_shape[-1])
