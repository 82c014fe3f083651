"""Scaled dot-product attention in PyTorch, in its plain form.

PyTorch's own fused operator has no soft cap and takes no dropout mask; where it can do the job, the tests hold
npllm against it as well.
"""

import math

import torch

from torch_ref.layers.softmax import softmax


def scaled_dot_product_attention(
    q, k, v, attn_mask=None, is_causal=False, scale=None, enable_gqa=False, softcap=None, dropout_mask=None,
    bias=None, window=None, sinks=0, offset=0,
):  # fmt: skip
    """softmax(q kᵀ · scale + mask) v, with the options of npllm.functional.scaled_dot_product_attention."""
    if enable_gqa:
        k = k.repeat_interleave(q.shape[-3] // k.shape[-3], dim=-3)
        v = v.repeat_interleave(q.shape[-3] // v.shape[-3], dim=-3)
    scale = 1.0 / math.sqrt(q.shape[-1]) if scale is None else scale
    scores = q @ k.mT * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias
    if is_causal:
        attn_mask = causal_mask(*scores.shape[-2:], scores.device, offset, window, sinks)
    if attn_mask is not None:
        is_boolean = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if is_boolean else scores + attn_mask
    weights = softmax(scores)
    if dropout_mask is not None:
        weights = weights * dropout_mask
    return weights @ v


def causal_mask(num_queries, num_keys, device=None, offset=0, window=None, sinks=0):
    """True where a position may look: on and below the diagonal, and not below another one unless it is a sink."""
    seen = torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril(offset)
    if window is not None:
        far = torch.ones_like(seen).tril(offset - window)
        far[:, :sinks] = False
        seen &= ~far
    return seen
