"""A linear map: every output is a weighted sum of all inputs, plus a bias.

    ids → embedding → [linear] → attention → [linear] → logits → loss

The weight is stored as (out, in), as in torch.nn.Linear: row o holds what output o takes from each input.

Linear: the linear map with its weights.
"""

import math

import numpy as np

from npllm.core.cache import Cache
from npllm.core.checks import as_floats, check_gradient, check_positive, check_size, drop_none
from npllm.core.module import Module, Parameter, as_generator


def linear(x, weight, bias=None):
    """y = x Wᵀ + b      (..., I), (O, I), (O) → (..., O)

    Raises ValueError when the sizes do not meet, TypeError when the dtypes differ.
    """
    x, weight, bias = as_floats(x=x, weight=weight, bias=bias)
    if weight.ndim != 2:
        raise ValueError(f"weight has shape {weight.shape}; it must be (O, I)")
    if x.ndim == 0:
        raise ValueError("x is a single number; its last axis must hold the I inputs")
    check_size("the number of inputs of weight (O, I)", weight.shape[1], **{"the last axis of x": x.shape[-1]})
    y = x @ weight.T
    if bias is not None:
        check_size("one bias for each output", weight.shape[:1], **{"the shape of bias": bias.shape})
        y += bias
    return y


def linear_forward(x, weight, bias=None):
    """The value, and in the cache both factors."""
    y = linear(x, weight, bias)
    return y, Cache(x=np.asarray(x), weight=np.asarray(weight), has_bias=bias is not None)


def linear_backward(dy, cache):
    """dx = dy W,  dW = dyᵀ x,  db = Σ dy      (..., O) → (..., I), (O, I), (O)

    y_o = Σᵢ W_oi xᵢ + b_o. An input reaches every output, so dxᵢ = Σ_o dy_o W_oi. A weight is used once at
    every position, so its gradient sums over all of them: dW_oi = Σ dy_o xᵢ, and db_o = Σ dy_o.
    """
    x, weight = cache.x, cache.weight
    dy = check_gradient(dy, (*x.shape[:-1], len(weight)), x.dtype)
    dx = dy @ weight
    dy_rows = dy.reshape(-1, dy.shape[-1])  # every position of every sequence is one row
    dweight = dy_rows.T @ x.reshape(-1, x.shape[-1])
    dbias = dy_rows.sum(axis=0) if cache.has_bias else None
    return drop_none(dx, dweight, dbias)


class Linear(Module):
    """y = x Wᵀ + b      (..., I) → (..., O)

    `weight` (O, I) and `bias` (O) start uniform in ±1/√I, as in torch.nn.Linear. `rng` draws them.
    """

    def __init__(self, in_features, out_features, bias=True, *, rng=None, dtype="float32"):
        check_positive(in_features=in_features, out_features=out_features)
        rng = as_generator(rng)
        bound = 1.0 / math.sqrt(in_features)
        self.weight = Parameter(rng.uniform(-bound, bound, (out_features, in_features)).astype(dtype))
        self.bias = Parameter(rng.uniform(-bound, bound, out_features).astype(dtype)) if bias else None

    def forward(self, x):
        """The value, and the cache of `functional.linear_forward`."""
        return linear_forward(x, self.weight.data, self.bias and self.bias.data)

    def backward(self, dy, cache):
        """dx = dy W; dW = dyᵀ x and db = Σ dy go to the parameters."""
        dx, *dparameters = linear_backward(dy, cache)
        for parameter, gradient in zip(self.params.values(), dparameters):
            parameter.add_grad(gradient)
        return dx
