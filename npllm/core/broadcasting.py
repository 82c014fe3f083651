"""The derivative of broadcasting: an input that was used several times gets the sum of its gradients."""

import numpy as np


def unbroadcast(gradient: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum a gradient over the axes along which its input, of this shape, was broadcast."""
    extra = gradient.ndim - len(shape)
    repeated = tuple(extra + i for i, n in enumerate(shape) if n == 1 and gradient.shape[extra + i] != 1)
    axes = tuple(range(extra)) + repeated
    return gradient.sum(axis=axes, keepdims=True).reshape(shape) if axes else gradient
