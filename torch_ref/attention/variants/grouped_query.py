"""Grouped-query attention with parts in PyTorch."""

import torch
from torch import nn

from npllm.attention.variants.hooks import AttentionDims
from torch_ref.attention.masks import places_and_mask
from torch_ref.attention.variants.hooks import PARTS
from torch_ref.layers.dropout import Dropout


class GroupedQueryAttention(nn.Module):
    """Causal attention in which query heads share key heads; parts act on it by name."""

    def __init__(
        self, d_model, context_length, dropout, num_heads, num_kv_heads=None, head_dim=None, qkv_bias=False,
        parts=None,
    ):  # fmt: skip
        super().__init__()
        num_kv_heads = num_kv_heads or num_heads
        head_dim = head_dim or d_model // num_heads
        self.num_heads, self.num_kv_heads = num_heads, num_kv_heads
        self.q_proj = nn.Linear(d_model, num_heads * head_dim, bias=qkv_bias)
        self.k_proj = nn.Linear(d_model, num_kv_heads * head_dim, bias=qkv_bias)
        self.v_proj = nn.Linear(d_model, num_kv_heads * head_dim, bias=qkv_bias)
        self.o_proj = nn.Linear(num_heads * head_dim, d_model, bias=False)
        self.dropout = Dropout(dropout)
        widths = AttentionDims(d_model, num_heads, num_kv_heads, head_dim, context_length)
        self.part_names = list(parts or {})
        for name in self.part_names:
            setattr(self, name, PARTS[name](widths, **parts[name]))

    def forward(self, x, document_ids=None):
        """The projected context vectors."""
        parts = [getattr(self, name) for name in self.part_names]
        positions, mask = places_and_mask(x.shape[-2], document_ids, x.device)
        q = self.q_proj(x).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
        k, v = (proj(x).unflatten(-1, (self.num_kv_heads, -1)).transpose(-3, -2) for proj in (self.k_proj, self.v_proj))
        for part in parts:
            q, k = part.turn(q, k, positions)
        k, v = (t.repeat_interleave(self.num_heads // self.num_kv_heads, dim=-3) for t in (k, v))
        scores = q @ k.mT / q.shape[-1] ** 0.5
        for part in parts:
            scores = part.cap(scores)
        distance = positions[..., :, None] - positions[..., None, :]
        for part in parts:
            scores = part.bias(scores, distance)
            seen = part.seen(positions)
            mask = mask if seen is None else mask & seen
        weights = self.dropout(torch.softmax(scores.masked_fill(~mask, -torch.inf), dim=-1))
        context = (weights @ v).transpose(-3, -2).flatten(-2)
        for part in parts:
            context = part.gate(context, x)
        return self.o_proj(context)
