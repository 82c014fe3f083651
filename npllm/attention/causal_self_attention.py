"""Multi-head attention as GPT-2 has it: one matrix makes queries, keys and values, and the past may be remembered.

    x → [q | k | v] → split into heads → [attention in each] → join the heads → projection

Over `multi_head`, the same mathematics in another arrangement: the three projections are one linear map of three times
the width, and its weights carry GPT-2's names. While a text is written token by token, the keys and values of what
came before do not change; `past` keeps them, so that each new token costs one query.

Radford et al. 2019 (GPT-2); the names are those of its published weights.
"""

import numpy as np

from npllm.attention.base import Attention
from npllm.attention.kv_cache import KVCache
from npllm.attention.masks import position_mask
from npllm.attention.multi_head import join_heads, split_heads
from npllm.attention.scaled_dot_product import (
    scaled_dot_product_attention,
    scaled_dot_product_attention_backward,
    scaled_dot_product_attention_forward,
)
from npllm.core.cache import Cache
from npllm.core.checks import as_sequence, check_context_length, check_heads, check_positive
from npllm.core.module import as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear


class CausalSelfAttention(Attention):
    """y = join(softmax(causal(q kᵀ / √D)) v) W_projᵀ + b,  [q | k | v] = x W_attnᵀ + b      (..., T, C) → (..., T, C)

    Head h owns the channels h·D … (h + 1)·D − 1 of q, k and v, D = C / num_heads. `c_attn` has 3 C outputs, `c_proj`
    mixes what the heads found. Raises ValueError if num_heads does not divide d_model.
    """

    def __init__(self, d_model, context_length, dropout, num_heads, qkv_bias=True, *, rng=None, dtype="float32"):
        check_heads(num_heads, d_model=d_model)
        check_positive(context_length=context_length)
        rng = as_generator(rng)
        self.context_length, self.num_heads = context_length, num_heads
        self.c_attn = Linear(d_model, 3 * d_model, bias=qkv_bias, rng=rng, dtype=dtype)
        self.c_proj = Linear(d_model, d_model, rng=rng, dtype=dtype)
        self.dropout = Dropout(dropout)

    def new_kv_cache(self, batch_size=1, left_padding=None):
        """An empty past for reading a text piece by piece."""
        return KVCache(batch_size, left_padding)

    def __call__(self, x, kv_cache=None):
        """The value alone. With a `past` (see past.py) x follows what that has seen, and is added."""
        if kv_cache is None:
            return self.forward(x)[0]
        positions = kv_cache.positions(as_sequence(x).shape[-2])
        q, k, v = self._heads(self.c_attn(x))
        k, v, key_positions = kv_cache.extend(k, v)
        if positions.shape == (1,):
            seen = None  # one new token, and no filling: it sees all there is
        else:
            seen = position_mask(positions, key_positions)
        return self.c_proj(join_heads(scaled_dot_product_attention(q, k, v, attn_mask=seen)))

    def forward(self, x, rng=None):
        """The value, and the caches of both linear maps, of the core and of the dropout."""
        check_context_length(as_sequence(x).shape[-2], self.context_length)
        qkv, c_attn = self.c_attn.forward(x)
        q, k, v = self._heads(qkv)
        mask = self.dropout.draw_dropout_mask((*q.shape[:-1], k.shape[-2]), rng, q.dtype)
        context, attention = scaled_dot_product_attention_forward(q, k, v, is_causal=True, dropout_mask=mask)
        y, c_proj = self.c_proj.forward(join_heads(context))
        return y, Cache(c_attn=c_attn, dropout=Cache(dropout_mask=mask), attention=attention, c_proj=c_proj)

    def backward(self, dy, cache):
        """The forward, read from its last line to its first."""
        dcontext = split_heads(self.c_proj.backward(dy, cache.c_proj), self.num_heads)
        dqkv = scaled_dot_product_attention_backward(dcontext, cache.attention)
        return self.c_attn.backward(np.concatenate([join_heads(d) for d in dqkv], axis=-1), cache.c_attn)

    def _heads(self, qkv):
        """Cut [q | k | v] apart and deal the channels out to the heads: (..., T, 3 C) → three of (..., H, T, D)."""
        return tuple(split_heads(part, self.num_heads) for part in np.split(qkv, 3, axis=-1))
