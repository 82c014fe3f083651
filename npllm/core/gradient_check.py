"""Check a backward by central finite differences, which share no code with any derivative.

    (f(x + h d) − f(x − h d)) / 2h  ≈  Σ gradient · d      for random directions d

The error of the left side is of order h² plus the rounding error divided by h; with h = 1e-6 in float64 about 1e-9 of
the value remains. float32 is not precise enough.

Goodfellow, Bengio, Courville, Deep Learning, section 11.5.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from npllm.core.module import Module

STEP = 1e-6


def check_gradients(
    function: Callable[..., Any],
    inputs: Sequence[np.ndarray],
    gradients: Sequence[np.ndarray | None],
    rng: np.random.Generator,
    directions: int = 3,
    tolerance: float = 1e-6,
) -> None:
    """Raise AssertionError unless `gradients` are those of the scalar function(*inputs), one for each input.

    `rng` draws the directions. The tolerance is relative to the derivative, or absolute if that is less than 1. The
    inputs must be float64; they are changed in place during the check and restored after it.
    """
    for index, (x, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        assert x.dtype == np.float64, f"input {index} has dtype {x.dtype}; finite differences need float64"
        assert gradient is not None, f"gradient {index} is None; it must be an array"
        assert gradient.shape == x.shape, f"gradient {index} has shape {gradient.shape}; it must be {x.shape}"
        original = x.copy()
        for _ in range(directions):
            direction = rng.standard_normal(x.shape)
            x[...] = original + STEP * direction
            above = float(function(*inputs))
            x[...] = original - STEP * direction
            below = float(function(*inputs))
            x[...] = original
            difference, derivative = (above - below) / (2 * STEP), float((gradient * direction).sum())
            assert abs(difference - derivative) <= tolerance * max(1.0, abs(difference)), (
                f"input {index}: the finite difference is {difference}, the gradient gives {derivative}"
            )


def check_function_gradients(
    forward: Callable[..., tuple[np.ndarray, Any]],
    backward: Callable[..., Any],
    inputs: Sequence[np.ndarray],
    rng: np.random.Generator,
    **options: Any,
) -> None:
    """Check the gradients that `backward` returns for forward(*inputs, **options), with a random dy."""
    y, cache = forward(*inputs, **options)
    dy = rng.standard_normal(np.shape(y))
    check_gradients(lambda *x: (forward(*x, **options)[0] * dy).sum(), inputs, _as_tuple(backward(dy, cache)), rng)


def check_layer_gradients(
    layer: Module,
    inputs: Sequence[np.ndarray],
    rng: np.random.Generator,
    forward: Callable[[], tuple[np.ndarray, Any]] | None = None,
) -> None:
    """Check the gradients of a layer's inputs and of all its parameters, with a random dy.

    `forward()` must run the layer on the inputs, with the same result each time; the default is layer.forward(*inputs).
    """
    if forward is None:

        def forward() -> tuple[np.ndarray, Any]:
            return layer.forward(*inputs)

    y, cache = forward()
    dy = rng.standard_normal(y.shape)
    gradients = _as_tuple(layer.backward(dy, cache))
    parameters = [parameter for _, parameter in layer.named_parameters()]
    check_gradients(
        lambda *_: (forward()[0] * dy).sum(),
        [*inputs, *(parameter.data for parameter in parameters)],
        [*gradients, *(parameter.grad for parameter in parameters)],
        rng,
    )


def _as_tuple(gradients: Any) -> tuple[np.ndarray, ...]:
    return gradients if isinstance(gradients, tuple) else (gradients,)
