"""The head and the cross-entropy in one function: the logits of all positions never are in memory at once.

    hidden states → [head → logits → loss], for one block of positions at a time

With 50,257 classes the logits of 512 positions take 100 MB, and the plain form of cross_entropy.py has several arrays
of this size. Here a block of positions has its logits in one scratch array; the softmax, the loss and the gradient of
the logits are computed in this array, a few rows at a time, so that they stay in the processor's cache. The gradient of
the head's weight is the sum of those of the blocks, added in place.

`linear_cross_entropy_backward` computes the logits a second time. Where the loss is only a step on the way to its
gradient, as in training, `add_linear_cross_entropy_gradients` computes them once, for both.

Wijmans et al. 2024, Cut Your Losses in Large-Vocabulary Language Models; Hsu et al. 2024, Liger Kernel, section 3.2.
"""

from typing import Any, NamedTuple

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_given, check_gradient, check_number, check_real, check_shape, reject_half
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.matrix_product import matmul
from npllm.core.module import Parameter
from npllm.core.threads import parallel
from npllm.layers.cross_entropy import check_arguments
from npllm.layers.linear import add_weight_gradient

BLOCK_SIZE = 2**24  # logits in a block of positions
ROWS_SIZE = 2**16  # logits that are computed on at a time


class _Rows(NamedTuple):
    """The arguments, checked; one row for each position."""

    x: np.ndarray  # (N, C)
    targets: np.ndarray  # (N); 0 where ignored
    is_counted: np.ndarray  # (N)
    target_weight: np.ndarray  # (N); 0 where ignored
    class_weight: np.ndarray | None  # (V), or None for ones
    epsilon: float
    scaling: float
    softcap: float | None

    def block(self, rows: slice) -> "_Rows":
        """The same for some of the positions."""
        return self._replace(**{name: getattr(self, name)[rows] for name in self._fields[:4]})


def linear_cross_entropy(
    x: np.ndarray,
    weight: np.ndarray,
    targets: np.ndarray,
    class_weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    logits_scaling: float = 1.0,
    logits_softcap: float | None = None,
) -> np.ndarray:
    """loss = cross_entropy(x weightᵀ, targets)      (..., C), (V, C), (...) → () or (...)

    The options are those of `cross_entropy`, where the weight of each class is called `weight`.

    logits_scaling   the logits are x weightᵀ / logits_scaling
    logits_softcap   logits then become logits_softcap · tanh(logits / logits_softcap)
    """
    return linear_cross_entropy_forward(
        x, weight, targets, class_weight, ignore_index, reduction, label_smoothing,
        logits_scaling=logits_scaling, logits_softcap=logits_softcap,
    )[0]  # fmt: skip


@ieee_arithmetic
def linear_cross_entropy_forward(
    x: np.ndarray,
    weight: np.ndarray,
    targets: np.ndarray,
    class_weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    logits_scaling: float = 1.0,
    logits_softcap: float | None = None,
) -> tuple[np.ndarray, Cache]:
    """The loss; the cache holds the arguments, and neither logits nor probabilities."""
    weight, rows, shape = _check(
        x, weight, targets, class_weight, ignore_index, reduction, label_smoothing, logits_scaling, logits_softcap
    )
    divisor = _divisor(rows, reduction)
    losses = _run(Parameter(weight), rows)[0]
    y = losses.reshape(shape[:-1]) if reduction == "none" else losses.sum() / divisor
    return y, Cache(x=rows.x, weight=weight, rows=rows, divisor=divisor, shape=shape, y_shape=y.shape)


