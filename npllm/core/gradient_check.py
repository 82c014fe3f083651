"""A witness that shares no code with any derivative: central finite differences.

(f(x + h d) − f(x − h d)) / 2h  ≈  ⟨gradient, d⟩     for random directions d, in float64
"""

import numpy as np

STEP = 1e-6


def check_gradients(function, inputs, gradients, rng, directions=3, tolerance=1e-6):
    """Raise AssertionError unless the gradients of the number `function(*inputs)` are what differences say.

    The arrays in `inputs` are float64 and are moved in place while measuring, then put back.
    """
    for index, (x, gradient) in enumerate(zip(inputs, gradients, strict=True)):
        assert x.dtype == np.float64, "finite differences need float64"
        assert gradient.shape == x.shape
        original = x.copy()
        for _ in range(directions):
            direction = rng.standard_normal(x.shape)
            x[...] = original + STEP * direction
            above = float(function(*inputs))
            x[...] = original - STEP * direction
            below = float(function(*inputs))
            x[...] = original
            measured, stated = (above - below) / (2 * STEP), float((gradient * direction).sum())
            assert abs(measured - stated) <= tolerance * max(1.0, abs(measured)), (
                f"input {index}: differences say {measured}, the gradient says {stated}"
            )


def check_function_gradients(forward, backward, inputs, rng, **options):
    """The same for a NAME_forward and NAME_backward, with a random cotangent."""
    y, cache = forward(*inputs, **options)
    dy = rng.standard_normal(np.shape(y))
    gradients = backward(dy, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    check_gradients(lambda *x: (forward(*x, **options)[0] * dy).sum(), inputs, gradients, rng)


def check_layer_gradients(layer, inputs, rng, forward=None):
    """The same for a layer: the gradients of its inputs and of every parameter, with a random cotangent.

    `forward()` is what runs it on the inputs, alike each time; layer.forward(*inputs) unless given.
    """
    forward = forward or (lambda: layer.forward(*inputs))
    y, cache = forward()
    dy = rng.standard_normal(y.shape)
    gradients = layer.backward(dy, cache)
    gradients = gradients if isinstance(gradients, tuple) else (gradients,)
    parameters = [parameter for _, parameter in layer.named_parameters()]
    check_gradients(
        lambda *_: (forward()[0] * dy).sum(),
        [*inputs, *(parameter.data for parameter in parameters)],
        [*gradients, *(parameter.grad for parameter in parameters)],
        rng,
    )
