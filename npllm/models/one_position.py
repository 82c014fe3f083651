"""A block at one new position: what a step of generation computes, without checks and without caches for a backward.

    x (B, 1, C), kv_cache of the block → [block.forward: general] or [the step: the same formulas, x (B, C)] → y

A step of generation reads every weight once. The arrays beside the weights are so small that NumPy computes on them in
a microsecond, and what is done around each operation (checks of arguments, masks that hide nothing, arrays kept for the
backward) takes longer than the operation. Here it is left out for the block and its attention; norms and activations
are those of the layers. The tests compare the two forms. A layer without a formula here is called as usual.

`kv_cache` holds the keys and values (B, K, S, D); they are read where they are. The query heads that share a key head
are rows of one matrix.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from npllm.attention.causal_self_attention import CausalSelfAttention
from npllm.attention.kv_cache import KVCache, SequenceState, SlidingWindowKVCache
from npllm.attention.softcap import softcap
from npllm.attention.variants.grouped_query import GroupedQueryAttention
from npllm.attention.variants.options import output_gate_forward
from npllm.attention.variants.rope import RoPE, rotary_forward
from npllm.core.ieee_arithmetic import ieee_arithmetic
from npllm.core.module import Module
from npllm.layers.activations import activation_forward
from npllm.layers.feed_forward import FeedForward
from npllm.layers.few_rows import times_transposed
from npllm.layers.gated_feed_forward import GatedFeedForward
from npllm.layers.linear import Linear
from npllm.models.decoder_block import DecoderBlock, ParallelBlock, PostNormBlock, SandwichNormBlock, SharedNormBlock
from npllm.models.transformer_block import TransformerBlock


def block_forward(block: Module, x: np.ndarray, keep: bool, **options: Any) -> tuple[np.ndarray, Any]:
    """block.forward(x, **options), with None for the cache unless `keep`      (..., T, C) → (..., T, C)"""
    if not keep and _is_one_position(x, **options) and type(block) in BLOCKS:
        return one_position(block, x[:, 0], options["kv_cache"])[:, None], None
    y, cache = block.forward(x, **options)
    return y, cache if keep else None


def _is_one_position(
    x: np.ndarray, *, rng: Any = None, kv_cache: SequenceState | None = None, document_ids: Any = None
) -> bool:
    """True for one column in each sequence of a cache, without dropout."""
    return kv_cache is not None and rng is None and document_ids is None and x.ndim == 3 and x.shape[1] == 1


@ieee_arithmetic
def one_position(block: Module, x: np.ndarray, kv_cache: SequenceState) -> np.ndarray:
    """The block's formula at one position      (B, C) → (B, C)"""
    return BLOCKS[type(block)](block, x, kv_cache)


def _gpt_block(block: TransformerBlock, x: np.ndarray, kv_cache: SequenceState) -> np.ndarray:
    x = x + _attention(block.attn, block.ln_1(x), kv_cache)
    return x + _feed_forward(block.mlp, block.ln_2(x))


def _pre_norm(block: DecoderBlock, x: np.ndarray, kv_cache: SequenceState) -> np.ndarray:
    multiplier = block.residual_multiplier
    x = x + multiplier * _attention(block.self_attn, block.input_layernorm(x), kv_cache)
    return x + multiplier * _feed_forward(block.mlp, block.post_attention_layernorm(x))


def _post_norm(block: PostNormBlock, x: np.ndarray, kv_cache: SequenceState) -> np.ndarray:
    x = x + block.post_attention_layernorm(_attention(block.self_attn, x, kv_cache))
    return x + block.post_feedforward_layernorm(_feed_forward(block.mlp, x))


def _sandwich_norm(block: SandwichNormBlock, x: np.ndarray, kv_cache: SequenceState) -> np.ndarray:
    h = _attention(block.self_attn, block.input_layernorm(x), kv_cache)
    x = x + block.post_attention_layernorm(h)
    h = _feed_forward(block.mlp, block.pre_feedforward_layernorm(x))
    return x + block.post_feedforward_layernorm(h)


def _parallel(block: ParallelBlock, x: np.ndarray, kv_cache: SequenceState) -> np.ndarray:
    attended = _attention(block.self_attn, block.input_layernorm(x), kv_cache)
    return x + attended + _feed_forward(block.mlp, block.post_attention_layernorm(x))


