"""The transformer block: attention combines positions, the feed-forward network computes at each position.

    x ─┬─ norm → attention → dropout ─ + ─┬─ norm → feed-forward → dropout ─ + → y
       └───────────────────────────────┘  └──────────────────────────────────┘

Each half adds its output to its input (a residual connection). In the backward the two sums pass the gradient on
unchanged, through any number of blocks.

Radford et al. 2019 (GPT-2), section 2.3: layer normalization at the input of each half; Raschka, section 4.5.
"""

import numpy as np

from npllm.attention.causal_self_attention import CausalSelfAttention
from npllm.attention.kv_cache import KVCache
from npllm.core.cache import Cache
from npllm.core.checks import as_floats
from npllm.core.module import Module, as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.feed_forward import FeedForward
from npllm.layers.normalization import LayerNorm


class TransformerBlock(Module):
    """x = x + attn(ln_1(x)),  y = x + mlp(ln_2(x))      (..., T, C) → (..., T, C)

    `dropout` is applied to the output of each half, `attn_dropout` (equal to it unless given) to the attention weights.
    `d_hidden` and `activation` are those of the feed-forward network, `scale` is the factor of q kᵀ. The children have
    GPT-2's names.
    """

    def __init__(
        self,
        d_model: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = True,
        attn_dropout: float | None = None,
        eps: float = 1e-5,
        *,
        d_hidden: int | None = None,
        activation: str = "gelu_tanh",
        scale: float | None = None,
        rng: np.random.Generator | None = None,
        dtype: str = "float32",
        init: bool = True,
    ) -> None:
        attn_dropout = dropout if attn_dropout is None else attn_dropout
        self.ln_1 = LayerNorm(d_model, eps, dtype=dtype)
        self.attn = CausalSelfAttention(
            d_model, context_length, attn_dropout, num_heads, qkv_bias, scale=scale, dtype=dtype, init=False
        )
        self.drop_1 = Dropout(dropout)
        self.ln_2 = LayerNorm(d_model, eps, dtype=dtype)
        self.mlp = FeedForward(d_model, d_hidden, activation, dtype=dtype, init=False)
        self.drop_2 = Dropout(dropout)
        if init:
            self.init_weights(as_generator(rng))

    def forward(
        self, x: np.ndarray, *, rng: np.random.Generator | None = None, kv_cache: KVCache | None = None
    ) -> tuple[np.ndarray, Cache]:
        """y, and the cache of every step by the children's names."""
        x = as_floats(x=x)
        h, ln_1 = self.ln_1.forward(x)
        h, attn = self.attn.forward(h, rng=rng, kv_cache=kv_cache)
        h, drop_1 = self.drop_1.forward(h, rng=rng)
        x = x + h
        h, ln_2 = self.ln_2.forward(x)
        h, mlp = self.mlp.forward(h)
        h, drop_2 = self.drop_2.forward(h, rng=rng)
        return x + h, Cache(ln_1=ln_1, attn=attn, drop_1=drop_1, ln_2=ln_2, mlp=mlp, drop_2=drop_2)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """y = x + h, so the gradient goes to both terms: unchanged to x, and through the steps of h in reverse."""
        dy = as_floats(dy=dy)
        dh = self.drop_2.backward(dy, cache.drop_2)
        dh = self.mlp.backward(dh, cache.mlp)
        dx = dy + self.ln_2.backward(dh, cache.ln_2)
        dh = self.drop_1.backward(dx, cache.drop_1)
        dh = self.attn.backward(dh, cache.attn)
        return dx + self.ln_1.backward(dh, cache.ln_1)
