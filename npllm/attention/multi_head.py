"""Multi-head attention: several heads attend to the same positions, each with its own queries, keys and values.

    x → q, k, v → split into heads → [attention in each] → join the heads → output projection

This adds to causal.py first several such layers side by side (the wrapper), then the same in one layer: one matrix each
for the queries, keys and values of all heads, and a projection that mixes the heads' outputs.

Raschka, section 3.6; Vaswani et al. 2017, section 3.2.2.
"""

import numpy as np

from npllm.attention.base import Attention, join_heads, project_backward, project_forward, split_heads
from npllm.attention.causal import CausalAttention
from npllm.attention.mask_rule import MaskRule
from npllm.attention.paths import masked_attention_backward, masked_attention_forward
from npllm.core.cache import Cache
from npllm.core.checks import (
    as_floats,
    as_sequence,
    check_context_length,
    check_heads,
    check_positive,
    check_probability,
)
from npllm.core.module import as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear


class MultiHeadAttentionWrapper(Attention):
    """y = [head₀(x) | head₁(x) | …], each a CausalAttention      (..., T, I) → (..., T, H·O)

    `d_out` is the number of output channels of one head.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
        *,
        rng: np.random.Generator | None = None,
        dtype: str = "float32",
        init: bool = True,
    ) -> None:
        check_positive(d_in=d_in, d_out=d_out, num_heads=num_heads)
        self.heads = [
            CausalAttention(d_in, d_out, context_length, dropout, qkv_bias, dtype=dtype, init=False)
            for _ in range(num_heads)
        ]
        if init:
            self.init_weights(as_generator(rng))

    def attention_weights(self, x: np.ndarray) -> np.ndarray:
        """The weights of all heads, (..., H, T, T)."""
        return np.stack([head.attention_weights(x) for head in self.heads], axis=-3)

    def forward(self, x: np.ndarray, *, rng: np.random.Generator | None = None) -> tuple[np.ndarray, Cache]:
        """y, and the caches of the heads in order."""
        outputs, caches = zip(*[head.forward(x, rng=rng) for head in self.heads])
        return np.concatenate(outputs, axis=-1), Cache(heads=list(caches))

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """Each head gets its slice of dy; all heads have the same input, so its gradients add up."""
        slices = np.split(as_floats(dy=dy), len(self.heads), axis=-1)
        return np.sum([head.backward(d, c) for head, d, c in zip(self.heads, slices, cache.heads)], axis=0)


class MultiHeadAttention(Attention):
    """y = join(softmax(causal(q kᵀ / √D)) v) W_outᵀ + b_out      (..., T, I) → (..., T, O)

    D = d_out / num_heads is the head dimension; head h has the channels h·D … (h + 1)·D − 1 of q, k and v.
    Raises ValueError if num_heads does not divide d_out.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
        *,
        rng: np.random.Generator | None = None,
        dtype: str = "float32",
        init: bool = True,
    ) -> None:
        check_heads(num_heads, d_out=d_out)
        check_positive(d_in=d_in, context_length=context_length)
        self.context_length, self.num_heads = context_length, num_heads
        self.W_query = Linear(d_in, d_out, bias=qkv_bias, dtype=dtype, init=False)
        self.W_key = Linear(d_in, d_out, bias=qkv_bias, dtype=dtype, init=False)
        self.W_value = Linear(d_in, d_out, bias=qkv_bias, dtype=dtype, init=False)
        self.out_proj = Linear(d_out, d_out, dtype=dtype, init=False)
        self.dropout = Dropout(check_probability("dropout", dropout))
        if init:
            self.init_weights(as_generator(rng))

    def forward(self, x: np.ndarray, *, rng: np.random.Generator | None = None) -> tuple[np.ndarray, Cache]:
        """y, and the caches of the projections, of the dropout, of the core and of the output projection."""
        length = as_sequence(x).shape[-2]
        check_context_length(length, self.context_length)
        qkv, projections = project_forward(x, (self.W_query, self.W_key, self.W_value))
        q, k, v = (split_heads(projected, self.num_heads) for projected in qkv)
        dropout_mask = self.dropout.draw_dropout_mask((*q.shape[:-1], length), rng, q.dtype)
        causal = MaskRule(np.arange(length), np.arange(length))
        context, attention = masked_attention_forward(q, k, v, causal, dropout_mask=dropout_mask)
        y, out_proj = self.out_proj.forward(join_heads(context))
        dropout = Cache(dropout_mask=dropout_mask)
        return y, Cache(projections=projections, dropout=dropout, attention=attention, out_proj=out_proj)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """The gradient of x; splitting is the derivative of joining, and joining that of splitting."""
        dcontext = split_heads(self.out_proj.backward(dy, cache.out_proj), self.num_heads)
        dqkv = [join_heads(gradient) for gradient in masked_attention_backward(dcontext, cache.attention)]
        return project_backward(dqkv, cache.projections, (self.W_query, self.W_key, self.W_value))
