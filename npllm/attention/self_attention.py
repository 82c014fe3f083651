"""Self-attention with weights: what a position asks, what it offers and what it hands over are learned apart.

    x → q, k, v → [scores/√D → weights → context]

Over `simplified`, three matrices: the query asks, the key is what others compare themselves with, the value is
what they take. V1 multiplies by plain matrices; V2 uses Linear layers, whose start is better scaled.

Raschka, section 3.4; Vaswani et al. 2017, section 3.2.1.
"""

from npllm.attention.base import Attention
from npllm.attention.scaled_dot_product import (
    scaled_dot_product_attention_backward,
    scaled_dot_product_attention_forward,
)
from npllm.core.cache import Cache
from npllm.core.checks import as_floats, as_sequence, check_size
from npllm.core.module import Parameter, as_generator
from npllm.layers.linear import Linear


class SelfAttentionV1(Attention):
    """y = softmax(x W_query (x W_key)ᵀ / √D) x W_value      (..., T, I) → (..., T, O)

    The matrices are (d_in, d_out), multiplied from the right, and start uniform in [0, 1).
    """

    def __init__(self, d_in, d_out, *, rng=None, dtype="float32"):
        rng = as_generator(rng)
        self.W_query = Parameter(rng.random((d_in, d_out)).astype(dtype))
        self.W_key = Parameter(rng.random((d_in, d_out)).astype(dtype))
        self.W_value = Parameter(rng.random((d_in, d_out)).astype(dtype))

    def forward(self, x):
        """The value, and in the cache x and the core's cache as `attention`."""
        x, _ = as_floats(x=as_sequence(x), W_query=self.W_query.data)
        check_size("d_in", self.W_query.shape[0], **{"the last axis of x": x.shape[-1]})
        q, k, v = x @ self.W_query.data, x @ self.W_key.data, x @ self.W_value.data
        y, attention = scaled_dot_product_attention_forward(q, k, v)
        return y, Cache(x=x, attention=attention)

    def backward(self, dy, cache):
        """q = x W, so dW = xᵀ dq and dx = dq Wᵀ; the three paths to x add up."""
        dx = 0.0
        dqkv = scaled_dot_product_attention_backward(dy, cache.attention)
        x_rows = cache.x.reshape(-1, cache.x.shape[-1])
        for weight, dprojected in zip((self.W_query, self.W_key, self.W_value), dqkv):
            weight.add_grad(x_rows.T @ dprojected.reshape(-1, dprojected.shape[-1]))
            dx = dx + dprojected @ weight.data.T
        return dx


class SelfAttentionV2(Attention):
    """y = softmax(q kᵀ / √D) v  with q, k, v = Linear(x)      (..., T, I) → (..., T, O)

    The same mathematics as V1; the weights of a Linear are stored transposed, (d_out, d_in).
    """

    def __init__(self, d_in, d_out, qkv_bias=False, *, rng=None, dtype="float32"):
        rng = as_generator(rng)
        self.W_query = Linear(d_in, d_out, bias=qkv_bias, rng=rng, dtype=dtype)
        self.W_key = Linear(d_in, d_out, bias=qkv_bias, rng=rng, dtype=dtype)
        self.W_value = Linear(d_in, d_out, bias=qkv_bias, rng=rng, dtype=dtype)

    def forward(self, x):
        """The value, and the caches of the three projections and of the core."""
        q, W_query = self.W_query.forward(as_sequence(x))
        k, W_key = self.W_key.forward(x)
        v, W_value = self.W_value.forward(x)
        y, attention = scaled_dot_product_attention_forward(q, k, v)
        return y, Cache(W_query=W_query, W_key=W_key, W_value=W_value, attention=attention)

    def backward(self, dy, cache):
        """The forward, read from its last line to its first; the three paths to x add up."""
        dq, dk, dv = scaled_dot_product_attention_backward(dy, cache.attention)
        dx = self.W_value.backward(dv, cache.W_value)
        dx = dx + self.W_key.backward(dk, cache.W_key)
        return dx + self.W_query.backward(dq, cache.W_query)
