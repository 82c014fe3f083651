"""Attention with relative position representations in PyTorch."""

import torch
from torch import nn

from torch_ref.attention.masks import positions_and_mask
from torch_ref.attention.multi_head import join_heads, split_heads
from torch_ref.layers.dropout import Dropout


class ShawAttention(nn.Module):
    """Causal attention whose keys and values have a vector for the distance added."""

    def __init__(self, d_model, context_length, dropout, num_heads, max_distance=16):
        super().__init__()
        self.num_heads, self.max_distance = num_heads, max_distance
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_model, bias=False)
        self.o_proj = nn.Linear(d_model, d_model, bias=False)
        self.key_table = nn.Parameter(torch.randn(max_distance + 1, d_model // num_heads))
        self.value_table = nn.Parameter(torch.randn(max_distance + 1, d_model // num_heads))
        self.dropout = Dropout(dropout)

    def forward(self, x, document_ids=None):
        """The projected context vectors."""
        positions, mask = positions_and_mask(x.shape[-2], document_ids, x.device)
        q, k, v = (split_heads(proj(x), self.num_heads) for proj in (self.q_proj, self.k_proj, self.v_proj))
        buckets = (positions[..., :, None] - positions[..., None, :]).clamp(0, self.max_distance)
        dropout_mask = self.dropout(q.new_ones(*q.shape[:-1], k.shape[-2]))
        context = relative_attention(q, k, v, self.key_table, self.value_table, buckets, mask, dropout_mask)
        return self.o_proj(join_heads(context))


def relative_attention(q, k, v, key_table, value_table, buckets, attn_mask=None, dropout_mask=None):
    """Attention with the vectors of all pairs formed, (T, S, D), as in the formula."""
    buckets = buckets.expand(*q.shape[:-1], k.shape[-2])
    keys, values = k[..., None, :, :] + key_table[buckets], v[..., None, :, :] + value_table[buckets]
    scores = (q[..., None, :] * keys).sum(-1) / q.shape[-1] ** 0.5
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -torch.inf)
    weights = torch.softmax(scores, dim=-1)
    if dropout_mask is not None:
        weights = weights * dropout_mask
    return (weights[..., None] * values).sum(-2)
