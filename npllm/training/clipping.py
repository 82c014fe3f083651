"""Clipping: one wild batch must not throw the weights away.

    gradients → [shorter, if all together are too long] → step

The length is that of all gradients as one long vector, so its direction stays. Cutting each tensor by itself would turn
it.

Pascanu, Mikolov, Bengio 2013, On the difficulty of training recurrent neural networks, algorithm 1.
"""

import math

import numpy as np


def gradient_norm(parameters):
    """√(Σ gradient²) over all parameters; `parameters` are what named_parameters() yields."""
    # each tensor's sum in float64: a sum of a hundred million squares would lose digits in float32
    squares = (np.dot(g.ravel(), g.ravel()) if g.dtype == np.float64 else np.einsum("i,i->", g.ravel(), g.ravel(),
               dtype=np.float64) for g in _gradients(parameters))  # fmt: skip
    return math.sqrt(sum(float(square) for square in squares))


def clip_gradient_norm(parameters, limit):
    """gradient ← gradient · min(1, limit / norm) for all parameters; return the norm before.

    Raises ValueError unless limit > 0, and FloatingPointError, before anything is written, where the norm is not a
    finite number: a step along such a gradient would ruin every weight.
    """
    if not limit > 0:
        raise ValueError(f"limit is {limit}; it must be greater than 0")
    parameters = list(parameters)
    norm = gradient_norm(parameters)
    if not math.isfinite(norm):
        raise FloatingPointError(f"the gradient's norm is {norm}; a smaller learning rate may keep it finite")
    if norm > limit:
        for gradient in _gradients(parameters):
            gradient *= limit / (norm + 1e-6)  # PyTorch's 1e-6, so that both do the same
    return norm


def _gradients(parameters):
    return [parameter.grad for _, parameter in parameters if parameter.grad is not None]
