"""Multi-head attention as in GPT-2: one matrix makes q, k and v, and generation keeps keys and values in a cache.

    x → [q | k | v] → split into heads → [attention in each] → join the heads → projection

This is the mathematics of multi_head.py in another arrangement: the three projections are one linear map with 3 C
outputs. The names are those of GPT-2's published weights.

Radford et al. 2019, Language Models are Unsupervised Multitask Learners; its released code and weights.
"""

import numpy as np

from npllm.attention.base import Attention, join_heads, query_positions, split_heads
from npllm.attention.kv_cache import KVCache
from npllm.attention.mask_rule import MaskRule
from npllm.attention.paths import masked_attention_backward, masked_attention_forward
from npllm.core.cache import Cache
from npllm.core.checks import check_above_zero, check_heads, check_positive, check_probability
from npllm.core.module import as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear


class CausalSelfAttention(Attention):
    """y = join(softmax(causal(q kᵀ / √D)) v) W_projᵀ + b,  [q | k | v] = x W_attnᵀ + b      (..., T, C) → (..., T, C)

    D = C / num_heads; head h has the channels h·D … (h + 1)·D − 1 of q, k and v. `c_attn` has 3 C outputs, `c_proj`
    mixes the heads' outputs. `scale` is the factor of q kᵀ, 1/√D unless given. Raises ValueError if num_heads does not
    divide d_model.
    """

    def __init__(
        self,
        d_model: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = True,
        *,
        scale: float | None = None,
        rng: np.random.Generator | None = None,
        dtype: str = "float32",
        init: bool = True,
    ) -> None:
        check_heads(num_heads, d_model=d_model)
        check_positive(context_length=context_length)
        if scale is not None:
            check_above_zero("scale", scale)
        self.context_length, self.num_heads, self.scale = context_length, num_heads, scale
        self.c_attn = Linear(d_model, 3 * d_model, bias=qkv_bias, dtype=dtype, init=False)
        self.c_proj = Linear(d_model, d_model, dtype=dtype, init=False)
        self.dropout = Dropout(check_probability("dropout", dropout))
        if init:
            self.init_weights(as_generator(rng))

    def new_kv_cache(self, batch_size: int = 1, left_padding: np.ndarray | None = None) -> KVCache:
        """An empty cache, for a sequence that is processed in chunks; see kv_cache.py."""
        return KVCache(batch_size, left_padding)

    def forward(
        self, x: np.ndarray, *, rng: np.random.Generator | None = None, kv_cache: KVCache | None = None
    ) -> tuple[np.ndarray, Cache]:
        """y, and the caches of both linear maps, of the dropout and of the core.

        With a `kv_cache` x follows the positions that are in it, and its keys and values are appended.
        """
        positions = query_positions(x, self.context_length, kv_cache)
        qkv, c_attn = self.c_attn.forward(x)
        q, k, v = (split_heads(part, self.num_heads) for part in np.split(qkv, 3, axis=-1))
        k, v, key_positions = (k, v, positions) if kv_cache is None else kv_cache.append(k, v)
        mask = MaskRule(positions, key_positions)
        dropout_mask = self.dropout.draw_dropout_mask((*q.shape[:-1], k.shape[-2]), rng, q.dtype)
        context, attention = masked_attention_forward(q, k, v, mask, scale=self.scale, dropout_mask=dropout_mask)
        y, c_proj = self.c_proj.forward(join_heads(context))
        return y, Cache(c_attn=c_attn, dropout=Cache(dropout_mask=dropout_mask), attention=attention, c_proj=c_proj)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """The gradient of x, of a forward without kv_cache."""
        dcontext = split_heads(self.c_proj.backward(dy, cache.c_proj), self.num_heads)
        dqkv = [join_heads(gradient) for gradient in masked_attention_backward(dcontext, cache.attention)]
        return self.c_attn.backward(np.concatenate(dqkv, axis=-1), cache.c_attn)
