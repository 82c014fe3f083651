"""Attention with relative position vectors in PyTorch."""

import torch
from torch import nn

from torch_ref.attention.masks import positions_and_mask
from torch_ref.layers.dropout import Dropout


class ShawAttention(nn.Module):
    """Causal attention over keys and values to which a vector for the distance is added."""

    def __init__(self, d_model, context_length, dropout, num_heads, max_distance=16):
        super().__init__()
        self.num_heads, self.max_distance = num_heads, max_distance
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(d_model, d_model, bias=False) for _ in range(4))
        self.key_table, self.value_table = (
            nn.Parameter(torch.randn(max_distance + 1, d_model // num_heads)) for _ in range(2)
        )
        self.dropout = Dropout(dropout)

    def forward(self, x, document_ids=None):
        """The projected context vectors."""
        positions, mask = positions_and_mask(x.shape[-2], document_ids, x.device)
        q, k, v = (
            proj(x).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        buckets = (positions[..., :, None] - positions[..., None, :]).clamp(0, self.max_distance)
        context = relative_attention(
            q, k, v, self.key_table, self.value_table, buckets, mask, self.dropout.dropout_mask
        )
        return self.o_proj(context.transpose(-3, -2).flatten(-2))


def relative_attention(q, k, v, key_table, value_table, buckets, attn_mask=None, dropout_mask=None):
    """The vectors of all pairs laid out, (T, S, D), which the formula asks for and npllm avoids."""
    buckets = buckets.expand(*q.shape[:-1], k.shape[-2])
    keys, values = k[..., None, :, :] + key_table[buckets], v[..., None, :, :] + value_table[buckets]
    scores = (q[..., None, :] * keys).sum(-1) / q.shape[-1] ** 0.5
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    weights = torch.softmax(scores, dim=-1)
    if dropout_mask is not None:
        weights = weights * dropout_mask
    return (weights[..., None] * values).sum(-2)