def _shared_norm(block: SharedNormBlock, x: np.ndarray, kv_cache: SequenceState) -> np.ndarray:
    h = block.input_layernorm(x)
    return x + _attention(block.self_attn, h, kv_cache) + _feed_forward(block.mlp, h)


BLOCKS: dict[type, Callable[[Any, np.ndarray, SequenceState], np.ndarray]] = {
    TransformerBlock: _gpt_block,
    DecoderBlock: _pre_norm,
    PostNormBlock: _post_norm,
    SandwichNormBlock: _sandwich_norm,
    ParallelBlock: _parallel,
    SharedNormBlock: _shared_norm,
}


def _linear(layer: Linear, x: np.ndarray) -> np.ndarray:
    """y = x Wᵀ + b"""
    if type(layer) is not Linear:
        return layer(x)
    y = times_transposed(x, layer.weight.data)
    if layer.bias is not None:
        y += layer.bias.data
    return y


def _feed_forward(layer: Module, x: np.ndarray) -> np.ndarray:
    """The feed-forward network"""
    if type(layer) is FeedForward:
        return _linear(layer.c_proj, activation_forward(_linear(layer.c_fc, x), layer.activation)[0])
    if type(layer) is GatedFeedForward:
        h = activation_forward(_linear(layer.gate_proj, x), layer.activation)[0]
        h *= _linear(layer.up_proj, x)
        return _linear(layer.down_proj, h)
    return layer(x[:, None])[:, 0]


def _attention(layer: Module, x: np.ndarray, kv_cache: SequenceState) -> np.ndarray:
    """The attention layer"""
    positions = _positions(kv_cache)
    if type(layer) is CausalSelfAttention and type(kv_cache) is KVCache and positions is not None:
        qkv = _split_heads(_linear(layer.c_attn, x), 3 * layer.num_heads)
        q, k, v = (qkv[:, start : start + layer.num_heads] for start in range(0, 3 * layer.num_heads, layer.num_heads))
        k, v = kv_cache.append_one(k, v)
        return _linear(layer.c_proj, _attend(q, k, v, layer.scale, _padding_mask(kv_cache)))
    if type(layer) is GroupedQueryAttention and _has_no_bias(layer, kv_cache) and positions is not None:
        return _grouped_query(layer, x, kv_cache, positions)
    return layer(x[:, None], kv_cache=kv_cache)[:, 0]


def _grouped_query(
    layer: GroupedQueryAttention, x: np.ndarray, kv_cache: Any, positions: tuple[int, ...]
) -> np.ndarray:
    q, k, v = _linear(layer.q_proj, x), _linear(layer.k_proj, x), _linear(layer.v_proj, x)
    q_norm, k_norm, over = layer.q_norm, layer.k_norm, None if layer.qk_norm is None else layer.qk_norm.over
    if q_norm is not None and k_norm is not None and over == "projection":
        q, k = q_norm(q), k_norm(k)
    q, k, v = _split_heads(q, layer.num_heads), _split_heads(k, layer.num_kv_heads), _split_heads(v, layer.num_kv_heads)
    if q_norm is not None and k_norm is not None and over == "head":
        q, k = q_norm(q), k_norm(k)
    if layer.rope is not None:
        q, k = _rotate(q, k, layer.rope, positions)
    k, v = kv_cache.append_one(k, v)
    context = _attend(q, k, v, layer.scale, _padding_mask(kv_cache), layer.softcap)
    if layer.gate_proj is not None:
        context = output_gate_forward(context, _linear(layer.gate_proj, x))[0]
    return _linear(layer.o_proj, context)


