"""LayerNorm and RMSNorm: the normalisations with their weights."""

import numpy as np

from npllm import functional as F
from npllm.functional.checks import at_least_one
from npllm.layers.module import Module, Parameter


class LayerNorm(Module):
    """y = (x − mean) / √(variance + eps) · weight + bias      (..., C) → (..., C)

    `weight` (C) starts at 1 and `bias` (C) at 0: a fresh layer normalises and does no more.
    """

    def __init__(self, num_channels, eps=1e-5, bias=True, *, dtype="float32"):
        at_least_one(num_channels=num_channels)
        self.weight = Parameter(np.ones(num_channels, dtype))
        self.bias = Parameter(np.zeros(num_channels, dtype)) if bias else None
        self.eps = eps

    def forward(self, x):
        """The value, and the cache of `functional.layer_norm_forward`."""
        return F.layer_norm_forward(x, self.weight.data, self.bias and self.bias.data, self.eps)

    def backward(self, dy, cache):
        """dx; dweight and dbias go to the parameters."""
        dx, *dparameters = F.layer_norm_backward(dy, cache)
        for parameter, gradient in zip(self.params.values(), dparameters):
            parameter.add_grad(gradient)
        return dx


class RMSNorm(Module):
    """y = x / √(mean(x²) + eps) · weight      (..., C) → (..., C)

    `weight` (C) starts at 1.
    """

    def __init__(self, num_channels, eps=1e-6, *, dtype="float32"):
        at_least_one(num_channels=num_channels)
        self.weight = Parameter(np.ones(num_channels, dtype))
        self.eps = eps

    def forward(self, x):
        """The value, and the cache of `functional.rms_norm_forward`."""
        return F.rms_norm_forward(x, self.weight.data, self.eps)

    def backward(self, dy, cache):
        """dx; dweight goes to the parameter."""
        dx, dweight = F.rms_norm_backward(dy, cache)
        self.weight.add_grad(dweight)
        return dx
