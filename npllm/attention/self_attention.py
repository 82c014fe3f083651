"""Self-attention with trainable weights: three linear maps make a query, a key and a value of each input.

    x → q, k, v → [scores/√D → weights → context]

In simplified.py an input is its own query, key and value. Here three learned matrices compute them: the query and the
key determine the scores, the value is what is averaged. V1 multiplies by plain matrices; V2 uses Linear layers, whose
initial values are scaled by the number of inputs.

Raschka, section 3.4; Vaswani et al. 2017, section 3.2.1.
"""

import numpy as np

from npllm.attention.base import Attention, project_backward, project_forward
from npllm.attention.paths import masked_attention_backward, masked_attention_forward
from npllm.core.cache import Cache
from npllm.core.checks import as_floats, as_sequence, check_positive, check_shape
from npllm.core.module import Parameter, as_generator
from npllm.layers.linear import Linear


class SelfAttentionV1(Attention):
    """y = softmax(x W_query (x W_key)ᵀ / √D) x W_value      (..., T, I) → (..., T, O)

    The matrices are (d_in, d_out), multiplied from the right; their initial values are uniform in [0, 1).
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        *,
        rng: np.random.Generator | None = None,
        dtype: str = "float32",
        init: bool = True,
    ) -> None:
        check_positive(d_in=d_in, d_out=d_out)
        self.W_query = Parameter(np.zeros((d_in, d_out), dtype))
        self.W_key = Parameter(np.zeros((d_in, d_out), dtype))
        self.W_value = Parameter(np.zeros((d_in, d_out), dtype))
        if init:
            self.init_weights(as_generator(rng))

    def init_weights(self, rng: np.random.Generator) -> None:
        """Draw all three matrices uniform in [0, 1)."""
        for weight in (self.W_query, self.W_key, self.W_value):
            weight.data[...] = rng.random(weight.shape)

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """y, and a cache of x and of the core, `attention`."""
        x, _ = as_floats(x=as_sequence(x), W_query=self.W_query.data)
        check_shape("x", x, "(..., T, I)", I=self.W_query.shape[0])
        q, k, v = x @ self.W_query.data, x @ self.W_key.data, x @ self.W_value.data
        y, attention = masked_attention_forward(q, k, v)
        return y, Cache(x=x, attention=attention)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """q = x W, so dW = xᵀ dq and dx = dq Wᵀ; x is the input of three maps, so their gradients add up."""
        dq, dk, dv = masked_attention_backward(dy, cache.attention)
        self.add_grads(
            W_query=_weight_gradient(cache.x, dq),
            W_key=_weight_gradient(cache.x, dk),
            W_value=_weight_gradient(cache.x, dv),
        )
        return dq @ self.W_query.data.T + dk @ self.W_key.data.T + dv @ self.W_value.data.T


class SelfAttentionV2(Attention):
    """y = softmax(q kᵀ / √D) v  with q, k, v = Linear(x)      (..., T, I) → (..., T, O)

    The same mathematics as V1; the weights of a Linear are (d_out, d_in).
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        qkv_bias: bool = False,
        *,
        rng: np.random.Generator | None = None,
        dtype: str = "float32",
        init: bool = True,
    ) -> None:
        check_positive(d_in=d_in, d_out=d_out)
        self.W_query = Linear(d_in, d_out, bias=qkv_bias, dtype=dtype, init=False)
        self.W_key = Linear(d_in, d_out, bias=qkv_bias, dtype=dtype, init=False)
        self.W_value = Linear(d_in, d_out, bias=qkv_bias, dtype=dtype, init=False)
        if init:
            self.init_weights(as_generator(rng))

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, Cache]:
        """y, and the caches of the three projections and of the core."""
        (q, k, v), projections = project_forward(as_sequence(x), (self.W_query, self.W_key, self.W_value))
        y, attention = masked_attention_forward(q, k, v)
        return y, Cache(projections=projections, attention=attention)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """The gradient of x."""
        dqkv = masked_attention_backward(dy, cache.attention)
        return project_backward(dqkv, cache.projections, (self.W_query, self.W_key, self.W_value))


def _weight_gradient(x: np.ndarray, dy: np.ndarray) -> np.ndarray:
    """dW = xᵀ dy, summed over all positions of all sequences."""
    return x.reshape(-1, x.shape[-1]).T @ dy.reshape(-1, dy.shape[-1])
