"""One training step: loss, gradients, clipping, update. Every training loop of npllm calls it.

batch → [loss_forward → loss_backward → clip → optimizer.step] → updated parameters
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from npllm.training.clipping import check_max_norm, clip_grad_norm


class StepResult(NamedTuple):
    """The loss before the update, and the gradient norm before clipping (None without clipping)."""

    loss: float
    grad_norm: float | None


def training_step(model: Any, optimizer: Any, *batch: Any, max_grad_norm: float | None = None, **options) -> StepResult:
    """loss = model.loss(*batch);  parameters ← optimizer(parameters, ∂loss/∂parameters)

    Args:
        model: any object with `loss_forward(*batch, **options) → loss, cache` and `loss_backward(dloss, cache)`.
        optimizer: an optimizer of the model's parameters, such as AdamW.
        batch: the positional arguments of `loss_forward`, for example inputs and targets.
        max_grad_norm: if given, clip the gradients to this norm.
        options: the keyword arguments of `loss_forward`, for example `rng` for dropout.
    """
    return accumulated_training_step(model, optimizer, [(1.0, batch)], max_grad_norm, **options)


def accumulated_training_step(
    model: Any,
    optimizer: Any,
    micro_batches: Iterable[tuple[float, tuple]],
    max_grad_norm: float | None = None,
    **options,
) -> StepResult:
    """loss = Σ weightᵢ · model.loss(*micro_batchᵢ), then one update, as in `training_step`.

    `micro_batches` yields pairs (weight, arguments of `loss_forward`). One micro-batch at a time is in memory.
    """
    if not all(callable(getattr(optimizer, name, None)) for name in ("zero_grad", "step")):
        raise TypeError(f"optimizer is {optimizer!r:.80}; it must be an optimizer, such as AdamW")
    if max_grad_norm is not None:
        check_max_norm("max_grad_norm", max_grad_norm)
    optimizer.zero_grad()
    loss = accumulate_gradients(model, micro_batches, **options)
    grad_norm = None if max_grad_norm is None else clip_grad_norm(optimizer.parameters.items(), max_grad_norm)
    optimizer.step()
    return StepResult(loss, grad_norm)


def accumulate_gradients(model: Any, micro_batches: Iterable[tuple[float, tuple]], **options) -> float:
    """Add ∂loss/∂parameters to every gradient and return loss = Σ weightᵢ · model.loss(*micro_batchᵢ)."""
    if not all(callable(getattr(model, name, None)) for name in ("loss_forward", "loss_backward")):
        raise TypeError(f"model is {model!r:.80}; it must have loss_forward and loss_backward")
    if isinstance(micro_batches, (str, bytes, Mapping, np.ndarray)) or not isinstance(micro_batches, Iterable):
        raise TypeError(f"micro_batches is {micro_batches!r:.80}; it must yield pairs (weight, batch)")
    loss = 0.0
    for weight, batch in micro_batches:
        if hasattr(model, "add_loss_gradients"):  # both in one, without all logits in memory
            batch_loss = model.add_loss_gradients(*batch, dloss=weight, **options)
        else:
            batch_loss, cache = model.loss_forward(*batch, **options)
            model.loss_backward(weight, cache)
        loss += weight * float(batch_loss)
    return loss
