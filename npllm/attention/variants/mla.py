"""Multi-head latent attention (MLA): the keys and values of all heads are computed from one short vector per position.

    x → c, k_R;  c → norm → k, v of every head;  x → q, q_R → [attention in each, on k and k_R] → join → projection

The key-value cache of multi-head attention holds a key and a value for every head. Here x is projected down to a latent
c, from which every head computes its own key and value:

    c = norm(x W_down),    [k_h | v_h] = c W_up,h,    k_R = rotary(x W_R),    score = (q_h·k_h + q_R,h·k_R) / √(D + R)

The latent itself cannot be rotated by its position, since W_up is applied between it and the score. So R further
channels carry the position: queries have them in every head, and the key k_R is the same for all heads. The cache holds
c and k_R; for DeepSeek-V2 with 128 heads that is 1/57 of all keys and values. Queries may also be computed from a
latent of their own (`q_lora_rank`), which saves memory in training.

With a kv_cache the keys and values are not computed at all. Since q_h·(W_k c) = (W_kᵀ q_h)·c and
Σ a_s W_v c_s = W_v Σ a_s c_s, the projections up are *absorbed* into the query and into the output. What remains is
attention of H queries to a single head with keys [c | k_R] and values c. For one new token this avoids computing the
keys and values of all positions; for a long chunk it costs more, because the scores are dot products of L + R channels
instead of D + R.

DeepSeek-AI 2024, DeepSeek-V2, section 2.1 and appendix C; parameters have the names of the published weights.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from npllm.attention.base import Attention, join_heads, per_head, query_positions, split_heads
from npllm.attention.kv_cache import KVCache
from npllm.attention.mask_rule import MaskRule
from npllm.attention.paths import masked_attention_backward, masked_attention_forward
from npllm.attention.variants.rope import RoPE, rotary_backward, rotary_forward, text_length
from npllm.core.cache import Cache
from npllm.core.checks import check_instance, check_integer, check_positive, check_probability
from npllm.core.module import as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear
from npllm.layers.normalization import RMSNorm

ROPE = RoPE(layout="pairs")  # as in the published weights


class MultiHeadLatentAttention(Attention):
    """y = join(softmax(causal([q | q_R] [k | k_R]ᵀ / √(D + R))) v) W_oᵀ,  [k | v] = c W_upᵀ

    (..., T, C) → (..., T, C)

    kv_lora_rank       L, the number of channels of the latent c
    head_dim           D, the number of channels of a head's values, and of its queries and keys without the rotary part
    qk_rope_head_dim   R, the number of channels of the rotary part; even, and 0 for none
    q_lora_rank        the number of channels of the queries' latent; None: queries are projected straight from x
    rope               the rotation of the R channels

    Raises ValueError for sizes that do not fit.
    """

    def __init__(
        self,
        d_model: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        kv_lora_rank: int,
        head_dim: int,
        qk_rope_head_dim: int,
        q_lora_rank: int | None = None,
        rope: RoPE = ROPE,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> None:
        check_positive(d_model=d_model, context_length=context_length, num_heads=num_heads)
        if q_lora_rank is not None:
            check_positive(q_lora_rank=q_lora_rank)
        check_instance("rope", rope, RoPE)
        check_positive(kv_lora_rank=kv_lora_rank, head_dim=head_dim)
        if check_integer("qk_rope_head_dim", qk_rope_head_dim, 0) % 2:
            raise ValueError(
                f"qk_rope_head_dim is {qk_rope_head_dim}; it must be even, since channels are rotated in pairs, or 0"
            )
        self.context_length, self.num_heads, self.head_dim = context_length, num_heads, head_dim
        self.kv_lora_rank, self.qk_rope_head_dim, self.rope = kv_lora_rank, qk_rope_head_dim, rope
        self.q_proj = None
        q_size = num_heads * (head_dim + qk_rope_head_dim)
        if q_lora_rank is None:
            self.q_proj = Linear(d_model, q_size, bias=False, dtype=dtype, init=False)
        else:
            self.q_a_proj = Linear(d_model, q_lora_rank, bias=False, dtype=dtype, init=False)
            self.q_a_layernorm = RMSNorm(q_lora_rank, dtype=dtype, init=False)
            self.q_b_proj = Linear(q_lora_rank, q_size, bias=False, dtype=dtype, init=False)
        kv_a_size = kv_lora_rank + qk_rope_head_dim
        self.kv_a_proj_with_mqa = Linear(d_model, kv_a_size, bias=False, dtype=dtype, init=False)
        self.kv_a_layernorm = RMSNorm(kv_lora_rank, dtype=dtype, init=False)
        self.kv_b_proj = Linear(kv_lora_rank, num_heads * 2 * head_dim, bias=False, dtype=dtype, init=False)
        self.o_proj = Linear(num_heads * head_dim, d_model, bias=False, dtype=dtype, init=False)
        self.dropout = Dropout(check_probability("dropout", dropout))
        if init:
            self.init_weights(as_generator(rng))

    def new_kv_cache(self, batch_size: int = 1, left_padding: np.ndarray | None = None) -> KVCache:
        """An empty cache, for the latent and the rotary key: L + R numbers for each position."""
        return KVCache(batch_size, left_padding)

    def forward(
        self,
        x: np.ndarray,
        *,
        rng: np.random.Generator | None = None,
        kv_cache: KVCache | None = None,
        document_ids: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Cache]:
        """y, and the caches of the queries, of the latent, of the core and of the output projection.

        kv_cache       x follows the positions that are in it; the absorbed algorithm is used, without dropout
        document_ids   integers (..., T): several documents in one sequence; no position attends to another document
        """
        document_ids = per_head(document_ids, x)
        positions = query_positions(x, self.context_length, kv_cache, document_ids)
        q, q_rope, queries = self._queries_forward(x, positions)
        latent, k_rope, compress = self._compress_forward(x, positions)
        if kv_cache is None:
            mask = MaskRule(positions, positions, document_ids=document_ids)
            context, core = self._expanded_forward(q, q_rope, latent, k_rope, mask, rng)
        else:
            cached, key_positions = kv_cache.append(np.concatenate([latent[..., None, :, :], k_rope], axis=-1))
            context, core = self._absorbed_forward(q, q_rope, cached, MaskRule(positions, key_positions))
        y, o_proj = self.o_proj.forward(join_heads(context))
        return y, Cache(queries=queries, compress=compress, **vars(core), o_proj=o_proj)

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """The gradient of x, of a forward without kv_cache."""
        dcontext = split_heads(self.o_proj.backward(dy, cache.o_proj), self.num_heads)
        dq, dq_rope, dlatent, dk_rope = self._expanded_backward(dcontext, cache)
        dx = self._compress_backward(dlatent, dk_rope, cache.compress)
        return dx + self._queries_backward(dq, dq_rope, cache.queries)

    def _expanded_forward(
        self,
        q: np.ndarray,
        q_rope: np.ndarray,
        latent: np.ndarray,
        k_rope: np.ndarray,
        mask: MaskRule,
        rng: np.random.Generator | None,
    ) -> tuple[np.ndarray, Cache]:
        """The context of all heads, from keys and values that are computed from the latent."""
        expanded, kv_b_proj = self.kv_b_proj.forward(latent)
        k, v = np.split(split_heads(expanded, self.num_heads), 2, axis=-1)
        q = np.concatenate([q, q_rope], axis=-1)
        k = np.concatenate([k, np.broadcast_to(k_rope, (*k.shape[:-1], k_rope.shape[-1]))], axis=-1)
        dropout_mask = self.dropout.draw_dropout_mask((*q.shape[:-1], k.shape[-2]), rng, q.dtype)
        context, attention = masked_attention_forward(q, k, v, mask, dropout_mask=dropout_mask)
        return context, Cache(kv_b_proj=kv_b_proj, dropout=Cache(dropout_mask=dropout_mask), attention=attention)

    def _expanded_backward(
        self, dcontext: np.ndarray, cache: Cache
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """dq, dq_rope, dlatent and dk_rope; k_rope is used by all heads, so their gradients are summed."""
        dq, dk, dv = masked_attention_backward(dcontext, cache.attention)
        dq, dq_rope = np.split(dq, [self.head_dim], axis=-1)
        dk, dk_rope = np.split(dk, [self.head_dim], axis=-1)
        dlatent = self.kv_b_proj.backward(join_heads(np.concatenate([dk, dv], axis=-1)), cache.kv_b_proj)
        return dq, dq_rope, dlatent, dk_rope.sum(axis=-3, keepdims=True)

    def _absorbed_forward(
        self, q: np.ndarray, q_rope: np.ndarray, cached: np.ndarray, mask: MaskRule
    ) -> tuple[np.ndarray, Cache]:
        """The context of all heads, from attention to the one head [c | k_R] in `cached` (..., 1, S, L + R)."""
        weight = self.kv_b_proj.weight.data.reshape(self.num_heads, 2 * self.head_dim, self.kv_lora_rank)
        w_k, w_v = weight[:, : self.head_dim], weight[:, self.head_dim :]  # (H, D, L) both
        q = np.concatenate([q @ w_k, q_rope], axis=-1)  # (..., H, T, L + R)
        scale = 1.0 / math.sqrt(self.head_dim + self.qk_rope_head_dim)  # as in the expanded algorithm
        latents, attention = masked_attention_forward(q, cached, cached[..., : self.kv_lora_rank], mask, scale=scale)
        return latents @ w_v.mT, Cache(attention=attention)

    def _queries_forward(self, x: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, Cache]:
        """Every head's query and its rotary part, (..., H, T, D) and (..., H, T, R)."""
        cache = Cache()
        if self.q_proj is not None:
            q, cache.q_proj = self.q_proj.forward(x)
        else:
            latent, cache.q_a_proj = self.q_a_proj.forward(x)
            latent, cache.q_a_layernorm = self.q_a_layernorm.forward(latent)
            q, cache.q_b_proj = self.q_b_proj.forward(latent)
        q, q_rope = np.split(split_heads(q, self.num_heads), [self.head_dim], axis=-1)
        q_rope, cache.rotary = self._rotate_forward(q_rope, positions)
        return q, q_rope, cache

    def _queries_backward(self, dq: np.ndarray, dq_rope: np.ndarray, cache: Cache) -> np.ndarray:
        """dx, of its use in the queries."""
        dq = join_heads(np.concatenate([dq, rotary_backward(dq_rope, cache.rotary)], axis=-1))
        if self.q_proj is not None:
            return self.q_proj.backward(dq, cache.q_proj)
        dlatent = self.q_a_layernorm.backward(self.q_b_proj.backward(dq, cache.q_b_proj), cache.q_a_layernorm)
        return self.q_a_proj.backward(dlatent, cache.q_a_proj)

    def _compress_forward(self, x: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, Cache]:
        """The latent, (..., T, L), and the rotary key of all heads, (..., 1, T, R)."""
        down, kv_a_proj = self.kv_a_proj_with_mqa.forward(x)
        latent, k_rope = np.split(down, [self.kv_lora_rank], axis=-1)
        latent, kv_a_layernorm = self.kv_a_layernorm.forward(latent)
        k_rope, rotary = self._rotate_forward(k_rope[..., None, :, :], positions)
        return latent, k_rope, Cache(kv_a_proj=kv_a_proj, kv_a_layernorm=kv_a_layernorm, rotary=rotary)

    def _compress_backward(self, dlatent: np.ndarray, dk_rope: np.ndarray, cache: Cache) -> np.ndarray:
        """dx, of its use in the latent and in the rotary key."""
        dk_rope = rotary_backward(dk_rope, cache.rotary)[..., 0, :, :]
        dlatent = self.kv_a_layernorm.backward(dlatent, cache.kv_a_layernorm)
        return self.kv_a_proj_with_mqa.backward(np.concatenate([dlatent, dk_rope], axis=-1), cache.kv_a_proj)

    def _rotate_forward(self, x: np.ndarray, positions: np.ndarray) -> tuple[np.ndarray, Cache]:
        """The R channels of a query or key, rotated by its position."""
        size = self.qk_rope_head_dim
        frequencies = self.rope.frequencies(size, text_length(positions)) if size else np.zeros(0)
        return rotary_forward(x, positions, frequencies, self.rope.layout, self.rope.amplitude)


@dataclass(frozen=True)
class MLA:
    """The configuration of MultiHeadLatentAttention: the constructor's arguments apart from the model's sizes."""

    num_heads: int
    kv_lora_rank: int
    head_dim: int
    qk_rope_head_dim: int
    q_lora_rank: int | None = None
    rope: RoPE = ROPE

    def build(
        self,
        d_model: int,
        context_length: int,
        dropout: float = 0.0,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> MultiHeadLatentAttention:
        """The layer."""
        return MultiHeadLatentAttention(d_model, context_length, dropout, **vars(self), rng=rng, dtype=dtype, init=init)
