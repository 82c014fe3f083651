"""Cross-entropy, the training loss: minus the logarithm of the probability that the model gives to the target.

    ids → embedding → attention → logits → [loss]

The loss of a uniform distribution over V classes is ln V; the loss of a certain and correct prediction is 0.

Raschka, Build a Large Language Model (From Scratch), section 5.1.2; Goodfellow, Bengio, Courville, Deep Learning,
section 3.13; label smoothing: Szegedy et al. 2016, Rethinking the Inception Architecture, section 7.
"""

from typing import Any

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import (
    as_array,
    as_floats,
    as_indices,
    check_gradient,
    check_integer,
    check_number,
    check_shape,
    reject_half,
)
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.row_blocks import map_rows
from npllm.layers.softmax import log_softmax, softmax


@ieee_arithmetic
def negative_log_likelihood_forward(logits: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, Cache]:
    """lossᵢ = −ln softmax(logitsᵢ)[tᵢ]      (..., V), (...) → (...)

    The cache holds the logits and the targets: softmax is computed again in the backward, row by row, because all
    rows of it take as much memory as the logits.
    """

    def formula(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return -np.take_along_axis(log_softmax(logits), targets[..., None], axis=-1)[..., 0]

    return map_rows(formula, logits, targets), Cache(logits=logits, targets=targets)


@ieee_arithmetic
def negative_log_likelihood_backward(dlosses: np.ndarray, cache: Cache) -> np.ndarray:
    """dlogitsᵢ = dlossᵢ (p − one_hot(tᵢ)),  p = softmax(logitsᵢ)      (...) → (..., V)

    lossᵢ = ln Σ_c exp(logits_c) − logits_t. The derivative of the first term is p, that of the second one_hot(t).
    """

    def formula(logits: np.ndarray, targets: np.ndarray, dlosses: np.ndarray) -> np.ndarray:
        dlogits = softmax(logits)
        dlogits *= dlosses[..., None]
        at_target = np.take_along_axis(dlogits, targets[..., None], axis=-1)
        np.put_along_axis(dlogits, targets[..., None], at_target - dlosses[..., None], axis=-1)
        return dlogits

    return map_rows(formula, cache.logits, cache.targets, dlosses)


def cross_entropy(
    logits: np.ndarray,
    targets: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> np.ndarray:
    """lossᵢ = −weight[tᵢ] ln softmax(logitsᵢ)[tᵢ]      (..., V), (...) → () or (...)

    The classes are on the last axis; `targets` holds their indices. The options are those of PyTorch:

    weight            a factor for each class (V)
    ignore_index      positions with this target have loss 0 and gradient 0
    reduction         "mean" divides the sum of the losses by the sum of weight[tᵢ], "sum" returns the sum, "none" the
                      loss of each position
    label_smoothing   ε: the loss is (1 − ε) lossᵢ + ε times the mean over all classes c of
                      −weight[c] ln softmax(logitsᵢ)[c]

    Raises IndexError for a target that is neither a class nor ignore_index, and ValueError for the mean of no loss.
    """
    return cross_entropy_forward(logits, targets, weight, ignore_index, reduction, label_smoothing)[0]


@ieee_arithmetic
def cross_entropy_forward(
    logits: np.ndarray,
    targets: np.ndarray,
    weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> tuple[np.ndarray, Cache]:
    """The weighted, smoothed and reduced negative log likelihood.

    The cache holds `nll`, the cache of the negative log likelihood; `is_counted` (False where the target is
    ignore_index), `class_weight`, the weight of each position's target as `target_weight`, and the divisor.
    """
    logits, class_weight, targets, is_counted, epsilon = check_arguments(
        logits, targets, weight, ignore_index, reduction, label_smoothing
    )
    losses, nll = negative_log_likelihood_forward(logits, targets)
    target_weight = np.where(is_counted, class_weight[targets], 0)
    losses = target_weight * np.where(is_counted, losses, 0)
    if epsilon:
        mean_log_prob = map_rows(lambda z: (class_weight * log_softmax(z)).sum(axis=-1) / len(class_weight), logits)
        losses = (1.0 - epsilon) * losses + epsilon * np.where(is_counted, -mean_log_prob, 0)
    divisor = target_weight.sum() if reduction == "mean" else 1.0
    if divisor == 0:
        raise ValueError("targets has no position that counts (ignore_index, or weight 0), so the mean is undefined")
    y = losses if reduction == "none" else losses.sum() / divisor
    return y, Cache(
        nll=nll, is_counted=is_counted, class_weight=class_weight, target_weight=target_weight, epsilon=epsilon,
        divisor=divisor, shape=y.shape,
    )  # fmt: skip


@ieee_arithmetic
def cross_entropy_backward(dy: np.ndarray | float, cache: Cache) -> np.ndarray:
    """dlogitsᵢ = dyᵢ (p Σ_c q_c − q),  q = (1 − ε) weight[tᵢ] one_hot(tᵢ) + ε/V weight      (...) → (..., V)

    The loss is Σ_c q_c (−ln p_c), and the derivative of −ln p_c is p − one_hot(c). The part with one_hot(t) is the
    negative log likelihood times (1 − ε) weight[t]. Without weight and smoothing, dlogitsᵢ = dyᵢ (p − one_hot(tᵢ)).
    """
    logits, class_weight, epsilon = cache.nll.logits, cache.class_weight, cache.epsilon
    dlosses = check_gradient(dy, cache.shape, logits.dtype) / cache.divisor
    dlogits = negative_log_likelihood_backward((1.0 - epsilon) * cache.target_weight * dlosses, cache.nll)
    if epsilon:
        dmean = (epsilon / len(class_weight) * np.where(cache.is_counted, dlosses, 0))[..., None]
        total = class_weight.sum()
        dlogits += map_rows(lambda z, dmean: dmean * (softmax(z) * total - class_weight), logits, dmean)
    dlogits[~cache.is_counted] = 0  # whatever the logits are: 0 · inf and 0 · nan are nan
    return dlogits


def check_arguments(
    logits: Any, targets: Any, weight: Any, ignore_index: int, reduction: str, label_smoothing: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
    """The logits, the weight of each class, the targets, which of them count, and ε; ignored targets become 0."""
    logits, weight = as_floats(logits=logits, weight=weight)
    reject_half(logits)
    check_shape("logits", logits, "(..., V)")
    num_classes = logits.shape[-1]
    class_weight = np.ones(num_classes, logits.dtype) if weight is None else weight
    check_shape("weight", class_weight, "(V)", V=num_classes)
    targets = as_array("targets", targets)
    if targets.size == 0 and targets.dtype == np.float64:
        targets = targets.astype(np.int64)  # NumPy's dtype for an empty list
    if targets.dtype.kind not in "iu":
        raise TypeError(f"targets has dtype {targets.dtype}; it must be an integer dtype")
    if targets.shape != logits.shape[:-1]:
        raise ValueError(f"targets has shape {targets.shape}; it must be {logits.shape[:-1]}, a target for each logits")
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f'reduction is {reduction!r}; it must be "mean", "sum" or "none"')
    check_integer("ignore_index", ignore_index)
    if not 0.0 <= check_number("label_smoothing", label_smoothing) <= 1.0:
        raise ValueError(f"label_smoothing is {label_smoothing}; it must be at least 0 and at most 1")
    is_counted = targets != ignore_index
    targets = as_indices("targets", np.where(is_counted, targets, 0), 0, num_classes)
    return logits, class_weight, targets, is_counted, float(label_smoothing)
