"""A linear map: each output is a weighted sum of all inputs, plus a bias.

    ids → embedding → [linear] → attention → [linear] → logits → loss

The weight has the shape (O, I), as in torch.nn.Linear: row o holds the weights of output o.

Goodfellow, Bengio, Courville, Deep Learning, section 6.5.6 (the derivative of a matrix product).
"""

import math
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from npllm.core.cache import Cache
from npllm.core.checks import as_dtype, as_floats, check_gradient, check_positive, check_shape, drop_none, reject_half
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.matrix_product import matmul
from npllm.core.module import Module, Parameter, as_generator
from npllm.core.threads import parallel
from npllm.layers.few_rows import times_transposed

BLOCK_SIZE = 2**20  # numbers of a weight's gradient that are added at a time


def linear(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    """y = x Wᵀ + b      (..., I), (O, I), (O) → (..., O)

    Raises ValueError where the sizes differ, TypeError where the dtypes differ.
    """
    return linear_forward(x, weight, bias)[0]


@ieee_arithmetic
def linear_forward(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> tuple[np.ndarray, Cache]:
    """y = x Wᵀ + b; the cache holds x and weight."""
    x, weight, bias = _check_arguments(x, weight, bias)
    y = times_transposed(_as_rows(x), weight)
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], len(weight)), Cache(x=x, weight=weight, has_bias=bias is not None)


@ieee_arithmetic
def linear_backward(dy: np.ndarray, cache: Cache) -> Any:
    """dx = dy W,  dW = dyᵀ x,  db = Σ dy      (..., O) → (..., I), (O, I), (O)

    y_o = Σᵢ W_oi xᵢ + b_o. Each input contributes to every output, so dxᵢ = Σ_o dy_o W_oi. Each weight is used at
    every position, so its gradient is a sum over the positions: dW_oi = Σ dy_o xᵢ, and db_o = Σ dy_o.
    """
    dx, dy_rows, x_rows = _input_gradient(dy, cache)
    dbias = dy_rows.sum(axis=0) if cache.has_bias else None
    return drop_none(dx, matmul(dy_rows.T, x_rows), dbias)


@ieee_arithmetic
def add_weight_gradient(parameter: Parameter, dy_rows: np.ndarray, x_rows: np.ndarray) -> None:
    """parameter.grad += dyᵀ x      (N, O), (N, I)

    The first gradient is the product itself. A further one is added in blocks of outputs, so that a block of the
    product is still in the cache when it is added, and no second array of the weight's size is allocated.
    """
    if parameter.grad is None:
        parameter.add_grad(matmul(dy_rows.T, x_rows))
        return
    block = max(1, BLOCK_SIZE // max(1, x_rows.shape[1]))
    grad = parameter.grad

    def add(start: int) -> None:
        grad[start : start + block] += dy_rows[:, start : start + block].T @ x_rows

    parallel(add, range(0, dy_rows.shape[1], block))


class Linear(Module):
    """y = x Wᵀ + b      (..., I) → (..., O)

    `weight` (O, I) and `bias` (O) are initialized uniformly in ±1/√I, as in torch.nn.Linear.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> None:
        check_positive(in_features=in_features, out_features=out_features)
        dtype = as_dtype(dtype)
        self.weight = Parameter(np.zeros((out_features, in_features), dtype))
        self.bias = Parameter(np.zeros(out_features, dtype)) if bias else None
        if init:
            self.init_weights(as_generator(rng))

    def init_weights(self, rng: np.random.Generator) -> None:
        """Draw the weight, then the bias, from U(−1/√I, 1/√I)."""
        bound = 1.0 / math.sqrt(self.weight.shape[1])
        for parameter in self.params.values():
            parameter.data[...] = rng.uniform(-bound, bound, parameter.shape)

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """y = x Wᵀ + b; the cache is that of `linear_forward`."""
        return linear_forward(x, self.weight.data, None if self.bias is None else self.bias.data)

    @ieee_arithmetic
    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """dx = dy W; dW = dyᵀ x and db = Σ dy are added to the gradients of the parameters."""
        dx, dy_rows, x_rows = _input_gradient(dy, cache)
        add_weight_gradient(self.weight, dy_rows, x_rows)
        self.add_grads(bias=dy_rows.sum(axis=0) if cache.has_bias else None)
        return dx


@ieee_arithmetic
def _input_gradient(dy: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx = dy W, and dy and x as matrices with one row for each position of each sequence."""
    x, weight = cache.x, cache.weight
    dy = check_gradient(dy, (*x.shape[:-1], len(weight)), x.dtype)
    dy_rows = _as_rows(dy)
    return matmul(dy_rows, weight).reshape(x.shape), dy_rows, _as_rows(x)


def _as_rows(x: np.ndarray) -> np.ndarray:
    """(..., C) → (N, C): one large matrix product is faster than one for each sequence of a batch."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


def _check_arguments(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> tuple[np.ndarray, ...]:
    x, weight, bias = as_floats(x=x, weight=weight, bias=bias)
    reject_half(x)
    check_shape("weight", weight, "(O, I)")
    check_shape("x", x, "(..., I)", I=weight.shape[1])
    if bias is not None:
        check_shape("bias", bias, "(O)", O=weight.shape[0])
    return x, weight, bias
