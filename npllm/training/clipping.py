"""Gradient clipping: limit the norm of all gradients together, so that one batch cannot change the weights too much.

    gradients → [scaled down, if their norm exceeds max_norm] → optimizer step

The norm is that of all gradients concatenated into one vector, and all are scaled by the same factor, so the direction
of the update stays the same.

Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks, algorithm 1.
"""

import math
from collections.abc import Iterable

import numpy as np

from npllm.core.checks import check_list, check_number
from npllm.core.module import Parameter
from npllm.core.row_blocks import for_each_block

SMALLEST_EXACT = 1e-140  # a norm above it is the root of a sum that has lost no digits to underflow


def grad_norm(parameters: Iterable[tuple[str, Parameter]]) -> float:
    """√(Σ gradient²) over all parameters; `parameters` are pairs, as `named_parameters()` yields them.

    The squares of very large or very small float64 numbers would leave the range of float64; then the gradients are
    divided by the largest element first.
    """
    gradients = _gradients(parameters)
    norm = math.sqrt(sum(for_each_block(_sum_of_squares, gradients)))
    if SMALLEST_EXACT < norm < math.inf:
        return norm
    largest = max((float(np.abs(gradient).max(initial=0.0)) for gradient in gradients), default=0.0)
    if math.isnan(norm) or largest == 0.0 or largest == math.inf:
        return norm
    return largest * math.sqrt(sum(for_each_block(lambda block: _sum_of_squares(block / largest), gradients)))


def clip_grad_norm(parameters: Iterable[tuple[str, Parameter]], max_norm: float) -> float:
    """gradient ← gradient · min(1, max_norm / norm) for all parameters, in place; return the norm before.

    Raises ValueError unless max_norm > 0, and FloatingPointError if the norm is not finite (the gradients are then
    unchanged): a step along such a gradient would make every weight nan.
    """
    check_max_norm("max_norm", max_norm)
    parameters = check_list("parameters", parameters)
    norm = grad_norm(parameters)
    if not math.isfinite(norm):
        raise FloatingPointError(f"the gradient norm is {norm}; a smaller learning rate may keep it finite")
    if norm > max_norm:
        factor = max_norm / (norm + 1e-6)  # 1e-6 as in PyTorch, so that the results are the same
        for_each_block(lambda block: _multiply(block, factor), _gradients(parameters))
    return norm


def check_max_norm(name: str, max_norm: float) -> None:
    """Raise TypeError unless it is a number, ValueError unless it is greater than 0; ∞ means no limit."""
    if not (isinstance(max_norm, float) and max_norm == math.inf) and not check_number(name, max_norm) > 0:
        raise ValueError(f"{name} is {max_norm}; it must be greater than 0")


def _gradients(parameters):
    pairs = check_list("parameters", parameters)
    if not all(isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], Parameter) for pair in pairs):
        raise TypeError("parameters must be pairs of a name and a Parameter, as model.named_parameters() yields them")
    return [parameter.grad for _, parameter in pairs if parameter.grad is not None]


def _multiply(gradient, factor):
    """gradient ← gradient · factor. A factor that float32 cannot represent exactly enough is applied in steps."""
    while factor < 2.0**-64:
        gradient *= 2.0**-64
        factor *= 2.0**64
    gradient *= factor


def _sum_of_squares(gradient):
    """Σ gradient² in float64: over 10⁸ elements a float32 sum would lose digits."""
    gradient = gradient.reshape(-1).astype(np.float64, copy=False)
    return float(np.dot(gradient, gradient))
