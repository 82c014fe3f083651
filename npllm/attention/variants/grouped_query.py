"""Grouped-query attention: several query heads use one head of keys and values, as in Llama, Qwen and Mistral.

    x → q (H heads), k, v (K heads) → QK norm → RoPE → scores → soft cap → bias → mask → softmax → context → gate → y

Generation keeps the keys and values of all positions, and reading them takes most of the time. With K < H there are H/K
times fewer of them than in multi-head attention. K = H is multi-head attention, K = 1 is multi-query attention.

`forward` shows where in the formula each option acts; an option that is not given is off.

Ainslie et al. 2023, GQA; Shazeer 2019, Fast Transformer Decoding: One Write-Head is All You Need. The names of the
parameters are those of Llama's, Qwen3's (q_norm, k_norm) and T5's (relative_attention_bias) published weights.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from npllm.attention.base import (
    Attention,
    join_heads,
    per_head,
    project_backward,
    project_forward,
    query_positions,
    split_heads,
)
from npllm.attention.distance_bias import DistanceBias
from npllm.attention.kv_cache import KVCache, SlidingWindowKVCache
from npllm.attention.mask_rule import MaskRule
from npllm.attention.paths import masked_attention_backward, masked_attention_forward
from npllm.attention.variants.options import (
    BlockSparseMask,
    QKNorm,
    SlidingWindow,
    StridedMask,
    output_gate_backward,
    output_gate_forward,
)
from npllm.attention.variants.relative_bias import ALiBi, T5Bias, t5_table_backward, t5_table_forward
from npllm.attention.variants.rope import RoPE, rope_backward, rope_forward
from npllm.core.cache import Cache
from npllm.core.checks import check_above_zero, check_heads, check_instance, check_positive, check_probability
from npllm.core.module import as_generator
from npllm.layers.dropout import Dropout
from npllm.layers.embedding import Embedding
from npllm.layers.linear import Linear
from npllm.layers.normalization import RMSNorm


class GroupedQueryAttention(Attention):
    """y = join(softmax(causal(q kᵀ / √D)) v) W_oᵀ, query head h with key head h // (H/K)      (..., T, C) → (..., T, C)

    num_kv_heads    K, which must divide num_heads; num_heads unless given
    head_dim        D; d_model / num_heads unless given
    qkv_bias        the projections of queries, keys and values have a bias; `o_bias`: the output projection
    qk_norm         RMS norm of the queries and keys
    rope            rotary position embedding
    scale           the factor of q kᵀ; 1/√D unless given
    softcap         scores become softcap · tanh(scores / softcap)
    relative_bias   a term added to the scores: ALiBi or T5's
    window          a sliding window; the key-value cache then keeps only the window
    sparsity        a pattern of masked pairs: StridedMask or BlockSparseMask
    output_gate     multiply the context by sigmoid(x W_gateᵀ)
    """

    def __init__(
        self,
        d_model: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        num_kv_heads: int | None = None,
        head_dim: int | None = None,
        qkv_bias: bool = False,
        *,
        o_bias: bool = False,
        qk_norm: QKNorm | None = None,
        rope: RoPE | None = None,
        scale: float | None = None,
        softcap: float | None = None,
        relative_bias: ALiBi | T5Bias | None = None,
        window: SlidingWindow | None = None,
        sparsity: StridedMask | BlockSparseMask | None = None,
        output_gate: bool = False,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> None:
        num_kv_heads, head_dim = _check_sizes(d_model, num_heads, num_kv_heads, head_dim, context_length)
        check_instance("qk_norm", qk_norm, QKNorm, type(None))
        check_instance("window", window, SlidingWindow, type(None))
        _check_options(context_length, num_heads, head_dim, rope, scale, softcap, relative_bias, sparsity)
        self.context_length, self.num_heads, self.num_kv_heads = context_length, num_heads, num_kv_heads
        self.qk_norm, self.rope, self.scale, self.softcap = qk_norm, rope, scale, softcap
        self.relative_bias, self.window, self.sparsity = relative_bias, window, sparsity
        self.q_proj = Linear(d_model, num_heads * head_dim, bias=qkv_bias, dtype=dtype, init=False)
        self.k_proj = Linear(d_model, num_kv_heads * head_dim, bias=qkv_bias, dtype=dtype, init=False)
        self.v_proj = Linear(d_model, num_kv_heads * head_dim, bias=qkv_bias, dtype=dtype, init=False)
        self.o_proj = Linear(num_heads * head_dim, d_model, bias=o_bias, dtype=dtype, init=False)
        self.dropout = Dropout(check_probability("dropout", dropout))
        self.q_norm = self.k_norm = self.relative_attention_bias = self.gate_proj = None
        if qk_norm is not None:
            num_q, num_k = (1, 1) if qk_norm.over == "head" else (num_heads, num_kv_heads)
            self.q_norm = RMSNorm(num_q * head_dim, qk_norm.eps, qk_norm.unit_offset, dtype=dtype, init=False)
            self.k_norm = RMSNorm(num_k * head_dim, qk_norm.eps, qk_norm.unit_offset, dtype=dtype, init=False)
        if isinstance(relative_bias, T5Bias):
            self.relative_attention_bias = Embedding(relative_bias.num_buckets, num_heads, dtype=dtype, init=False)
        if output_gate:
            self.gate_proj = Linear(d_model, num_heads * head_dim, bias=False, dtype=dtype, init=False)
        if init:
            self.init_weights(as_generator(rng))

    def new_kv_cache(
        self, batch_size: int = 1, left_padding: np.ndarray | None = None
    ) -> KVCache | SlidingWindowKVCache:
        """An empty cache of keys and values; with a sliding window it keeps those to which later queries may attend."""
        if self.window is not None:
            return SlidingWindowKVCache(self.window.size, self.window.num_sink_tokens, batch_size, left_padding)
        return KVCache(batch_size, left_padding)

    def forward(
        self,
        x: np.ndarray,
        *,
        rng: np.random.Generator | None = None,
        kv_cache: KVCache | SlidingWindowKVCache | None = None,
        document_ids: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Cache]:
        """y, and the caches of the projections, of the options that are on, of the dropout and of the core.

        kv_cache       x follows the positions that are in it, and its keys and values are appended
        document_ids   integers (..., T): several documents in one sequence; no position attends to another document
        """
        cache, document_ids = Cache(), per_head(document_ids, x)
        positions = query_positions(x, self.context_length, kv_cache, document_ids, (KVCache, SlidingWindowKVCache))
        (q, k, v), cache.projections = project_forward(x, (self.q_proj, self.k_proj, self.v_proj))
        if self._normalizes("projection"):
            q, cache.q_norm = self.q_norm.forward(q)
            k, cache.k_norm = self.k_norm.forward(k)
        q = split_heads(q, self.num_heads)
        k, v = split_heads(k, self.num_kv_heads), split_heads(v, self.num_kv_heads)
        if self._normalizes("head"):
            q, cache.q_norm = self.q_norm.forward(q)
            k, cache.k_norm = self.k_norm.forward(k)
        if self.rope is not None:
            q, k, cache.rope = rope_forward(q, k, positions, self.rope)
        k, v, key_positions = (k, v, positions) if kv_cache is None else kv_cache.append(k, v)
        bias, cache.bias = self._bias_forward(positions, key_positions, q.dtype)
        mask = self._mask(positions, key_positions, document_ids)
        dropout_mask = self.dropout.draw_dropout_mask((*q.shape[:-1], k.shape[-2]), rng, q.dtype)
        context, cache.attention = masked_attention_forward(q, k, v, mask, bias, self.scale, dropout_mask, self.softcap)
        context = join_heads(context)
        if self.gate_proj is not None:
            logits, cache.gate_proj = self.gate_proj.forward(x)
            context, cache.gate = output_gate_forward(context, logits)
        y, cache.o_proj = self.o_proj.forward(context)
        cache.dropout = Cache(dropout_mask=dropout_mask)
        return y, cache

    def backward(self, dy: np.ndarray, cache: Cache) -> np.ndarray:
        """The gradient of x, of a forward without kv_cache: the derivative of each line, from the last to the first."""
        dcontext, dx = self.o_proj.backward(dy, cache.o_proj), 0.0
        if self.gate_proj is not None:
            dcontext, dlogits = output_gate_backward(dcontext, cache.gate)
            dx = self.gate_proj.backward(dlogits, cache.gate_proj)
        dcontext = split_heads(dcontext, self.num_heads)
        dq, dk, dv, *dtable = masked_attention_backward(dcontext, cache.attention)
        if self.relative_attention_bias is not None:
            self.relative_attention_bias.add_grads(weight=t5_table_backward(dtable[0], cache.bias))
        if self.rope is not None:
            dq, dk = rope_backward(dq, dk, cache.rope)
        if self._normalizes("head"):
            dq, dk = self.q_norm.backward(dq, cache.q_norm), self.k_norm.backward(dk, cache.k_norm)
        dq, dk, dv = (join_heads(gradient) for gradient in (dq, dk, dv))
        if self._normalizes("projection"):
            dq, dk = self.q_norm.backward(dq, cache.q_norm), self.k_norm.backward(dk, cache.k_norm)
        return dx + project_backward((dq, dk, dv), cache.projections, (self.q_proj, self.k_proj, self.v_proj))

    def _normalizes(self, over: str) -> bool:
        """True if there is a QK norm over "head" or "projection"."""
        return self.qk_norm is not None and self.qk_norm.over == over

    def _bias_forward(
        self, positions: np.ndarray, key_positions: np.ndarray, dtype: DTypeLike
    ) -> tuple[DistanceBias | None, Cache | None]:
        """The term that is added to the scores, or None; and the cache of T5's table."""
        if self.relative_bias is None:
            return None, None
        num_distances, cache = max(int(positions.max(initial=0)) + 1, 1), None
        if isinstance(self.relative_bias, ALiBi):
            table = self.relative_bias.table(self.num_heads, num_distances, dtype)
        else:
            weight, max_distance = self.relative_attention_bias.weight.data, self.relative_bias.max_distance
            table, cache = t5_table_forward(weight, num_distances, max_distance)
        return DistanceBias(table, positions, key_positions), cache

    def _mask(self, positions: np.ndarray, key_positions: np.ndarray, document_ids: np.ndarray | None) -> MaskRule:
        """Which queries may attend to which keys."""
        size, num_sinks = (None, 0) if self.window is None else (self.window.size, self.window.num_sink_tokens)
        return MaskRule(positions, key_positions, size, num_sinks, document_ids, self.sparsity)


