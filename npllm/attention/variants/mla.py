"""Multi-head latent attention: keys and values of all heads come from one short vector, and only that is remembered.

    x → c, k_R;  c → norm → k, v of every head;  x → q, q_R → [attention in each, on k and k_R] → join → projection

The past of `multi_head` holds a key and a value for every head. Here x is pressed into a latent c, and every head makes
its own keys and values from that:

    c = norm(x W_down),    [k_h | v_h] = c W_up,h,    k_R = rotary(x W_R),    score = (q_h·k_h + q_R,h·k_R) / √(D + R)

Turning c by its place would not do, for W_up stands between it and the score. So places get R channels of their own:
queries have them in every head, the key k_R is one for all. The past holds c and k_R, which for DeepSeek-V2 is a 57th
of the keys and values that its 128 heads would fill. It adds a projection down and one up. If queries come from a
latent of their own (`q_lora_rank`), they take less memory in training; the past knows nothing of it.

With a past, the keys and values are not even made. q_h·(W_k c) = (W_kᵀ q_h)·c, and Σ a_s W_v c_s = W_v Σ a_s c_s: the
projections up are *absorbed* into the query and into the output, and what is left is attention of H queries to a single
head, whose keys are [c | k_R] and whose values are c. For a token at a time that saves the work of making the keys and
values of the whole past; a long piece would pay for it in scores that are L + R wide instead of D + R.

DeepSeek-AI 2024, DeepSeek-V2, section 2.1 and appendix C; the weights carry the names of the published ones.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from npllm.attention.base import Attention, document_ids_per_head, join_heads, reject_document_ids, split_heads
from npllm.attention.kv_cache import KVCache
from npllm.attention.masks import document_mask, document_positions, position_mask
from npllm.attention.pytorch_interface import (
    scaled_dot_product_attention,
    scaled_dot_product_attention_backward,
    scaled_dot_product_attention_forward,
)
from npllm.attention.variants.rope import RoPE, rotary_backward, rotary_forward
from npllm.core.cache import Cache
from npllm.core.checks import as_sequence, check_context_length, check_positive
from npllm.core.module import as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.linear import Linear
from npllm.layers.normalization import RMSNorm

ROPE = RoPE(layout="pairs")  # as in the published weights


@dataclass(frozen=True)
class MLA:
    """The configuration of MultiHeadLatentAttention."""

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
        dtype: Any = "float32",
        init: bool = True,
    ) -> "MultiHeadLatentAttention":
        """The layer."""
        return MultiHeadLatentAttention(d_model, context_length, dropout, **vars(self), rng=rng, dtype=dtype)


class MultiHeadLatentAttention(Attention):
    """y = join(softmax(causal([q | q_R] [k | k_R]ᵀ / √(D + R))) v) W_oᵀ,  [k | v] = c W_upᵀ      (..., T, C) → (..., T, C)

    kv_lora_rank         L, the width of the latent from which keys and values are made
    head_dim           D, the width of a head's queries and keys without their rotary part, and of its values
    qk_rope_head_dim         R, the width of the rotary part; even, and 0 for none
    q_lora_rank   the width of the latent from which queries are made; None: straight from x
    rope            see RoPE; published weights have layout "pairs"

    Raises ValueError for widths that do not fit.
    """  # noqa: E501

    def __init__(
        self, d_model, context_length, dropout, num_heads, kv_lora_rank, head_dim, qk_rope_head_dim,
        q_lora_rank=None, rope=ROPE, *, rng=None, dtype="float32",
    ):  # fmt: skip
        check_positive(context_length=context_length, num_heads=num_heads)
        check_positive(kv_lora_rank=kv_lora_rank, head_dim=head_dim)
        if qk_rope_head_dim < 0 or qk_rope_head_dim % 2:
            raise ValueError(f"qk_rope_head_dim is {qk_rope_head_dim}; it must be even (channels turn in pairs), or 0")
        rng = as_generator(rng)
        self.context_length, self.num_heads, self.layout = context_length, num_heads, rope.layout
        self.kv_lora_rank, self.head_dim = kv_lora_rank, head_dim
        self.frequencies = rope.frequencies(qk_rope_head_dim) if qk_rope_head_dim else np.zeros(0)
        self.amplitude = rope.amplitude
        query_width = num_heads * (head_dim + qk_rope_head_dim)
        self.q_proj = None
        if q_lora_rank is None:
            self.q_proj = Linear(d_model, query_width, bias=False, rng=rng, dtype=dtype)
        else:
            self.q_a_proj = Linear(d_model, q_lora_rank, bias=False, rng=rng, dtype=dtype)
            self.q_a_layernorm = RMSNorm(q_lora_rank, dtype=dtype)
            self.q_b_proj = Linear(q_lora_rank, query_width, bias=False, rng=rng, dtype=dtype)
        self.kv_a_proj_with_mqa = Linear(d_model, kv_lora_rank + qk_rope_head_dim, bias=False, rng=rng, dtype=dtype)
        self.kv_a_layernorm = RMSNorm(kv_lora_rank, dtype=dtype)
        self.kv_b_proj = Linear(kv_lora_rank, num_heads * 2 * head_dim, bias=False, rng=rng, dtype=dtype)
        self.o_proj = Linear(num_heads * head_dim, d_model, bias=False, rng=rng, dtype=dtype)
        self.dropout = Dropout(dropout)

    def new_kv_cache(self, batch_size=1, left_padding=None):
        """An empty past: it will hold the latent and the rotary key, L + R numbers a position."""
        return KVCache(batch_size, left_padding)

    def __call__(self, x, kv_cache=None, document_ids=None):
        """The value alone. With a `past` x follows what that has seen, and is added to it, in the absorbed form."""
        if kv_cache is None:
            return self.forward(x, document_ids=document_ids)[0]
        reject_document_ids(document_ids)
        positions = kv_cache.positions(as_sequence(x).shape[-2])
        (latent, k_rotary), _ = self._compress(x, positions)
        remembered, key_positions = kv_cache.extend(np.concatenate([latent[..., None, :, :], k_rotary], axis=-1))
        (q, q_rotary), _ = self._queries(x, positions)
        return self._absorbed(q, q_rotary, remembered, position_mask(positions, key_positions))

    def _absorbed(self, q, q_rotary, remembered, seen):
        """Attention of all heads' queries to one head: its keys are [c | k_R], its values are c."""
        up = self.kv_b_proj.weight.data.reshape(self.num_heads, 2 * self.head_dim, self.kv_lora_rank)
        up_key, up_value = up[:, : self.head_dim], up[:, self.head_dim :]
        q = np.concatenate([q @ up_key, q_rotary], axis=-1)  # (..., H, T, L + R)
        scale = 1.0 / math.sqrt(self.head_dim + q_rotary.shape[-1])  # of the scores that are meant, not of L + R
        latent = remembered[..., : self.kv_lora_rank]
        context = scaled_dot_product_attention(q, remembered, latent, seen, scale=scale, enable_gqa=True)
        return self.o_proj(join_heads(context @ up_value.mT))

    def forward(self, x, rng=None, document_ids=None):
        """The value, and the caches of all that it passed through; here the keys and values are made (expanded).

        documents   integers (..., T): several documents in a row, each attending to itself, places counted anew
        """
        length = as_sequence(x).shape[-2]
        check_context_length(length, self.context_length)
        document_ids = document_ids_per_head(document_ids, x)
        positions = np.arange(length) if document_ids is None else document_positions(document_ids)
        (q, q_rotary), queries = self._queries(x, positions)
        (latent, k_rotary), compress = self._compress(x, positions)
        up, kv_b_proj = self.kv_b_proj.forward(latent)
        k, v = np.split(split_heads(up, self.num_heads), 2, axis=-1)
        q, k = np.concatenate([q, q_rotary], axis=-1), _beside(k, k_rotary)
        mask = self.dropout.draw_dropout_mask((*q.shape[:-1], length), rng, q.dtype)
        attn_mask = None if document_ids is None else document_mask(document_ids)
        context, attention = scaled_dot_product_attention_forward(
            q, k, v, attn_mask, is_causal=document_ids is None, dropout_mask=mask
        )
        y, o_proj = self.o_proj.forward(join_heads(context))
        return y, Cache(
            queries=queries,
            compress=compress,
            kv_b_proj=kv_b_proj,
            dropout=Cache(dropout_mask=mask),
            attention=attention,
            o_proj=o_proj,
        )

    def backward(self, dy, cache):
        """The forward, read from its last line to its first; the one rotary key gets what all heads have for it."""
        dcontext = split_heads(self.o_proj.backward(dy, cache.o_proj), self.num_heads)
        dq, dk, dv = scaled_dot_product_attention_backward(dcontext, cache.attention)
        dq, dq_rotary = np.split(dq, [self.head_dim], axis=-1)
        dk, dk_rotary = np.split(dk, [self.head_dim], axis=-1)
        dlatent = self.kv_b_proj.backward(join_heads(np.concatenate([dk, dv], axis=-1)), cache.kv_b_proj)
        dx = self._compress_backward(dlatent, dk_rotary.sum(axis=-3, keepdims=True), cache.compress)
        return dx + self._queries_backward(dq, dq_rotary, cache.queries)

    def _queries(self, x, positions):
        """Every head's query and its rotary part, (..., H, T, D) and (..., H, T, R)."""
        if self.q_proj is not None:
            q, cache = self.q_proj.forward(x)
        else:
            latent, q_a_proj = self.q_a_proj.forward(x)
            latent, q_a_layernorm = self.q_a_layernorm.forward(latent)
            q, q_b_proj = self.q_b_proj.forward(latent)
            cache = Cache(q_a_proj=q_a_proj, q_a_layernorm=q_a_layernorm, q_b_proj=q_b_proj)
        q, q_rotary = np.split(split_heads(q, self.num_heads), [self.head_dim], axis=-1)
        q_rotary, rotary = rotary_forward(q_rotary, positions, self.frequencies, self.layout, self.amplitude)
        return (q, q_rotary), Cache(projection=cache, rotary=rotary)

    def _queries_backward(self, dq, dq_rotary, cache):
        dq_rotary = rotary_backward(dq_rotary, cache.rotary)
        dq, cache = join_heads(np.concatenate([dq, dq_rotary], axis=-1)), cache.projection
        if self.q_proj is not None:
            return self.q_proj.backward(dq, cache)
        dlatent = self.q_a_layernorm.backward(self.q_b_proj.backward(dq, cache.q_b_proj), cache.q_a_layernorm)
        return self.q_a_proj.backward(dlatent, cache.q_a_proj)

    def _compress(self, x, positions):
        """The latent, (..., T, L), and the rotary key that all heads share, (..., 1, T, R)."""
        down, kv_a_proj = self.kv_a_proj_with_mqa.forward(x)
        latent, k_rotary = np.split(down, [self.kv_lora_rank], axis=-1)
        latent, kv_a_layernorm = self.kv_a_layernorm.forward(latent)
        k_rotary, rotary = rotary_forward(
            k_rotary[..., None, :, :], positions, self.frequencies, self.layout, self.amplitude
        )
        return (latent, k_rotary), Cache(kv_a_proj=kv_a_proj, kv_a_layernorm=kv_a_layernorm, rotary=rotary)

    def _compress_backward(self, dlatent, dk_rotary, cache):
        dk_rotary = rotary_backward(dk_rotary, cache.rotary)[..., 0, :, :]
        dlatent = self.kv_a_layernorm.backward(dlatent, cache.kv_a_layernorm)
        return self.kv_a_proj_with_mqa.backward(np.concatenate([dlatent, dk_rotary], axis=-1), cache.kv_a_proj)


def _beside(k, shared):
    """[k | the same for every head]: (..., H, T, D), (..., 1, T, R) → (..., H, T, D + R)."""
    return np.concatenate([k, np.broadcast_to(shared, (*k.shape[:-1], shared.shape[-1]))], axis=-1)
