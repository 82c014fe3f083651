"""Gradient clipping: limit the norm of all gradients together, so that one batch cannot change the weights too much.

    gradients → [scaled down, if their norm exceeds max_norm] → optimizer step

The norm is that of all gradients concatenated into one vector, and all are scaled by the same factor, so the direction
of the update stays the same.

Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks, algorithm 1.
"""

import math
from collections.abc import Iterable

import numpy as np

from npllm.core.module import Parameter


def grad_norm(parameters: Iterable[tuple[str, Parameter]]) -> float:
    """√(Σ gradient²) over all parameters; `parameters` are pairs, as `named_parameters()` yields them."""
    return math.sqrt(sum(_sum_of_squares(gradient) for gradient in _gradients(parameters)))


def clip_grad_norm(parameters: Iterable[tuple[str, Parameter]], max_norm: float) -> float:
    """gradient ← gradient · min(1, max_norm / norm) for all parameters, in place; return the norm before.

    Raises ValueError unless max_norm > 0, and FloatingPointError if the norm is not finite (the gradients are then
    unchanged): a step along such a gradient would make every weight nan.
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm is {max_norm}; it must be greater than 0")
    parameters = list(parameters)
    norm = grad_norm(parameters)
    if not math.isfinite(norm):
        raise FloatingPointError(f"the gradient norm is {norm}; a smaller learning rate may keep it finite")
    if norm > max_norm:
        for gradient in _gradients(parameters):
            gradient *= max_norm / (norm + 1e-6)  # 1e-6 as in PyTorch, so that the results are the same
    return norm


def _gradients(parameters):
    return [parameter.grad for _, parameter in parameters if parameter.grad is not None]


def _sum_of_squares(gradient):
    """Σ gradient² in float64: over 10⁸ elements a float32 sum would lose digits."""
    flat = gradient.ravel()
    if flat.dtype == np.float64:
        return float(np.dot(flat, flat))
    return float(np.einsum("i,i->", flat, flat, dtype=np.float64))
