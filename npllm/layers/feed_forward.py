"""The feed-forward network: two linear maps with an activation between them, applied to each position separately.

    … → attention → + → norm → [linear → activation → linear] → + → …

Attention combines positions; the feed-forward network computes on the channels of one position. It holds about two
thirds of the weights of a transformer block.

Vaswani et al. 2017, Attention Is All You Need, section 3.3; Radford et al. 2019 (GPT-2) for GELU and the factor 4.
"""

import numpy as np
from numpy.typing import DTypeLike

from npllm.core.cache import Cache
from npllm.core.module import Module, as_generator
from npllm.layers.activations import activation_backward, activation_forward, check_activation
from npllm.layers.linear import Linear


class FeedForward(Module):
    """y = activation(x W₁ᵀ + b₁) W₂ᵀ + b₂      (..., C) → (..., C)

    d_hidden     4 C unless given
    activation   a name of ACTIVATIONS, see layers/activations.py; GPT-2's is the tanh approximation of GELU
    bias         both linear maps have a bias

    The children are called `c_fc` and `c_proj`, as in GPT-2.
    """

    def __init__(
        self,
        d_model: int,
        d_hidden: int | None = None,
        activation: str = "gelu_tanh",
        bias: bool = True,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> None:
        d_hidden = 4 * d_model if d_hidden is None else d_hidden
        self.activation = check_activation(activation)
        self.c_fc = Linear(d_model, d_hidden, bias=bias, dtype=dtype, init=False)
        self.c_proj = Linear(d_hidden, d_model, bias=bias, dtype=dtype, init=False)
        if init:
            self.init_weights(as_generator(rng))

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """y = activation(x W₁ᵀ + b₁) W₂ᵀ + b₂; the cache holds the caches of the three steps."""
        hidden, c_fc = self.c_fc.forward(x)
        active, activation = activation_forward(hidden, self.activation)
        y, c_proj = self.c_proj.forward(active)
        return y, Cache(c_fc=c_fc, activation=activation, c_proj=c_proj)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """dx, by the chain rule through the three steps in reverse order."""
        dactive = self.c_proj.backward(dy, cache.c_proj)
        dhidden = activation_backward(dactive, cache.activation, self.activation)
        return self.c_fc.backward(dhidden, cache.c_fc)
