"""torch.nn.functional.scaled_dot_product_attention with the further options of npllm's.

PyTorch's own operator has no soft cap and takes no dropout mask; where it has all options, the tests compare npllm with
it as well.
"""

import math

import torch

from torch_ref.attention.masks import causal_mask
from torch_ref.attention.scaled_dot_product import attend
from torch_ref.attention.softcap import softcap as apply_softcap


def scaled_dot_product_attention(
    q,
    k,
    v,
    attn_mask=None,
    is_causal=False,
    scale=None,
    enable_gqa=False,
    softcap=None,
    dropout_mask=None,
    bias=None,
    window=None,
    sinks=0,
    offset=0,
):
    """softmax(q kᵀ · scale + mask) v."""
    if enable_gqa:
        k = k.repeat_interleave(q.shape[-3] // k.shape[-3], dim=-3)
        v = v.repeat_interleave(q.shape[-3] // v.shape[-3], dim=-3)
    scores = q @ k.mT * (1.0 / math.sqrt(q.shape[-1]) if scale is None else scale)
    if softcap is not None:
        scores = apply_softcap(scores, softcap)
    if is_causal:
        attn_mask = causal_mask(q.shape[-2], k.shape[-2], scores.device, offset, window, sinks)
    if attn_mask is not None and attn_mask.dtype != torch.bool:
        scores, attn_mask = scores + attn_mask, None
    return attend(scores, v, attn_mask, bias, dropout_mask)
