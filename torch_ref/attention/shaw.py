"""Attention with relative position vectors in PyTorch."""

import torch
from torch import nn

from torch_ref.attention.documents import places_and_mask
from torch_ref.functional.relative_positions import relative_attention
from torch_ref.layers.dropout import Dropout


class RelativePositionAttention(nn.Module):
    """Causal attention over keys and values to which a vector for the distance is added."""

    def __init__(self, d_model, context_length, dropout, num_heads, max_distance=16):
        super().__init__()
        self.num_heads, self.max_distance = num_heads, max_distance
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(d_model, d_model, bias=False) for _ in range(4))
        self.key_table, self.value_table = (
            nn.Parameter(torch.randn(max_distance + 1, d_model // num_heads)) for _ in range(2)
        )
        self.dropout = Dropout(dropout)

    def forward(self, x, documents=None):
        """The projected context vectors."""
        places, mask = places_and_mask(x.shape[-2], documents, x.device)
        q, k, v = (
            proj(x).unflatten(-1, (self.num_heads, -1)).transpose(-3, -2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        buckets = (places[..., :, None] - places[..., None, :]).clamp(0, self.max_distance)
        context = relative_attention(q, k, v, self.key_table, self.value_table, buckets, mask, self.dropout.mask)
        return self.o_proj(context.transpose(-3, -2).flatten(-2))
