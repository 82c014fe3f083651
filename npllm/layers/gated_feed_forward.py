"""A feed-forward network with a gate, such as Llama's SwiGLU and Gemma's GeGLU.

    x → [activation(gate_proj(x)) · up_proj(x) → down_proj] → + → …

In `feed_forward` one linear map and an activation give the hidden values; here the hidden values are the product of two
linear maps, one of them through an activation (the gate). With SiLU this is SwiGLU, with GELU GeGLU, with ReLU ReGLU.
There are three matrices instead of two, so the hidden size is usually 8/3 C instead of 4 C, which keeps the number of
weights. At equal size it reaches a lower loss; the paper measures this and gives no explanation.

Shazeer 2020, GLU Variants Improve Transformer, equation 6. The children have the names of Llama's published weights.
"""

import numpy as np
from numpy.typing import DTypeLike

from npllm.core.cache import Cache
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.module import Module, as_generator
from npllm.core.row_blocks import map_elements
from npllm.layers.activations import activation_backward, activation_forward, check_activation
from npllm.layers.linear import Linear


class GatedFeedForward(Module):
    """y = (activation(x W_gateᵀ) · (x W_upᵀ)) W_downᵀ      (..., C) → (..., C)

    d_hidden     8/3 C, rounded up to an even number, unless given
    activation   of the gate: a name of ACTIVATIONS, see layers/activations.py
    bias         all three linear maps have a bias
    """

    def __init__(
        self,
        d_model: int,
        d_hidden: int | None = None,
        activation: str = "silu",
        bias: bool = False,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> None:
        d_hidden = -(-4 * d_model // 3) * 2 if d_hidden is None else d_hidden
        self.activation = check_activation(activation)
        self.gate_proj = Linear(d_model, d_hidden, bias=bias, dtype=dtype, init=False)
        self.up_proj = Linear(d_model, d_hidden, bias=bias, dtype=dtype, init=False)
        self.down_proj = Linear(d_hidden, d_model, bias=bias, dtype=dtype, init=False)
        if init:
            self.init_weights(as_generator(rng))

    @ieee_arithmetic
    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """y = h W_downᵀ,  h = gate · up,  gate = activation(x W_gateᵀ),  up = x W_upᵀ.

        The cache holds the caches of the four steps, and `gate` and `up`.
        """
        hidden, gate_proj = self.gate_proj.forward(x)
        gate, activation = activation_forward(hidden, self.activation)
        up, up_proj = self.up_proj.forward(x)
        y, down_proj = self.down_proj.forward(map_elements(np.multiply, gate, up))
        return y, Cache(
            gate_proj=gate_proj, activation=activation, gate=gate, up=up, up_proj=up_proj, down_proj=down_proj
        )

    @ieee_arithmetic
    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """dx = dx through `up_proj` + dx through `gate_proj`.

        The product rule for h = gate · up gives dup = dh · gate and dgate = dh · up.
        """
        dh = self.down_proj.backward(dy, cache.down_proj)
        dx = self.up_proj.backward(map_elements(np.multiply, dh, cache.gate), cache.up_proj)
        dgate = map_elements(np.multiply, dh, cache.up)
        dhidden = activation_backward(dgate, cache.activation, self.activation)
        return dx + self.gate_proj.backward(dhidden, cache.gate_proj)