def _attend(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    scale: float | None,
    mask: np.ndarray | None = None,
    cap: float | None = None,
) -> np.ndarray:
    """y = softmax(q kᵀ · scale where mask) v, with the heads joined

    (B, H, D), (B, K, S, D), (B, K, S, E) → (B, H·E)

    The sum of the exponentials divides the average, which is shorter than the weights.
    """
    num_sequences, num_kv_heads = k.shape[:2]
    scores = q.reshape(num_sequences, num_kv_heads, -1, q.shape[-1]) @ k.mT
    scores *= 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    if cap is not None:
        scores = softcap(scores, cap)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    limits = _limits(scores.dtype)
    scores -= np.maximum(scores.max(axis=-1, keepdims=True), limits.min)  # −∞ − (−∞) would be nan
    weights = np.exp(scores, out=scores)
    context = weights @ v
    context /= np.maximum(np.add.reduce(weights, axis=-1, keepdims=True), limits.tiny)
    return context.reshape(num_sequences, -1)


def _split_heads(x: np.ndarray, num_heads: int) -> np.ndarray:
    """(B, H·D) → (B, H, D)"""
    return x.reshape(len(x), num_heads, -1)


def _positions(kv_cache: SequenceState) -> tuple[int, ...] | None:
    """The position of the next column, or of that of each sequence; None if it is padding."""
    if kv_cache.left_padding is None:
        return (kv_cache.length,)
    positions = tuple((kv_cache.length - kv_cache.left_padding).tolist())
    return positions if min(positions) >= 0 else None


def _padding_mask(kv_cache: SequenceState) -> np.ndarray | None:
    """True for the columns that are not padding, (B, 1, 1, S); None if there is no padding."""
    if kv_cache.left_padding is None:
        return None
    return np.arange(kv_cache.length) >= kv_cache.left_padding[:, None, None, None]


class _Limits(NamedTuple):
    """The smallest number of a dtype, and the smallest positive normal one."""

    min: float
    tiny: float


@lru_cache
def _limits(dtype: np.dtype) -> _Limits:
    return _Limits(float(np.finfo(dtype).min), float(np.finfo(dtype).tiny))


def _has_no_bias(layer: GroupedQueryAttention, kv_cache: SequenceState) -> bool:
    """True if every column that the cache returns is visible to the query, but for padding, and no bias is added."""
    if layer.relative_bias is not None or layer.sparsity is not None:
        return False
    if layer.window is None:
        return type(kv_cache) is KVCache
    return (
        type(kv_cache) is SlidingWindowKVCache
        and kv_cache.left_padding is None
        and (kv_cache.window, kv_cache.sinks) == (layer.window.size, layer.window.num_sink_tokens)
    )


def _rotate(q: np.ndarray, k: np.ndarray, rope: RoPE, positions: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(a, b) → (a cos − b sin, b cos + a sin) for all pairs of q (B, H, D) and k (B, K, D)"""
    cos, sin, partner = _angles(rope, q.shape[-1], positions, q.dtype)
    qk = np.concatenate((q, k), axis=1)
    rotated = qk[..., : len(partner)]
    rotated = rotated * cos + rotated[..., partner] * sin
    if len(partner) < qk.shape[-1]:  # the other channels are copied
        rotated = np.concatenate((rotated, qk[..., len(partner) :]), axis=-1)
    return rotated[:, : q.shape[1]], rotated[:, q.shape[1] :]


@lru_cache(maxsize=64)  # all layers of a step have the same angles
def _angles(
    rope: RoPE, head_dim: int, positions: tuple[int, ...], dtype: np.dtype
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cosine and the signed sine of each channel, (B or 1, 1, 2 F), and the channel it is paired with, (2 F)."""
    frequencies = rope.frequencies(head_dim, max(positions) + 1)
    x = np.zeros((len(positions), 1, head_dim), dtype)
    cache = rotary_forward(x, np.array(positions)[:, None], frequencies, rope.layout, rope.amplitude)[1]
    num_pairs = len(frequencies)
    if rope.layout == "halves":
        partner = np.concatenate([np.arange(num_pairs, 2 * num_pairs), np.arange(num_pairs)])
        join = np.concatenate
    else:
        partner = np.arange(2 * num_pairs) ^ 1
        join = _interleave
    return join((cache.cos, cache.cos), axis=-1), join((-cache.sin, cache.sin), axis=-1), partner


def _interleave(arrays: tuple[np.ndarray, np.ndarray], axis: int) -> np.ndarray:
    """a₀, b₀, a₁, b₁, …      two arrays (..., F) → (..., 2 F)"""
    return np.stack(arrays, axis=axis).reshape(*arrays[0].shape[:-1], -1)