@dataclass(frozen=True)
class GQA:
    """The configuration of GroupedQueryAttention: the constructor's arguments apart from the model's sizes."""

    num_heads: int
    num_kv_heads: int | None = None
    head_dim: int | None = None
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: QKNorm | None = None
    rope: RoPE | None = None
    scale: float | None = None
    softcap: float | None = None
    relative_bias: ALiBi | T5Bias | None = None
    window: SlidingWindow | None = None
    sparsity: StridedMask | BlockSparseMask | None = None
    output_gate: bool = False

    def build(
        self,
        d_model: int,
        context_length: int,
        dropout: float = 0.0,
        *,
        rng: np.random.Generator | None = None,
        dtype: DTypeLike = "float32",
        init: bool = True,
    ) -> GroupedQueryAttention:
        """The layer."""
        return GroupedQueryAttention(d_model, context_length, dropout, **vars(self), rng=rng, dtype=dtype, init=init)


def _check_sizes(
    d_model: int, num_heads: int, num_kv_heads: int | None, head_dim: int | None, context_length: int
) -> tuple[int, int]:
    """The number of key-value heads and head_dim, with their defaults."""
    check_positive(d_model=d_model, num_heads=num_heads, context_length=context_length)
    if head_dim is None:
        check_heads(num_heads, d_model=d_model)
    num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
    head_dim = d_model // num_heads if head_dim is None else head_dim
    check_positive(num_kv_heads=num_kv_heads, head_dim=head_dim)
    if num_heads % num_kv_heads:
        raise ValueError(f"num_heads is {num_heads} and num_kv_heads {num_kv_heads}; num_kv_heads must divide it")
    return num_kv_heads, head_dim


def _check_options(
    context_length: int,
    num_heads: int,
    head_dim: int,
    rope: RoPE | None,
    scale: float | None,
    softcap: float | None,
    relative_bias: ALiBi | T5Bias | None,
    sparsity: StridedMask | BlockSparseMask | None,
) -> None:
    """Raise ValueError for options that do not fit the sizes of the layer."""
    check_instance("rope", rope, RoPE, type(None))
    check_instance("relative_bias", relative_bias, ALiBi, T5Bias, type(None))
    check_instance("sparsity", sparsity, StridedMask, BlockSparseMask, type(None))
    if rope is not None:
        rope.frequencies(head_dim)
    for name, number in (("scale", scale), ("softcap", softcap)):
        if number is not None:
            check_above_zero(name, number)
    if isinstance(relative_bias, ALiBi):
        relative_bias.check_num_heads(num_heads)
    if isinstance(sparsity, BlockSparseMask):
        sparsity.check_context_length(context_length)