@ieee_arithmetic
def linear_cross_entropy_backward(dy: np.ndarray | float, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """dx = dlogits weight,  dweight = dlogitsᵀ x      (...) → (..., C), (V, C)

    dlogits is that of `cross_entropy_backward`, for one block of positions at a time.
    """
    dlosses = check_gradient(dy, cache.y_shape, cache.weight.dtype) / cache.divisor
    head = Parameter(cache.weight)
    _, dx = _run(head, cache.rows, np.broadcast_to(dlosses, cache.shape[:-1]).reshape(len(cache.rows.x)))
    return dx.reshape(cache.shape), np.zeros_like(cache.weight) if head.grad is None else head.grad


@ieee_arithmetic
def add_linear_cross_entropy_gradients(
    head: Parameter,
    x: np.ndarray,
    targets: np.ndarray,
    dloss: float = 1.0,
    class_weight: np.ndarray | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
    *,
    logits_scaling: float = 1.0,
    logits_softcap: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """loss and dx; dweight is added to the gradient of `head`, the parameter of the weight      → (), (..., C)

    The same as linear_cross_entropy_forward and its backward with dy = dloss; the logits are computed once. `reduction`
    must be "mean" or "sum".
    """
    if reduction == "none":
        raise ValueError('reduction is "none"; it must be "mean" or "sum", because dloss is one number')
    _, rows, shape = _check(
        x, head.data, targets, class_weight, ignore_index, reduction, label_smoothing, logits_scaling, logits_softcap
    )
    divisor = _divisor(rows, reduction)
    dlosses = np.full(len(rows.x), float(dloss), rows.x.dtype) / divisor
    losses, dx = _run(head, rows, dlosses)
    return losses.sum() / divisor, dx.reshape(shape)


def _run(head: Parameter, rows: _Rows, dlosses: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The loss of every row, and with `dlosses` the gradient of x; that of the weight is added to `head`."""
    weight = head.data
    count = len(rows.x)
    losses, dx = np.empty(count, weight.dtype), np.empty_like(rows.x if dlosses is not None else rows.x[:0])
    step = min(max(1, BLOCK_SIZE // max(1, len(weight))), max(1, count))
    scratch = np.empty((step, len(weight)), weight.dtype)
    for start in range(0, count, step):
        block = slice(start, min(start + step, count))
        part = rows.block(block)
        logits = scratch[: len(part.x)]
        matmul(part.x, weight.T, out=logits)
        losses[block] = _in_place(logits, part, None if dlosses is None else dlosses[block])
        if dlosses is not None:
            matmul(logits, weight, out=dx[block])  # now the gradient of the logits
            add_weight_gradient(head, logits, part.x)
    return losses, dx


def _in_place(logits: np.ndarray, rows: _Rows, dlosses: np.ndarray | None) -> np.ndarray:
    """The losses; with `dlosses`, dlogits is written over the logits. A few rows at a time, on several threads."""
    losses = np.empty(len(logits), logits.dtype)
    step = max(1, ROWS_SIZE // max(1, logits.shape[1]))

    def run(start: int) -> None:
        few = slice(start, start + step)
        losses[few] = _few_rows(logits[few], rows.block(few), None if dlosses is None else dlosses[few])

    parallel(run, range(0, len(logits), step))
    return losses


@ieee_arithmetic
def _few_rows(logits: np.ndarray, rows: _Rows, dlosses: np.ndarray | None) -> np.ndarray:
    """lossᵢ = −ln softmax(logitsᵢ)[tᵢ] with weights and smoothing, and then dlogits in place of the logits."""
    tanh = _transform(logits, rows)
    maximum = logits.max(axis=-1, keepdims=True, initial=-np.inf)
    logits -= np.where(maximum == -np.inf, 0, maximum)
    target = np.arange(len(logits)), rows.targets
    target_logit = logits[target]
    weighted = None if not rows.epsilon else _weighted_sum(logits, rows.class_weight)
    np.exp(logits, out=logits)
    total = logits.sum(axis=-1)
    total[total == 0] = 1
    log_total = np.log(total)
    losses = rows.target_weight * np.where(rows.is_counted, log_total - target_logit, 0)
    if weighted is not None:
        mean_log_prob = (weighted - log_total * _weight_sum(logits, rows)) / logits.shape[1]
        losses = (1.0 - rows.epsilon) * losses + rows.epsilon * np.where(rows.is_counted, -mean_log_prob, 0)
    if dlosses is not None:
        _gradient_in_place(logits, total, target, rows, dlosses)
        if tanh is not None:
            logits *= 1.0 - tanh * tanh
        if rows.scaling != 1.0:
            logits /= rows.scaling
        logits[~rows.is_counted] = 0  # whatever the logits are: 0 · inf and 0 · nan are nan
    return losses


def _gradient_in_place(
    exponentials: np.ndarray, total: np.ndarray, target: tuple, rows: _Rows, dlosses: np.ndarray
) -> None:
    """dlogitsᵢ = dlossᵢ (p Σ_c q_c − q), written over the exponentials, p = exponentials / total."""
    dtarget = (1.0 - rows.epsilon) * rows.target_weight * dlosses
    dmean = rows.epsilon / exponentials.shape[1] * np.where(rows.is_counted, dlosses, 0)
    factor = dtarget + dmean * _weight_sum(exponentials, rows) if rows.epsilon else dtarget
    exponentials *= (factor / total)[:, None]
    exponentials[target] -= dtarget
    if rows.epsilon:
        exponentials -= dmean[:, None] if rows.class_weight is None else dmean[:, None] * rows.class_weight


def _transform(logits: np.ndarray, rows: _Rows) -> np.ndarray | None:
    """Divide and cap the logits in place; return tanh(logits / softcap), None without a cap."""
    if rows.scaling != 1.0:
        logits /= rows.scaling
    if rows.softcap is None:
        return None
    tanh = np.tanh(logits / rows.softcap)
    np.multiply(tanh, rows.softcap, out=logits)
    return tanh


def _weighted_sum(logits: np.ndarray, class_weight: np.ndarray | None) -> np.ndarray:
    return logits.sum(axis=-1) if class_weight is None else (class_weight * logits).sum(axis=-1)


def _weight_sum(logits: np.ndarray, rows: _Rows) -> Any:
    return float(logits.shape[1]) if rows.class_weight is None else rows.class_weight.sum()


def _divisor(rows: _Rows, reduction: str) -> Any:
    divisor = rows.target_weight.sum() if reduction == "mean" else 1.0
    if divisor == 0:
        raise ValueError("targets has no position that counts (ignore_index, or weight 0), so the mean is undefined")
    return divisor


def _check(
    x: Any, weight: Any, targets: Any, class_weight: Any, ignore_index: int, reduction: str, label_smoothing: float,
    scaling: float, softcap: float | None,
) -> tuple[np.ndarray, _Rows, tuple[int, ...]]:  # fmt: skip
    """The weight, the other arguments as rows, and the shape of x."""
    check_given(weight=weight)
    x, weight, class_weight = as_floats(x=x, weight=weight, class_weight=class_weight)
    reject_half(x)
    check_shape("weight", weight, "(V, C)")
    if class_weight is not None:
        check_shape("class_weight", class_weight, "(V)", V=len(weight))
    check_shape("x", x, "(..., C)", C=weight.shape[1])
    logits = np.broadcast_to(x.dtype.type(0), (*x.shape[:-1], len(weight)))  # for its shape and dtype
    _, weights, targets, is_counted, epsilon = check_arguments(
        logits, targets, class_weight, ignore_index, reduction, label_smoothing
    )
    target_weight = np.where(is_counted, weights[targets], 0).reshape(-1)
    x_rows = x.reshape(targets.size, x.shape[-1])
    scaling, softcap = _check_transform(scaling, softcap, x.dtype)
    rows = _Rows(
        x_rows, targets.reshape(-1), is_counted.reshape(-1), target_weight, class_weight, epsilon, scaling, softcap
    )
    return weight, rows, x.shape


def _check_transform(scaling: float, softcap: float | None, dtype: np.dtype) -> tuple[float, float | None]:
    """What divides and what caps the logits, as floats; raises ValueError for 0, and for a cap that is not positive."""
    scaling = check_number("logits_scaling", scaling)
    if scaling == 0:
        raise ValueError("logits_scaling is 0; it must be another number, because the logits are divided by it")
    if softcap is None:
        return scaling, None
    check_real("logits_softcap", softcap)
    limits = np.finfo(dtype)
    if not float(limits.tiny) <= softcap <= float(limits.max):
        raise ValueError(
            f"logits_softcap is {softcap}; it must be greater than 0 and finite in {dtype}, or None for no cap"
        )
    return scaling, float(softcap)
