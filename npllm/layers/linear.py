"""Linear: the linear map with its weights."""

import math

from npllm import functional as F
from npllm.functional.checks import at_least_one
from npllm.layers.module import Module, Parameter, generator


class Linear(Module):
    """y = x Wᵀ + b      (..., I) → (..., O)

    `weight` (O, I) and `bias` (O) start uniform in ±1/√I, as in torch.nn.Linear. `rng` draws them.
    """

    def __init__(self, in_features, out_features, bias=True, *, rng=None, dtype="float32"):
        at_least_one(in_features=in_features, out_features=out_features)
        rng = generator(rng)
        bound = 1.0 / math.sqrt(in_features)
        self.weight = Parameter(rng.uniform(-bound, bound, (out_features, in_features)).astype(dtype))
        self.bias = Parameter(rng.uniform(-bound, bound, out_features).astype(dtype)) if bias else None

    def forward(self, x):
        """The value, and the cache of `functional.linear_forward`."""
        return F.linear_forward(x, self.weight.data, self.bias and self.bias.data)

    def backward(self, dy, cache):
        """dx = dy W; dW = dyᵀ x and db = Σ dy go to the parameters."""
        dx, *dparameters = F.linear_backward(dy, cache)
        for parameter, gradient in zip(self.params.values(), dparameters):
            parameter.add_grad(gradient)
        return dx
